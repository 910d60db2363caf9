"""Networks of transformers from a local folder, with the input spec and labels that its files state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from netloupe.core.errors import InputError, NetworkError, first_line
from netloupe.core.inputs import InputSpec
from netloupe.zoo.libraries import Built, library

CONFIG = "config.json"
_IMAGES = "preprocessor_config.json"


def build_from_folder(folder: Path, pretrained: bool) -> Built:
    """The network in a folder as `save_pretrained` writes it; nothing is downloaded, and no code in it is run.

    A classifier where the folder holds one, otherwise what gives the features; of a model of images and texts the part
    that sees. pretrained: with the folder's weights, else with random ones. Raises NetworkError for a folder that can't
    be used, or where the library is missing.
    """
    if not (folder / CONFIG).is_file():
        found = f"has no {CONFIG}" if folder.is_dir() else "is no folder"
        raise NetworkError(f"{str(folder)!r} {found} (accepted: a local folder of transformers; nothing is downloaded)")
    transformers = library("transformers")
    told = _read(folder / CONFIG)
    classifies = any("ForImageClassification" in str(name) for name in told.get("architectures") or ())
    kind = transformers.AutoModelForImageClassification if classifies else transformers.AutoModel
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if pretrained:
            options = {"local_files_only": True, "trust_remote_code": False}
            whole = kind.from_pretrained(folder, config=config, **options)
        else:
            whole = kind.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever the library raises of a folder it can't use
        raise NetworkError(f"{folder}: transformers can't make a network of it ({first_line(error)})") from error
    module = getattr(whole, "vision_model", whole)
    assert isinstance(module, nn.Module)
    seen = {**told, **(told.get("vision_config") or {})} if module is not whole else told
    size = _height_width(getattr(module.config, "image_size", seen.get("image_size")))
    channels = int(getattr(module.config, "num_channels", seen.get("num_channels", 3)))
    return Built(module, _inputs(folder, size, channels), _labels(config) if classifies else None)


def _inputs(folder: Path, size: tuple[int, int] | None, channels: int) -> InputSpec:
    """What the folder's image processor makes of images; size, channels: what the network's own config says."""
    told = _read(folder / _IMAGES) if (folder / _IMAGES).is_file() else {}
    cut = told.get("crop_size") if told.get("do_center_crop") else None
    sides = _height_width(cut or told.get("size")) or size or (224, 224)
    factor = float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0
    mean, std = (told["image_mean"], told["image_std"]) if _normalizes(told) else ([0.0], [1.0])
    try:
        return InputSpec(sides, channels, tuple(mean), tuple(std), (0.0, round(255 * factor, 9)))
    except (InputError, TypeError, ValueError) as error:
        raise NetworkError(f"{folder / _IMAGES}: can't be used ({first_line(error)})") from None


def _normalizes(told: Mapping[str, Any]) -> bool:
    return bool(told.get("do_normalize", True)) and "image_mean" in told and "image_std" in told


def _height_width(told: Any) -> tuple[int, int] | None:
    """(height, width) of what such files say: one number, two, or a mapping of them; None where they say none."""
    if isinstance(told, Mapping):
        short = told.get("shortest_edge")
        told = short if short is not None else (told.get("height"), told.get("width"))
    if isinstance(told, Sequence) and len(told) == 2 and all(isinstance(side, int) for side in told):
        return int(told[0]), int(told[1])
    return (int(told), int(told)) if isinstance(told, int) else None


def _labels(config: Any) -> list[str] | None:
    """The names of the classes; None where they are only numbered."""
    names = [str(name) for _, name in sorted(dict(config.id2label).items(), key=lambda pair: int(pair[0]))]
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkError(f"{path}: can't be read ({first_line(error)})") from None
    if not isinstance(found, dict):
        raise NetworkError(f"{path}: can't be read (accepted: a JSON object)")
    return found

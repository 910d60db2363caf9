"""Networks from torchvision and timm, with the input spec and labels that the libraries record for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from netloupe.core.errors import InputError, NetworkError, UnknownName, first_line, unknown
from netloupe.core.inputs import InputSpec


@dataclass(frozen=True)
class Built:
    """A module with what is known of it; `inputs` and `labels` are None where nothing is."""

    module: nn.Module
    inputs: InputSpec | None = None
    labels: Sequence[str] | None = None


def build_torchvision(name: str, weights: str | None, classes: int | None) -> Built:
    """A classifier of torchvision's registry.

    weights: the name of one of its pretrained weights ("IMAGENET1K_V2"), "" for its default ones, None for random
    ones. Raises UnknownName, NetworkError if the library is missing or the weights can't be had.
    """
    models = library("torchvision", "models")
    names = models.list_models(module=models)  # without its detectors, segmenters and video networks
    if name not in names:
        raise unknown("classifier in torchvision", name, names)
    entries = models.get_model_weights(name)
    known = {entry.name: entry for entry in entries}
    if weights and weights not in known:
        raise unknown(f"weights for {name}", weights, known)
    if weights == "" and not known:
        raise _no_pretrained(f"torchvision:{name}")
    entry = known[weights] if weights else entries.DEFAULT if known else None
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if weights is None and name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # leaving it open makes them warn
    pretrained = None if weights is None else entry
    module = _made(
        f"torchvision:{name}", lambda: models.get_model(name, weights=pretrained, **options), weights is not None
    )
    if entry is None:
        return Built(module)
    labels = entry.meta.get("categories")
    return Built(module, _torchvision_inputs(entry), labels if classes in (None, len(labels or ())) else None)


def _torchvision_inputs(entry: Any) -> InputSpec | None:
    preset = entry.transforms()
    size = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None)
    if size is None or not hasattr(preset, "mean"):
        return None
    height, width = size[0], size[-1]
    return InputSpec((height, width), mean=tuple(preset.mean), std=tuple(preset.std))


def build_timm(name: str, pretrained: bool, classes: int | None) -> Built:
    """A network of timm's registry, "resnet50" or with the tag of its weights, "resnet50.a1_in1k".

    Raises UnknownName, NetworkError if the library is missing or the weights can't be had.
    """
    timm = library("timm")
    if not timm.is_model(name):
        raise unknown("network in timm", name, timm.list_models())
    if pretrained and not any(tagged.partition(".")[0] == name.partition(".")[0] for tagged in timm.list_pretrained()):
        raise _no_pretrained(f"timm:{name}")
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    module = _made(f"timm:{name}", lambda: timm.create_model(name, pretrained=pretrained, **options), pretrained)
    config = timm.data.resolve_model_data_config(module)
    channels, height, width = config["input_size"]
    inputs = InputSpec((height, width), channels, tuple(config["mean"]), tuple(config["std"]))
    return Built(module, inputs, _timm_labels(timm, module))


def _timm_labels(timm: Any, module: Any) -> Sequence[str] | None:
    names = module.pretrained_cfg.get("label_names")
    if names is None:
        subset = timm.data.infer_imagenet_subset(module)
        names = timm.data.ImageNetInfo(subset).label_descriptions() if subset else None
    return names if names is not None and len(names) == module.num_classes else None


def library(name: str, part: str | None = None) -> Any:
    """A library, or a part of it. Raises NetworkError where it is missing or broken."""
    try:
        return importlib.import_module(f"{name}.{part}" if part is not None else name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == name:
            raise NetworkError(f"{name} is not installed: pip install 'netloupe[{name}]'") from None
        raise NetworkError(f"{name} can't be imported ({first_line(error)})") from error
    except Exception as error:  # a broken installation fails in its own way
        raise NetworkError(f"{name} can't be imported ({first_line(error)})") from error


def _no_pretrained(model: str) -> NetworkError:
    return NetworkError(f"{model} has no pretrained weights; give weights=FILE, or weights='random'")


def _made(model: str, make: Callable[[], nn.Module], pretrained: bool) -> nn.Module:
    try:
        return make()
    except (InputError, UnknownName, NetworkError):
        raise
    except Exception as error:  # whatever the library, its download or its cache raise
        if not pretrained:
            raise NetworkError(f"{model} can't be built ({first_line(error)})") from error
        advice = "give weights=FILE, or weights='random'"
        raise NetworkError(f"the weights of {model} can't be had ({first_line(error)}); {advice}") from error

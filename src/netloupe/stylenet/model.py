"""A trained style network with the names of its styles: applied to images, written to a file, read from one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from netloupe.core.device import device_of, fast_dtype
from netloupe.core.errors import InputError, NetworkError, unknown
from netloupe.core.files import file_digest, portable
from netloupe.core.inputs import InputSpec
from netloupe.core.network import fingerprint
from netloupe.core.taps import placement
from netloupe.stylenet.network import LEAST, NORMS, StyleNet
from netloupe.zoo.state import Stored, fill, read_state, save_weights

EMBEDDED = Path(__file__).parent / "weights" / "styles.safetensors"

Style = str | Mapping[str, float]
"""The name of a style, or names with weights for a blend of several."""


@dataclass(frozen=True, eq=False)
class StyleModel:
    """A network in eval mode, the names of its styles in order, its card (see `training.card`) and its own name.

    >>> model = load_styles()
    >>> painted = model(load_image("cat.png")[None], {"scream": 2, "starry-night": 1})
    """

    network: StyleNet = field(repr=False)
    styles: tuple[str, ...]
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)
    name: str = "stylenet"
    origin: Mapping[str, Any] | None = field(default=None, repr=False)

    inputs: ClassVar[InputSpec] = InputSpec((LEAST, LEAST))
    """What it takes: colors in [0, 1], of these sides or larger ones."""
    head: ClassVar[str] = "pictures"

    def __post_init__(self) -> None:
        if len(self.styles) != self.network.styles or len(set(self.styles)) != len(self.styles):
            raise NetworkError(f"styles named {', '.join(self.styles)} for a network of {self.network.styles}")
        self.network.eval()

    @property
    def device(self) -> torch.device:
        return placement(self.network)[0]

    def fingerprint(self) -> str:
        """A hash of structure, weights and names, for provenance."""
        return fingerprint(self.network, self.styles)

    def blend(self, wanted: Style) -> Tensor:
        """(styles,) float32 on the CPU: the weight of each style, which add up to 1.

        Raises UnknownName for a style that is not there, InputError for weights that are negative, not finite or all 0.
        """
        weights = {wanted: 1.0} if isinstance(wanted, str) else dict(wanted)
        for name, weight in weights.items():
            if name not in self.styles:
                raise unknown("style", name, self.styles)
            if not 0 <= weight < math.inf:
                raise InputError(f"weight {weight} for style {name!r} (accepted: 0 or more)")
        total = math.fsum(weights.values())
        if not 0 < total < math.inf:
            raise InputError(f"weights {weights} for styles (accepted: at least one above 0)")
        return torch.tensor([weights.get(name, 0.0) / total for name in self.styles])

    def shares(self, wanted: Style) -> dict[str, float]:
        """Those of `blend` above 0, by name, rounded."""
        shares = zip(self.styles, self.blend(wanted).tolist(), strict=True)
        return {name: round(share, 4) for name, share in shares if share}

    def __call__(self, images: Tensor, style: Style | Sequence[Style]) -> Tensor:
        """Images (N, 3, H, W) in [0, 1], painted: float32 in [0, 1] of the same shape, where the network lies.

        style: one for all images, or a list with one for each. Multiplies in `fast_dtype`; no gradients.
        Raises UnknownName and InputError as `blend` does, and InputError for images that are too small or
        not in [0, 1].
        """
        self.inputs.check(images)
        self.inputs.check_range(images)
        if min(images.shape[2:]) < LEAST:
            raise InputError(f"images of {images.shape[2]}x{images.shape[3]} px (accepted: sides of {LEAST} or more)")
        device = self.device
        blends = self._blends(style, len(images)).to(device)
        dtype = fast_dtype(device)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            pixels = images.to(device, torch.float32).clamp(0, 1).contiguous(memory_format=torch.channels_last)
            painted: Tensor = self.network(pixels, blends).float()
        return painted.clone()  # outside of inference mode, so that it may be used in any other computation

    def _blends(self, style: Style | Sequence[Style], count: int) -> Tensor:
        if isinstance(style, str | Mapping):
            return self.blend(style).expand(count, -1)
        if len(style) != count:
            raise InputError(f"{len(style)} styles for {count} images (accepted: one style, or one for each image)")
        return torch.stack([self.blend(each) for each in style])


def save_styles(model: StyleModel, path: str | Path) -> None:
    """Write a float16 safetensors file whose header holds names, architecture and card; see `load_styles`.

    Raises StoreError if the file can't be written; then there is none.
    """
    card = {**model.card, "name": model.name, "styles": list(model.styles), "architecture": architecture(model.network)}
    save_weights(model.network, Path(path), {"card": json.dumps(card, ensure_ascii=False)})


def architecture(network: StyleNet) -> dict[str, Any]:
    """What it takes to build a network like this, beside the number of styles; JSON-able."""
    return {"widths": list(network.widths), "blocks": len(network.blocks), "norm": network.norm}


def load_styles(weights: str | Path | None = None, device: str | None = None) -> StyleModel:
    """The style network of a file that `save_styles` wrote; of None, the one that comes with the package.

    device: "cpu", "cuda", ..., "auto" Raises NetworkError for a file that holds no style network, or a broken one, and
    InputError for a device that is not there.
    """
    if weights is None and not EMBEDDED.is_file():
        raise NetworkError("this installation lacks the weights of the styles; install it again, or give weights=FILE")
    stored = read_state(EMBEDDED if weights is None else weights)
    network, card = _built(stored)
    fill(network, stored, "a style network")
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise NetworkError(f"{stored.path} holds weights that are not finite")
    network.to(None if device is None else device_of(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    told = None if weights is None else {"name": portable(weights), "sha256": file_digest(weights)}
    name = str(card.get("name", stored.path.stem))
    return StyleModel(network, tuple(card["styles"]), card, name, {"weights": told})


def _built(stored: Stored) -> tuple[StyleNet, Mapping[str, Any]]:
    """A network of the architecture that the header tells and the tensors show, and the card."""
    card = stored.card if isinstance(stored.card, Mapping) else {}
    told, names = card.get("architecture"), card.get("styles")
    if not isinstance(told, Mapping) or not isinstance(names, list) or told.keys() != {"widths", "blocks", "norm"}:
        raise NetworkError(f"{stored.path} holds no style network (accepted: what netloupe stylenet train writes)")
    widths = tuple(stored.length(f"down.{i}.conv.weight", 0, 0) for i in range(3))
    blocks = sum(name.startswith("blocks.") and name.endswith(".first.conv.weight") for name in stored.state)
    seen = {"widths": list(widths), "blocks": blocks, "norm": told["norm"]}
    styles = stored.length("paint.norm.scale", 0, 0)
    strings = all(isinstance(name, str) for name in names) and len(set(names)) == len(names) == styles
    if dict(told) != seen or told["norm"] not in NORMS or not strings or not styles or not min(widths):
        raise NetworkError(f"{stored.path}: a style network whose header and tensors disagree")
    return StyleNet(styles, widths, blocks, told["norm"]), card  # type: ignore[arg-type]

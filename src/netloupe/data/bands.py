"""Images of floats: more than 8 bits a value, or any number of channels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from netloupe.core.errors import InputError, NetloupeWarning
from netloupe.core.inputs import InputSpec, shown_channels

_BITS = (8, 10, 12, 14, 16)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow makes gray


@dataclass(frozen=True, eq=False)
class Bands:
    """An opened image: `values` (C, H, W) float32 in [0, 1]. picture: the channels that are shown; None: the first.

    As far as it goes, it is used as an image of Pillow's is.
    """

    values: np.ndarray
    name: str
    picture: tuple[int, ...] | None = None

    @property
    def height(self) -> int:
        return int(self.values.shape[1])

    @property
    def width(self) -> int:
        return int(self.values.shape[2])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as Pillow has it."""
        return self.width, self.height

    def tobytes(self) -> bytes:
        return self.values.tobytes()

    def crop(self, box: tuple[int, int, int, int]) -> Bands:
        """The part in (left, top, right, bottom)."""
        left, top, right, bottom = box
        return replace(self, values=self.values[:, top:bottom, left:right])

    def resize(
        self,
        size: tuple[int, int],
        how: Image.Resampling = Image.Resampling.BILINEAR,
        box: tuple[float, float, float, float] | None = None,
    ) -> Bands:
        """At (width, height): the whole, or what is in the box (left, top, right, bottom)."""
        bands = [np.asarray(Image.fromarray(band).resize(size, how, box=box)) for band in self.values]
        return replace(self, values=np.stack(bands))

    def of(self, channels: int) -> Bands:
        """With so many channels: gray as RGB and RGB as gray, otherwise as they are. Raises InputError for others."""
        count = len(self.values)
        if count == channels:
            return self
        if (count, channels) == (1, 3):
            return replace(self, values=np.repeat(self.values, 3, axis=0))
        if (count, channels) == (3, 1):
            return replace(self, values=np.tensordot(_LUMA, self.values, 1)[None])
        raise InputError(f"{self.name}: an image of {many(count)} (accepted: {channels})")

    def convert(self, mode: str) -> Image.Image:
        """What is shown, 8 bits a value, in mode "RGB" or "L"."""
        chosen = self.values[list(shown_channels(len(self.values), self.picture))]
        pixels = np.ascontiguousarray(eight_bits(chosen).transpose(1, 2, 0))
        return Image.fromarray(pixels[:, :, 0] if len(chosen) == 1 else pixels).convert(mode)


Opened = Image.Image | Bands
"""A decoded image: of 8 bits a value in mode RGB or L, or of floats."""


def many(channels: int) -> str:
    return f"{channels} channel{'s' * (channels > 1)}"


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] as uint8; what is uint8 already stays so."""
    return values if values.dtype == np.uint8 else (values.clip(0, 1) * 255).round().astype(np.uint8)


def scaled(
    values: np.ndarray, name: str, inputs: InputSpec | None = None, *, guess: bool, bits: int | None = None
) -> np.ndarray:
    """Values of any type as float32 in [0, 1], what is beyond cut off.

    What is black and white, in this order: what the type says (8 bits, truth, floats that lie in [0, 1]); what the user
    says, `inputs.values`; the `bits` a value that the file states; 65,535 where 16 bits are used. Of whole numbers that
    need fewer bits than their type has, the bits they need, of 8, 10, 12, 14 or 16: with `guess` that is taken and
    said by a warning, without it refused. Raises InputError for all others, which says what to give.
    """
    kind = values.dtype.kind
    if kind not in "buif" or values.size == 0:
        raise InputError(f"{name}: values of type {values.dtype} (accepted: whole numbers or floats)")
    if kind == "b" or values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(1 if kind == "b" else 255)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{name}: values that are not finite (accepted: numbers)")
    if inputs is not None and inputs.values is not None:
        black, white = inputs.values
    elif kind == "f":
        black, white = 0.0, 1.0
        if low < 0 or high > 1:
            raise InputError(f"{name}: floats from {low:.6g} to {high:.6g}, not in [0, 1]; {_say(low, high)}")
    else:
        black, white = 0.0, float(_white(values.dtype, int(low), int(high), name, guess=guess, bits=bits))
    share = (values.astype(np.float64) - black) / (white - black)
    return np.asarray(share.clip(0, 1).astype(np.float32))


def _white(kind: np.dtype, low: int, high: int, name: str, *, guess: bool, bits: int | None) -> int:
    """The white of whole numbers from `low` to `high`, of which 0 is black."""
    if low < 0 or high >= 1 << _BITS[-1]:
        raise InputError(f"{name}: whole numbers from {low:,} to {high:,}; {_say(low, high)}")
    if bits is not None and high < 1 << bits:
        return (1 << bits) - 1
    needed = next(each for each in _BITS if high < 1 << each)
    white = (1 << needed) - 1
    own = 8 * kind.itemsize
    if high == 0 or needed == own:
        return white
    held = f"{own} bits a value, of which {needed} are used (from {low:,} to {high:,})"
    if not guess:
        raise InputError(f"{name}: {held}; {_say(0, white)}, or 0,{(1 << min(own, _BITS[-1])) - 1}")
    warnings.warn(
        f"{name}: {held}; {white:,} is taken for white (to name another: --values LOW,HIGH)", NetloupeWarning, 2
    )
    return white


def _say(low: float, high: float) -> str:
    return f"say what is black and white: --values {low:.6g},{high:.6g}, or values=({low:.6g}, {high:.6g})"


def channels_first(values: np.ndarray, name: str, inputs: InputSpec | None) -> np.ndarray:
    """(C, H, W) of (C, H, W), (H, W, C) or (H, W), told apart by the number of channels of the network.

    Raises InputError where neither axis, or both, has that many.
    """
    shape = "x".join(map(str, values.shape))
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"{name}: an array of {shape} (accepted: (C, H, W), (H, W, C) or (H, W))")
    if inputs is None:
        raise InputError(
            f"{name}: an array of {shape}; which axis are the channels? (fix: load_image(..., channels=N))"
        )
    accepted = (1, 3) if inputs.channels in (1, 3) else (inputs.channels,)
    first, last = values.shape[0] in accepted, values.shape[2] in accepted
    if first == last:
        reason = "so has either axis" if first else "and no axis has that many"
        raise InputError(f"{name}: an array of {shape}; the network takes {many(inputs.channels)}, {reason}")
    return values if first else np.moveaxis(values, 2, 0)

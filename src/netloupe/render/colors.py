"""Numbers over an image as colors: unsigned, signed, per color channel, and laid over the photograph."""

from __future__ import annotations

import numpy as np
from PIL import Image

from netloupe.core.inputs import shown_channels
from netloupe.render.pictures import Color, Picture

INK: Color = (31, 28, 24)
SOFT: Color = (100, 93, 83)
RULE: Color = (223, 217, 205)

COLORS: tuple[Color, ...] = (  # told apart with any color vision, readable on paper
    (0, 90, 156),
    (230, 159, 0),
    (0, 158, 115),
    (204, 82, 122),
    (86, 180, 233),
    (148, 62, 15),
    (110, 70, 160),
    (30, 40, 50),
)
GRAY: Color = (140, 134, 124)
OTHERS: Color = (214, 212, 206)

_HEAT = np.array(  # black, violet, red, orange, pale yellow: lightness rises evenly
    [
        [0, 0, 4],
        [40, 11, 84],
        [101, 21, 110],
        [159, 42, 99],
        [212, 72, 66],
        [245, 125, 21],
        [250, 193, 39],
        [252, 255, 164],
    ],
    dtype=np.float64,
)

_DIVERGING = np.array(  # blue, white, red: lightness falls evenly to both sides
    [
        [5, 48, 97],
        [33, 102, 172],
        [103, 169, 207],
        [209, 229, 240],
        [247, 247, 247],
        [253, 219, 199],
        [239, 138, 98],
        [178, 24, 43],
        [103, 0, 31],
    ],
    dtype=np.float64,
)


def palette(count: int) -> list[Color]:
    """Colors for `count` categories, most frequent first; those for which there is no color left share a light gray."""
    return [*COLORS, *[OTHERS] * count][:count]


def strength(values: np.ndarray, share: float = 0.995) -> float:
    """The size that `share` of the non-zero values do not exceed: a scale not set by outliers. 0 if all are zero."""
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, share)) if sizes.size else 0.0


def heat(values: np.ndarray, high: float | None = None) -> Picture:
    """(H, W) from 0 (black; below too) to `high` (pale yellow; its maximum for None) -> (H, W, 3), lightness even."""
    high = float(values.max(initial=0.0)) if high is None else high
    share = np.clip(values / high, 0, 1) if high > 0 else np.zeros_like(values, dtype=np.float64)
    places = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(share, places, _HEAT[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def diverging(values: np.ndarray, high: float | None = None) -> Picture:
    """(H, W) signed -> (H, W, 3): blue at -high, white at 0, red at `high`; by default `strength`."""
    share = _share(values, high)
    places = np.linspace(-1, 1, len(_DIVERGING))
    return np.stack([np.interp(share, places, _DIVERGING[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def relief(values: np.ndarray, high: float | None = None) -> Picture:
    """(C, H, W) signed -> (H, W, 3): gray at 0, each color up to `high`, by default `strength`.

    Of many channels those that make a picture, see `InputSpec.picture`.
    """
    values = values[list(shown_channels(len(values)))]
    pixels = (127.5 + 127.5 * _share(values, high)).round().astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) numbers at (height, width), bicubic, within their own range; what has the size already stays as it is."""
    if values.shape == size:
        return values
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    smooth = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return np.asarray(smooth.clip(values.min(), values.max()))


def overlay(photo: Picture, values: np.ndarray, high: float | None = None, *, signed: bool = False) -> Picture:
    """(h, w) values, `enlarged`, as colored light on a photograph (H, W, 3), whose own colors give way to grays.

    The grays keep to the middle, so that the map stays readable on dark and on light photographs, and shine through
    the colors. Below an eighth of `high` (by default `strength`) the photograph is alone. Unsigned: red to yellow,
    and nothing below zero; signed: blue and red.
    """
    high = strength(values) if high is None else high
    share = _share(enlarged(values, photo.shape[:2]), high)
    gray = (80 + photo @ np.array([0.299, 0.587, 0.114]) * (120 / 255))[..., None]
    if signed:
        color = diverging(np.sign(share) * (0.5 + 0.35 * np.abs(share)), 1.0)
    else:
        share = share.clip(0, 1)
        color = heat(0.42 + 0.48 * share, 1.0)
    ramp = np.clip((np.abs(share) - 0.125) / 0.575, 0, 1)[..., None]
    weight = 0.85 * ramp**2 * (3 - 2 * ramp)
    lit = color * (0.55 + 0.45 * gray / 140)
    mixed: Picture = np.clip(gray * (1 - weight) + lit * weight, 0, 255).round().astype(np.uint8)
    return mixed


def _share(values: np.ndarray, high: float | None) -> np.ndarray:
    high = strength(values) if high is None else high
    return np.clip(values / high, -1, 1) if high > 0 else np.zeros_like(values, dtype=np.float64)

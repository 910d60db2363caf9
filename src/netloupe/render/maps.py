"""Numbers over an image as colors: unsigned, signed, per color channel, and laid over the photograph."""

from __future__ import annotations

import numpy as np

from netloupe.render.pictures import Picture, heat

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


def strength(values: np.ndarray, share: float = 0.995) -> float:
    """The size that `share` of the non-zero values do not exceed: a scale not set by outliers. 0 if all are zero."""
    sizes = np.abs(values[values != 0])
    return float(np.quantile(sizes, share)) if sizes.size else 0.0


def diverging(values: np.ndarray, high: float | None = None) -> Picture:
    """(H, W) signed -> (H, W, 3): blue at -high, white at 0, red at `high`; by default `strength`."""
    share = _share(values, high)
    places = np.linspace(-1, 1, len(_DIVERGING))
    return np.stack([np.interp(share, places, _DIVERGING[:, c]) for c in range(3)], axis=-1).round().astype(np.uint8)


def relief(values: np.ndarray, high: float | None = None) -> Picture:
    """(C, H, W) signed, one or three colors -> (H, W, 3): gray at 0, each color up to `high`, by default `strength`."""
    pixels = (127.5 + 127.5 * _share(values, high)).round().astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def overlay(photo: Picture, values: np.ndarray, high: float | None = None, *, signed: bool = False) -> Picture:
    """(H, W) values over a photograph (H, W, 3) of the same size, whose colors give way to faint grays.

    The grays keep to the middle, so that the map stays readable on dark and on light photographs. Unsigned: `heat`;
    signed: `diverging`. What is near zero shows the photograph alone.
    """
    share = _share(values, high)
    gray = 60 + photo @ np.array([0.299, 0.587, 0.114]) * (140 / 255)
    color = diverging(share, 1.0) if signed else heat(0.35 + 0.65 * np.clip(share, 0, 1), 1.0)
    weight = (np.abs(share) if signed else np.clip(share, 0, 1))[..., None] ** 0.6 * 0.9
    return np.asarray((gray[..., None] * (1 - weight) + color * weight).round(), dtype=np.uint8)


def _share(values: np.ndarray, high: float | None) -> np.ndarray:
    high = strength(values) if high is None else high
    return np.clip(values / high, -1, 1) if high > 0 else np.zeros_like(values, dtype=np.float64)

"""Sizes of an image from small to large, and images brought to a size."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.sizes import Sizes

SMALLEST = 8  # px, of the shorter side
FIRST = 128

Size = tuple[int, int]


def octaves(size: Size, count: int, factor: float = 2.0, taken: Sizes | None = None) -> list[Size]:
    """`count` sizes (height, width), each `factor` times the one before; the last is `size`.

    taken: by the network; then each is the nearest of these, and fewer where that is the same for several.
    Raises InputError for a first one whose shorter side is below 8 px.
    """
    if count < 1 or factor <= 1:
        raise InputError(f"{count} octaves by {factor:g} (accepted: 1 or more, by above 1)")
    sizes = [(round(size[0] / factor**i), round(size[1] / factor**i)) for i in reversed(range(count))]
    if min(sizes[0]) < SMALLEST:
        raise InputError(f"octave of {sizes[0][0]}x{sizes[0][1]} px (accepted: {SMALLEST} px or more: fewer octaves)")
    return sizes if taken is None else list(dict.fromkeys(map(taken.nearest, sizes)))


def doubling(size: Size, count: int | None, taken: Sizes | None = None) -> list[Size]:
    """`octaves` of factor 2; for None as many as begin with a shorter side of `FIRST` px or more, at least one."""
    count = 1 + max(0, int(math.log2(min(size) / FIRST))) if count is None else count
    return octaves(size, count, taken=taken)


def resized(images: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) at (height, width): bicubic, with antialiasing."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def scaled(images: Tensor, factor: float, taken: Sizes | None = None) -> Tensor:
    """(N, C, H, W) with sides `factor` times as long, in [0, 1].

    taken: by the network; then the center of such a size. Raises InputError where none is small enough.
    """
    height, width = (max(1, round(side * factor)) for side in images.shape[2:])
    larger = resized(images, (height, width)).clamp(0, 1)
    return larger if taken is None else _center(larger, taken.largest((height, width), "style images"))


def covering(images: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) scaled so that they cover (height, width), and cut at their center; in [0, 1]."""
    factor = max(side / length for side, length in zip(size, images.shape[2:], strict=True))
    height, width = (max(side, round(length * factor)) for side, length in zip(size, images.shape[2:], strict=True))
    return _center(resized(images, (height, width)), size).clamp(0, 1)


def _center(images: Tensor, size: Size) -> Tensor:
    top, left = ((side - wanted) // 2 for side, wanted in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]

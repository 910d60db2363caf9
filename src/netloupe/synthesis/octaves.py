"""Sizes of an image from small to large, and images brought to a size."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError

SMALLEST = 8  # px, of the shorter side
FIRST = 128

Size = tuple[int, int]


def octaves(size: Size, count: int, factor: float = 2.0) -> list[Size]:
    """`count` sizes (height, width), each `factor` times the one before; the last is `size`.

    Raises InputError for a first one whose shorter side is below 8 px.
    """
    if count < 1 or factor <= 1:
        raise InputError(f"{count} octaves by {factor:g} (accepted: 1 or more, by above 1)")
    sizes = [(round(size[0] / factor**i), round(size[1] / factor**i)) for i in reversed(range(count))]
    if min(sizes[0]) < SMALLEST:
        raise InputError(f"octave of {sizes[0][0]}x{sizes[0][1]} px (accepted: {SMALLEST} px or more: fewer octaves)")
    return sizes


def doubling(size: Size, count: int | None) -> list[Size]:
    """`octaves` of factor 2; for None as many as begin with a shorter side of `FIRST` px or more, at least one."""
    return octaves(size, 1 + max(0, int(math.log2(min(size) / FIRST))) if count is None else count)


def resized(images: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) at (height, width): bicubic, with antialiasing."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def scaled(images: Tensor, factor: float) -> Tensor:
    """(N, C, H, W) with sides `factor` times as long, in [0, 1]."""
    height, width = (max(1, round(side * factor)) for side in images.shape[2:])
    return resized(images, (height, width)).clamp(0, 1)


def covering(images: Tensor, size: Size) -> Tensor:
    """(N, C, H, W) scaled so that they cover (height, width), and cut at their center; in [0, 1]."""
    factor = max(side / length for side, length in zip(size, images.shape[2:], strict=True))
    height, width = (max(side, round(length * factor)) for side, length in zip(size, images.shape[2:], strict=True))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized(images, (height, width))[:, :, top : top + size[0], left : left + size[1]].clamp(0, 1)

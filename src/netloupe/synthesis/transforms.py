"""What is done to the images before each step, so that what is seen does not hang on single pixels.

A transform takes images (N, C, H, W) and a generator and gives images, perhaps of another size; one draw serves for all
images of a batch, so that none depends on the others. Olah et al. (2017), "Feature visualization".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Transform = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Pad:
    """`pixels` px on each side, gray (0.5)."""

    pixels: int

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return F.pad(images, [self.pixels] * 4, value=0.5)


@dataclass(frozen=True)
class Jitter:
    """Moved by up to `pixels` px along each axis; what leaves on one side comes in on the other."""

    pixels: int

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        by = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator).tolist()
        return images.roll(by, (2, 3))


@dataclass(frozen=True)
class Scale:
    """Resized by one of `factors`."""

    factors: Sequence[float]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        factor = self.factors[_one(len(self.factors), generator)]
        size = [max(1, round(side * factor)) for side in images.shape[2:]]
        return images if size == list(images.shape[2:]) else _resized(images, size)


@dataclass(frozen=True)
class Rotate:
    """Turned by one of `degrees` about the center; the corners fill with the border's pixels."""

    degrees: Sequence[float]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        angle = math.radians(self.degrees[_one(len(self.degrees), generator)])
        if angle == 0:
            return images
        height, width = images.shape[2:]
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s * height / width, 0], [s * width / height, c, 0]], device=images.device)
        grid = F.affine_grid(turn[None].to(images), [1, 1, height, width], align_corners=False)
        return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Crop:
    """A place drawn at random, of `size` (height, width) px, or of all there is if that is less."""

    size: tuple[int, int]

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        (height, width), sides = self.size, images.shape[2:]
        room = [max(0, side - wanted) for side, wanted in zip(sides, self.size, strict=True)]
        top, left = (_one(r + 1, generator) for r in room)
        return images[:, :, top : top + height, left : left + width]


@dataclass(frozen=True)
class Zoom:
    """A square place drawn at random that holds `low` to `high` of each side, resized to the whole."""

    low: float
    high: float

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        share = self.low + (self.high - self.low) * float(torch.rand((), generator=generator))
        sides = list(images.shape[2:])
        wanted = tuple(max(1, round(side * share)) for side in sides)
        return _resized(Crop((wanted[0], wanted[1]))(images, generator), sides)


@dataclass(frozen=True)
class Noise:
    """Normal noise of standard deviation `deviation`."""

    deviation: float

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        drawn = torch.randn(images.shape[1:], generator=generator)
        return images + self.deviation * drawn.to(images)


def _one(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(images, size, mode="bilinear", align_corners=False)

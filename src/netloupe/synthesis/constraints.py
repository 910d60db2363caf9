"""What is done to the pixels after each step (Yosinski et al. 2015, section 3).

A constraint takes the images (N, C, H, W), the gradient of the step, the number of the step from 1, and the color that
counts as zero (C, 1, 1); it gives the images. It works where the pixels themselves are climbed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from netloupe.core.blur import blurred

Constraint = Callable[[Tensor, Tensor, int, Tensor], Tensor]


@dataclass(frozen=True)
class Decay:
    """Nearer to zero by the share `amount`; the gradient of an L2 penalty."""

    amount: float

    def __call__(self, images: Tensor, gradient: Tensor, step: int, zero: Tensor) -> Tensor:
        return zero + (images - zero) * (1 - self.amount)


@dataclass(frozen=True)
class Blur:
    """Every `every` steps a Gaussian blur of standard deviation `width` px, cut off after 4, mirrored at the border."""

    width: float
    every: int = 1

    def __call__(self, images: Tensor, gradient: Tensor, step: int, zero: Tensor) -> Tensor:
        return images if step % self.every else blurred(images, self.width, cut=4, border="reflect")


@dataclass(frozen=True)
class ClipNorm:
    """The `share` of pixels whose norm over the colors is smallest become zero."""

    share: float

    def __call__(self, images: Tensor, gradient: Tensor, step: int, zero: Tensor) -> Tensor:
        return _without_smallest(images, (images - zero).norm(dim=1), self.share, zero)


@dataclass(frozen=True)
class ClipContribution:
    """The `share` of pixels become zero that contribute least: |sum over colors of pixel times gradient|."""

    share: float

    def __call__(self, images: Tensor, gradient: Tensor, step: int, zero: Tensor) -> Tensor:
        return _without_smallest(images, ((images - zero) * gradient).sum(1).abs(), self.share, zero)


def _without_smallest(images: Tensor, sizes: Tensor, share: float, zero: Tensor) -> Tensor:
    """`sizes` (N, H, W)."""
    limit = sizes.flatten(1).quantile(share, dim=1).view(-1, 1, 1)
    return torch.where((sizes < limit)[:, None], zero, images)

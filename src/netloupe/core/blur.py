"""The Gaussian blur of images."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(
    images: Tensor, sigma: float, *, cut: float = 3.0, border: Literal["replicate", "reflect"] = "replicate"
) -> Tensor:
    """(N, C, H, W) under a Gaussian of standard deviation `sigma` px, cut off after `cut` of them.

    border: continued, or mirrored, which cuts the Gaussian off at the image's own size too. 0 leaves the images as
    they are.
    """
    for axis in (2, 3) if sigma > 0 else ():
        reach = max(1, round(cut * sigma))
        if border == "reflect":
            reach = min(reach, images.shape[axis] - 1)
        x = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-x.square() / (2 * sigma**2))
        shape, sides = ((-1, 1), (0, 0, reach, reach)) if axis == 2 else ((1, -1), (reach, reach, 0, 0))
        padded = F.pad(images, sides, mode=border).flatten(0, 1)[:, None]
        images = F.conv2d(padded, (kernel / kernel.sum()).view(1, 1, *shape)).view(images.shape)
    return images

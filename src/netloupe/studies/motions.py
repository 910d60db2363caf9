"""Shift, scale and rotation of an image as a network sees it, from what the image file holds.

Every picture, the untouched one too, is read the same way: the file is brought to twice the network's resolution, then
each pixel of the network's input is the mean of four bilinear readings of that, at the places that the motion takes
them from. So what a motion brings into view is real where the photograph goes on there; beyond its edges it is filled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from netloupe.data.bands import Opened
from netloupe.data.images import of_channels, pixels_of, to_float

FINE = 2  # readings a side of each pixel, and how much finer than the network's input the image is held
_REACH = 4  # the part of an image that is held, in sides of the network's input; motions reach no further


@dataclass(frozen=True)
class Motion:
    """What is done to an image about its center, in this order: scaled, turned, shifted.

    shift: down, as a share of the input's height. scale: 2 shows the content twice as large. rotation: degrees,
    counterclockwise.
    """

    shift: float = 0.0
    scale: float = 1.0
    rotation: float = 0.0

    @property
    def nothing(self) -> bool:
        """Whether it leaves the image as it is."""
        return self.shift == 0 and self.scale == 1 and self.rotation % 360 == 0


class Held:
    """One image held finely, with the place of the network's input on it.

    pixels: (C, h, w) float in [0, 1]. center: (y, x) of the input's center on it, in px from its top left corner.
    step: px of it for one px of the input.
    """

    def __init__(self, image: Opened, size: tuple[int, int], channels: int, window: float = 1.0) -> None:
        """The network sees `window` of the largest part at the image's center that has the shape of its input."""
        image = of_channels(image, channels)
        seen = min(image.height / size[0], image.width / size[1]) * window  # px of the file for one of the input
        height, width = (
            min(side, _REACH * seen * wide) for side, wide in zip((image.height, image.width), size, strict=True)
        )
        top, left = (image.height - height) / 2, (image.width - width) / 2
        fine = max(1, round(FINE * height / seen)), max(1, round(FINE * width / seen))
        box = (left, top, left + width, top + height)
        picture = image.resize((fine[1], fine[0]), Image.Resampling.BILINEAR, box=box)
        self.size = size
        self.pixels = to_float(pixels_of(picture))
        self.center = fine[0] / 2, fine[1] / 2
        self.step = fine[0] * seen / height, fine[1] * seen / width

    def moved(self, motions: Sequence[Motion], fill: str = "reflection", mean: Tensor | None = None) -> Tensor:
        """(len(motions), C, H, W) in [0, 1]: the input after each motion.

        fill: what stands beyond the edges of the photograph, "reflection" or "mean", the color `mean` (C,).
        """
        readings = torch.stack([self._places(motion) for motion in motions])
        pixels = self.pixels[None]
        if fill == "reflection":
            found = _read(pixels, readings, "reflection")
        else:
            color = torch.full((pixels.shape[1],), 0.5) if mean is None else mean.float().cpu()
            rest = color.view(1, -1, 1, 1)
            found = torch.where(self._inside(readings)[:, None], _read(pixels, readings, "border"), rest)
        return F.avg_pool2d(found, FINE).clamp(0, 1)

    def filled(self, motions: Sequence[Motion]) -> np.ndarray:
        """(len(motions),): the share of the input that lies beyond the photograph's edges."""
        inside = self._inside(torch.stack([self._places(motion) for motion in motions]))
        return 1 - inside.double().mean((1, 2)).numpy()

    def _inside(self, places: Tensor) -> Tensor:
        return (places.abs() <= 1 + 1e-6).all(-1)

    def _places(self, motion: Motion) -> Tensor:
        """(FINE * H, FINE * W, 2) float32: where each reading is taken, (x, y), the edges of the image at -1 and 1."""
        height, width = self.size
        y = (torch.arange(FINE * height, dtype=torch.float64) + 0.5) / FINE - height / 2 - motion.shift * height
        x = (torch.arange(FINE * width, dtype=torch.float64) + 0.5) / FINE - width / 2
        angle = math.radians(motion.rotation % 360)
        cos, sin = (math.cos(angle) / motion.scale, math.sin(angle) / motion.scale)
        down, across = y[:, None], x[None, :]
        from_y = (across * sin + down * cos) * self.step[0] / self.center[0]
        from_x = (across * cos - down * sin) * self.step[1] / self.center[1]
        return torch.stack([from_x, from_y], dim=-1).float()


def _read(pixels: Tensor, places: Tensor, beyond: str) -> Tensor:
    every = pixels.expand(len(places), -1, -1, -1)
    return F.grid_sample(every, places, mode="bilinear", padding_mode=beyond, align_corners=False)

"""Occlusion sensitivity: how a score changes when a window is hidden (Zeiler & Fergus 2013, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.baselines import Baseline, baseline_images
from netloupe.analysis.provenance import provenance
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective
from netloupe.render.maps import diverging
from netloupe.render.pictures import Picture, resized
from netloupe.render.result import Result

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Windows:
    """Where the window goes: position (i, j) hides `size` px from (i, j) times `stride`, cut off at the border.

    Every pixel is hidden at some position. size, stride, image: (y, x) in px.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    image: tuple[int, int]

    def __post_init__(self) -> None:
        for axis, window, stride, side in zip(("high", "wide"), self.size, self.stride, self.image, strict=True):
            if not 1 <= window <= side:
                raise InputError(f"a window {window} px {axis} on an image {side} px {axis} (accepted: 1 to {side})")
            if not 1 <= stride <= window:
                raise InputError(
                    f"stride {stride} with a window {window} px {axis} (accepted: 1 to {window}, so that no pixel is "
                    "left out)"
                )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of positions."""
        rows, columns = (
            -(-(side - window) // stride) + 1
            for side, window, stride in zip(self.image, self.size, self.stride, strict=True)
        )
        return rows, columns

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in px, clipped to the image."""
        top, left = row * self.stride[0], column * self.stride[1]
        return top, left, min(top + self.size[0], self.image[0]), min(left + self.size[1], self.image[1])


@dataclass(frozen=True)
class Occlusion(Result):
    """What became of the objective with the window at each position.

    scores: (N, rows, columns), the raw objective of the occluded image. clean: (N,), of the whole image.
    """

    scores: np.ndarray
    clean: np.ndarray
    windows: Windows
    provenance: Mapping[str, Any]

    @property
    def drops(self) -> np.ndarray:
        """(N, rows, columns): clean minus occluded; positive where the hidden part speaks for the objective."""
        return np.asarray(self.clean[:, None, None] - self.scores)

    def heat(self) -> np.ndarray:
        """(N, H, W): for each pixel the mean drop over the windows that hide it."""
        total = np.zeros((len(self.scores), *self.windows.image))
        count = np.zeros(self.windows.image)
        drops = self.drops
        for row, column in np.ndindex(self.windows.grid):
            top, left, bottom, right = self.windows.box(row, column)
            total[:, top:bottom, left:right] += drops[:, row, column, None, None]
            count[top:bottom, left:right] += 1
        return np.asarray((total / count).astype(np.float32))

    def pictures(self) -> dict[str, Picture]:
        side = max(1, 320 // max(self.windows.grid))
        size = self.windows.grid[0] * side, self.windows.grid[1] * side
        shown = {f"occlusion-{i}": resized(diverging(drop), size, smooth=False) for i, drop in enumerate(self.drops)}
        return {"occlusion": shown["occlusion-0"]} if len(shown) == 1 else shown

    def arrays(self) -> dict[str, np.ndarray]:
        return {"scores": self.scores, "clean": self.clean}

    def summary(self) -> dict[str, Any]:
        places = [np.unravel_index(int(drop.argmax()), drop.shape) for drop in self.drops]
        return {
            "window": list(self.windows.size),
            "stride": list(self.windows.stride),
            "grid": list(self.windows.grid),
            "images": [
                {
                    "clean": float(clean),
                    "lowest": float(scores.min()),
                    "highest": float(scores.max()),
                    "lowest_box": list(self.windows.box(int(row), int(column))),
                }
                for clean, scores, (row, column) in zip(self.clean, self.scores, places, strict=True)
            ],
        }


def occlusion(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    window: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 8,
    baseline: Baseline = "mean",
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Occlusion:
    """The objective with a window of the baseline at every position of every image (N, C, H, W) in [0, 1].

    window, stride: px, one number or (y, x). baseline: see `baseline_images`. Raises InputError for a window
    larger than the image or a stride outside 1 to the window, NetworkError for a score that is not finite or that
    never changes.
    """
    net.inputs.check(images)
    net.inputs.check_range(images)
    objective = as_objective(objective)
    height, width = images.shape[2:]
    windows = Windows(_pair(window), _pair(stride), (height, width))
    hidden = baseline_images(net, images, baseline)
    rows, columns = windows.grid
    boxes = [windows.box(r, c) for r in range(rows) for c in range(columns)]
    with torch.no_grad():
        clean = net.read(images, objective)
        found = []
        for n, (image, cover) in enumerate(zip(images, hidden, strict=True)):
            parts = []
            for start in range(0, len(boxes), batch_size):
                some = boxes[start : start + batch_size]
                batch = image.expand(len(some), -1, -1, -1).clone()
                for one, (top, left, bottom, right) in zip(batch, some, strict=True):
                    one[:, top:bottom, left:right] = cover[:, top:bottom, left:right]
                parts.append(net.read(batch, objective))
                if progress is not None:
                    progress(n * len(boxes) + start + len(some), len(images) * len(boxes))
            found.append(torch.cat(parts).view(rows, columns))
    scores = torch.stack(found).cpu().numpy()
    if not np.isfinite(scores).all():
        raise NetworkError(f"{objective!r} of an occluded image is not finite in {net.name}")
    where = provenance(
        net, "occlusion", objective=repr(objective), window=list(windows.size), stride=list(windows.stride)
    )
    return Occlusion(scores, clean.cpu().numpy(), windows, where)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))

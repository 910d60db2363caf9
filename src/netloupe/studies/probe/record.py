"""What `probe` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.data.sources import Skipped
from netloupe.render.result import Record

PLACE = "place alone"  # the baseline that sees no image


@dataclass(frozen=True, kw_only=True)
class DenseProbe(Record):
    """How well positions of layers tell classes of pixels apart, on the images that did not train.

    layers: the names, the baseline `PLACE` last. overlap: (L, K, 2) pixels in the intersection and in the union of what
    was predicted and what is there, by class. grids: (L, 2) positions. images, masks, predicted: some of those judged,
    (M, C, H, W) in [0, 1], (M, H, W) with -1 for unknown, and (M, H, W) by the best layer.
    """

    layers: tuple[str, ...]
    classes: tuple[str, ...]
    overlap: np.ndarray
    grids: np.ndarray
    counts: tuple[int, int]
    images: np.ndarray
    masks: np.ndarray
    predicted: np.ndarray
    unreadable: tuple[Skipped, ...] = ()

    @property
    def shares(self) -> np.ndarray:
        """(L, K) intersection over union; NaN for a class that is neither there nor predicted."""
        inside, either = self.overlap[..., 0], self.overlap[..., 1]
        return np.where(either > 0, inside / np.maximum(either, 1), np.nan)

    @property
    def means(self) -> np.ndarray:
        """(L,) the mean over classes that are there or predicted."""
        return np.asarray(np.nanmean(self.shares, axis=1))

    @property
    def best(self) -> str:
        """The layer of the highest mean, the first of equals; the baseline is none."""
        return self.layers[int(self.means[:-1].argmax())]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"overlap": self.overlap, "images": self.images, "masks": self.masks, "predicted": self.predicted}

    def summary(self) -> dict[str, Any]:
        found = {}
        for name, grid, mean, each in zip(self.layers, self.grids, self.means, self.shares, strict=True):
            by_class = {c: None if np.isnan(v) else float(v) for c, v in zip(self.classes, each, strict=True)}
            found[name] = {"positions": [int(n) for n in grid], "mean": float(mean), "classes": by_class}
        return {
            "classes": list(self.classes),
            "layers": found,
            "best": self.best,
            "training_images": self.counts[0],
            "test_images": self.counts[1],
        }

    def remarks(self) -> list[str]:
        return [str(one) for one in self.unreadable]

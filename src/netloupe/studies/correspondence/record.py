"""How alike the changes are that hiding the same part makes in different images, as found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.render.result import Record, told
from netloupe.studies.correspondence.signs import jackknife_error, pair_error, pair_mean, pair_values

RANDOM = "random"


@dataclass(frozen=True)
class Correspondence(Record):
    """What was found of N images, P parts and R draws of random squares, at L layers.

    differ, opposite, chance: (P + R, L, N, N), by `signs.unlike` and `signs.by_chance`; NaN for images that lack the
    part. changed: (P + R, L, N), the share of features that hiding it changed at all. features: (L,), their count.
    boxes: (P + R, N, 4), what was hidden, top, left, bottom, right in px of the input; NaN where nothing was.
    images: (N, C, H, W). color: (C,), of the squares. notes: what was left out, and what else to know.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    layers: tuple[str, ...]
    features: np.ndarray
    differ: np.ndarray
    opposite: np.ndarray
    chance: np.ndarray
    changed: np.ndarray
    boxes: np.ndarray
    images: np.ndarray
    color: np.ndarray
    notes: tuple[str, ...]
    provenance: Mapping[str, Any] = told()

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "differ": self.differ,
            "opposite": self.opposite,
            "chance": self.chance,
            "changed": self.changed,
            "boxes": self.boxes,
        }

    def summary(self) -> dict[str, Any]:
        return {
            "images": list(self.names),
            "parts": list(self.parts),
            "draws": len(self.differ) - len(self.parts),
            "layers": {
                layer: {"features": int(self.features[i]), "rows": self._rows(i)} for i, layer in enumerate(self.layers)
            },
            "notes": list(self.notes),
        }

    def _rows(self, layer: int) -> dict[str, Any]:
        """Of each part, with how far it lies below the random squares on the same pairs of images; and of those."""
        rows = {part: self._scores(slice(i, i + 1), layer) for i, part in enumerate(self.parts)}
        for name, values in {"below_random": self.differ, "opposite_below_random": self.opposite}.items():
            control = _over_draws(values[len(self.parts) :, layer])
            for i, part in enumerate(self.parts):
                gap = control - values[i, layer]
                rows[part] |= {name: pair_mean(gap), f"{name}_error": jackknife_error(gap)}
        return rows | {RANDOM: self._scores(slice(len(self.parts), None), layer)}

    def _scores(self, which: slice, layer: int) -> dict[str, Any]:
        """`delta`: the mean over pairs of the share of features whose signs differ. `error`: its standard error over
        pairs; `jackknife`: over images. `sum`: the paper's Delta itself, over ordered pairs, features counted."""
        differ = _over_draws(self.differ[which, layer])
        mean = pair_mean(differ)
        return {
            "images": int(np.isfinite(np.diag(differ)).sum()),
            "delta": mean,
            "error": pair_error(differ),
            "jackknife": jackknife_error(differ),
            "chance": pair_mean(_over_draws(self.chance[which, layer])),
            "sum": float(2 * pair_values(differ).sum() * self.features[layer]),
            "opposite": pair_mean(_over_draws(self.opposite[which, layer])),
            "opposite_jackknife": jackknife_error(_over_draws(self.opposite[which, layer])),
            "changed": _mean(self.changed[which, layer]),
        }


def _over_draws(matrices: np.ndarray) -> np.ndarray:
    """(N, N): the mean over the first axis of what is a number; NaN where none is."""
    there = np.isfinite(matrices)
    total = np.where(there, matrices, 0.0).sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(there.any(0), there.sum(0), np.nan))


def _mean(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].mean())

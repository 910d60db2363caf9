"""How well probes of each layer, and the same network from scratch, tell other classes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.render.result import Record
from netloupe.studies.probes import Kind


@dataclass(frozen=True)
class Generalization(Record):
    """Mean accuracy per class, in [0, 1], of L layers, 2 kinds of probe, P numbers of images per class, F folds.

    accuracy: (L, kinds, P, F). penalty: the same shape, what each probe chose. NaN where there are fewer folds.
    scratch: (P, S), of the same network trained from scratch in the first S folds; NaN where it was not.
    trained: (P, S), its accuracy on the images it was trained on. dimensions: (L,) numbers of a layer's vector.
    classes: how many take part for each P. images: (P, 2) of the first fold, to train and to test.
    left_out: what was not computed and why, by layer, number of images per class, class or "scratch".
    """

    layers: tuple[str, ...]
    kinds: tuple[Kind, ...]
    per_class: tuple[int, ...]
    accuracy: np.ndarray
    penalty: np.ndarray
    scratch: np.ndarray
    trained: np.ndarray
    dimensions: tuple[int, ...]
    grids: tuple[int, ...]
    classes: tuple[int, ...]
    images: np.ndarray
    left_out: Mapping[str, str]

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "accuracy": self.accuracy,
            "penalty": self.penalty,
            "scratch": self.scratch,
            "scratch-on-its-training-images": self.trained,
        }

    def summary(self) -> dict[str, Any]:
        found = {}
        for p, count in enumerate(self.per_class):
            probes = {
                layer: {kind: over_folds(self.accuracy[i, j, p]) for j, kind in enumerate(self.kinds)}
                for i, layer in enumerate(self.layers)
            }
            layer, kind = self.best(p)
            scratch = over_folds(self.scratch[p])
            own = self.accuracy[self.layers.index(layer), self.kinds.index(kind), p]
            found[str(count)] = {
                "classes": self.classes[p],
                "chance": 1 / self.classes[p],
                "training_images": int(self.images[p, 0]),
                "test_images": int(self.images[p, 1]),
                "folds": int(np.isfinite(own).sum()),
                "probes": probes,
                "best": {"layer": layer, "kind": kind, **probes[layer][kind]},
                "scratch": scratch if scratch["folds"] else None,
                "ahead": ahead(own, self.scratch[p]),
            }
        return {"layers": list(self.layers), "per_class": found, "left_out": dict(self.left_out)}

    def best(self, place: int) -> tuple[str, Kind]:
        """The layer and the kind of probe with the highest mean over folds, for the number of images at `place`."""
        means = np.nanmean(self.accuracy[:, :, place], axis=2)
        i, j = np.unravel_index(int(means.argmax()), means.shape)
        return self.layers[int(i)], self.kinds[int(j)]


def over_folds(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard deviation (of a sample; None for fewer than two) and number of the finite values."""
    finite = values[np.isfinite(values)]
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "deviation": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        "folds": len(finite),
    }


def ahead(probes: np.ndarray, scratch: np.ndarray) -> float | None:
    """The mean lead of a probe over the network from scratch, in the folds in which both were tried."""
    count = min(len(probes), len(scratch))
    leads = probes[:count] - scratch[:count]
    leads = leads[np.isfinite(leads)]
    return float(leads.mean()) if len(leads) else None

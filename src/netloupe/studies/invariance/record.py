"""How far features and answer move under each motion, as found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.data.sources import Skipped
from netloupe.render.result import Record
from netloupe.studies.invariance.numbers import MOTIONS, claims, scores


@dataclass(frozen=True)
class Invariance(Record):
    """What was found of N images, L layers and the S values of each motion.

    steps: motion -> (S,): "shift" down as a share of the input's height, "scale" as a ratio, "rotation" in degrees
    counterclockwise. distances: motion -> (N, L, S), Euclidean, to the features of the untouched image. unit: (L,), the
    root mean square distance between the features of different untouched images, by which pictures and summary
    divide. probabilities: motion -> (N, S), of the class in `classes`. filled: motion -> (N, S), the share of the input
    that lies beyond the photograph's edges. examples: places in `names` of those shown; strips: motion ->
    (E, 5, C, H, W), their pictures at values spread over the range. labeled: whether classes are the images' labels,
    else each image's most probable class. skipped: what could not be read.
    """

    layers: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labeled: bool
    steps: Mapping[str, np.ndarray]
    distances: Mapping[str, np.ndarray]
    unit: np.ndarray
    probabilities: Mapping[str, np.ndarray]
    filled: Mapping[str, np.ndarray]
    examples: tuple[int, ...]
    strips: Mapping[str, np.ndarray]
    skipped: tuple[Skipped, ...]
    provenance: Mapping[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"unit": self.unit}
        for motion in MOTIONS:
            found[motion] = self.steps[motion]
            found[f"{motion}-distances"] = self.distances[motion]
            found[f"{motion}-probabilities"] = self.probabilities[motion]
            found[f"{motion}-filled"] = self.filled[motion]
        return found

    def normalized(self, motion: str) -> np.ndarray:
        """(N, L, S): distances, where 1 is how far different images lie from each other."""
        found: np.ndarray = self.distances[motion] / self.unit[:, None]
        return found

    def summary(self) -> dict[str, Any]:
        rows = {
            motion: scores(motion, self.steps[motion], self.normalized(motion), self.probabilities[motion], self.layers)
            | {"filled": float(self.filled[motion].mean())}
            for motion in MOTIONS
        }
        return {
            "images": len(self.names),
            "layers": list(self.layers),
            "class": "the image's label" if self.labeled else "the most probable class of the untouched image",
            "probability": float(self.probabilities["scale"][:, 0].mean()),
            "unit": dict(zip(self.layers, map(float, self.unit), strict=True)),
            "motions": rows,
            "claims": claims(rows, self.layers),
            "examples": [{"name": self.names[i], "class": self.classes[i]} for i in self.examples],
            "skipped": {one.name: one.reason for one in self.skipped},
        }

"""How far features and answer move under each motion, as found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.core.numbers import spread
from netloupe.data.sources import Skipped
from netloupe.render.result import Record
from netloupe.studies.invariance.task import MOTIONS, amount

_STRAIGHT = 0.9  # of linearity, from which a curve counts as quasi-linear


def amounts(motion: str, values: np.ndarray) -> np.ndarray:
    """How far each value of a motion is from leaving the image as it is: both ways alike."""
    if motion == "scale":
        return np.asarray(values - 1)
    return np.asarray(np.minimum(values % 360, -values % 360) if motion == "rotation" else np.abs(values))


def shown_places(motion: str, count: int) -> list[int]:
    """Which values of a motion its pictures show: up to five, evenly spread; of rotations 0, 45, 90, 180 and 270."""
    if motion == "rotation":
        return [round(count * part) % count for part in (0, 1 / 8, 1 / 4, 1 / 2, 3 / 4)]
    return spread(0, count - 1, 5)


def by_amount(motion: str, values: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The amounts in order, each once, and the curve's mean at each."""
    rounded = np.round(amounts(motion, values), 9)
    found = np.unique(rounded)
    return found, np.array([curve[rounded == amount].mean() for amount in found])


def crossing(places: np.ndarray, curve: np.ndarray, level: float) -> float | None:
    """The first place where the curve, straight between its points, comes to the level; None where it never does."""
    above = curve[0] > level
    for i in range(1, len(curve)):
        if curve[i] == level or (curve[i] > level) != above:
            share = (level - curve[i - 1]) / (curve[i] - curve[i - 1])
            return float(places[i - 1] + share * (places[i] - places[i - 1]))
    return None


def linearity(places: np.ndarray, curve: np.ndarray) -> float | None:
    """The share of the curve's variance that the best line through the origin explains, 1 for a line; below 0 where
    the mean explains more; None for a constant curve."""
    spread = float(((curve - curve.mean()) ** 2).sum())
    if spread == 0:
        return None
    slope = float((places * curve).sum() / (places**2).sum())
    return 1 - float(((curve - slope * places) ** 2).sum()) / spread


def scores(
    motion: str, values: np.ndarray, distances: np.ndarray, probabilities: np.ndarray | None, layers: Sequence[str]
) -> dict[str, Any]:
    """Of one motion: distances (N, L, S), normalized, and probabilities (N, S), None for a network without classes.

    For each layer, of the mean over images and both directions: `small`, the distance at the smallest amount; `half`,
    the amount at which it is half its highest; `highest`; `linearity`. Of the probability: `half`, the amount at which
    the mean falls to half of the untouched images'; `kept`, the mean over all amounts by that of untouched images;
    `stable`, the share of images that keep half of theirs throughout.
    """
    rows: dict[str, Any] = {}
    for i, name in enumerate(layers):
        places, curve = by_amount(motion, values, distances[:, i].mean(0))
        high = float(curve.max())
        rows[name] = {
            "small": float(curve[1]),
            "half": crossing(places, curve, high / 2) if high > 0 else None,
            "highest": high,
            "linearity": linearity(places, curve),
        }
    answer = None if probabilities is None else _stability(motion, values, probabilities)
    return {"smallest": float(places[1]), "largest": float(places[-1]), "layers": rows, "probability": answer}


def _stability(motion: str, values: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    places, curve = by_amount(motion, values, probabilities.mean(0))
    untouched = probabilities[:, _still(motion, values)]
    return {
        "half": crossing(places, curve, curve[0] / 2),
        "kept": float(curve[1:].mean() / curve[0]),
        "stable": float((probabilities >= untouched[:, None] / 2).all(1).mean()),
    }


def claims(rows: Mapping[str, Mapping[str, Any]], layers: Sequence[str]) -> list[dict[str, Any]]:
    """What Zeiler & Fergus say of their Figure 5, whether it holds here, and by which numbers."""
    first, last = layers[0], layers[-1]

    def each(key: str, layer: str, names: Sequence[str] = MOTIONS) -> dict[str, Any]:
        return {motion: rows[motion]["layers"][layer][key] for motion in names}

    found = []
    if len(layers) > 1:
        small = each("small", first), each("small", last)
        found.append(
            _claim(
                f"small motions change {first} more than {last}",
                all(small[0][motion] > small[1][motion] for motion in MOTIONS),
                "; ".join(f"{motion} {small[0][motion]:.2f} and {small[1][motion]:.2f}" for motion in MOTIONS),
            )
        )
    straight = each("linearity", last, ("shift", "scale"))
    texts = [f"{motion} {value:.2f}" for motion, value in straight.items() if value is not None]
    found.append(
        _claim(
            f"{last} changes quasi-linearly under shift and scale",
            all(value is not None and value >= _STRAIGHT for value in straight.values()),
            f"share of the variance that a line explains: {'; '.join(texts) or 'nothing changes'}",
        )
    )
    for motion in MOTIONS:
        if rows[motion]["probability"] is None:
            continue
        half, kept = rows[motion]["probability"]["half"], rows[motion]["probability"]["kept"]
        where = "never falls to half" if half is None else f"is half at {amount(motion, half)}"
        found.append(
            _claim(
                f"the answer is not stable to {motion}"
                if motion == "rotation"
                else f"the answer is stable to {motion}",
                (half is not None) == (motion == "rotation"),
                f"the mean probability {where}; over the range {kept:.0%} of it is kept",
            )
        )
    return found


def _still(motion: str, values: np.ndarray) -> int:
    return int(np.abs(amounts(motion, values)).argmin())


def _claim(text: str, holds: bool, evidence: str) -> dict[str, Any]:
    return {"claim": text, "holds": holds, "evidence": evidence}


@dataclass(frozen=True)
class Invariance(Record):
    """What was found of N images, L layers and the S values of each motion.

    steps: motion -> (S,): "shift" down as a share of the input's height, "scale" as a ratio, "rotation" in degrees
    counterclockwise. distances: motion -> (N, L, S), Euclidean, to the features of the untouched image. unit: (L,),
    the root mean square distance between the features of different untouched images, by which pictures and summary
    divide. probabilities: motion -> (N, S), of the class in `classes`; None of a network without classes. filled:
    motion -> (N, S), the share of the input that lies beyond the photograph's edges. examples: places in `names` of
    those shown; strips: motion -> (E, up to 5, C, H, W), pictures at values spread over the range. labeled: whether
    classes are the images' labels, else each image's most probable class. skipped: what could not be read.
    """

    layers: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labeled: bool
    steps: Mapping[str, np.ndarray]
    distances: Mapping[str, np.ndarray]
    unit: np.ndarray
    probabilities: Mapping[str, np.ndarray] | None
    filled: Mapping[str, np.ndarray]
    examples: tuple[int, ...]
    strips: Mapping[str, np.ndarray]
    skipped: tuple[Skipped, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"unit": self.unit}
        for motion in MOTIONS:
            found[motion] = self.steps[motion]
            found[f"{motion}-distances"] = self.distances[motion]
            if self.probabilities is not None:
                found[f"{motion}-probabilities"] = self.probabilities[motion]
            found[f"{motion}-filled"] = self.filled[motion]
        return found

    def normalized(self, motion: str) -> np.ndarray:
        """(N, L, S): distances, where 1 is how far different images lie from each other."""
        found: np.ndarray = self.distances[motion] / self.unit[:, None]
        return found

    def probability(self, motion: str) -> np.ndarray | None:
        """(N, S): of each image's class; None of a network without classes."""
        return None if self.probabilities is None else self.probabilities[motion]

    def summary(self) -> dict[str, Any]:
        rows = {
            motion: scores(motion, self.steps[motion], self.normalized(motion), self.probability(motion), self.layers)
            | {"filled": float(self.filled[motion].mean())}
            for motion in MOTIONS
        }
        whose = "the image's label" if self.labeled else "the most probable class of the untouched image"
        still = self.probability("scale")
        return {
            "images": len(self.names),
            "layers": list(self.layers),
            "class": None if still is None else whose,
            "probability": None if still is None else float(still[:, 0].mean()),
            "unit": dict(zip(self.layers, map(float, self.unit), strict=True)),
            "motions": rows,
            "claims": claims(rows, self.layers),
            "examples": [
                {"name": self.names[i], "class": self.classes[i] if self.classes else None} for i in self.examples
            ],
            "skipped": {one.name: one.reason for one in self.skipped},
        }

    def remarks(self) -> list[str]:
        return [str(one) for one in self.skipped]

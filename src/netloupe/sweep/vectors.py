"""What is kept of every image: a layer's features, and the classes predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self, final

import numpy as np
from torch import Tensor

from netloupe.core.head import Kind
from netloupe.core.taps import LOGITS
from netloupe.sweep.accumulator import Accumulator, State, to_arrays, to_state
from netloupe.sweep.maps import Maps

TOP = 5


class Rows(Accumulator):
    """Arrays with one row an image, the ids first, gathered in pieces."""

    names: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        self._pieces: list[tuple[np.ndarray, ...]] = []

    def add(self, *arrays: np.ndarray) -> None:
        if len(arrays[0]):
            self._pieces.append(arrays)

    def merge(self, other: Self) -> None:
        self.check_same(other)
        self._pieces += other._pieces

    def joined(self) -> tuple[np.ndarray, ...]:
        """Each array whole, rows in the order of ids; nothing without an image."""
        if len(self._pieces) > 1:
            self._pieces = [tuple(np.concatenate(pieces) for pieces in zip(*self._pieces, strict=True))]
        if not self._pieces:
            return ()
        whole = self._pieces[0]
        order = np.argsort(whole[0], kind="stable")
        return whole if (order[1:] > order[:-1]).all() else tuple(array[order] for array in whole)

    def state(self) -> State:
        return to_state(dict(zip(self.names, self.joined(), strict=False)))

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = to_arrays(state)
        self._pieces = [tuple(arrays[name] for name in self.names)] if arrays else []


class FeatureVectors(NamedTuple):
    """ids: (n,) int64, ascending. vectors: (n, C) float32, of a grid (n, C * grid * grid)."""

    ids: np.ndarray
    vectors: np.ndarray


@final
class Features(Rows):
    """The output of one layer for every image, averaged over positions, or over each cell of a grid."""

    names = ("ids", "vectors")

    def __init__(self, layer: str, grid: int = 1) -> None:
        super().__init__()
        self.layer = layer
        self.grid = grid

    def settings(self) -> dict[str, Any]:
        return {"layer": self.layer, "grid": self.grid}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return [self.layer]

    def update(self, layer: str, maps: Maps) -> None:
        self.add(maps.ids, maps.mean if self.grid == 1 else maps.pooled(self.grid))

    def result(self) -> FeatureVectors:
        rows = self.joined()
        return FeatureVectors(*rows) if rows else FeatureVectors(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def most_probable(logits: np.ndarray, kind: Kind = "softmax") -> tuple[np.ndarray, np.ndarray]:
    """The five most probable classes (n, up to 5) int64 of logits (n, classes), and their probabilities, float32.

    kind: of the classes, see `core.head.Classes`.
    """
    wide = logits.astype(np.float64)
    if kind == "softmax":
        exponentials = np.exp(wide - wide.max(1, keepdims=True))
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
    else:
        probabilities = np.exp(wide if kind == "probabilities" else -np.logaddexp(0, -wide))
    best = np.argsort(-wide, axis=1, kind="stable")[:, :TOP]
    return best, np.take_along_axis(probabilities, best, 1).astype(np.float32)


class PredictedClasses(NamedTuple):
    """ids: (n,) int64, ascending. classes: (n, up to 5) int64, most probable first, with their probabilities."""

    ids: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray


@final
class Predictions(Rows):
    """The five most probable classes of every image; of equal ones the smaller index comes first."""

    names = ("ids", "classes", "probabilities")

    def __init__(self, odds: Kind = "softmax") -> None:
        """odds: of which kind the classes are, see `most_probable`."""
        super().__init__()
        self.odds = odds

    def settings(self) -> dict[str, Any]:
        return {"odds": self.odds}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return [LOGITS]

    def update(self, layer: str, maps: Maps) -> None:
        self.add(maps.ids, *most_probable(maps.peak, self.odds))

    def result(self) -> PredictedClasses:
        rows = self.joined()
        empty = np.zeros(0, np.int64), np.zeros((0, TOP), np.int64), np.zeros((0, TOP), np.float32)
        return PredictedClasses(*(rows or empty))

"""Which classes each channel responds to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from netloupe.core.taps import LOGITS
from netloupe.sweep.accumulator import Accumulator, Columns, State, to_arrays, to_state
from netloupe.sweep.maps import Maps


class MeansByClass(NamedTuple):
    """Of each channel's peak activation, by class index.

    means: (classes, C) float64, NaN for a class without images. counts: (classes,) int64 images.
    """

    means: Tensor
    counts: Tensor


@final
class ClassMeans(Accumulator):
    """The mean peak of each channel over the images of each class.

    Classes are the images' own labels where the data set has labels (an image without one is left out), otherwise
    the network's predictions; predicted: whether it gives classes, otherwise there are none at all.
    Sums are float64 in the order of images: another order may change their last bits.
    """

    def __init__(self, predicted: bool = True) -> None:
        self.predicted = predicted
        self._columns = Columns()
        self._classes = 0  # at least so many
        self._labels: np.ndarray | None = None  # of the current batch
        self._predicted: np.ndarray | None = None  # where they are asked for, which is where there are no labels
        self._sums: dict[int, np.ndarray] = {}  # class -> (width,)
        self._counts: dict[int, int] = {}

    def settings(self) -> dict[str, Any]:
        return {"predicted": self.predicted}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return [*layers, LOGITS] if self.predicted and not labeled else layers

    def update(self, layer: str, maps: Maps) -> None:
        if layer != LOGITS:
            self._columns.put(layer, maps.peak)
            self._labels = maps.labels
        else:
            self._predicted = maps.peak.argmax(1)
            self._classes = max(self._classes, maps.peak.shape[1])

    def end_batch(self) -> None:
        labels = self._labels if self._predicted is None else self._predicted
        assert labels is not None
        for label, row in zip(labels.tolist(), self._columns.take(), strict=True):
            if label >= 0:
                self._add(label, row, 1)
        self._predicted = None

    def _add(self, label: int, total: np.ndarray, count: int) -> None:
        if label not in self._sums:
            self._sums[label], self._counts[label] = np.zeros(len(total)), 0
            self._classes = max(self._classes, label + 1)
        self._sums[label] += total
        self._counts[label] += count

    def merge(self, other: ClassMeans) -> None:
        self._columns.join(other._columns)
        self._classes = max(self._classes, other._classes)
        for label, total in other._sums.items():
            self._add(label, total, other._counts[label])

    def result(self) -> dict[str, MeansByClass]:
        """Layer -> MeansByClass; as many classes as the network has, or up to the highest label."""
        counts = np.zeros(self._classes, dtype=np.int64)
        means = np.full((self._classes, self._columns.width), np.nan)
        for label, total in self._sums.items():
            counts[label] = self._counts[label]
            means[label] = total / counts[label]
        return {
            layer: MeansByClass(torch.from_numpy(means[:, span].copy()), torch.from_numpy(counts.copy()))
            for layer, span in self._columns.spans.items()
        }

    def state(self) -> State:
        labels = sorted(self._sums)
        sums = np.stack([self._sums[label] for label in labels]) if labels else np.zeros((0, self._columns.width))
        arrays = {
            "labels": np.array(labels, dtype=np.int64),
            "counts": np.array([self._counts[label] for label in labels], dtype=np.int64),
            "sums": sums,
            "classes": np.array([self._classes]),
        }
        return to_state({**self._columns.state(), **arrays})

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = to_arrays(state)
        self._columns.load(arrays)
        self._classes = int(arrays["classes"][0])
        self._sums = {int(label): row.copy() for label, row in zip(arrays["labels"], arrays["sums"], strict=True)}
        self._counts = {int(label): int(n) for label, n in zip(arrays["labels"], arrays["counts"], strict=True)}

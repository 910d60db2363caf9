"""How strongly each channel responds, over all images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from netloupe.sweep.accumulator import Accumulator, Columns, State, to_arrays, to_state
from netloupe.sweep.histogram import Histograms
from netloupe.sweep.maps import Maps

BINS = 64

_TOGETHER = 128  # images whose peaks are taken in at once: one by one costs more


@dataclass(frozen=True)
class PeakStatistics:
    """The peak activation (the highest over positions) of each of C channels, over `count` images.

    mean, variance (of the images as a whole, divided by `count`): (C,) float64. minimum, maximum: (C,) float32.
    active: (C,) float64, the share of images whose peak is above zero. counts: (C, 64) int64, images in equal bins
    from `low` to `high`, both (C,); a constant channel counts in its first bin. dead: (C,) never above zero.
    """

    count: int
    mean: np.ndarray
    variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    active: np.ndarray
    counts: np.ndarray

    @property
    def low(self) -> np.ndarray:
        return self.minimum

    @property
    def high(self) -> np.ndarray:
        return self.maximum

    @property
    def dead(self) -> np.ndarray:
        return np.asarray(self.maximum <= 0)


@final
class Peaks(Accumulator):
    """Moments, range, share of active images and histogram of the peak activation.

    Means and variances are combined by Chan, Golub & LeVeque (1979) in float64: another order of images may change
    their last bits. All else is exact in any order.
    """

    def __init__(self) -> None:
        self._columns = Columns()
        self._waiting: list[np.ndarray] = []  # peaks (n, width) of the latest blocks
        self._resize(0)

    def _resize(self, width: int) -> None:
        self._count = 0
        self._mean, self._squares = np.zeros(width), np.zeros(width)  # squares: sum of squared deviations
        self._active = np.zeros(width, dtype=np.int64)
        self._histograms = Histograms(width)

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return layers

    def update(self, layer: str, maps: Maps) -> None:
        self._columns.put(layer, maps.peak)

    def end_batch(self) -> None:
        self._waiting.append(self._columns.take())
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._settle()

    def _settle(self) -> None:
        """Take in the peaks that wait."""
        peaks = np.concatenate(self._waiting) if self._waiting else np.zeros((0, 0), dtype=np.float32)
        self._waiting = []
        if len(peaks) == 0:
            return
        if self._count == 0:
            self._resize(peaks.shape[1])
        mean = peaks.mean(0, dtype=np.float64)
        deviations = peaks - mean
        self._combine(len(peaks), mean, np.einsum("nc,nc->c", deviations, deviations))
        self._active += np.count_nonzero(peaks > 0, axis=0)
        self._histograms.add(peaks)

    def merge(self, other: Peaks) -> None:
        self._settle()
        other._settle()
        if other._count == 0:
            return
        self._columns.join(other._columns)
        if self._count == 0:
            self._resize(self._columns.width)
        self._combine(other._count, other._mean, other._squares)
        self._active += other._active
        self._histograms.merge(other._histograms)

    def _combine(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self._count + count
        delta = mean - self._mean
        self._mean = self._mean + delta * (count / total)
        self._squares = self._squares + squares + delta * delta * (self._count * count / total)
        self._count = total

    def result(self) -> dict[str, PeakStatistics]:
        """Layer -> PeakStatistics; empty before the first image."""
        self._settle()
        if self._count == 0:
            return {}
        counts = self._histograms.linear(BINS)
        return {
            layer: PeakStatistics(
                self._count,
                self._mean[span].copy(),
                self._squares[span] / self._count,
                self._histograms.low[span].copy(),
                self._histograms.high[span].copy(),
                self._active[span] / self._count,
                counts[span],
            )
            for layer, span in self._columns.spans.items()
        }

    def state(self) -> State:
        arrays = {"mean": self._mean, "squares": self._squares, "active": self._active}
        count = np.array([self._count])
        # what waits is saved as such: where a sweep was cut must not decide what is added up together
        waiting = np.concatenate(self._waiting) if self._waiting else np.zeros((0, self._columns.width), np.float32)
        saved = {**self._columns.state(), **self._histograms.state(), **arrays, "count": count, "waiting": waiting}
        return to_state(saved)

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = to_arrays(state)
        self._columns.load(arrays)
        self._histograms.load(arrays)
        self._mean, self._squares, self._active = arrays["mean"], arrays["squares"], arrays["active"]
        self._count = int(arrays["count"][0])
        self._waiting = [arrays["waiting"]] if len(arrays["waiting"]) else []

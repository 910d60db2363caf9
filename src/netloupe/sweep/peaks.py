"""How strongly each channel responds, over all images: moments, range and histogram of its peak activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from netloupe.sweep.accumulator import Accumulator, Arrays, Columns, State, to_arrays, to_state
from netloupe.sweep.maps import Maps

BINS = 64

_TOGETHER = 128  # images whose peaks are taken in at once: one by one costs more
FINE = 512  # bins kept per column
_SPAN = FINE // 2  # the values of a column span at most so many bins, more than half of it unless all are equal
_MOST = 2**16 - 1  # values that are counted in 16 bits
_FINEST = -149  # the exponent of the smallest float32


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
        width = peaks.shape[1]
        if self._count == 0:
            self._resize(width)
        mean, squares = np.empty(width), np.empty(width)
        for part in _parts(width):
            self._active[part] += np.count_nonzero(peaks[:, part] > 0, axis=0)
            deviations = peaks[:, part].astype(np.float64)
            mean[part] = deviations.mean(0)
            deviations -= mean[part]
            squares[part] = np.einsum("nc,nc->c", deviations, deviations)
        self._combine(len(peaks), mean, squares)
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


class Histograms:
    """Counts of float32 values in bins of width 2^e at whole multiples of it, for each column.

    The exponent of a column is the smallest for which its lowest and highest value are at most `FINE / 2` bins
    apart. When a new extreme asks for a larger one, bins fall together in twos, fours and so on: floor(v / 2w) =
    floor(floor(v / w) / 2), so the counts are what they would be had the last width been used from the start.
    Hence they depend neither on the order nor on the batches in which values came.
    """

    def __init__(self, width: int) -> None:
        self.low = np.full(width, np.inf, dtype=np.float32)  # lowest and highest value so far
        self.high = np.full(width, -np.inf, dtype=np.float32)
        self._exponent = np.full(width, _FINEST, dtype=np.int32)
        self._first = np.zeros(width)  # the bin that counts[:, 0] counts, a whole number
        self._values = 0  # counted in each column
        self._counts = np.zeros((width, FINE), dtype=np.uint16)  # int32 where so many values may not fit

    def add(self, values: np.ndarray) -> None:
        """Count finite values (n, width) float32."""
        self._expect(len(values))
        self._cover(values.min(0), values.max(0))
        scale = torch.from_numpy(np.ldexp(1.0, -self._exponent))  # powers of two: products are exact
        counts = torch.from_numpy(self._counts.view(np.int16) if self._counts.itemsize == 2 else self._counts)
        one, first = counts.new_ones(()), torch.from_numpy(self._first)
        for part in _parts(len(first), 1024):
            bins = torch.from_numpy(values[:, part]).double().mul_(scale[part]).floor_().sub_(first[part]).long()
            counts[part].scatter_add_(1, bins.T, one.expand(bins.T.shape))

    def merge(self, other: Histograms) -> None:
        """Count what another counted."""
        self._expect(other._values)
        self._cover(other.low, other.high)
        taken = np.flatnonzero(other.low <= other.high)
        for part in (taken[some] for some in _parts(len(taken))):
            shift = self._exponent[part] - other._exponent[part]
            self._counts[part] += _regrid(other._counts[part], other._first[part], shift, self._first[part])

    def linear(self, bins: int) -> np.ndarray:
        """(width, bins) int64: counts in equal bins from `low` to `high`, exact to one bin of the fine ones.

        Where an edge cuts a fine bin, its count is split in proportion. Equal values all count in the first bin.
        """
        low, high = self.low.astype(np.float64)[:, None], self.high.astype(np.float64)[:, None]
        edges = low + (high - low) * np.arange(bins + 1) / bins
        cell = np.clip(np.floor(self._scaled(edges)) - self._first[:, None], 0, FINE - 1)
        left = np.maximum(np.ldexp(self._first[:, None] + cell, self._exponent[:, None]), low)
        right = np.minimum(np.ldexp(self._first[:, None] + cell + 1, self._exponent[:, None]), high)
        share = np.clip((edges - left) / np.where(right > left, right - left, 1), 0, 1)
        place = cell.astype(np.int64)
        through = np.cumsum(self._counts, axis=1, dtype=np.int64)
        inside = np.take_along_axis(self._counts, place, 1)
        below = np.rint(np.take_along_axis(through, place, 1) - inside + share * inside).astype(np.int64)
        below[:, 0] = 0
        below[(high == low)[:, 0], 1:] = through[(high == low)[:, 0], -1:]
        below[:, -1] = through[:, -1]
        return np.diff(below, axis=1)

    def state(self) -> Arrays:
        return {
            "low": self.low,
            "high": self.high,
            "exponent": self._exponent,
            "first": self._first,
            "bins": self._counts.astype(np.int32),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.low, self.high = arrays["low"], arrays["high"]
        self._exponent, self._first = arrays["exponent"], arrays["first"]
        self._values, self._counts = int(arrays["bins"][:1].sum()), arrays["bins"]
        if self._values <= _MOST:
            self._counts = self._counts.astype(np.uint16)

    def _expect(self, values: int) -> None:
        """Make room for the counts of so many more values."""
        self._values += values
        if self._counts.dtype == np.uint16 and self._values > _MOST:
            self._counts = self._counts.astype(np.int32)

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """(width, m) in bins; exact, a power of two being the divisor."""
        scaled: np.ndarray = np.ldexp(values, -self._exponent[:, None])
        return scaled

    def _cover(self, low: np.ndarray, high: np.ndarray) -> None:
        """Make room for values from `low` to `high` (width,); columns with low > high have none."""
        columns = np.flatnonzero((low < self.low) | (high > self.high))
        if len(columns) == 0:
            return
        empty = self.low[columns] > self.high[columns]
        self.low[columns] = np.minimum(self.low[columns], low[columns])
        self.high[columns] = np.maximum(self.high[columns], high[columns])
        lowest, highest = self.low[columns].astype(np.float64), self.high[columns].astype(np.float64)
        exponent = np.maximum(_exponent_for(highest - lowest), self._exponent[columns])
        bottom, top = np.floor(np.ldexp(lowest, -exponent)), np.floor(np.ldexp(highest, -exponent))
        shift = exponent - self._exponent[columns]
        first = self._first[columns]
        outside = empty | (shift > 0) | (bottom < first) | (top - first >= FINE)
        spare = (FINE - 1 - (top - bottom)) // 2
        target = np.where(top > bottom, bottom - spare, bottom)
        counted = np.flatnonzero(outside & ~empty)
        for part in (counted[some] for some in _parts(len(counted))):
            moved = columns[part]
            self._counts[moved] = _regrid(self._counts[moved], first[part], shift[part], target[part])
        columns = columns[outside]
        self._exponent[columns], self._first[columns] = exponent[outside], target[outside]


def _exponent_for(span: np.ndarray) -> np.ndarray:
    """The smallest e, at least `_FINEST`, with span <= _SPAN * 2^e."""
    fraction, exponent = np.frexp(span / _SPAN)
    smallest = np.where(fraction == 0.5, exponent - 1, exponent)
    return np.where(span > 0, np.maximum(smallest, _FINEST), _FINEST).astype(np.int32)


def _parts(width: int, side: int = 256) -> Iterator[slice]:
    """All columns, few at a time: what is made of them stays in a processor's cache."""
    return (slice(start, start + side) for start in range(0, width, side))


def _regrid(counts: np.ndarray, first: np.ndarray, shift: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Counts (m, FINE) whose first bin is `first`, in bins 2^shift as wide whose first is `target`; all (m,)."""
    flat = counts.reshape(-1)
    place = np.flatnonzero(flat)
    row, bin_ = np.divmod(place, FINE)
    moved = np.floor(np.ldexp(1.0, -shift)[row] * (first[row] + bin_)) - target[row]
    found = np.bincount(row * FINE + moved.astype(np.int64), flat[place], len(flat))
    return found.reshape(counts.shape).astype(counts.dtype)

"""Histograms of many columns at once whose bins fit themselves to the data, and yet depend on nothing but the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netloupe.sweep.accumulator import Arrays

FINE = 512  # bins kept per column
_SPAN = FINE // 2  # the values of a column span at most so many bins, more than half of it unless all are equal
_TOGETHER = 512  # columns whose bins are moved at once
_MOST = 2**16 - 1  # values that are counted in 16 bits
_FINEST = -149  # the exponent of the smallest float32


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
        bins = np.floor(np.ldexp(values.astype(np.float64), -self._exponent)) - self._first
        places = bins.astype(np.int64) + np.arange(len(self._first)) * FINE
        flat = self._counts.reshape(-1)
        for row in places:  # within a row no place comes twice
            flat[row] += 1

    def merge(self, other: Histograms) -> None:
        """Count what another counted."""
        self._expect(other._values)
        columns = np.flatnonzero(other.low <= other.high)
        self._cover(other.low, other.high)
        moved = _regrid(
            other._counts[columns],
            other._first[columns],
            self._exponent[columns] - other._exponent[columns],
            self._first[columns],
        )
        self._counts[columns] += moved

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
        columns, shift, first = columns[outside], shift[outside], first[outside]
        spare = (FINE - 1 - (top - bottom)[outside]) // 2
        target = np.where((top > bottom)[outside], bottom[outside] - spare, bottom[outside])
        self._counts[columns] = _regrid(self._counts[columns], first, shift, target)
        self._exponent[columns], self._first[columns] = exponent[outside], target


def _exponent_for(span: np.ndarray) -> np.ndarray:
    """The smallest e, at least `_FINEST`, with span <= _SPAN * 2^e."""
    fraction, exponent = np.frexp(span / _SPAN)
    smallest = np.where(fraction == 0.5, exponent - 1, exponent)
    return np.where(span > 0, np.maximum(smallest, _FINEST), _FINEST).astype(np.int32)


def _regrid(counts: np.ndarray, first: np.ndarray, shift: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Counts (m, FINE) whose first bin is `first`, in bins 2^shift as wide whose first is `target`; all (m,)."""
    moved = np.empty(counts.shape, counts.dtype)
    for start in range(0, len(counts), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        old = np.floor(np.ldexp(first[part, None] + np.arange(FINE), -shift[part, None]))
        row, bin_ = np.nonzero(counts[part])
        place = row * FINE + (old - target[part, None])[row, bin_].astype(np.int64)
        size = len(old) * FINE
        moved[part] = np.bincount(place, counts[part][row, bin_], size).reshape(-1, FINE)
    return moved

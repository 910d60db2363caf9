"""The k images that excite each channel most, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.sweep.accumulator import Accumulator, Columns, State, to_arrays, to_state
from netloupe.sweep.maps import Maps


class Top(NamedTuple):
    """The k strongest responses of each of C channels, best first; NaN, -1 and (-1, -1) where images are too few.

    values (C, k) float32, images (C, k) int64 ids, positions (C, k, 2) int32 as (y, x) in the layer's map.
    """

    values: Tensor
    images: Tensor
    positions: Tensor


class _Found(NamedTuple):
    """m responses in any order: columns (m,), values (m,), images (m,), photographs (m,), positions (m, 2)."""

    columns: np.ndarray
    values: np.ndarray
    images: np.ndarray
    photographs: np.ndarray
    positions: np.ndarray

    def pick(self, which: np.ndarray) -> _Found:
        return _Found(*(array[which] for array in self))


class _Part(NamedTuple):
    """m responses to a batch of n images in a layer of `channels`, the first of which has the column `first`.

    width: of the maps. which (m,): image * channels + channel. values (m,). places (m,): y * width + x.
    """

    first: int
    channels: int
    width: int
    which: np.ndarray
    values: np.ndarray
    places: np.ndarray


def _join(parts: Sequence[_Found]) -> _Found:
    return _Found(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


_NOTHING = _Found(
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.float32),
    np.zeros(0, dtype=np.int64),
    np.zeros(0, dtype=np.int64),
    np.zeros((0, 2), dtype=np.int32),
)


@final
class Strongest(Accumulator):
    """For each channel the `k` images with the highest peak, at most one patch per image.

    Ties go to the smaller image id, exactly, in whatever order images come and parts are merged. per_photograph: of the
    pieces of one photograph only so many, the strongest; as exact, for a piece that stronger ones of its photograph
    left out can't come in again.

    A response is looked at only if it beats the channel's k-th best so far, and those that do wait in a list until
    there are a third as many as are kept; then one sort settles all channels. That happens each time the number of
    images has grown by about a third, so almost all work falls on the first images.
    """

    def __init__(self, k: int = 9, of: Sequence[str] | None = None, per_photograph: int | None = None) -> None:
        """of: the layers, or `LOGITS`, that it reads; by default all that the sweep is over."""
        if k < 1:
            raise InputError(f"k is {k} (accepted: 1 or more)")
        if per_photograph is not None and per_photograph < 1:
            raise InputError(f"{per_photograph} per photograph (accepted: 1 or more, or None)")
        self.k = k
        self.per_photograph = per_photograph
        self.of = None if of is None else tuple(of)
        self._columns = Columns()
        self._best = _NOTHING  # settled: by column, then best first
        self._waiting: list[_Found] = []
        self._count = 0  # of responses in _waiting
        self._floor = np.zeros(0, dtype=np.float32)  # (width,) the k-th best settled value, or -inf
        self._floor_image = np.zeros(0, dtype=np.int64)  # (width,) and its image
        self._bar: tuple[np.ndarray, np.ndarray] | None = None  # the floor of what this is a sequel to
        self._newest = -1  # the highest image id
        self._parts: list[_Part] = []  # of this batch
        self._ids, self._photographs = _NOTHING.images, _NOTHING.photographs  # of its images
        self._follows = True  # they ascend and follow all those of earlier batches
        self._in_order = True  # so did all that are in _waiting

    def settings(self) -> dict[str, Any]:
        return {"k": self.k, "of": None if self.of is None else list(self.of), "per_photograph": self.per_photograph}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return layers if self.of is None else self.of

    def sequel(self) -> Strongest:
        """One that passes over what k settled responses here beat."""
        self._settle()
        found = self.fresh()
        found._columns.join(self._columns)
        found._newest, found._bar = self._newest, (self._floor, self._floor_image)
        found._floor, found._floor_image = self._floor, self._floor_image
        return found

    def update(self, layer: str, maps: Maps) -> None:
        if len(maps.ids) == 0:
            return
        if maps.ids is not self._ids:
            self._note_order(maps.ids)
            self._photographs = maps.photographs
        peak = maps.peak
        span = self._columns.span(layer, peak.shape[1])
        if span.stop > len(self._floor) and self.per_photograph is not None:
            beats = np.ones(peak.shape, dtype=bool)
        elif span.stop > len(self._floor):
            beats = peak >= np.partition(peak, -min(self.k, len(peak)), axis=0)[-min(self.k, len(peak))]
        else:
            beats = peak > self._floor[span]
            if not self._follows:
                beats |= (peak == self._floor[span]) & (maps.ids[:, None] < self._floor_image[span])
        which = np.flatnonzero(beats)
        if len(which):
            part = _Part(span.start, peak.shape[1], maps.width, which, peak.reshape(-1)[which], maps.places(which))
            self._parts.append(part)

    def end_batch(self) -> None:
        if not self._parts:
            return
        first, channels, width, which, values, places = zip(*self._parts, strict=True)
        self._parts = []
        sizes = [len(part) for part in which]
        rows, columns = np.divmod(np.concatenate(which), np.repeat(channels, sizes))
        columns += np.repeat(first, sizes)
        positions = np.stack(np.divmod(np.concatenate(places), np.repeat(width, sizes)), 1).astype(np.int32)
        found = _Found(columns, np.concatenate(values), self._ids[rows], self._photographs[rows], positions)
        self._waiting.append(found)
        self._count += len(rows)
        if 3 * self._count >= self.k * self._columns.width:
            self._settle()

    def merge(self, other: Strongest) -> None:
        self.check_same(other)
        self._columns.join(other._columns)
        self._waiting += [other._best, *other._waiting]
        self._newest = max(self._newest, other._newest)
        self._in_order = False
        self._settle()

    def result(self) -> dict[str, Top]:
        """Layer -> Top."""
        self._settle()
        shape = (self._columns.width, self.k)
        values, images = np.full(shape, np.nan, dtype=np.float32), np.full(shape, -1, dtype=np.int64)
        positions = np.full((*shape, 2), -1, dtype=np.int32)
        columns = self._best.columns
        place = columns, _rank(columns)
        values[place], images[place], positions[place] = self._best.values, self._best.images, self._best.positions
        return {
            layer: Top(*(torch.from_numpy(array[span].copy()) for array in (values, images, positions)))
            for layer, span in self._columns.spans.items()
        }

    def state(self) -> State:
        self._settle()
        return to_state({**self._columns.state(), **self._best._asdict(), "newest": np.array([self._newest])})

    def load(self, state: Mapping[str, Tensor]) -> None:
        arrays = to_arrays(state)
        self._columns.load(arrays)
        self._best, self._waiting = _NOTHING, [_Found(*(arrays[name] for name in _Found._fields))]
        self._bar = None
        self._newest = int(arrays["newest"][0])
        self._settle()

    def _note_order(self, ids: np.ndarray) -> None:
        self._ids = ids
        self._follows = bool(ids[0] > self._newest and (ids[1:] > ids[:-1]).all())
        self._in_order &= self._follows
        self._newest = max(self._newest, int(ids.max()))

    def _settle(self) -> None:
        """Sort what waits in among the best, by column, value (highest first) and image; keep k of each column."""
        found = _join([self._best, *self._waiting])
        self._waiting, self._count = [], 0
        if not self._in_order:
            found = found.pick(np.argsort(found.images, kind="stable"))
        self._in_order = True
        order = np.argsort(_sort_key(found.columns, found.values), kind="stable")
        if self.per_photograph is not None:
            order = order[_rank_in_photograph(found.pick(order)) < self.per_photograph]
        found = found.pick(order[_rank(found.columns[order]) < self.k])
        last = np.flatnonzero(_rank(found.columns) == self.k - 1)
        self._best = found
        if self._bar is None:
            self._floor = np.full(self._columns.width, -np.inf, dtype=np.float32)
            self._floor_image = np.full(self._columns.width, np.iinfo(np.int64).max)
        else:  # what is among the k best beats it
            self._floor, self._floor_image = (array.copy() for array in self._bar)
        self._floor[found.columns[last]] = found.values[last]
        self._floor_image[found.columns[last]] = found.images[last]


def _rank(columns: np.ndarray) -> np.ndarray:
    """The place of each entry among those of its column; columns ascend."""
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    return np.arange(len(columns)) - np.repeat(starts, np.diff(starts, append=len(columns)))


def _rank_in_photograph(found: _Found) -> np.ndarray:
    """The place of each response among those of its column and photograph; they are sorted."""
    keys = found.columns * (found.photographs.max(initial=0) + 1) + found.photographs
    order = np.argsort(keys, kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = _rank(keys[order])
    return ranks


def _sort_key(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint64 that ascend with the column, and within it as finite float32 values descend."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0, its equal
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (columns.astype(np.uint64) << np.uint64(32)) | ~ascending

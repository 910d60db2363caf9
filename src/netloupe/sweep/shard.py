"""A sweep is the ordered merge of shards: fixed ranges of ids, whatever reads them, and wherever it was cut."""

from __future__ import annotations

from collections.abc import Mapping

from netloupe.sweep.accumulator import Accumulator

BLOCKS = 64  # of a shard


class Shards:
    """The accumulators of a sweep over `total` images, and those that take in the present shard of `size` ids.

    `whole` holds the merge of all shards before. The first is taken in by `whole` itself, which gives the same bits,
    for merging into nothing copies.
    """

    def __init__(self, whole: Mapping[str, Accumulator], size: int, total: int) -> None:
        self.whole, self.size, self.total = whole, size, total
        self.present = whole

    def at(self, next_id: int) -> Mapping[str, Accumulator]:
        """All that holds something when `next_id` comes next, by name; the present shard anew."""
        self.present = self.whole
        if next_id < self.size or self.is_end(next_id):
            return self.whole
        self.begin(next_id)
        return self.held

    def begin(self, next_id: int) -> None:
        """The shard of an id becomes the present one."""
        self.present = self.whole if next_id < self.size else {name: a.fresh() for name, a in self.whole.items()}

    def is_end(self, next_id: int) -> bool:
        """Whether the shard of the id before has been read to its end."""
        return next_id % self.size == 0 or next_id == self.total

    def end(self) -> None:
        """Merge the present shard into the whole."""
        if self.present is not self.whole:
            for name, accumulator in self.whole.items():
                accumulator.merge(self.present[name])
        self.present = self.whole

    @property
    def held(self) -> Mapping[str, Accumulator]:
        """All that holds something, by name."""
        if self.present is self.whole:
            return self.whole
        return {**self.whole, **{f"shard/{name}": a for name, a in self.present.items()}}

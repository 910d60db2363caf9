"""What a part of an atlas is: one kind of thing that it shows, from how it is made to how it is read."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from netloupe.atlas.store import Rows, Store

if TYPE_CHECKING:
    from netloupe.atlas.making import Making  # serving an atlas begins at once, without torch

WORD = re.compile("[A-Z]+")
"""What of a resource's path stands for a number, or a layer."""


class Resource(NamedTuple):
    """Paths that the page asks for. All are listed by `listed` and answered by `read`.

    path: as in "tiles/LAYER/NUMBER.jpg", where LAYER stands for a layer's encoded name. read: takes a whole number for
    each of these words, of a layer its place, and gives bytes, or what becomes JSON, or None where there is nothing.
    listed: those numbers, for every path that there is.
    """

    path: str
    read: Callable[..., Any]
    listed: Callable[[], Iterable[tuple[int, ...]]] = lambda: [()]


def _nothing() -> None:
    pass


class Step(NamedTuple):
    """What of a part is made in one go, of rows that are the same whatever was made before it but for what it needs.

    key: for resuming. make: gives the rows. needs: the keys of steps of the same part that come before. then: what is
    done once the rows are in the store. brings: what the page has by it, as "projections/conv1".
    """

    key: str
    make: Callable[[], Rows]
    needs: Sequence[str] = ()
    then: Callable[[], None] = _nothing
    brings: Sequence[str] = ()


class About(NamedTuple):
    """What `data/network.json` tells of a part, and of each layer, by what is made of it."""

    network: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]] = ()


class Part(ABC):
    """One kind of thing that an atlas shows, of one store.

    Building makes the first steps of all parts, then their others in any order; it leaves out those that the store
    has, and puts what each makes into it. Serving and exporting go through the resources.
    """

    tables: ClassVar[Mapping[str, str]]
    """Its tables and their columns, as `Store` takes them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def first(self, making: Making) -> Iterator[Step]:
        """What the first page is of: made before all else, in this order."""
        return iter(())

    @abstractmethod
    def steps(self, making: Making) -> Iterator[Step]:
        """What else there is to make, once the first is there."""

    def brings(self, making: Making) -> Sequence[str]:
        """The names of what its steps bring, before they are known."""
        return ()

    def shows(self, making: Making) -> Iterable[int]:
        """The ids of the images whose pictures it shows large, once the sweep is done."""
        return ()

    @abstractmethod
    def about(self, making: Making) -> About:
        """What is told of it, of what of it is made."""

    @abstractmethod
    def resources(self) -> Sequence[Resource]:
        """What the page can ask for."""

    def key(self, step: str) -> str:
        """Of one of its steps among those of all parts."""
        return f"{type(self).__name__}: {step}"

    def made(self, step: str) -> bool:
        """Whether one of its steps is whole."""
        return self.store.has(self.key(step))

    def stored(self, path: str, table: str, column: str) -> Resource:
        """A column of a table, whose rows are found by the columns that the words of the path name."""
        words = [word.lower() for word in WORD.findall(path)]

        def read(*key: int) -> Any:
            return self.one(table, " AND ".join(f"{w} = {n}" for w, n in zip(words, key, strict=True)), column)

        return Resource(path, read, lambda: self.keys(table, *words))

    def keys(self, table: str, *columns: str) -> list[tuple[int, ...]]:
        """These columns of all rows, in order."""
        return sorted(tuple(row[c] for c in columns) for row in self.store.rows(table, columns=columns))

    def one(self, table: str, where: str, column: str) -> Any:
        """The value in the first row for which the condition holds; None where there is none."""
        rows = self.store.rows(table, where, [column])
        return rows[0][column] if rows else None

    def predicted(self, index: int) -> str:
        """The name of a class of the network."""
        labels = self.store.network["labels"]
        return labels[index] if index < len(labels) else str(index)

    def label(self, index: int | None) -> str | None:
        """The name of a class as the images are labeled; without labels of their own, as the network predicts."""
        if index is None:
            return None
        network = self.store.network
        names = network["labels"] if network["source_classes"] is None else network["source_classes"]
        return names[index] if index < len(names) else str(index)

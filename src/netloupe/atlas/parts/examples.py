"""The images that the first page shows: those that the network is surest of, and those of which it is so in error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netloupe.atlas.parts.images import firsts, listed
from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.store import any_of

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

SHOWN = 8  # of each kind

_NO_CLASS = -1


class Examples(Part):
    tables: ClassVar = {}

    def steps(self, making: Making) -> Iterator[Step]:
        return iter(())

    def shows(self, making: Making) -> Iterable[int]:
        return {i for some in self._chosen(making.source_classes is None).values() for i in some}

    def about(self, making: Making) -> About:
        return About({})

    def resources(self) -> Sequence[Resource]:
        return [Resource("data/examples.json", self._examples)]

    def _examples(self) -> dict[str, Any]:
        chosen = self._chosen(self.store.network["source_classes"] is None)
        ids = sorted({i for some in chosen.values() for i in some})
        columns = ["id", "name", "label", "classes", "probabilities"]
        rows = {row["id"]: row for row in self.store.rows("images", any_of("id", ids), columns)} if ids else {}
        return {kind: [listed(self, rows[i]) for i in some] for kind, some in chosen.items()}

    def _chosen(self, comparable: bool) -> dict[str, list[int]]:
        """Ids of images by kind. comparable: whether their labels are the network's classes."""
        table = self.store.arrow("images", columns=["id", "label", "classes", "probabilities"])
        ids, labels = table["id"].to_numpy(), table["label"].fill_null(_NO_CLASS).to_numpy()
        classes, sure = (firsts(table, name, _NO_CLASS) for name in ("classes", "probabilities"))
        known = classes != _NO_CLASS
        wrong = known & comparable & (labels != _NO_CLASS) & (labels != classes)
        return {
            kind: surest(ids[these], classes[these], sure[these])
            for kind, these in (("surest", known), ("mistaken", wrong))
        }


def surest(ids: np.ndarray, classes: np.ndarray, probabilities: np.ndarray, count: int = SHOWN) -> list[int]:
    """Up to `count` of the images that are taken for their class most surely, one of each class, the surest first."""
    order = np.lexsort((ids, -probabilities))
    _, first = np.unique(classes[order], return_index=True)
    best: list[int] = ids[order[np.sort(first)[:count]]].tolist()
    return best

"""The images that the first page shows: those that the network is surest of, and those of which it is so in error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from netloupe.atlas.parts.images import listed
from netloupe.atlas.parts.part import About, Part, Resource, Step

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

SHOWN = 8  # of each kind


class Examples(Part):
    tables: ClassVar = {}

    def steps(self, making: Making) -> Iterator[Step]:
        return iter(())

    def about(self, making: Making) -> About:
        return About({})

    def resources(self) -> Sequence[Resource]:
        return [Resource("data/examples.json", self._examples)]

    def _examples(self) -> dict[str, Any]:
        columns = ["id", "name", "label", "classes", "probabilities"]
        rows = [row for row in self.store.rows("images", columns=columns) if row["classes"]]
        comparable = self.store.network["source_classes"] is None
        wrong = [row for row in rows if comparable and row["label"] not in (None, row["classes"][0])]
        found = {"surest": surest(rows), "mistaken": surest(wrong)}
        return {kind: [listed(self, row) for row in chosen] for kind, chosen in found.items()}


def surest(rows: Iterable[Mapping[str, Any]], count: int = SHOWN) -> list[Mapping[str, Any]]:
    """Up to `count` of the images that are taken for their class most surely, one of each class, the surest first."""
    best: dict[int, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (-row["probabilities"][0], row["id"])):
        best.setdefault(row["classes"][0], row)
    return list(best.values())[:count]

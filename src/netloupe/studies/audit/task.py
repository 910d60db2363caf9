"""The settings of `audit`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.settings import NAMED, TRUTH, first_images, random_seed, setting
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Task
from netloupe.studies.trust.task import BOXES

LEAST = 8  # images of a class: four to look at, four to test


@dataclass(frozen=True, kw_only=True)
class AuditTask(Task):
    """Find classes recognized by a mark or the background.

    By a mark at a fixed place of the image, and, with boxes of the objects, by what lies around them.
    Without labels, the network's predictions stand for them.
    """

    verb: ClassVar = "audit"
    spreads: ClassVar = True
    runs: ClassVar = "studies.audit.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"), BOXES)

    method: str = setting(
        "gradient", "The attribution method, as in netloupe explain.", kind=NAMED, flags=("--method", "-m")
    )
    per_class: int | None = setting(None, "Only the first N images of each class.", low=LEAST)
    tested: int = setting(20, "How many classes to test: those whose maps stand out most.", low=1)
    first: int | None = first_images()
    predicted: bool = setting(False, "Take the network's predictions in place of labels.", kind=TRUTH)
    seed: int = random_seed()

    def words(self, found: Mapping[str, Any]) -> str:
        header = ("class", "place", "hiding", "elsewhere", "turned", "elsewhere", "effect", "at least", "p")
        rows = [
            (
                row["class"],
                row["place"],
                *_short(row["hiding"]["own"], row["hiding"]["elsewhere"], row["turned"], row["turned_elsewhere"]),
                *_short(row["effect"], row["low"], row["p"]),
            )
            for row in found["places"]
        ]
        parts = [found["verdict"], *found["suspects"], "", table(header, rows)]
        if found["backgrounds"] is not None:
            keys = ("inside", "area", "plain", "object_only", "background_only", "effect", "low", "p")
            seen = [(row["class"], *_short(*(row[key] for key in keys))) for row in found["backgrounds"]]
            heads = ("class", "inside", "area", "both", "object", "background", "effect", "at least", "p")
            parts += ["", table(heads, seen)]
        return "\n".join(parts)


def _short(*values: float | None) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]

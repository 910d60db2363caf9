"""The settings of `study trust`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.analysis.tasks import left_out
from netloupe.core.settings import NAMED, first_images, random_seed, setting
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task

BOXES = Input("boxes", "file", "The objects' boxes as .json: {name: [x0, y0, x1, y1]}.", ("--boxes",))


@dataclass(frozen=True, kw_only=True)
class TrustTask(Task):
    """Test how far attribution maps can be trusted.

    By random weights, another class, deletion and insertion, and the objects' boxes.
    """

    verb: ClassVar = "study trust"
    runs: ClassVar = "studies.trust.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"), BOXES)

    first: int | None = first_images(8)
    methods: tuple[str, ...] | None = setting(
        None, "Methods, with commas or several times; else all.", kind=NAMED, flags=("--methods", "-m"),
        metavar="NAMES", commas=True,
    )  # fmt: skip
    tolerance: float | None = setting(
        None, "How far from its box a point counts as a hit; else 15 where the shorter side has 224 px, 0 below.",
        metavar="PX", low=0,
    )  # fmt: skip
    count: int = setting(8, "Stages of randomization, of which each takes more layers.", flags=("--stages",), low=1)
    steps: int = setting(10, "Steps of deletion and insertion.", low=1)
    seed: int = random_seed()

    def words(self, found: Mapping[str, Any]) -> str:
        header = ("method", "all random", "rival", "another image", "deletion", "insertion", "pointing")
        keys = ("all_random", "rival", "other_image", "deletion", "insertion", "pointing")
        rows = [
            (name, *(row.get(key) for key in keys)) for name, row in (found["methods"] | found["baselines"]).items()
        ]
        columns = len(header) if found["boxes"] else len(header) - 1
        verdicts = [f"{row['title']}: {row['verdict']}" for row in found["methods"].values()]
        verdicts += [f"left out: {name}: {reason}" for name, reason in left_out(found["skipped"])]
        return "\n".join([table(header[:columns], [row[:columns] for row in rows]), "", *verdicts])

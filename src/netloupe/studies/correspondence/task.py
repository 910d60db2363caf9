"""The settings of `study correspondence`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.core.settings import random_seed, setting, some_layers
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task

_COLUMNS = {
    "images": "images",
    "delta": "Delta",
    "error": "± pairs",
    "jackknife": "± images",
    "chance": "chance",
    "below_random": "below random",
    "below_random_error": "±",
    "changed": "changed",
    "opposite": "opposite",
    "opposite_below_random": "below random",
    "opposite_below_random_error": "±",
}


@dataclass(frozen=True, kw_only=True)
class CorrespondenceTask(Task):
    """Hide the same part in several images and compare what changes in the features."""

    verb: ClassVar = "study correspondence"
    runs: ClassVar = "studies.correspondence.measure:run"
    inputs: ClassVar = (
        PHOTOS,
        Input("points", "file", "Where the parts are, as .json; of photos, two faces are known.", ("--points",)),
    )

    layers: tuple[str, ...] | None = some_layers("the last map over the image and the last features")
    square: float = setting(
        0.2, "Side of what is hidden, as a share of the shorter side.", metavar="SHARE", above=0, below=1
    )
    draws: int = setting(10, "Random squares for each image.", low=1)
    seed: int = random_seed()

    def words(self, found: Mapping[str, Any]) -> str:
        lines = []
        for layer, one in found["layers"].items():
            rows = [(name, *(row.get(key) for key in _COLUMNS)) for name, row in one["rows"].items()]
            lines += [f"{layer}, {one['features']:,} features", table(("part", *_COLUMNS.values()), rows), ""]
        return "\n".join([*lines, *found["notes"]]).rstrip()

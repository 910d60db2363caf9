"""The settings of `study probe`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.settings import first_images, random_seed, setting, some_layers
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task

BOXES = Input("boxes", "file", "The objects' boxes as .json: {name: [x0, y0, x1, y1]}.", ("--boxes",))
MASKS = Input("masks", "folder", "Or a folder of masks NAME.png, whose numbers are classes; 255 is none.", ("--masks",))


@dataclass(frozen=True, kw_only=True)
class ProbeTask(Task):
    """Test what each position of a layer tells of what is there.

    A linear classifier on the channels of single positions, trained on half of the images and judged on the others by
    intersection over union with their masks, or with the objects' boxes.
    """

    verb: ClassVar = "study probe"
    runs: ClassVar = "studies.probe.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"), BOXES, MASKS)

    dense: bool = setting(False, "Probe every position; whole images are probed by study generalization.")
    layers: tuple[str, ...] | None = some_layers("up to eight maps, each the last of a stage")
    first: int | None = first_images(400)
    positions: int = setting(40, "Positions of each image that train, drawn at random.", low=1)
    seed: int = random_seed()

    def words(self, found: Mapping[str, Any]) -> str:
        head = ("layer", "positions", "mean IoU", *found["classes"])
        rows = [
            (name, "x".join(map(str, one["positions"])), percent(one["mean"]), *map(percent, one["classes"].values()))
            for name, one in found["layers"].items()
        ]
        count = f"{found['training_images']} images train, {found['test_images']} are judged"
        return "\n".join([table(head, rows), "", f"best {found['best']}; {count}"])


def percent(share: float | None) -> str:
    """As in "71.4"; a class that is nowhere has none."""
    return "-" if share is None else f"{100 * share:.1f}"

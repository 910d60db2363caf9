"""The settings of `study evolution`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.analysis.tasks import RULES
from netloupe.core.errors import InputError
from netloupe.core.settings import OBJECTIVE, random_seed, setting, some_layers
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task


@dataclass(frozen=True, kw_only=True)
class EvolutionTask(Task):
    """Show how a network's features evolve while it is trained.

    FOLDER holds the snapshots of a training, as `netloupe train --snapshots` or a Recorder in any loop writes them;
    --model names the network they are of. Without FOLDER a small network is trained first, on labeled images.
    """

    verb: ClassVar = "study evolution"
    spreads: ClassVar = True
    runs: ClassVar = "studies.evolution.measure:run"
    loads: ClassVar = "studies.evolution.measure:network"
    inputs: ClassVar = (
        Input("folder", "folder", "Snapshots that a Recorder wrote."),
        replace(PHOTOS, help="Images, as elsewhere; without FOLDER labeled ones, the digits."),
    )

    layers: tuple[str, ...] | None = some_layers("up to eight convolutions")
    units: tuple[str, ...] | None = setting(
        None, "A channel to show, or several.", kind=OBJECTIVE, flags=("--unit", "-u"), metavar="LAYER:CHANNEL"
    )
    channels: int = setting(4, "Channels shown of each layer.", low=1, flags=("--show",))
    choose: str = setting(
        "strongest", "Which of them, as they are at the last snapshot.", choices=("strongest", "random")
    )
    rule: str = setting("deconvnet", "The rule of the projections.", choices=RULES, flags=("--project",))
    batch_size: int = setting(32, "Images read at once.", low=1)
    seed: int = random_seed()

    def check(self) -> None:
        if self.units and self.layers:
            raise InputError("--layer and --unit were given (accepted: one of them)")

    def usual(self, one: Input, given: Collection[str]) -> str | None:
        return "digits" if one.name == "data" and "folder" not in given else super().usual(one, given)

    def words(self, found: Mapping[str, Any]) -> str:
        head = ("layer", *(f"epoch {epoch}" for epoch in found["epochs"]), "settled by")
        rows = [(name, *one["likeness"], one["settled"]) for name, one in found["layers"].items()]
        return "\n".join([table(head, rows), "", found["verdict"]])

"""An explanation of one image as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.analysis.tasks import METHODS, left_out
from netloupe.core.errors import InputError
from netloupe.core.settings import OBJECTIVE, random_seed, setting
from netloupe.core.table import table
from netloupe.core.task import IMAGE, Task


@dataclass(frozen=True, kw_only=True)
class Explain(Task):
    """Show which pixels of an image matter to a class or unit.

    By every method side by side, with how far to trust each. By default to the most probable class.
    """

    verb: ClassVar = "explain"
    runs: ClassVar = "analysis.explain.measure:run"
    inputs: ClassVar = (IMAGE,)

    objective: str | None = setting(
        None, "What is explained, by default the most probable class, or what else it answers.", kind=OBJECTIVE
    )
    methods: tuple[str, ...] | None = setting(
        None,
        "By which methods, with commas; by default all that can explain the network.",
        choices=METHODS,
        flags=("--methods", "-m"),
        metavar="NAMES",
        commas=True,
    )
    steps: int = setting(32, "Steps of the deletion and insertion curves.", low=1)
    seed: int = random_seed()

    def check(self) -> None:
        if self.methods == ():
            raise InputError(f"no method given (accepted: {', '.join(METHODS)})")

    def words(self, found: Mapping[str, Any]) -> str:
        shares = map(_said, found["predictions"])
        lines = [
            f"explained: {found['target']}",
            f"predictions: {', '.join(shares) or 'none'} ({found['head']})",
            f"object: {_place(found['object'])}",
        ]
        header = ("method", "peak", f"like {found['rival'] or 'a rival'}", "like random", "deletion", "insertion")
        rows = [_row(name, one) for name, one in found["methods"].items()]
        rows.append(_row("random order", found["by_chance"]))
        missing = [f"left out: {name}. {why}" for name, why in left_out(found["skipped"])]
        notes = [f"{name} {one['note']}" for name, one in found["methods"].items() if one["note"]]
        return "\n".join([*lines, table(header, rows), *notes, *missing])


def _row(name: str, one: Mapping[str, Any]) -> tuple[object, ...]:
    peak = "zero everywhere" if one.get("zero") else _pair(one.get("peak"))
    likeness = one.get("class_likeness"), one.get("random_likeness")
    return name, peak, *likeness, one["deletion"], one["insertion"]


def _said(one: Mapping[str, Any]) -> str:
    """A prediction as `Prediction.document` tells it."""
    value = one.get("value")
    share = next((one[what] for what in ("probability", "share", "score") if what in one), 0.0)
    return f"{one['label']} {value:.4g}" if value is not None else f"{one['label']} {share:.1%}"


def _pair(position: list[int] | None) -> str:
    return "-" if position is None else f"{position[0]},{position[1]}"


def _place(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none found"
    top, left, bottom, right = found["box"]
    height, width = found["of"]
    return f"top {top}, left {left}, bottom {bottom}, right {right} of {height}x{width} px"

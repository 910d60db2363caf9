"""A contact sheet in the studio: the values of one or two settings, cell by cell as they come."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from netloupe.core.table import text
from netloupe.core.task import Task
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.refusal import Refused
from netloupe.studio.wanted import Wanted
from netloupe.synthesis.contact import axes_json, pairs_of

CELLS = 36  # of a sheet, at most
HELD = 72  # cells that are remembered

_LONGEST = 200  # characters of a value
_BETWEEN = 0.25  # s from one picture of a cell that forms to the next
_MOST = {"steps": 600, "side": 512, "octaves": 8, "sizes": 4, "frames": 24, "diverse": 6, "style_scale": 4}
_WITHOUT = ("every", "batch_size", "tile", "frames", "zoom")  # change no picture of a sheet


def sheet_form(task: Task | type[Task]) -> dict[str, Any] | None:
    """The JSON schema of a technique, the names of the settings that a sheet can go through, and of a task their
    values; None without any.
    """
    names = [one.name for one in task.settings() if one.sweepable and one.name not in _WITHOUT]
    if not task.sweeps or not names:
        return None
    values = task.as_json() if isinstance(task, Task) else {}
    return {"schema": task.schema(), "names": names, "values": {name: values[name] for name in names if name in values}}


def sheet_of(wanted: Wanted, asked: Any) -> Wanted:
    """What is wanted, with the values of one or two settings. asked: [[name, values], ...]. Raises NetloupeError."""
    if not wanted.task.sweeps:
        raise Refused(f"no contact sheet of {wanted.task.verb}, which makes no images (accepted: what does)")
    if not isinstance(asked, list) or not 1 <= len(asked) <= 2:
        raise Refused("no settings for a contact sheet (accepted: one or two, each with values)")
    task = wanted.task.changed({"every": 0}) if hasattr(wanted.task, "every") else wanted.task
    axes = dict(_axis(task, one) for one in asked)
    if len(axes) < len(asked):
        raise Refused("one setting twice (accepted: two of them)")
    count = len(pairs_of(axes))
    if count > CELLS:
        raise Refused(f"{count} cells (accepted: up to {CELLS})")
    return replace(wanted, task=task, axes=axes, made=None)


def _axis(task: Task, asked: Any) -> tuple[str, list[Any]]:
    """The name of a setting and its values, each once."""
    name, values = asked if isinstance(asked, list) and len(asked) == 2 else (None, None)
    if not isinstance(name, str) or not isinstance(values, list) or not values or not all(map(_plain, values)):
        raise Refused("no values for a contact sheet (accepted: one or more of each setting, numbers or text)")
    one = task.swept(name)
    found = list(dict.fromkeys(one.read(str(value)) for value in values))
    for value in found:
        task.changed({one.name: value} if hasattr(task, one.name) else {})
        most = _MOST.get(one.name)
        if most is not None and isinstance(value, int | float) and value > most:
            raise Refused(f"{one.name} {value} (accepted here: up to {most})")
    return one.name, found


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) <= _LONGEST


def sheet(wanted: Wanted, job: Job) -> dict[str, Any]:
    """Make the cells that are not known; each is told as soon as it is there."""
    known = set(wanted.cells or ())
    cells: list[dict[str, Any]] = []

    def each(place: int, result: Any) -> None:
        cells.append({"src": uri(from_pixels(result.images[0])), "facts": _facts(wanted.task, result)})
        job.say("picture", {"name": f"cell {place}", "cell": place, "there": True, **cells[-1]})

    job.beside = lambda name, image: {"cell": len(cells), "there": False}
    job.between, job.only = _BETWEEN, "values"
    job.say("found", {"axes": [[name, values] for name, values in axes_json(wanted.task, wanted.axes).items()]})
    wanted.run(wanted.given, job, each)
    fresh = len(set(wanted.cells or ()) - known)
    if wanted.cells is not None:
        for old in list(wanted.cells)[: max(0, len(wanted.cells) - HELD)]:
            del wanted.cells[old]
    return {"cells": cells, "made": fresh}


def _facts(task: Task, result: Any) -> list[list[str]]:
    """[name, value in text] of what the terminal tells of a result's first image."""
    row = next(iter(task.rows(result.summary())), ())
    return [[name, text(value)] for name, value in zip(task.head, row, strict=False) if name and value != ""]

"""What is wanted of the studio as a task with all that it takes: it can be kept, and a contact sheet be made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from netloupe.core.errors import InputError
from netloupe.core.perform import Loaded, mark_of, perform
from netloupe.core.task import Task
from netloupe.core.watch import Watch
from netloupe.render.result import Result
from netloupe.synthesis.contact import Axes, contact, unheard


@dataclass(frozen=True)
class Wanted:
    """A task with its network. given: by the names of its inputs, pictures as `Shot`. axes: of a contact sheet.

    made: what it gave, where that is known and tells of no picture, which has no file yet. cells: of sheets, by
    `mark_of`.
    """

    task: Task
    net: Loaded
    given: Mapping[str, Any]
    axes: Axes = field(default_factory=dict)
    made: Result | None = None
    cells: MutableMapping[str, Any] | None = None

    @property
    def mark(self) -> str:
        """A hash of all that decides what it gives; of a sheet, together with `axes`."""
        return mark_of(self.task, self.net, self.given)

    def run(self, given: Mapping[str, Any], watch: Watch, each: Callable[[int, Any], None] = unheard) -> Result:
        """What it gives, of what is given in place of its own. each: hears of the cells of a sheet."""
        if self.made is not None:
            return self.made
        if not self.axes:
            found: Result = perform(self.task, self.net, given, watch)
            return found
        return contact(self.task, self.net, given, self.axes, made=self.cells, each=each, watch=watch)  # type: ignore[arg-type]


def photo_of(task: type[Task]) -> str:
    """The input of a task that is the photo. Raises InputError for one that takes none."""
    for one in task.inputs:
        if one.what == "images":
            return one.name
    raise InputError(f"{task.verb} takes no photo (accepted: techniques of a photo)")

"""A contact sheet: the same images made with several values of one or two settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import finished, mark_of, perform
from netloupe.core.task import Task
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import PAPER, Picture, captioned, fitted, from_pixels, grid, resized
from netloupe.render.result import Result

Axes = Mapping[str, Sequence[Any]]
"""The values of one or two settings, by name: those of the first stand beside, of the second below each other."""

_CELL = 160  # px of a picture, at least


@dataclass(frozen=True)
class Contact(Result):
    """results: one for each of `pairs`, of images (N, C, H, W) in [0, 1]."""

    axes: Axes
    results: tuple[Any, ...]

    @property
    def pairs(self) -> list[tuple[Any, ...]]:
        """The values of each cell, row by row; of one setting, each alone."""
        return pairs_of(self.axes)

    def pictures(self) -> dict[str, Picture]:
        """A column for each value of the first setting; for each of the second, rows, one for each image."""
        columns = len(next(iter(self.axes.values())))
        largest = max((result.images.shape[2:] for result in self.results), key=max)
        size = fitted(largest, max(*largest, _CELL))
        cells = []
        for first in range(0, len(self.results), columns):
            row = range(first, first + columns)
            for i in range(max(len(self.results[j].images) for j in row)):
                cells += [self._cell(j, i, size) for j in row]
        return {"sweep": grid(cells, columns, gap=6)}

    def _cell(self, place: int, i: int, size: tuple[int, int]) -> Picture:
        """One image with its values above it; empty where there is no such image."""
        images = self.results[place].images
        cell = resized(from_pixels(images[min(i, len(images) - 1)]), size)
        for name, value in reversed(list(zip(self.axes, self.pairs[place], strict=True))):
            cell = captioned(cell, f"{name} {value}")
        return cell if i < len(images) else np.full_like(cell, PAPER)

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"images-{i}": result.images for i, result in enumerate(self.results)}

    def summary(self) -> dict[str, Any]:
        pairs = zip(self.pairs, self.results, strict=True)
        values = [{"value": _alone(values), **result.summary()} for values, result in pairs]
        return {"sweep": _alone(tuple(self.axes)), "values": values}


def _alone(several: tuple[Any, ...]) -> Any:
    """The one of one; of two a list."""
    return several[0] if len(several) == 1 else list(several)


def pairs_of(axes: Axes) -> list[tuple[Any, ...]]:
    """The values of each cell of a sheet, row by row."""
    return [found[::-1] for found in product(*reversed([list(values) for values in axes.values()]))]


def unheard(place: int, result: Any) -> None:
    pass


def contact(
    task: Task,
    net: Network,
    inputs: Mapping[str, Any],
    axes: Axes,
    *,
    made: MutableMapping[str, Any] | None = None,
    each: Callable[[int, Any], None] = unheard,
    watch: Watch = SILENT,
) -> Contact:
    """The task with each value of a setting, or each name of an input; of two, with each pair.

    made: cells by what decides them (`mark_of`): those are not made again, and what is made is added. each: hears the
    place of a cell and its result as soon as it is there. Raises InputError for no values, and for settings that don't
    go together, before anything is made.
    """
    if not 1 <= len(axes) <= 2:
        raise InputError(f"a sweep of {len(axes)} settings (accepted: 1 or 2)")
    for name, values in axes.items():
        if not values:
            raise InputError(f"a sweep of {name} over no values (accepted: 1 or more)")
    cells = [_cell_of(task, inputs, dict(zip(axes, values, strict=True))) for values in pairs_of(axes)]
    made = {} if made is None else made
    part, known, results = watch.part("values", len(cells)), net.fingerprint(), []
    for place, (changed, given) in enumerate(cells):
        mark = mark_of(changed, net, given, known)
        made[mark] = made.pop(mark, None) or perform(changed, net, given, watch)  # the latest of them now
        results.append(made[mark])
        each(place, made[mark])
        part.advance()
    found = finished(Contact({name: tuple(values) for name, values in axes.items()}, tuple(results)), task, net, inputs)
    found.provenance["sweep"] = axes_json(task, axes)
    return found


def axes_json(task: Task, axes: Axes) -> dict[str, list[Any]]:
    """The values as a manifest holds them."""
    return {name: [task.swept(name).json(one) for one in values] for name, values in axes.items()}


def axes_read(task: Task, told: Axes) -> dict[str, list[Any]]:
    """The values of what a manifest holds. Raises UnknownName and InputError."""
    return {name: [task.swept(name).read(one) for one in values] for name, values in told.items()}


def _cell_of(task: Task, inputs: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task and its inputs, with those values."""
    settings = {name: value for name, value in values.items() if hasattr(task, name)}
    names = {name: value for name, value in values.items() if name not in settings}
    return task.changed(settings), {**inputs, **names}

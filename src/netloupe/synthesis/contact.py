"""A contact sheet: the same images made with several values of one parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import finished, perform
from netloupe.core.task import Task
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import PAPER, Picture, captioned, fitted, from_pixels, grid, resized
from netloupe.render.result import Result

_CELL = 160  # px of a picture, at least


@dataclass(frozen=True)
class Contact(Result):
    """results: one for each of `values` of the parameter `name`, of images (N, C, H, W) in [0, 1]."""

    name: str
    values: tuple[Any, ...]
    results: tuple[Any, ...]

    def pictures(self) -> dict[str, Picture]:
        """A row for each image, a column for each value."""
        largest = max(max(result.images.shape[2:]) for result in self.results)
        cells = []
        for i in range(max(len(result.images) for result in self.results)):
            for value, result in zip(self.values, self.results, strict=True):
                image = from_pixels(result.images[min(i, len(result.images) - 1)])
                size = fitted(image.shape[:2], max(largest, _CELL))
                cell = captioned(resized(image, size), f"{self.name} {value}")
                cells.append(cell if i < len(result.images) else np.full_like(cell, PAPER))
        return {"sweep": grid(cells, len(self.values), gap=6)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"images-{i}": result.images for i, result in enumerate(self.results)}

    def summary(self) -> dict[str, Any]:
        pairs = zip(self.values, self.results, strict=True)
        return {"sweep": self.name, "values": [{"value": value, **result.summary()} for value, result in pairs]}


def contact(
    task: Task, net: Network, inputs: Mapping[str, Any], name: str, values: Sequence[Any], *, watch: Watch = SILENT
) -> Contact:
    """The task with each value of a setting, or each name of an input. Raises InputError for no values."""
    if not values:
        raise InputError(f"a sweep of {name} over no values (accepted: 1 or more)")
    part = watch.part("values", len(values))
    results = []
    for value in values:
        own = hasattr(task, name)
        changed, given = (task.changed({name: value}), inputs) if own else (task, {**inputs, name: value})
        results.append(perform(changed, net, given, watch))
        part.advance()
    made = finished(Contact(name, tuple(values), tuple(results)), task, net, inputs)
    made.provenance["sweep"] = {"name": name, "values": [task.swept(name).json(value) for value in values]}
    return made

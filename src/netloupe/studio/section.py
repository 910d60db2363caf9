"""What a section of the studio is, and how the settings that a page sends are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective
from netloupe.core.task import Task
from netloupe.studio.desk import Job
from netloupe.studio.refusal import Refused

Settings = Mapping[str, Any]
"""What a page sends, as JSON gives it: nothing of it is checked."""


@dataclass(frozen=True)
class Section:
    """A technique of the library, and what is told of its result. title: as the page calls it.

    run: called with the network, what is seen (`Seen`, or None where no photo was sent), the settings, and the job.
    until: the part of the run after which all that is shown has been shown, unless the page wants more. photo: whether
    there must be one. source: whether it is of the studio's own images instead; then those are what is seen. kept: the
    task with the settings that the page sends, whose result can be kept. network: the one that this task runs with.
    back: the settings for the page of such a task, None for one that it can't show.
    """

    title: str
    task: type[Task]
    run: Callable[[Network, Any, Settings, Job], dict[str, Any]]
    until: str | None = None
    photo: bool = True
    source: bool = False
    kept: Callable[[Network, Settings], Task] | None = None
    network: Callable[[Network], Any] = lambda net: net
    back: Callable[[Any], Settings | None] = lambda task: None


def about(net: Network, settings: Settings) -> Objective | None:
    """What it is all about: an objective, or None for the class that is most probable. Raises NetloupeError."""
    text = settings.get("about")
    if text is None:
        return None
    if not isinstance(text, str) or len(text) > 500:
        raise Refused("about is no text (accepted: a class or unit, as class:koala or conv5:17)")
    found = as_objective(text)
    for layer in found.layers:
        if layer:
            net.layer(layer)
    return found


def named(settings: Settings, *names: str, **most: float) -> dict[str, Any]:
    """Those settings of a task that the page sent: `names`, and the numbers in `most`, each up to so much.

    The task itself says what else it accepts. Raises Refused.
    """
    found = {name: settings[name] for name in (*names, *most) if settings.get(name) is not None}
    for name, limit in most.items():
        value = found.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value > limit:
            raise Refused(f"{name} {value!r} (accepted here: up to {limit:g})")
    return found


def whole(settings: Settings, name: str, usual: int, low: int, high: int) -> int:
    """A setting that is a whole number from low to high. Raises Refused."""
    value = settings.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused(f"{name} {value!r} (accepted: a whole number from {low} to {high})")
    return value

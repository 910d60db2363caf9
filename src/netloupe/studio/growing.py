"""The image of a unit or class, as it is climbed before one's eyes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from netloupe.core.network import Network
from netloupe.core.perform import perform
from netloupe.core.units import Unit
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.refusal import Refused
from netloupe.studio.section import Section, Settings, named, whole
from netloupe.synthesis.facets import highest
from netloupe.synthesis.tasks import Visualize

FRAMES = 32  # of a climb, about
STEPS = 512  # at most

USUAL = 128
SEEDS = 1 << 16


def grown(net: Network, settings: Settings) -> Visualize:
    """The task of the settings that a page sends: unit, preset, steps, seed, quick. Raises NetloupeError."""
    steps = whole(settings, "steps", USUAL, 8, STEPS)
    told = {"objective": [str(unit_of(net, settings))], "steps": steps, "every": max(1, steps // FRAMES)}
    return Visualize.of({**told, **named(settings, "preset", "quick"), "seed": whole(settings, "seed", 0, 0, SEEDS)})


def unit_of(net: Network, settings: Settings) -> Unit:
    """The channel or class that the settings name. Raises NetloupeError."""
    text = settings.get("unit")
    if not isinstance(text, str) or len(text) > 500:
        raise Refused("no unit (accepted: a class or channel, as class:koala or conv5:17)")
    unit = Unit.parse(text)
    if unit.position is not None or (unit.channel is None and unit.class_name is None):
        raise Refused(f"{text!r} is no class or channel (accepted: as class:koala or conv5:17)")
    return unit


def answer(net: Network, unit: Unit, image: Tensor) -> float:
    """The unit's highest answer to an image (C, H, W) or (1, C, H, W), over all positions."""
    with torch.no_grad():
        return float(highest(net, image if image.ndim == 4 else image[None], unit)[0])


def _grow(net: Network, seen: Seen | None, settings: Settings, job: Job) -> dict[str, Any]:
    task = grown(net, settings)
    value = partial(answer, net, unit_of(net, settings))
    job.beside = lambda name, image: {"value": value(image)}
    job.between = 0  # every picture is told
    start = {} if seen is None else {"start": seen.pixels}
    result = perform(task, net, start, job)
    if seen is None:  # else what it began with is no file yet, which its manifest has to name
        job.result = result
    final = torch.from_numpy(result.images)
    return {
        "value": value(final),
        "src": uri(from_pixels(result.images[0])),
        "score": float(result.scores[0]),
        "steps": task.steps,
        "bounded": result.bounded,
    }


def _settings(task: Visualize) -> Settings | None:
    if len(task.objective) != 1:
        return None
    told = {"unit": str(task.objective[0]), "preset": task.preset, "steps": task.steps, "seed": task.seed}
    return {**told, "quick": True} if task.quick else told


GROW = Section("Grow it", Visualize, _grow, photo=False, kept=grown, back=_settings)

"""What a class, channel, neuron or direction responds to most: images made to raise it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.backward import why_none
from netloupe.core.device import fast_dtype
from netloupe.core.errors import DeadUnit, InputError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, Reading, as_objective, diversity, excitation, is_text
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, captioned, from_pixels, grid, resized
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.optimizers import optimizer_of
from netloupe.synthesis.parameterizations import parameterization_of
from netloupe.synthesis.presets import recipe
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import Start, start_images
from netloupe.synthesis.tasks import Ascent, Visualize

REDIRECTED = 32  # steps in which units that are off may come alive

_CELL = 192  # px of a picture on the sheet, at least


@dataclass(frozen=True)
class Visualization(Result):
    """Images that raise an objective each.

    images: (N, C, H, W) in [0, 1]. scores, before: (N,), raw scores of the images and of what they started from.
    history: (steps, N), before each step, under the transforms; of diverse images of what was climbed.
    names: (N,) of the objectives. dead: (N,) bool, whose score never changed, so that it shows nothing.
    recipe: how they were climbed. frames: (F, N, C, H, W) in [0, 1].
    """

    images: np.ndarray
    scores: np.ndarray
    before: np.ndarray
    history: np.ndarray
    names: tuple[str, ...]
    dead: np.ndarray
    recipe: Recipe
    frames: np.ndarray

    @property
    def bounded(self) -> bool:
        """Whether no color had to be cut off."""
        return self.recipe.bounded

    def pictures(self) -> dict[str, Picture]:
        shown = {"visualization": self.sheet()}
        if len(self.images) > 1:
            shown |= {f"image-{i}": from_pixels(image) for i, image in enumerate(self.images)}
        return shown | {
            f"frame-{f:03d}": grid([from_pixels(image) for image in frame], 8) for f, frame in enumerate(self.frames)
        }

    def animations(self) -> dict[str, list[Picture]]:
        """The climb as a film, where frames were kept; its last picture is the result."""
        if not len(self.frames):
            return {}
        frames = [[from_pixels(image) for image in frame] for frame in [*self.frames, self.images]]
        return {"climb": [frame[0] if len(frame) == 1 else grid(frame, 8) for frame in frames]}

    def sheet(self, columns: int = 8) -> Picture:
        """All images with their names and scores; a single one as it is."""
        if len(self.images) == 1:
            return from_pixels(self.images[0])
        factor = max(1, -(-_CELL // max(self.images.shape[2:])))
        size = (factor * self.images.shape[2], factor * self.images.shape[3])
        cells = []
        for image, name, score, dead in zip(self.images, self.names, self.scores, self.dead, strict=True):
            text = f"{name}  dead" if dead else f"{name}  {score:.3g}"
            cells.append(captioned(resized(from_pixels(image), size), text))
        return grid(cells, min(columns, max(2, round(len(cells) ** 0.5 * 1.3))), gap=6)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "size": list(self.images.shape[2:]),
            "bounded": self.bounded,
            "recipe": self.recipe.summary(),
            "images": [
                {"objective": name, "score": float(score), "before": float(before), "dead": bool(dead)}
                for name, score, before, dead in zip(self.names, self.scores, self.before, self.dead, strict=True)
            ],
        }


@function_of(Visualize)
def visualize(
    net: Network,
    objective: Objective | str | Unit | Sequence[Objective | str | Unit] = (),
    *,
    start: Start | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Visualization:
    """Images (N, C, H, W) in [0, 1] that make one objective, or each of a list, as large as the preset allows.

    preset: what else is given replaces its part. An objective may be the address of a unit: of a channel that is what
    of it is above zero (`objectives.excitation`). start: see `start_images`. every: keep a frame each so many steps.
    diverse: so many images of each objective, one after the other, that are to differ: with `apart` times the size of
    the score counts how unlike each other they are (`objectives.diversity`, Olah et al. 2017), at the objective's own
    layer or the last before it that has positions. parameterization, optimizer: a name, or an object. Scores are found
    in float32, whatever the dtype.
    Raises DeadUnit if no objective has a gradient; NetworkError if a score is not finite; InputError for a size
    that the network does not take, with those that it does.
    """
    found: Visualization = perform(Visualize.of({"objective": objective, **settings}), net, {"start": start}, watch)
    return found


def run(task: Visualize, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Visualization:
    given = addresses(net, task.objective, task)
    objectives = [net.fixed(exciting(one)) for one in given]
    names = tuple(str(one) for one in given for _ in range(task.diverse))
    sides = net.inputs.size if task.size is None else task.size
    how = _adjusted(recipe(net, task.preset, sides), task)
    begin = start_images(net, inputs.get("start", how.start), len(objectives), sides, task.seed)
    check_size(net, objectives, sides)
    dtype = dtype_of(task, net)
    alone = task.diverse == 1
    began = begin if alone else _varied(net, begin, task.diverse, task.seed)
    apart = 0.5 if task.apart is None else task.apart
    found = climb(
        net,
        objectives if alone else [ToldApart(one, diversity(_with_positions(net, one)), apart) for one in objectives],
        began,
        replace(how, redirected=REDIRECTED),
        dtype=dtype,
        every=task.every,
        seed=task.seed,
        batch_size=task.batch_size,
        steady=not task.quick,
        watch=watch,
    )
    if not alone:
        found = replace(
            found,
            scores=_alone(net, objectives, found.images, task.diverse),
            before=_alone(net, objectives, began, task.diverse),
        )
    if bool(found.dead.all()) and how.steps:
        raise DeadUnit(
            f"{', '.join(names[:4])}: nothing that was tried changes the score in {net.name}, so there is nothing to "
            f"climb: a dead unit, or one that does not depend on the image{why_none(net)}"
        )
    return Visualization(
        found.images.cpu().numpy(),
        found.scores.cpu().numpy(),
        found.before.cpu().numpy(),
        found.history.cpu().numpy(),
        names,
        found.dead.cpu().numpy(),
        how,
        found.frames.numpy(),
        provenance=decided(replace(task, dtype=name_of(dtype))),
    )


def addresses(net: Network, given: Sequence[Any], task: Ascent) -> list[Any]:
    """What is given, and the first channels of the task's layer."""
    channels = [] if task.layer is None else range(min(task.first, net.layer(task.layer).channels))
    found = [*given, *(f"{task.layer}:{channel}" for channel in channels)]
    if not found:
        raise InputError(f"no unit to {task.verb} (accepted: 1 or more, as class:koala or conv5:17, or a layer)")
    return found


def dtype_of(task: Ascent, net: Network) -> torch.dtype:
    """In which the network multiplies."""
    named: torch.dtype = fast_dtype(net.device) if task.dtype is None else getattr(torch, task.dtype)
    return named


def name_of(dtype: torch.dtype) -> str:
    """As a task has it."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False, repr=False)
class ToldApart(Objective):
    """The objective plus `weight` times its own size times what tells the images apart that it scores."""

    objective: Objective
    unlike: Objective
    weight: float

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.objective + self.unlike).layers

    def score(self, reading: Reading) -> Tensor:
        own = self.objective.score(reading)
        return own + self.weight * own.detach().abs() * self.unlike.score(reading)


@torch.no_grad()
def _alone(net: Network, objectives: Sequence[Objective], images: Tensor, count: int) -> Tensor:
    """(N * count,) the objectives' own scores, each of its `count` images."""
    return torch.cat([net.read(part, one) for one, part in zip(objectives, images.split(count), strict=True)])


def _with_positions(net: Network, objective: Objective) -> str:
    """The deepest layer that the objective reads, or the last before that which has several positions."""
    fit = net.layers.through(objective).maps().where(lambda layer: layer.channels > 1)
    if not fit:
        raise InputError(
            f"{objective!r} reads no layer of several channels and positions "
            "(accepted: one, to tell diverse images apart)"
        )
    return fit.last.name


def _varied(net: Network, start: Tensor, count: int, seed: int) -> Tensor:
    """(N * count, C, H, W): each image `count` times; all but the first with faint noise, each with another."""
    sides = (start.shape[2], start.shape[3])
    noise = [start_images(net, "noise", 1, sides, seed + i) - 0.5 for i in range(1, count)]
    added = torch.cat([torch.zeros_like(start[:1]), *noise])
    return (start[:, None] + added).clamp(0, 1).flatten(0, 1)


def exciting(given: Objective | str | Unit) -> Objective:
    """What to climb for a unit: of a channel what is above zero, of all else what the address or the text names."""
    unit = Unit.parse(given) if isinstance(given, str) and not is_text(given) else given
    if isinstance(unit, Unit) and unit.channel is not None and unit.position is None:
        return excitation(unit.layer, unit.channel)
    return as_objective(unit)


def check_size(net: Network, objectives: Sequence[Objective], size: tuple[int, int]) -> None:
    """Raise InputError, with the sizes that it takes, if the network can't take images of (height, width)."""
    net.sizes(name for one in objectives for name in one.layers).check(size)


def _adjusted(how: Recipe, task: Visualize) -> Recipe:
    optimizer = optimizer_of(task.optimizer or how.optimizer, task.lr)
    parameterization = parameterization_of(task.parameterization or how.parameterization)
    steps = how.steps if task.steps is None else task.steps
    return replace(how, optimizer=optimizer, parameterization=parameterization, steps=steps)

"""DeepDream: a photo in which a layer's responses are amplified (Mordvintsev et al. 2015), or one unit's.

The objective is half the squared norm of the responses, whose gradient there is the responses themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective, energy, is_text, match_best, match_features
from netloupe.core.perform import Images, function_of, perform
from netloupe.core.sizes import Size, Sizes
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, from_pixels
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.octaves import octaves as enlarging
from netloupe.synthesis.octaves import resized
from netloupe.synthesis.optimizers import Adam, Normalized
from netloupe.synthesis.parameterizations import Fourier, Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.tasks import Accentuate, DreamTask
from netloupe.synthesis.transforms import Jitter, Noise


@dataclass(frozen=True)
class Dream(Result):
    """images, originals: (N, C, H, W) in [0, 1]. scores, before: (N,), raw scores of both. frames: (F, N, C, H, W).

    sizes: (height, width) of the octaves that it went through; one where there were none. stem: how the files of its
    images are called.
    """

    images: np.ndarray
    originals: np.ndarray
    scores: np.ndarray
    before: np.ndarray
    history: np.ndarray
    frames: np.ndarray
    sizes: tuple[Size, ...]
    stem: str = "dream"

    def remarks(self) -> list[str]:
        task = self.task
        if not isinstance(task, DreamTask) or len(self.sizes) == task.octaves:
            return []
        went = ", ".join("{}x{}".format(*size) for size in self.sizes)
        return [f"{task.octaves} octaves fall on {len(self.sizes)} of the sizes that the network takes: {went} px"]

    def pictures(self) -> dict[str, Picture]:
        shown = {f"{self.stem}-{i}": from_pixels(image) for i, image in enumerate(self.images)}
        shown = {self.stem: shown[f"{self.stem}-0"]} if len(shown) == 1 else shown
        pairs = zip(self.originals, self.images, strict=True)
        return shown | {f"pair-{i}": beside([from_pixels(a), from_pixels(b)]) for i, (a, b) in enumerate(pairs)}

    def animations(self) -> dict[str, list[Picture]]:
        return {"zoom": [from_pixels(frame[0]) for frame in self.frames]} if len(self.frames) else {}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "size": list(self.images.shape[2:]),
            "sizes": [list(size) for size in self.sizes],
            "frames": len(self.frames),
            "images": [
                {"before": float(before), "score": float(score)}
                for before, score in zip(self.before, self.scores, strict=True)
            ],
        }


@function_of(DreamTask)
def dream(
    net: Network,
    images: Tensor,
    layer: str | Unit | Objective,
    *,
    guide: Tensor | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Dream:
    """Images (N, C, H, W) in [0, 1], of any size, with what `layer` sees in them made stronger.

    layer: a layer, a channel of it, a class, or any objective. Begins with the images made smaller `octaves` - 1 times
    by `scale`; what was added there is carried over to the next size. Each of the `steps` at an octave moves the image
    by up to `jitter` px, wraps it around, and goes up the gradient, divided by its mean size, by `lr`.
    guide: an image (C, H, W) in [0, 1] whose features are amplified instead of those that are strong. frames: so many
    more pictures, each the one before enlarged `zoom` times and dreamed on with a fifth of the steps.
    tile: px, see `climb`; None for none.
    Raises UnknownName for a layer that is not there, InputError for an octave that leaves no image.
    """
    task = DreamTask.of({"layer": layer, **settings})
    found: Dream = perform(task, net, {"image": images, "guide": guide}, watch)
    return found


def run(task: DreamTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Dream:
    taken = net.sizes(response(task.layer).layers)
    originals = _given(net, inputs["image"], task.side, taken)
    sizes = enlarging((int(originals.shape[2]), int(originals.shape[3])), task.octaves, task.scale, taken)
    guide = inputs["guide"].shaped(net, task.side, taken)[0] if "guide" in inputs else None
    objective = response(task.layer) if guide is None else _guided(net, task.layer, guide)
    part = watch.part("steps", len(originals) * task.steps * len(sizes) + task.frames * _fewer(task.steps))

    def climbed(start: Tensor, count: int, number: int) -> Any:
        return climb(
            net,
            [objective] * len(start),
            start,
            Recipe(
                parameterization=Pixels(),
                optimizer=Normalized(task.lr, "l1"),
                steps=count,
                transforms=(Jitter(min(task.jitter, min(start.shape[2:]) // 2)),),
            ),
            seed=task.seed * 1009 + number,
            batch_size=task.batch_size,
            tile=task.tile,
            steady=False,
            watch=part.share(count * len(start)),
        )

    detail = torch.zeros_like(originals)
    for number, size in enumerate(sizes):
        base = resized(originals, size)
        found = climbed((base + resized(detail, size)).clamp(0, 1), task.steps, number)
        detail = found.images - base
    before = climb(
        net,
        [objective] * len(originals),
        originals,
        Recipe(steps=0),
        batch_size=task.batch_size,
        tile=task.tile,
        steady=False,
    ).scores
    image = found.images[:1]
    shown = [image.cpu()] if task.frames else []
    for number in range(task.frames):
        image = climbed(_enlarged(image, task.zoom), _fewer(task.steps), task.octaves + number).images
        shown.append(image.cpu())
    return Dream(
        found.images.cpu().numpy(),
        originals.cpu().numpy(),
        found.scores.cpu().numpy(),
        before.cpu().numpy(),
        found.history.cpu().numpy(),
        np.stack([one.numpy() for one in shown]) if shown else np.zeros((0, *found.images[:1].shape), np.float32),
        tuple(sizes),
    )


@function_of(Accentuate)
def accentuate(
    net: Network,
    images: Tensor,
    unit: Objective | str | Unit,
    keep: str,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Dream:
    """Images (N, C, H, W) in [0, 1] in which one unit's reason to respond stands out (Hamblin et al. 2023).

    Raises the unit's score, in units of its own on each image, minus the relative squared distance of the features at
    the layer `keep` from those of the image, divided by `strength`. Frequencies are climbed, under noise.
    """
    task = Accentuate.of({"unit": unit, "keep": keep, **settings})
    found: Dream = perform(task, net, {"image": images}, watch)
    return found


def run_accentuate(task: Accentuate, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Dream:
    layers = [*response(task.unit).layers, task.keep]
    originals = _given(net, inputs["image"], task.side, net.sizes(layers))
    raised = [net.fixed(task.unit, image[None]) for image in originals]
    with torch.no_grad():
        own = torch.cat([net.read(image[None], one) for one, image in zip(raised, originals, strict=True)])
    features = net.activations(originals, [task.keep])[task.keep]
    objectives = [
        (1 / max(abs(float(score)), 1e-6)) * one + (1 / task.strength) * match_features(task.keep, target)
        for one, score, target in zip(raised, own, features, strict=True)
    ]
    found = climb(
        net,
        objectives,
        originals,
        Recipe(parameterization=Fourier(), optimizer=Adam(task.lr), steps=task.steps, transforms=(Noise(0.02),)),
        seed=task.seed,
        batch_size=task.batch_size,
        watch=watch,
    )
    with torch.no_grad():
        scores = torch.cat([net.read(image[None], one) for one, image in zip(raised, found.images, strict=True)])
    return Dream(
        found.images.cpu().numpy(),
        originals.cpu().numpy(),
        scores.cpu().numpy(),
        own.cpu().numpy(),
        found.history.cpu().numpy(),
        np.zeros((0, *found.images[:1].shape), np.float32),
        ((int(originals.shape[2]), int(originals.shape[3])),),
        "accentuated",
    )


def _given(net: Network, images: Images, side: int, sizes: Sizes) -> Tensor:
    """(N, C, H, W) in [0, 1], on the network's device."""
    pixels = torch.stack(images.shaped(net, side, sizes))
    net.inputs.check(pixels)
    net.inputs.check_range(pixels)
    return pixels.detach().to(net.device)


def response(wanted: str | Unit | Objective) -> Objective:
    """Half the squared norm of a layer or unit; a class's logit; or the objective itself, or of that text."""
    if isinstance(wanted, Objective) or is_text(wanted):
        return as_objective(wanted)
    unit = wanted if isinstance(wanted, Unit) else Unit.parse(wanted)
    if unit.class_name is not None:
        return as_objective(unit)
    return energy(unit.layer, unit.channel, *(unit.position or ()))


def _guided(net: Network, layer: str | Unit | Objective, guide: Tensor) -> Objective:
    """The layer's features of the guide."""
    accepted = "accepted: a guide with the name of a layer"
    if isinstance(layer, Objective) or is_text(layer):
        raise InputError(f"a guide with an objective ({accepted})")
    unit = layer if isinstance(layer, Unit) else Unit.parse(layer)
    if unit.class_name is not None or unit.channel is not None:
        raise InputError(f"a guide with {unit} ({accepted})")
    found = net.activations(guide[None] if guide.ndim == 3 else guide, [unit.layer])
    return match_best(unit.layer, found[unit.layer][0])


def _fewer(steps: int) -> int:
    return max(1, steps // 5)


def _enlarged(images: Tensor, zoom: float) -> Tensor:
    """The middle, enlarged to the same size."""
    sides = images.shape[2:]
    inner = [max(1, round(side / zoom)) for side in sides]
    top, left = ((side - part) // 2 for side, part in zip(sides, inner, strict=True))
    return resized(images[:, :, top : top + inner[0], left : left + inner[1]], (int(sides[0]), int(sides[1]))).clamp(
        0, 1
    )

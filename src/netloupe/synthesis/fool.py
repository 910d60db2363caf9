"""Fooling images: small changes that make a network sure of another class (Szegedy et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.numbers import finite
from netloupe.core.objectives import Objective, Reading, log_odds, log_probability
from netloupe.core.perform import function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, from_pixels, resized, stacked
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.optimizers import Normalized, Optimizer
from netloupe.synthesis.parameterizations import Variables, rounded
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.tasks import BATCH, Fool

Norm = Literal["linf", "l2"]

LEVELS = 255  # steps of a color in a file

_CELL = 224  # px of a picture's longer side


@dataclass(frozen=True)
class Near:
    """Pixels that stay within `epsilon` of where they started and in [0, 1]; the network sees them in eight bits.

    norm: "linf", of any number by at most epsilon; "l2", of each image by at most epsilon in the Euclidean norm.
    scatter: a seed, to begin at a random place in that ball; the same for all images.
    """

    epsilon: float = math.inf
    norm: Norm = "linf"
    scatter: int | None = None

    def __call__(self, start: Tensor) -> Variables:
        pixels = start.detach().clone(memory_format=torch.contiguous_format)
        if self.scatter is not None:
            generator = torch.Generator().manual_seed(self.scatter)
            drawn = torch.rand(start.shape[1:], generator=generator).to(start) * 2 - 1
            largest = drawn.abs().max() if self.norm == "linf" else drawn.norm()
            pixels += drawn / largest * self.epsilon
        pixels = self._limited(pixels, start).requires_grad_()

        def settle() -> None:
            pixels.copy_(self._limited(pixels, start))

        return Variables((pixels,), lambda: rounded(pixels), settle, pixels)

    def _limited(self, pixels: Tensor, start: Tensor) -> Tensor:
        if self.norm == "linf":
            return pixels.clamp(start - self.epsilon, start + self.epsilon).clamp(0, 1)
        away = pixels.clamp(0, 1) - start
        for _ in range(8):  # what is rounded may be longer than what is not
            size = (rounded(start + away) - start).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            away = away * (self.epsilon / size.clamp(min=1e-12)).clamp(max=1)
        return start + away


@dataclass(frozen=True)
class Fooled(Result):
    """Images that a network takes for what they are not, as eight-bit files store them.

    images, originals: (N, C, H, W) in [0, 1], multiples of 1/255. targets: (N,) class indices. predicted, before: (N,)
    the most probable class of each image and of its original, with `probability` (N,) of the target after and
    `probability_before`. epsilon: how large a change was allowed, infinite for any. steps: (N,). history: (steps, N),
    the log-probability of the target before each step. wanted: of a network of independent classes (N,) whether the
    target was to become present or absent, whichever it was not, and the history is of its log odds or minus these.
    """

    images: np.ndarray
    originals: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    before: np.ndarray
    probability: np.ndarray
    probability_before: np.ndarray
    steps: np.ndarray
    history: np.ndarray
    labels: tuple[str, ...]
    epsilon: float
    wanted: np.ndarray | None = None

    @property
    def fooled(self) -> np.ndarray:
        """(N,) bool: the target is the most probable class; of independent classes, present or absent as wanted."""
        if self.wanted is not None:
            return np.asarray((self.probability >= 0.5) == self.wanted)
        return np.asarray(self.predicted == self.targets)

    @property
    def largest(self) -> np.ndarray:
        """(N,): the largest change of a number, in 1/255."""
        return np.asarray((np.abs(self.images - self.originals) * LEVELS).reshape(len(self.images), -1).max(1))

    @property
    def distance(self) -> np.ndarray:
        """(N,): the Euclidean norm of the change, pixels in [0, 1]."""
        return np.asarray(np.linalg.norm((self.images - self.originals).reshape(len(self.images), -1), axis=1))

    @property
    def psnr(self) -> np.ndarray:
        """(N,) peak signal-to-noise ratio in dB; infinite where nothing changed."""
        error = np.square(self.images - self.originals).reshape(len(self.images), -1).mean(1)
        with np.errstate(divide="ignore"):
            return np.asarray(-10 * np.log10(error))

    def pictures(self) -> dict[str, Picture]:
        shown = {"fooling": stacked([self._row(i) for i in range(len(self.images))])}
        return shown | {f"image-{i}": from_pixels(image) for i, image in enumerate(self.images)}

    def _row(self, i: int) -> Picture:
        factor = max(1, _CELL // max(self.images.shape[2:]))
        size = self.images.shape[2] * factor, self.images.shape[3] * factor
        change = self.images[i] - self.originals[i]
        magnification, more = magnified(change)
        cells = (
            (self.originals[i], self._named(i, self.before, self.probability_before)),
            (self.images[i], self._verdict(i)),
            (0.5 + change, f"change, up to {self.largest[i]:.0f}/255"),
            (magnification, f"change x {more:.0f}, PSNR {self.psnr[i]:.1f} dB"),
        )
        return beside([captioned(resized(from_pixels(image), size, smooth=False), text) for image, text in cells])

    def _named(self, i: int, classes: np.ndarray, probability: np.ndarray) -> str:
        """What an image is taken for; of independent classes, whether the target is present."""
        if self.wanted is None:
            return str(self.labels[classes[i]])
        return f"{'' if probability[i] >= 0.5 else 'no '}{self.labels[self.targets[i]]}"

    def _verdict(self, i: int) -> str:
        if self.wanted is not None:
            return f"{self._named(i, self.predicted, self.probability)}, p {self.probability[i]:.0%}"
        target = f"{self.labels[self.targets[i]]} {self.probability[i]:.0%}"
        return target if self.fooled[i] else f"{self.labels[self.predicted[i]]}; {target}"

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "originals": self.originals, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "fooled": int(self.fooled.sum()),
            "of": len(self.images),
            "epsilon": finite(self.epsilon),
            "images": [
                {
                    "target": self.labels[self.targets[i]],
                    "predicted": self._named(i, self.predicted, self.probability),
                    "before": self._named(i, self.before, self.probability_before),
                    "probability": float(self.probability[i]),
                    "probability_before": float(self.probability_before[i]),
                    "largest_change": float(self.largest[i]),
                    "distance": float(self.distance[i]),
                    "psnr": finite(self.psnr[i]),
                    "steps": int(self.steps[i]),
                }
                for i in range(len(self.images))
            ],
        }


def magnified(change: np.ndarray) -> tuple[np.ndarray, float]:
    """A change of pixels (C, H, W) around gray, so many times as large that the largest is black or white; how many."""
    times = 0.5 / float(np.abs(change).max()) if change.any() else 1.0
    return 0.5 + times * change, times


@function_of(Fool)
def fool(
    net: Network,
    images: Tensor,
    target: str | int | Sequence[str | int],
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Fooled:
    """Change images (N, C, H, W) in [0, 1] until the network takes them for the target class, or each for its own.

    Images are rounded to eight bits first, and the network sees eight bits throughout, so the saved files fool as well.
    An image is done once its target has a probability of `sure`. Of a network of independent classes the target is
    made present where it is absent, and absent where it is present.
    method: "ascent" takes small steps along the gradient, as far as it needs; the others stay within `epsilon` of the
    original in `norm`, by default 8/255 for "linf" and 0.05 per number in the root mean square for "l2". "fgsm": one
    step (Goodfellow et al. 2015). "iterated": several (Kurakin et al. 2017). "pgd": the same from a random place
    (Madry et al. 2018). lr: how far a number goes in a step.
    Raises UnknownName for a class or method that is not there, InputError for an epsilon or share outside of its range.
    """
    found: Fooled = perform(Fool.of({"target": target, **settings}), net, {"images": images}, watch)
    return found


def run(task: Fool, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Fooled:
    images = inputs["images"].fitted(net)
    net.inputs.check(images)
    net.inputs.check_range(images)
    if len(task.target) not in (1, len(images)):
        raise InputError(f"{len(task.target)} targets for {len(images)} images (accepted: one, or one for each)")
    classes = net.head.classes("fool", 2)
    given = task.target * len(images) if len(task.target) == 1 else task.target
    targets = torch.tensor([classes.index(one) for one in given])
    originals = rounded(images.detach().clamp(0, 1)).to(net.device)
    numbers = originals[0].numel()
    reach = math.inf if task.method == "ascent" else (8 / LEVELS if task.norm == "linf" else 0.05 * numbers**0.5)
    reach = reach if task.epsilon is None else task.epsilon
    near = Near(reach, task.norm, task.seed if task.method == "pgd" else None)  # type: ignore[arg-type]
    count, optimizer = _steps(task, reach, numbers)

    rows = torch.arange(len(targets))
    before = net.probabilities(originals, BATCH)
    wanted = before[rows, targets] < 0.5 if classes.kind == "sigmoid" else None

    def reached(reading: Reading, ids: list[int]) -> Tensor:
        aims = targets[ids].to(reading.logits.device)
        probable = classes.probabilities(reading.logits.detach()).gather(1, aims[:, None])[:, 0]
        return (probable if wanted is None else torch.where(wanted[ids], probable, 1 - probable)) >= task.sure

    found = climb(
        net,
        _goals(targets, wanted),
        originals,
        Recipe(parameterization=near, optimizer=optimizer, steps=count),
        until=reached,
        seed=task.seed,
        batch_size=BATCH,
        watch=watch,
    )
    after = net.probabilities(found.images, BATCH)
    return Fooled(
        found.images.cpu().numpy(),
        originals.cpu().numpy(),
        targets.numpy(),
        after.argmax(1).numpy(),
        before.argmax(1).numpy(),
        after[rows, targets].numpy(),
        before[rows, targets].numpy(),
        found.taken.cpu().numpy(),
        found.history.cpu().numpy(),
        classes.labels,
        reach,
        None if wanted is None else wanted.numpy(),
    )


def _goals(targets: Tensor, wanted: Tensor | None) -> list[Objective]:
    """What is climbed: a class of several, or one of independent classes, present or absent."""
    if wanted is None:
        return [log_probability(int(one)) for one in targets]
    return [log_odds(int(one)) * (1 if on else -1) for one, on in zip(targets, wanted.tolist(), strict=True)]


def _steps(task: Fool, reach: float, numbers: int) -> tuple[int, Optimizer]:
    """How many steps, and how long: together they could cross the ball, and signs move a number by a level at least."""
    if task.method == "ascent":
        return 500 if task.steps is None else task.steps, Normalized(0.25 / LEVELS if task.lr is None else task.lr)
    count = (1 if task.method == "fgsm" else 60) if task.steps is None else task.steps
    per_number = reach if task.norm == "linf" else reach / numbers**0.5
    far = per_number if task.method == "fgsm" else 2.5 * per_number / max(1, count)
    if task.norm == "linf":
        far = max(far, min(per_number, 1 / LEVELS))
    return count, Normalized(far if task.lr is None else task.lr, "sign" if task.norm == "linf" else "l2")

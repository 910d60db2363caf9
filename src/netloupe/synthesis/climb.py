"""Gradient ascent on images: the one loop behind everything that asks what would make a network respond."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from netloupe.core.backward import gradients
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, Reading
from netloupe.core.rules import Rule, backward_rule
from netloupe.core.watch import SILENT, Watch
from netloupe.synthesis.optimizers import LBFGS
from netloupe.synthesis.parameterizations import Variables
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.tasks import BATCH
from netloupe.synthesis.tiles import read

GLIMPSE = 2  # steps from one picture of what forms to the next, where no frames are kept
ROWS = 8  # of a linear layer at once

Until = Callable[[Reading, list[int]], Tensor]
"""From a pass over the images of the given numbers: which of them, (n,) bool, need no further step."""


@dataclass(frozen=True, eq=False)
class Climbed:
    """What became of N images.

    images: (N, C, H, W) in [0, 1], what lies outside is cut off. scores: (N,) of `images`, and `before` of those that
    they started from, both without transforms. history: (steps, N), the scores before each step, of what the network
    saw then; NaN once an image was done. All without the penalty. taken: (N,) steps. dead: (N,) bool, the score never
    changed. frames: (F, N, C, H, W) in [0, 1].
    """

    images: Tensor
    scores: Tensor
    before: Tensor
    history: Tensor
    taken: Tensor
    dead: Tensor
    frames: Tensor


def climb(
    net: Network,
    objectives: Sequence[Objective],
    start: Tensor,
    recipe: Recipe | None = None,
    *,
    until: Until | None = None,
    every: int = 0,
    seed: int = 0,
    batch_size: int = BATCH,
    tile: int | None = None,
    dtype: torch.dtype = torch.float32,
    steady: bool = True,
    watch: Watch = SILENT,
) -> Climbed:
    """Change images, step by step, so that their objectives rise.

    start: (N, C, H, W) in [0, 1]. objectives: N, or a number that divides N; then each scores its share of the images,
    which stand together, and may compare them. Images of different objectives do not touch.
    steady: each comes out the same to the last bit whatever others there are, on the same machine; for that the last of
    an odd number of images is computed twice on a CPU, whose convolutions differ in the last bits between odd and even
    numbers. dtype: in which the network multiplies on the way up and back; the scores that are returned are found in
    its own.
    recipe: by default `Recipe()`; its start is not used here. every: keep a frame each so many steps; the watch
    sees the images then, or else each `GLIMPSE` steps.
    Raises NetworkError when a score is no finite number, with the step; InputError for constraints where the pixels
    are not what is climbed.
    tile: images whose sides are longer are seen in tiles of about so many px, one after the other, each with what its
    maps see beyond it, so that memory is bounded and the gradient that of the whole; see `tiles.read`.
    """
    if not objectives or not len(start) or len(start) % len(objectives):
        raise InputError(f"{len(objectives)} objectives for {len(start)} images (accepted: a number that divides it)")
    how = Recipe() if recipe is None else recipe
    steps = how.steps
    if steps < 0 or batch_size < 1 or every < 0:
        raise InputError(f"{steps} steps, batch size {batch_size}, a frame every {every} (accepted: 0, 1, 0 or more)")
    share = len(start) // len(objectives)
    at_once = 1 if isinstance(how.optimizer, LBFGS) else max(1, batch_size // share)
    layout = torch.channels_last if net.runs_channels_last else torch.contiguous_format
    parts = []
    whole = watch.part("steps", len(start) * steps)
    for first in range(0, len(objectives), at_once):
        some = objectives[first : first + at_once]
        ids = list(range(first * share, (first + len(some)) * share))
        run = _Run(net, some, how, ids, seed, tile, dtype, layout, steady)
        variables = how.parameterization(start[ids].to(net.device))
        parts.append(run.climb(variables, how.redirected, until, every, whole.share(len(ids) * steps)))
    longest = max(len(part.history) for part in parts)
    frames = max(len(part.frames) for part in parts)
    return Climbed(
        torch.cat([part.images for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.before for part in parts]),
        torch.cat([_longer(part.history, longest, torch.nan) for part in parts], 1),
        torch.cat([part.taken for part in parts]),
        torch.cat([part.dead for part in parts]),
        torch.cat([_held(part, frames) for part in parts], 1),
    )


@dataclass(frozen=True)
class _Run:
    """Images `ids`, climbed together."""

    net: Network
    objectives: Sequence[Objective]
    how: Recipe
    ids: list[int]
    seed: int
    tile: int | None
    dtype: torch.dtype
    layout: torch.memory_format
    steady: bool

    def climb(
        self,
        variables: Variables,
        redirected: int,
        until: Until | None,
        every: int,
        watch: Watch,
    ) -> Climbed:
        if self.how.constraints and variables.pixels is None:
            raise InputError(f"{self.how.constraints[0]!r} (accepted: only where the pixels themselves are climbed)")
        take = self.how.optimizer(variables.tensors)
        before = self._scores(_shown(variables))
        reached = torch.zeros(len(self.ids), dtype=torch.bool, device=before.device)
        taken, dead, done = torch.zeros_like(reached, dtype=torch.long), ~reached, reached
        history, frames, first = [], [], None
        steps = self.how.steps
        part = watch.part("steps", steps)
        for step in range(1, steps + 1):
            rule: Rule = "redirected" if step <= redirected else "plain"
            reading, scores, total, gradients = self._differentiate(variables, step, rule)
            if until is not None:
                reached = reached | until(reading, self.ids)
            first = scores if first is None else first
            dead = dead & ~reached & (scores == first)
            done = reached | dead if step > max(1, redirected) else reached
            history.append(scores.masked_fill(done, torch.nan))
            if bool(done.all()):
                break
            self._step(variables, take, (total, gradients), step, rule, done)
            taken += ~done
            if step % (every or GLIMPSE) == 0 and (every or watch.pictures):
                shown = _shown(variables)
                frames += [shown.cpu()] if every else []
                for i, image in zip(self.ids, shown, strict=True):
                    watch.picture(f"image {i}", image)
            part.advance()
        part.at(steps)
        images = _shown(variables)
        scores = self._scores(images)
        return Climbed(
            images,
            scores,
            before,
            torch.stack(history) if history else before.new_zeros(0, len(before)),
            taken,
            dead & (scores == before),
            torch.stack(frames) if frames else images.new_zeros(0, *images.shape).cpu(),
        )

    def _step(
        self,
        variables: Variables,
        take: Callable[[Any], None],
        first: tuple[Tensor, list[Tensor]],
        step: int,
        rule: Rule,
        done: Tensor,
    ) -> None:
        """One step of all images but those that are done. `first` was found already where the variables are."""
        waiting = [first]

        def evaluate() -> tuple[Tensor, list[Tensor]]:
            return waiting.pop() if waiting else self._differentiate(variables, step, rule)[2:]

        kept = [tensor.detach().clone() for tensor in variables.tensors] if bool(done.any()) else None
        with torch.no_grad():
            take(evaluate)
            variables.settle()
            if self.how.constraints:
                zero = self.net.inputs.mean_color().to(first[1][0]).view(-1, 1, 1)
                assert variables.pixels is not None
                for constraint in self.how.constraints:
                    variables.pixels.copy_(constraint(variables.pixels, first[1][0], step, zero))
            for tensor, old in zip(variables.tensors, kept or (), strict=False):
                tensor[done] = old[done]

    def _differentiate(
        self, variables: Variables, step: int, rule: Rule
    ) -> tuple[Reading, Tensor, Tensor, list[Tensor]]:
        """A pass, the scores (n,), their sum less the penalties, and its gradients with respect to the variables."""
        with torch.inference_mode(False), torch.enable_grad():
            images = variables.images()
            generator = Generator().manual_seed(self.seed * 1_000_003 + step)
            for transform in self.how.transforms:
                images = transform(images, generator)
            reading, scores, total = self._see(images, rule)
            self._check(scores.detach(), step)
            found = gradients(self.net.name, [total], variables.tensors)
        known = [
            torch.zeros_like(t) if g is None else g.contiguous() for g, t in zip(found, variables.tensors, strict=True)
        ]
        return reading, scores.detach(), total.detach(), known

    @torch.no_grad()
    def _scores(self, images: Tensor) -> Tensor:
        """(n,), without transforms."""
        return self._see(images, exact=True)[1]

    def _see(self, images: Tensor, rule: Rule = "plain", *, exact: bool = False) -> tuple[Reading, Tensor, Tensor]:
        """A pass, the scores (n,), and their sum less the penalties. exact: in the network's own type."""
        layers = list(dict.fromkeys(name for o in self.objectives for name in o.layers))
        odd = self.steady and len(images) % 2 == 1 and images.device.type == "cpu"
        seen = (torch.cat([images, images[-1:]]) if odd else images).contiguous(memory_format=self.layout)
        around = partial(self._around, rule, not exact and self.dtype != self.net.dtype == torch.float32)
        reading = read(self.net, seen, layers, self.tile, around)
        outputs = {name: output[: len(images)] for name, output in reading.outputs.items()}
        reading = replace(reading, make_images=partial(_itself, images.to(self.net.device)), outputs=outputs)
        parts = _split(reading, len(self.objectives))
        with backward_rule(rule):  # objectives rectify too
            scores = torch.cat([o.score(part) for o, part in zip(self.objectives, parts, strict=True)])
        total = scores.sum() if self.how.penalty is None else (scores - self.how.penalty.score(reading)).sum()
        return reading, scores, total

    @contextmanager
    def _around(self, rule: Rule, rounded: bool) -> Iterator[None]:
        """What a pass runs under."""
        autocast = torch.autocast(self.net.device.type, self.dtype, enabled=rounded)
        with autocast, _SteadyRows() if self.steady else nullcontext(), backward_rule(rule):
            yield

    def _check(self, scores: Tensor, step: int) -> None:
        bad = (~scores.isfinite()).nonzero().flatten().tolist()
        if bad:
            objective = self.objectives[bad[0] * len(self.objectives) // len(scores)]
            remedy = (
                f": {self.how.optimizer!r} diverged, try a smaller lr" if step > 1 else " (accepted: finite scores)"
            )
            raise NetworkError(f"{objective!r} is {float(scores[bad[0]])} in {self.net.name} at step {step}{remedy}")


class _SteadyRows(TorchFunctionMode):
    """Linear layers see `ROWS` rows at a time, because the last bits of their result depend on how many there are."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.linear or not args or args[0].ndim != 2 or args[0].device.type != "cpu":
            return func(*args, **kwargs)
        x, *others = args
        parts = F.pad(x, (0, 0, 0, -len(x) % ROWS)).split(ROWS)
        return torch.cat([func(part, *others, **kwargs) for part in parts])[: len(x)]


def _split(reading: Reading, count: int) -> list[Reading]:
    """The parts of the objectives' images. Splitting all at once keeps the way back linear in their number."""
    if count == 1:
        return [reading]
    outputs = {name: output.chunk(count) for name, output in reading.outputs.items()}
    images = reading.images.chunk(count)
    return [
        replace(reading, make_images=partial(_itself, image), outputs={name: each[i] for name, each in outputs.items()})
        for i, image in enumerate(images)
    ]


def _itself(images: Tensor) -> Tensor:
    return images


@torch.no_grad()
def _shown(variables: Variables) -> Tensor:
    return variables.images().detach().clamp(0, 1)


def _longer(rows: Tensor, length: int, fill: float) -> Tensor:
    return torch.cat([rows, rows.new_full((length - len(rows), *rows.shape[1:]), fill)])


def _held(part: Climbed, count: int) -> Tensor:
    """The frames, with the result in place of those that a climb which was done early did not make."""
    return torch.cat([part.frames, part.images.cpu()[None].expand(count - len(part.frames), -1, -1, -1, -1)])

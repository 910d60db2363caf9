"""How far the maps of each attribution method can be trusted: four tests over a set of images.

Cascading randomization and class sensitivity ask whether a map depends on what was learned and on what was asked;
deletion and insertion whether its strongest pixels matter to the score; the pointing game whether they lie on the
object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.correlation import likeness
from netloupe.analysis.explain.target import Target, find_target
from netloupe.analysis.fidelity import (
    center_map,
    deletion,
    insertion,
    pointing_hit,
    points,
    random_map,
    randomized,
)
from netloupe.analysis.methods import Method, quick_methods
from netloupe.core.errors import InputError, NetloupeError
from netloupe.core.network import Network
from netloupe.core.numbers import spread
from netloupe.core.objectives import Objective, logit, unit
from netloupe.core.perform import finished, function_of
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Part, Watch
from netloupe.data.labels import of_network
from netloupe.data.sources import ImageSource, read_all
from netloupe.studies.boxes import read_boxes
from netloupe.studies.trust import figure
from netloupe.studies.trust.record import BASELINES, Trust
from netloupe.studies.trust.task import TrustTask

LARGE = 224  # px of the shorter side from which the pointing game allows the 15 px of Zhang et al.
TOLERANCE = 15.0


@function_of(TrustTask)
def trust(
    net: Network,
    images: Tensor,
    targets: Objective | str | Unit | Sequence[int | str | Objective | None] | None = None,
    methods: Sequence[str | Method] | None = None,
    *,
    boxes: Tensor | None = None,
    first: int | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Trust:
    """The tests of every method on images (N, C, H, W) in [0, 1], or the first of them.

    targets: what the images are explained for: None for each image's most probable class, an objective or the address
    of a unit for all of them, or one for each image (a class by index, an address, an objective or None).
    Methods run at the settings of `quick_methods`, as far as they are names. Deletion and insertion read a class's
    probability, else the objective. The tolerance of the pointing game is that of Zhang et al. (2018).
    boxes: (N, 4) top, left, bottom, right in px, bottom and right excluded, NaN for an image without one.
    Raises UnknownName for a method, class or unit that is not there, InputError for images, targets or boxes that do
    not fit together.
    """
    task = TrustTask.of({"methods": methods, "first": first, **settings})
    found = measure(task, net, images[: task.first], targets, boxes, watch)
    return finished(found, task, net, {"images": images[: task.first], "boxes": boxes})


def run(task: TrustTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Trust:
    source: ImageSource = inputs["data"]
    quick_methods(task.methods)  # unknown ones are named before images are read
    boxes = read_boxes(inputs["boxes"], source, net.inputs.size) if "boxes" in inputs else None
    ids, images, unreadable = read_all(source, net.inputs.size, net.inputs.channels)
    labels = [source.label(i) for i in ids] if of_network(source, net.head.choices) else None
    found = measure(task, net, images, labels, None if boxes is None else boxes[ids], watch)
    return replace(found, unreadable=unreadable)


def measure(
    task: TrustTask,
    net: Network,
    images: Tensor,
    targets: Objective | str | Unit | Sequence[int | str | Objective | None] | None,
    boxes: Tensor | None,
    watch: Watch,
) -> Trust:
    """The tests on images (N, C, H, W), with their targets and boxes as `trust` says."""
    chosen = quick_methods(task.methods)
    _check(net, images, chosen, boxes)
    n, _, height, width = images.shape
    goals = [find_target(net, image[None], one) for image, one in zip(images, _each(targets, n), strict=True)]
    layers = stages(net, [goal.objective for goal in goals], task.count)
    usual = TOLERANCE if min(height, width) >= LARGE else 0.0
    tolerance = usual if task.tolerance is None else task.tolerance
    part = watch.part("maps", len(chosen) * (len(layers) + 3) + len(BASELINES))
    passes = Passes(net, images, goals, chosen, part)
    trained, skipped = passes.trained(skip=task.methods is None)
    rivals = passes.rivals(trained)
    likenesses, maps = passes.cascade(trained, layers, task.seed)
    ranked = [*trained, random_map(n, height, width, task.seed), center_map(n, height, width)]
    curves = passes.curves(ranked, task.steps)
    at = torch.stack([points(one) for one in ranked])
    return Trust(
        draw=figure.draw,
        methods=tuple(passes.methods),
        stages=tuple(layers),
        targets=tuple(goal.title for goal in goals),
        skipped=skipped,
        ranks=likenesses[0],
        structures=likenesses[1],
        rival_ranks=rivals[0],
        rival_structures=rivals[1],
        other_ranks=np.stack([_to_the_image_before(one) for one in trained]),
        deletion=curves[0],
        insertion=curves[1],
        points=at.numpy(),
        hits=None if boxes is None else np.stack([_hits(one, boxes, tolerance) for one in at]),
        tolerance=tolerance,
        image=images[0].cpu().numpy(),
        maps=maps,
    )


def stages(net: Network, objectives: Sequence[Objective], count: int) -> list[tuple[str, ...]]:
    """Which layers are drawn anew together, stage by stage: up to `count` evenly spread, each holding the one before
    (cascading randomization, Adebayo et al. 2018, section 3.1).

    Layers with parameters of their own, from the deepest that the objectives read up to the image; the first stage
    is the deepest alone, the last is all (of one stage: all). Raises InputError if there are none.
    """
    if count < 1:
        raise InputError(f"{count} stages (accepted: 1 or more)")
    parts = {name: layer.module for name, layer in net.layers.through(*objectives).items()}
    owners = {module: name for name, module in parts.items() if any(True for _ in module.parameters(recurse=False))}
    found = list(owners.values())[::-1]
    if not found:
        raise InputError(f"{net.name} has no layer with parameters to draw anew")
    return [tuple(found[:depth]) for depth in reversed(spread(len(found), 1, count))]


def _each(
    targets: Objective | str | Unit | Sequence[int | str | Objective | None] | None, n: int
) -> list[Objective | str | None]:
    """One for each image."""
    if targets is None or isinstance(targets, Objective | str | Unit):
        return [unit(targets) if isinstance(targets, Unit) else targets] * n
    found = list(targets)
    if len(found) != n:
        raise InputError(f"{len(found)} targets for {n} images (accepted: one for all, or one for each)")
    return [logit(int(one)) if isinstance(one, int | np.integer) else one for one in found]


def _check(net: Network, images: Tensor, methods: Sequence[Method], boxes: Tensor | None) -> None:
    net.inputs.check(images)
    net.inputs.check_range(images)
    if not len(images) or not methods:
        raise InputError(f"{len(images)} images, {len(methods)} methods (accepted: 1 or more)")
    if boxes is None:
        return
    if boxes.shape != (len(images), 4):
        raise InputError(f"boxes of shape {tuple(boxes.shape)} for {len(images)} images (accepted: (N, 4))")
    if not bool(boxes.isfinite().all(1).any()):
        raise InputError("no image has a box (accepted: a box for at least one)")


def _hits(at: Tensor, boxes: Tensor, tolerance: float) -> np.ndarray:
    """(N,): 1 or 0, NaN for an image without a box."""
    boxed = boxes.isfinite().all(1).cpu()
    found = np.full(len(at), np.nan)
    found[boxed.numpy()] = pointing_hit(at[boxed], boxes.cpu()[boxed], tolerance).numpy()
    return found


def _to_the_image_before(maps: Tensor) -> np.ndarray:
    if len(maps) == 1:
        return np.full(1, np.nan)
    return likeness(maps, maps.roll(1, 0))[0]


class Passes:
    """N images (N, C, H, W) with their targets, and M methods; `part` counts sets of maps and of curves."""

    def __init__(
        self,
        net: Network,
        images: Tensor,
        targets: Sequence[Target],
        methods: Sequence[Method],
        part: Part,
    ) -> None:
        self.net, self.images, self.targets, self.methods = net, images, targets, list(methods)
        self._part = part

    def trained(self, *, skip: bool) -> tuple[list[Tensor], dict[str, str]]:
        """Each method's maps (N, H, W), and why some have none if those may be skipped; `methods` loses them."""
        found: list[Tensor] = []
        skipped: dict[str, str] = {}
        for method in self.methods:
            try:
                found.append(self._maps(method, self.net))
            except NetloupeError as error:
                if not skip or len(skipped) == len(self.methods) - 1:
                    raise
                skipped[method.name] = str(error)
        self.methods = [method for method in self.methods if method.name not in skipped]
        return found, skipped

    def rivals(self, trained: Sequence[Tensor]) -> np.ndarray:
        """(2, M, N): rank and structural likeness of the maps to those for the rivals, NaN without a rival."""
        ids = [i for i, target in enumerate(self.targets) if target.rival is not None]
        rivals = [target.rival for target in self.targets if target.rival is not None]
        found = np.full((2, len(self.methods), len(self.images)), np.nan)
        for m, (method, maps) in enumerate(zip(self.methods, trained, strict=True)):
            if ids:
                found[:, m, ids] = likeness(maps[ids], importance(method, self.net, self.images[ids], rivals))
            self._part.advance()
        return found

    def cascade(
        self, trained: Sequence[Tensor], layers: Sequence[tuple[str, ...]], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(2, M, S + 1, N): likeness to the trained maps after each stage; (M, S + 1, H, W): the first image's maps."""
        found = [[likeness(maps, maps) for maps in trained]]
        shown = [[maps[0] for maps in trained]]
        for i, names in enumerate(layers, 1):
            net = randomized(self.net, names if i < len(layers) else None, seed)
            drawn = [self._maps(method, net) for method in self.methods]
            found.append([likeness(maps, others) for maps, others in zip(trained, drawn, strict=True)])
            shown.append([maps[0] for maps in drawn])
        maps = torch.stack([torch.stack(stage) for stage in shown], dim=1)
        return np.array(found).transpose(2, 1, 0, 3), maps.numpy()

    def curves(self, maps: Sequence[Tensor], steps: int) -> np.ndarray:
        """(2, maps, N, steps + 1): deletion and insertion by importance maps (N, H, W)."""
        found = np.empty((2, len(maps), len(self.images), steps + 1), dtype=np.float32)
        for m, one in enumerate(maps):
            for objective, ids in alike([target.curve for target in self.targets]):
                for kind, way in enumerate((deletion, insertion)):
                    curves = way(self.net, self.images[ids], objective, one[ids], steps=steps)
                    found[kind, m, ids] = curves.cpu().numpy()
            self._part.advance()
        return found

    def _maps(self, method: Method, net: Network) -> Tensor:
        found = importance(method, net, self.images, [target.objective for target in self.targets])
        self._part.advance()
        return found


def importance(method: Method, net: Network, images: Tensor, objectives: Sequence[Objective]) -> Tensor:
    """(N, H, W) on the CPU: the importance of each image's pixels to its own objective."""
    found = torch.empty(len(images), *images.shape[2:])
    for objective, ids in alike(objectives):
        found[ids] = method.importance(method.attribution(net, images[ids], objective)).detach().float().cpu()
    return found


def alike(objectives: Sequence[Objective]) -> Iterator[tuple[Objective, list[int]]]:
    """Each objective with the images that share it, since a pass reads one objective of a whole batch."""
    ids: dict[Objective, list[int]] = {}
    for i, objective in enumerate(objectives):
        ids.setdefault(objective, []).append(i)
    yield from ids.items()

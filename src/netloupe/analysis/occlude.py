"""What hiding each part of an image does: to a feature map and the prediction, or to any score.

Zeiler & Fergus (2013), Figure 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.baselines import baseline_images
from netloupe.analysis.dropping import DROP
from netloupe.analysis.gradients import cam_layer, gradient
from netloupe.analysis.occlusion import SIDE, Occlusion, check_scores, grids, largest, measured_error, scored
from netloupe.analysis.patches import TopPatches
from netloupe.analysis.tasks import Occlude, Patches
from netloupe.analysis.unproject import rectifies
from netloupe.analysis.windows import Sliding, Windows
from netloupe.core.errors import InputError
from netloupe.core.head import Classes, NoHead
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective, energy, logit, probability
from netloupe.core.objectives.answers import usual
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.rules import Rule
from netloupe.core.taps import LOGITS
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Part, Watch
from netloupe.data.sources import ImageSource
from netloupe.render.chart import legend, shortened
from netloupe.render.colors import heat, palette, relief
from netloupe.render.pictures import Picture, beside, captioned, cropped, fitted, from_pixels, grid, resized, stacked
from netloupe.render.result import Result

OTHERS = 4  # best patches from other images beside the map's projection


@dataclass(frozen=True)
class Grid:
    """What one size of window gave, each (rows, columns).

    activation: the feature map's total. probability: of the class. classes: index of the most probable class.
    """

    windows: Windows
    activation: np.ndarray
    probability: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class OcclusionPanels(Result):
    """Figure 7 of Zeiler & Fergus (2013) for one image (C, H, W) and a class, for each of several windows.

    (b) total activation of `unit`, the strongest feature map of a layer, by position of the window; (c) the map's
    projection (C, H, W) into the image, and `others`, its best patches in other images with their projections;
    (d) the probability of the class `target`; (e) the most probable class. rule: of the projection, `plain` for a
    network without ReLU. method, error: see `Occlusion`.
    """

    image: np.ndarray
    grids: tuple[Grid, ...]
    unit: Unit
    target: int
    labels: Mapping[int, str]
    clean: Mapping[str, float]
    projection: np.ndarray
    rule: Rule
    others: TopPatches | None
    method: str
    error: float | None

    def pictures(self) -> dict[str, Picture]:
        return {"occlusion": stacked([self._head(), *(self._row(one) for one in self.grids)], gap=14)}

    def _head(self) -> Picture:
        size = fitted(self.image.shape[1:], SIDE)
        photo = resized(from_pixels(self.image), size)
        projected = resized(relief(self.projection), size)
        parts = [
            captioned(photo, "(a) the image"),
            captioned(projected, f"(c) {self.unit}, {'gradient' if self.rule == 'plain' else 'projected to pixels'}"),
        ]
        if self.others is not None:
            parts.append(
                captioned(
                    self._others(self.others),
                    "its best patches elsewhere" + (", and their projections" if self.others.projected else ""),
                )
            )
        return beside(parts)

    def _others(self, best: TopPatches) -> Picture:
        assert self.unit.channel is not None
        side = (fitted(self.image.shape[1:], SIDE)[0] - 6) // 2
        keys = [(self.unit.layer, self.unit.channel, r) for r in range(int((best[self.unit.layer].images >= 0).sum()))]
        patches = [best.patch(*key, side) for key in keys]
        found = [] if best.projected is None else [best.projected.tiles[key] for key in keys]
        tiles = [cropped(tile, (0, 0, *tile.shape[:2]), side) for tile in found]
        return grid([*patches, *tiles], max(1, len(keys)))

    def _row(self, one: Grid) -> Picture:
        size = fitted(self.image.shape[1:], SIDE)
        rows, columns = one.windows.nearest()
        at = np.ix_(rows, columns)

        def panel(picture: Picture, caption: str) -> Picture:
            return captioned(resized(picture, size, smooth=False), caption)

        high = max(float(one.activation.max()), self.clean["activation"])
        sure = max(float(one.probability.max()), self.clean["probability"])
        name = shortened(self.labels[self.target], 22)
        shown = one.classes[at]
        common = [int(c) for c in _by_frequency(one.classes)]
        colors = dict(zip(common, palette(len(common)), strict=True))
        classes = np.array([[colors[int(c)] for c in row] for row in shown], dtype=np.uint8)
        height, width = one.windows.size
        entries = [
            (colors[c], f"{shortened(self.labels[c], 26)}  {np.mean(one.classes == c):.0%}") for c in common[:10]
        ]
        return beside(
            [
                panel(heat(one.activation[at], high), f"(b) {self.unit}, total: black 0, pale {high:.3g}"),
                panel(heat(one.probability[at], sure), f"(d) p({name}): black 0, pale {sure:.2f}"),
                panel(classes, f"(e) top class, window {height}x{width}"),
                legend(entries, size[0] + 18),
            ]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"image": self.image, "projection": self.projection}
        for one in self.grids:
            end = f"{one.windows.size[0]}x{one.windows.size[1]}"
            found |= {f"activation-{end}": one.activation, f"probability-{end}": one.probability}
            found[f"classes-{end}"] = one.classes
        return found

    def summary(self) -> dict[str, Any]:
        return {
            "class": self.labels[self.target],
            "probability": self.clean["probability"],
            "unit": str(self.unit),
            "activation": self.clean["activation"],
            "method": self.method,
            "error": self.error,
            "windows": [self._in_numbers(one) for one in self.grids],
        }

    def _in_numbers(self, one: Grid) -> dict[str, Any]:
        def lowest(values: np.ndarray) -> dict[str, Any]:
            row, column = np.unravel_index(int(values.argmin()), values.shape)
            return {"value": float(values.min()), "box": list(one.windows.box(int(row), int(column)))}

        return {
            "window": list(one.windows.size),
            "stride": list(one.windows.stride),
            "grid": list(one.windows.grid),
            "lowest_probability": lowest(one.probability),
            "lowest_activation": lowest(one.activation),
            "classes": {self.labels[int(c)]: float(np.mean(one.classes == c)) for c in _by_frequency(one.classes)},
        }


@dataclass(frozen=True)
class Occlusions(Result):
    """What became of one score under windows of each size. Files of several sizes lie in a folder each."""

    name: str
    each: tuple[Occlusion, ...]

    def pictures(self) -> dict[str, Picture]:
        return {self._place(one, stem): picture for one in self.each for stem, picture in one.pictures().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        return {self._place(one, stem): array for one in self.each for stem, array in one.arrays().items()}

    def _place(self, one: Occlusion, stem: str) -> str:
        return stem if len(self.each) == 1 else f"{'x'.join(map(str, one.windows.size))}/{stem}"

    def summary(self) -> dict[str, Any]:
        return {"unit": self.name, "windows": [one.summary() for one in self.each]}


@function_of(Occlude)
def occlude(
    net: Network,
    image: Tensor,
    objective: Objective | str | None = None,
    *,
    data: ImageSource | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Occlusions | OcclusionPanels:
    """Hide each part of an image (C, H, W) or (1, C, H, W) in [0, 1]; of a score also of several images.

    objective: for None and "class:NAME" the panels of Zeiler and Fergus, with the map's best patches in `data`; for
    anything else what becomes of its score. Of a network without classes None is what `usual` says.
    baseline: also a color or an image, see `baseline_images`.
    Raises as `occlusion` does.
    """
    task = Occlude.of({"objective": objective, **settings})
    found: Occlusions | OcclusionPanels = perform(task, net, {"image": image, "data": data}, watch)
    return found


def run(task: Occlude, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Occlusions | OcclusionPanels:
    images = inputs["image"].fitted(net)
    asked = _asked(task, net, images)
    if isinstance(task.baseline, str) and task.baseline == DROP and task.objective is None and asked is None:
        asked = logit(int(net.probabilities(images[:1])[0].argmax()))
    if task.of_class and asked is None and task.baseline != DROP:
        return _panels(task, net, images, inputs["data"].first(task.first) if "data" in inputs else None, watch)
    task = task if asked is None else replace(task, objective=asked)  # type: ignore[arg-type]  # objects too
    text = str(task.objective)
    name = str(as_objective(text)) if "(" in text else text
    return Occlusions(name, tuple(scored(task, net, images, watch)))


def _asked(task: Occlude, net: Network, images: Tensor) -> Objective | None:
    """What is read where nobody said, of a network that answers other than by classes."""
    if task.objective is not None or isinstance(net.head, Classes | NoHead):
        return None
    if task.layer is not None:
        raise InputError(f"a layer was given, but the network gives {net.head.gives} (accepted: no layer, or a unit)")
    if len(images) != 1:
        raise InputError(f"{len(images)} images (accepted: one, or an objective)")
    with torch.no_grad():
        return usual(net.head, net(images), "an occlusion without a unit or objective")


def _panels(task: Occlude, net: Network, image: Tensor, others: ImageSource | None, watch: Watch) -> OcclusionPanels:
    net.inputs.check(image)
    net.inputs.check_range(image)
    if len(image) != 1:
        raise InputError(f"{len(image)} images (accepted: one)")
    sizes = grids(task, (int(image.shape[2]), int(image.shape[3])))
    classes = net.head.classes("a study of what hiding does to the prediction", 2)
    target = None if task.objective is None else Unit.parse(str(task.objective)).class_name
    layer = cam_layer(net, logit(0)) if task.layer is None else task.layer
    if not net.layer(layer).spatial:
        raise InputError(f"layer {layer!r} of shape {net.layer(layer).shape} has no feature maps (accepted: (C, H, W))")
    cover = baseline_images(net, image, task.baseline)  # type: ignore[arg-type]
    with torch.no_grad():
        sliding = Sliding(
            net,
            image,
            cover,
            [layer, LOGITS],
            growth=task.growth,
            bfloat16=task.bfloat16,
            incremental=not task.full_passes,
        )
        clean = sliding.clean()
        totals, probabilities = clean.layer(layer)[0].sum((1, 2)), classes.probabilities(clean.logits)[0]
        channel = int(totals.argmax())
        index = int(probabilities.argmax()) if target is None else classes.index(target)
        part = watch.part("windows", sum(math.prod(one.grid) for one in sizes))
        found = tuple(_slide(sliding, one, Unit(layer, channel), index, part, task.batch_size) for one in sizes)
        errors = [
            measured_error(sliding, probability(index), one.windows, torch.from_numpy(one.probability)) for one in found
        ]
    unit = Unit(layer, channel)
    rule: Rule = "deconvnet" if rectifies(net, image, layer) else "plain"
    whole = {"activation": float(totals[channel]), "probability": float(probabilities[index])}
    scores = [[torch.from_numpy(one.probability) for one in found]]
    check_scores(net, probability(index), np.array([whole["probability"]], dtype=np.float32), scores)
    named = {index, *(int(c) for one in found for c in np.unique(one.classes))}
    return OcclusionPanels(
        image[0].cpu().numpy(),
        found,
        unit,
        index,
        {c: classes.label(c) for c in named},
        whole,
        gradient(net, image, energy(layer, channel), rule)[0].cpu().numpy(),
        rule,
        None if others is None else _best(net, others, unit, rule, watch),
        sliding.method,
        largest(errors),
        provenance=decided(replace(task, layer=layer)),
    )


def _slide(sliding: Sliding, windows: Windows, unit: Unit, index: int, part: Part, batch_size: int) -> Grid:
    assert unit.channel is not None
    activation, sure = (np.zeros(windows.grid, dtype=np.float32) for _ in range(2))
    classes = np.zeros(windows.grid, dtype=np.int64)
    watch = part.share(math.prod(windows.grid))
    for places, reading in sliding.readings(*windows.spans, batch_size=batch_size, watch=watch):
        at = tuple(np.array(places).T)
        probabilities = reading.classes.probabilities(reading.logits)
        activation[at] = reading.channel(unit.layer, unit.channel).sum((1, 2)).cpu().numpy()
        sure[at] = probabilities[:, index].cpu().numpy()
        classes[at] = probabilities.argmax(1).cpu().numpy()
    return Grid(windows, activation, sure, classes)


def _best(net: Network, others: ImageSource, unit: Unit, rule: Rule, watch: Watch) -> TopPatches:
    best = Patches(unit=str(unit), k=OTHERS, project=None if rule == "plain" else rule)
    found: TopPatches = best.run(net, {"data": others}, watch)
    return found.shown


def _by_frequency(classes: np.ndarray) -> list[int]:
    """The classes that occur, most frequent first."""
    found, counts = np.unique(classes, return_counts=True)
    return [int(c) for c in found[np.argsort(-counts, kind="stable")]]

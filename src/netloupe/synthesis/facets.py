"""The facets of a unit: one image for each group of photographs that excite it (Nguyen et al. 2016).

The photographs that excite a unit most are grouped by what else the network sees in them, and from the mean of each
group an image is climbed. Departures from the paper: photographs are shifted so that the place that the unit responds
to lies in the middle; groups are those of Ward's method instead of k-means on a t-SNE map; the mean gets the contrast
of its photographs back; and what sets the group apart in features is climbed along with the unit, because from the
start alone most images end at the same facet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.layout import has_positions
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective, direction
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.receptive_field import Box
from netloupe.core.taps import LOGITS
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, ReadPixels, pixel_reader
from netloupe.render.pictures import PAPER, Picture, beside, captioned, cropped, from_pixels, stacked
from netloupe.render.result import Result
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.top import Strongest
from netloupe.synthesis.tasks import FacetsTask
from netloupe.synthesis.visualize import addresses, check_size, dtype_of, exciting, name_of, visualize

AVERAGED = 15  # images nearest to the center of a group, whose mean is its start (Nguyen et al. 2016)

_DIMENSIONS = 50  # principal components in which images are grouped (Nguyen et al. 2016)
_SHOWN = 6  # photographs of a group in the picture
_CELL = 112  # px


class Ranked(NamedTuple):
    """The photographs that excite a unit, best first: ids (n,), responses (n,) and where, positions (n, 2)."""

    ids: np.ndarray
    responses: np.ndarray
    positions: np.ndarray


class Group(NamedTuple):
    """Photographs that excite a unit and are alike in features.

    ids: nearest to the center first. boxes: what the unit sees of each. best: the highest response among them.
    center: (d,) the mean of their features, each of length 1. start: (C, H, W), the mean of the first of them.
    objective: the unit, and what sets the group apart from the others.
    """

    ids: tuple[int, ...]
    boxes: tuple[Box, ...]
    best: float
    center: np.ndarray
    start: Tensor
    objective: Objective


@dataclass(frozen=True)
class Facets(Result):
    """Images of the facets of one or more units.

    images: (N, C, H, W) in [0, 1], and starts, what they were climbed from. units: (N,) whose facet each is.
    groups: (N,), largest first for each unit. responses: (N,) the unit's highest response to the image over all
    positions (a class's logit), on the scale of its group's `best`.
    own: (N,) bool, whether the image's features lie nearest to the center of its own group among those of its unit.
    history: (steps, N). without: units that fewer than two photographs excite, so that they have no facets.
    """

    images: np.ndarray
    starts: np.ndarray
    units: tuple[str, ...]
    groups: tuple[Group, ...]
    responses: np.ndarray
    own: np.ndarray
    history: np.ndarray
    without: tuple[str, ...]
    read: ReadPixels

    def pictures(self) -> dict[str, Picture]:
        """A row for each facet: the mean that it started from, the image, and what the unit sees of its photographs."""
        rows = []
        for i, (name, group) in enumerate(zip(self.units, self.groups, strict=True)):
            seen = zip(group.ids[:_SHOWN], group.boxes, strict=False)
            patches = [cropped(from_pixels(self.read(j).numpy()), box, _CELL) for j, box in seen]
            whole = (0, 0, *self.images.shape[2:])
            made = [cropped(from_pixels(image), whole, _CELL) for image in (self.starts[i], self.images[i])]
            cells = [*made, np.full((_CELL, 4, 3), PAPER, dtype=np.uint8), *patches]
            text = f"{name}  {self.responses[i]:.3g}   of {len(group.ids)} photographs the best {group.best:.3g}"
            away = "" if self.own[i] else "   (went over to another facet)"
            rows.append(captioned(beside(cells, gap=2), text + away))
        return {"facets": stacked(rows, gap=4)} | {
            f"image-{i}": from_pixels(image) for i, image in enumerate(self.images)
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "starts": self.starts, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "without": list(self.without),
            "facets": [
                {
                    "unit": name,
                    "response": float(response),
                    "photographs": len(group.ids),
                    "best": group.best,
                    "own": bool(own),
                    "images": [int(i) for i in group.ids],
                }
                for name, group, response, own in zip(self.units, self.groups, self.responses, self.own, strict=True)
            ],
        }


@function_of(FacetsTask)
def facets(
    net: Network,
    units: str | Unit | Sequence[str | Unit],
    source: ImageSource,
    count: int = FacetsTask.count,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Facets:
    """Up to `count` facets of each unit, a channel or a class, from the `images` of `source` that excite it most.

    A unit that fewer images bring above zero has fewer facets, at most one for two of them. pull: with 0 only starts
    differ, as in the paper. preset, size, steps, lr, dtype, seed: as in `visualize`.
    Raises InputError for a unit that is neither a channel nor a class, or if at most one image excites any of them.
    """
    task = FacetsTask.of({"units": units, "count": count, **settings})
    found: Facets = perform(task, net, {"data": source}, watch)
    return found


def run(task: FacetsTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Facets:
    source: ImageSource = inputs["data"]
    asked = [u if isinstance(u, Unit) else Unit.parse(u) for u in addresses(net, task.units, task)]
    for one in asked:
        if (one.channel is None and one.class_name is None) or one.position is not None:
            raise InputError(f"facets of {one} (accepted: a channel as conv5:17, or a class as class:koala)")
    sides = net.inputs.size if task.size is None else task.size
    check_size(net, [as_objective(one) for one in asked], sides)
    ranked = rank(net, asked, source, task.images, watch.named("photographs"))
    read = pixel_reader(source, net.inputs.size, net.inputs.channels)
    enough = [len(order.ids) > 1 for order in ranked]
    without = tuple(str(one) for one, some in zip(asked, enough, strict=True) if not some)
    if not any(enough):
        raise InputError(
            f"{', '.join(without[:4])}: fewer than 2 photographs excite it (accepted: 2 or more for facets)"
        )
    asked = [one for one, some in zip(asked, enough, strict=True) if some]
    ranked = [order for order, some in zip(ranked, enough, strict=True) if some]
    found = [grouped(net, one, order, read, task.count, task.pull) for one, order in zip(asked, ranked, strict=True)]
    owners = [i for i, groups in enumerate(found) for _ in groups]
    flat = tuple(group for groups in found for group in groups)
    starts = torch.stack([group.start for group in flat])
    if sides != net.inputs.size:
        starts = F.interpolate(starts, sides, mode="bicubic", antialias=True).clamp(0, 1)
    shared = {name: getattr(task, name) for name in ("preset", "steps", "lr", "seed")}
    dtype = name_of(dtype_of(task, net))
    made = visualize(
        net, [group.objective for group in flat], size=sides, dtype=dtype, start=starts, watch=watch, **shared
    )
    parts = torch.from_numpy(made.images).split([len(groups) for groups in found])
    seen = [judged(net, part, one, groups) for part, one, groups in zip(parts, asked, found, strict=True)]
    return Facets(
        made.images,
        starts.numpy(),
        tuple(str(asked[i]) for i in owners),
        flat,
        np.concatenate([responses for responses, _ in seen]),
        np.concatenate([own for _, own in seen]) & ~made.dead,
        made.history,
        without,
        read,
        provenance=decided(replace(task, dtype=dtype)),
    )


def rank(
    net: Network,
    units: Sequence[Unit],
    source: ImageSource,
    count: int,
    watch: Watch = SILENT,
) -> list[Ranked]:
    """For each unit the `count` photographs that bring it highest; see `excited`."""
    places = [
        (LOGITS, net.head.classes(str(u)).index(u.class_name)) if u.class_name is not None else u.channel_of(net.layers)
        for u in units
    ]
    top = Strongest(count, of=list(dict.fromkeys(layer for layer, _ in places)))
    layers = [layer for layer, _ in places if layer != LOGITS]
    report = sweep(net, source, {"patches": top}, layers=layers, watch=watch)
    check_any_read(report, source)
    found = top.result()
    chosen = []
    for layer, channel in places:
        values, ids, positions = (part[channel].numpy() for part in found[layer])
        chosen.append(excited(net, layer, Ranked(ids, values, positions)))
    return chosen


def excited(net: Network, layer: str, ranked: Ranked) -> Ranked:
    """Without the photographs that are none, and those that leave a channel at zero or below.

    Logits and other layers without positions have no natural zero, so none of theirs is left out.
    """
    above = ranked.responses > (0 if layer != LOGITS and net.layer(layer).spatial else -np.inf)
    kept = (ranked.ids >= 0) & above
    return Ranked(*(part[kept] for part in ranked))


def grouped(net: Network, unit: Unit, ranked: Ranked, read: ReadPixels, count: int, pull: float = 1.0) -> list[Group]:
    """At least two photographs in up to `count` groups, largest first, by Ward's method in features.

    Features: of a channel all channels of its layer where it responds, of a class those that the classifier reads; of
    length 1, in at most 50 principal components.
    """
    pixels = torch.stack([read(int(i)) for i in ranked.ids])
    raw = features_of(net, pixels, unit, ranked.positions)
    features = _directions(raw)
    members = by_likeness(features, min(count, len(ranked.ids) // 2))
    centers = np.stack([features[chosen].mean(0) for chosen in members])
    boxes = _boxes(net, unit, ranked.positions)
    lying = centered(pixels, boxes)
    groups = []
    for chosen, center in zip(members, centers, strict=True):
        near = chosen[np.argsort(np.linalg.norm(features[chosen] - center, axis=1), kind="stable")]
        objective = exciting(unit) * (1 / _scale(ranked.responses[chosen]))
        if len(members) > 1 and pull:
            apart = center - centers.mean(0)
            along = direction(_layer(net, unit), torch.from_numpy(apart).float())
            objective = objective + along * (pull / _scale(raw[chosen] @ apart))
        start = with_contrast(lying[near[:AVERAGED]])
        ids, best = tuple(ranked.ids[near].tolist()), float(ranked.responses[chosen].max())
        groups.append(Group(ids, tuple(boxes[i] for i in near), best, center, start, objective))
    return groups


def _scale(values: np.ndarray) -> float:
    return max(float(np.abs(values).mean()), 1e-6)


def _directions(raw: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return np.asarray(raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12))


def with_contrast(images: Tensor) -> Tensor:
    """The mean of images (n, C, H, W), spread about its color as much as they are on average; in [0, 1]."""

    def about(x: Tensor) -> Tensor:
        return x - x.mean((-2, -1), keepdim=True)

    mean = images.mean(0)
    spread = about(images).square().mean((1, 2, 3)).sqrt().mean()
    own = about(mean).square().mean().sqrt().clamp(min=1e-6)
    return (mean + about(mean) * (spread / own - 1)).clamp(0, 1)


def by_likeness(features: np.ndarray, count: int) -> list[np.ndarray]:
    """Rows (n, d), n at least 2, in up to `count` groups by Ward's method: places, the largest group first."""
    away = features - features.mean(0)
    axes = np.linalg.svd(away, full_matrices=False)[2][:_DIMENSIONS]
    labels = fcluster(linkage(away @ axes.T, "ward"), count, "maxclust")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def centered(images: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Images (n, C, H, W), each shifted so that the middle of its box lies in the middle; edges are repeated."""
    height, width = images.shape[2:]
    rows, columns = torch.arange(height), torch.arange(width)
    shifted = []
    for image, (top, left, bottom, right) in zip(images, boxes, strict=True):
        y = (rows + (top + bottom - height) // 2).clamp(0, height - 1)
        x = (columns + (left + right - width) // 2).clamp(0, width - 1)
        shifted.append(image[:, y][:, :, x])
    return torch.stack(shifted)


def _boxes(net: Network, unit: Unit, positions: np.ndarray) -> list[Box]:
    """What is shown for the unit at each of its positions (see `Layer.patch`); a class sees all of the image."""
    if unit.class_name is not None:
        return [(0, 0, *net.inputs.size)] * len(positions)
    layer = net.layer(unit.layer)
    return [layer.patch(int(y), int(x), net.inputs.size) for y, x in positions]


def features_of(net: Network, images: Tensor, unit: Unit, positions: np.ndarray | None = None) -> np.ndarray:
    """(n, d) float64: what the network sees where a channel responds, or in all of the image for a class.

    positions: (n, 2), by default where the channel responds most.
    """
    layer, parts = _layer(net, unit), []
    for first in range(0, len(images), 32):
        maps = net.activations(images[first : first + 32], [layer])[layer].cpu()
        if has_positions(maps) and unit.class_name is not None:
            maps = maps.mean((2, 3))
        elif has_positions(maps):
            if positions is None:
                where = maps[:, unit.channel].flatten(1).argmax(1)
            else:
                some = torch.from_numpy(positions[first : first + 32]).long()
                where = some[:, 0] * maps.shape[3] + some[:, 1]
            maps = maps.flatten(2)[torch.arange(len(maps)), :, where]
        parts.append(maps.double())
    return np.asarray(torch.cat(parts))


def _layer(net: Network, unit: Unit) -> str:
    """Where the features lie by which a unit's photographs are grouped."""
    return net.layers.features().name if unit.class_name is not None else net.layer(unit.layer).name


def judged(net: Network, images: Tensor, unit: Unit, groups: Sequence[Group]) -> tuple[np.ndarray, np.ndarray]:
    """Of the images (n, C, H, W) of a unit's n groups: its highest responses, and which lie nearest to their own."""
    rows = _directions(features_of(net, images, unit))
    centers = np.stack([group.center for group in groups])
    nearest = np.linalg.norm(rows[:, None] - centers, axis=2).argmin(1)
    return highest(net, images, unit), nearest == np.arange(len(groups))


def highest(net: Network, images: Tensor, unit: Unit) -> np.ndarray:
    """(n,) the unit's highest response over all positions; a class's logit."""
    layer = LOGITS if unit.class_name is not None else unit.layer
    index = net.head.classes(str(unit)).index(unit.class_name) if unit.class_name is not None else unit.channel
    maps = net.activations(images, [layer])[layer][:, index]
    return np.asarray(maps.reshape(len(maps), -1).amax(1).cpu())

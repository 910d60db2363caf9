"""A linear classifier at every position of a layer: what do its channels tell of the pixels there?

The figure of dense features, as in DINOv2 (Oquab et al. 2023, section 7.4): positions are classified by themselves,
scores are brought to the size of the image bilinearly, and the classes of pixels compared with masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import decided, finished, function_of
from netloupe.core.watch import SILENT, Part, Watch
from netloupe.data.sources import ImageSource, Skipped, read_all
from netloupe.studies.boxes import read_boxes
from netloupe.studies.generalization.folds import class_accuracy
from netloupe.studies.masks import UNKNOWN, of_boxes, read_masks, shares
from netloupe.studies.probe import figure
from netloupe.studies.probe.record import PLACE, DenseProbe
from netloupe.studies.probe.task import ProbeTask
from netloupe.studies.probes import PENALTIES, Scale, fit_path

BATCH = 25
SHOWN = 6  # images of the picture
STAGES = 8
MOST = 0.5  # of a cell: the share that a class must have for the cell to train
GRID, DEGREE = (16, 16), 4  # of the baseline: positions, and the polynomial of their place

Maps = Callable[[Tensor], Mapping[str, Tensor]]
"""Images (N, C, H, W) -> {layer: (N, channels, h, w)}."""


@function_of(ProbeTask)
def dense_probe(
    net: Network,
    images: Tensor,
    masks: np.ndarray,
    layers: Sequence[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> DenseProbe:
    """Probes of layers on images (N, C, H, W) in [0, 1], every other of which trains.

    masks: (N, H, W) class numbers from 0, -1 where unknown. classes: their names.
    Raises UnknownName for a layer that is not there, InputError for one that is no map, for masks that don't fit the
    images, and for fewer than two classes in the images that train.
    """
    task = ProbeTask.of({"layers": layers, "dense": True, "first": len(images), **settings})
    found = measure(task, net, images, np.asarray(masks), classes, watch)
    return finished(found, task, net, {"images": images, "masks": torch.from_numpy(np.asarray(masks))})


def run(task: ProbeTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> DenseProbe:
    source: ImageSource = inputs["data"]
    if not task.dense:
        raise InputError("study probe without dense (accepted: with it; study generalization probes whole images)")
    if ("boxes" in inputs) == ("masks" in inputs):
        raise InputError("a probe needs what is where (accepted: --boxes or --masks, one of them)")
    chosen_layers(net, task.layers)  # before images are read
    size = net.inputs.size
    if "boxes" in inputs:
        masks = of_boxes(read_boxes(inputs["boxes"], source, size), size)
        names: tuple[str, ...] | None = ("around", "object")
    else:
        masks, names = read_masks(inputs["masks"], source, size), None
    ids, images, unreadable = read_all(source, size, net.inputs.channels)
    return measure(task, net, images, masks[ids], names, watch, unreadable)


def measure(
    task: ProbeTask,
    net: Network,
    images: Tensor,
    masks: np.ndarray,
    names: Sequence[str] | None,
    watch: Watch,
    unreadable: tuple[Skipped, ...] = (),
) -> DenseProbe:
    """The probes on images (N, C, H, W) with their masks (N, H, W)."""
    layers = chosen_layers(net, task.layers)
    if masks.shape != (len(images), *images.shape[2:]):
        raise InputError(f"masks {masks.shape} for images {tuple(images.shape)} (accepted: (N, H, W) of their size)")
    known = (masks != UNKNOWN).any((1, 2))
    images, masks = images[torch.from_numpy(known)], masks[known]
    if len(images) < 4:
        raise InputError(f"{len(images)} images have a mask (accepted: 4 or more)")
    numbers = np.unique(masks[masks != UNKNOWN])
    if len(numbers) < 2:
        raise InputError(f"the masks hold class {numbers[0]} alone (accepted: two classes or more)")
    titles = tuple(str(n) if names is None else names[n] for n in numbers)
    masks = np.where(masks == UNKNOWN, UNKNOWN, np.searchsorted(numbers, masks)).astype(np.int16)
    part = watch.part("probing", 2 * len(images) + len(layers) + 1)
    train, test = slice(0, None, 2), slice(1, None, 2)
    drawn = _drawn(net, images[train], masks[train], layers, len(titles), task, part)
    probes = {}
    for name, samples in drawn.items():
        probes[name] = samples.fitted(name)
        part.advance()
    overlap, predicted = _judged(net, images[test], masks[test], probes, len(titles), part)
    means = np.nanmean(overlap[:-1, :, 0] / np.maximum(overlap[:-1, :, 1], 1), axis=1)
    grids = np.array([net.layer(name).size for name in layers] + [GRID])
    return DenseProbe(
        draw=figure.draw,
        layers=(*layers, PLACE),
        classes=titles,
        overlap=overlap,
        grids=grids,
        counts=(len(images[train]), len(images[test])),
        images=images[test][:SHOWN].numpy(),
        masks=masks[test][:SHOWN],
        predicted=predicted[layers[int(means.argmax())]],
        unreadable=unreadable,
        provenance=decided(replace(task, layers=tuple(layers))),
    )


def chosen_layers(net: Network, layers: Sequence[str] | None) -> list[str]:
    """Those named, which must be maps; else maps that end stages."""
    if layers is None:
        found = list(net.layers.stage_ends(STAGES).maps())
        if not found:
            raise InputError(f"{net.name} has no map over the image to probe; name the layers")
        return found
    for name in net.layers.each(layers):
        if not net.layer(name).is_map:
            raise InputError(f"layer {name!r} has the shape {net.layer(name).shape} (accepted: maps over the image)")
    return net.layers.each(layers)


@dataclass(frozen=True)
class Probe:
    """A linear classifier of a position: standardization, and weights (channels + 1, K), the bias last."""

    scale: Scale
    weights: np.ndarray

    def scores(self, maps: Tensor) -> Tensor:
        """(N, K, h, w) of maps (N, channels, h, w)."""
        features = self.scale(maps.permute(0, 2, 3, 1).numpy())
        return torch.from_numpy(features @ self.weights[:-1] + self.weights[-1]).permute(0, 3, 1, 2)


@dataclass
class Samples:
    """Vectors of positions that train, by batch, with their classes and the images that they are from."""

    vectors: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)

    def fitted(self, name: str) -> Probe:
        """The probe, its penalty chosen by a third of the images, by class accuracy; the stronger of equals."""
        vectors, labels, images = (np.concatenate(one) for one in (self.vectors, self.labels, self.images))
        classes = int(labels.max()) + 1
        if len(np.unique(labels)) < 2:
            raise InputError(
                f"the positions of {name} hold one class alone in the images that train "
                "(accepted: two classes that fill most of a position somewhere)"
            )
        if not np.isfinite(vectors).all():
            raise InputError(f"layer {name!r} gives numbers that are not finite")
        scale = Scale.of(vectors)
        vectors = scale(vectors)
        held = images % 3 == 2
        penalties = PENALTIES["logistic"]
        penalty = penalties[len(penalties) // 2]
        if len(np.unique(labels[held])) == len(np.unique(labels[~held])) == len(np.unique(labels)):
            path = fit_path(vectors[~held], labels[~held], classes, "logistic", penalties)
            found = [(vectors[held] @ one[:-1] + one[-1]).argmax(1) for one in path]
            penalty = penalties[int(np.argmax([class_accuracy(labels[held], one) for one in found]))]
        return Probe(scale, fit_path(vectors, labels, classes, "logistic", [penalty])[0])


def _maps(net: Network, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Those of the layers, and the polynomials of each place for the baseline."""
    found = {name: maps.cpu() for name, maps in net.activations(images, layers).items()}
    y, x = (torch.linspace(-1, 1, length) for length in GRID)
    powers = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i) if i + j]
    places = torch.stack([y[:, None] ** i * x[None, :] ** j for i, j in powers])
    return found | {PLACE: places.expand(len(images), -1, -1, -1)}


def _drawn(
    net: Network, images: Tensor, masks: np.ndarray, layers: Sequence[str], classes: int, task: ProbeTask, part: Part
) -> dict[str, Samples]:
    """Positions at random of each image, among those that one class fills most of."""
    found = {name: Samples() for name in (*layers, PLACE)}
    for start in range(0, len(images), BATCH):
        some = slice(start, start + BATCH)
        for name, maps in _maps(net, images[some], layers).items():
            grid = (int(maps.shape[2]), int(maps.shape[3]))
            most, labels = shares(masks[some], classes, grid).max(1)
            for i in range(len(maps)):
                places = np.flatnonzero((most[i] > MOST).numpy())
                random = np.random.default_rng([task.seed, start + i])
                places = random.permutation(places)[: task.positions]
                found[name].vectors.append(maps[i].flatten(1).T.numpy()[places])
                found[name].labels.append(labels[i].flatten().numpy()[places])
                found[name].images.append(np.full(len(places), start + i))
        part.advance(len(images[some]))
    return found


def _judged(
    net: Network, images: Tensor, masks: np.ndarray, probes: Mapping[str, Probe], classes: int, part: Part
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(L, K, 2) pixels in intersections and unions; and of the first images what each layer predicts, (M, H, W)."""
    overlap = np.zeros((len(probes), classes, 2), dtype=np.int64)
    shown: dict[str, list[np.ndarray]] = {name: [] for name in probes}
    layers = [name for name in probes if name != PLACE]
    for start in range(0, len(images), BATCH):
        there = masks[start : start + BATCH]
        for row, (name, maps) in enumerate(_maps(net, images[start : start + BATCH], layers).items()):
            scores = torch.nn.functional.interpolate(
                probes[name].scores(maps), there.shape[1:], mode="bilinear", align_corners=False
            )
            found = scores.argmax(1).numpy().astype(np.int16)
            for number in range(classes):
                own, said = there == number, (found == number) & (there != UNKNOWN)
                overlap[row, number] += (int((own & said).sum()), int((own | said).sum()))
            if start < SHOWN:
                shown[name].append(found)
        part.advance(len(there))
    return overlap, {name: np.concatenate(parts)[:SHOWN] for name, parts in shown.items()}

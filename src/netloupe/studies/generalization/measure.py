"""What a network's features are worth on other classes: linear probes of every layer with few images per class.

Beside them stands the same network trained from scratch on the same images (Zeiler & Fergus 2013, Tables 4, 5 and 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetloupeError, NetworkError
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.bands import eight_bits
from netloupe.data.labels import check_same, required
from netloupe.data.sources import ImageSource, Skipped, read_batches
from netloupe.studies.generalization import figure
from netloupe.studies.generalization.folds import Fold, Folds, class_accuracy, draw_folds
from netloupe.studies.generalization.record import Generalization
from netloupe.studies.generalization.task import GeneralizationTask
from netloupe.studies.probes import Kind, probe
from netloupe.studies.training import fresh, logits, trained, usual_epochs, usual_recipe
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.vectors import Features
from netloupe.training.labeled import Images

GRIDS = (4, 2, 1)  # cells a side, into which a map is averaged


@function_of(GeneralizationTask)
def generalization(
    net: Network,
    source: ImageSource,
    test: ImageSource | None = None,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Generalization:
    """Probe layers, by default see `Layers.stage_ends`, with few training images per class, in random folds.

    source: labeled images, which need not be of the network's classes. test: other images of the same classes, to be
    tested on in every fold; None tests on what a fold does not train on, up to 50 of each class.
    dimensions: see `grid_of`. epochs: of the same network from random weights, by default see `usual_epochs`.

    Classes with too few images, layers whose features are not finite and a network that can't be trained are left
    out and named. Raises InputError for a source without labels or numbers that can't be used, UnknownName for a
    layer or kind of probe that is not there.
    """
    found: Generalization = perform(GeneralizationTask.of(settings), net, {"data": source, "test": test}, watch)
    return found


def run(task: GeneralizationTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Generalization:
    source: ImageSource = inputs["data"]
    test: ImageSource | None = inputs.get("test")
    sources = [source] if test is None else [source, test]
    for each in sources:
        required(each, "the study")
    kinds: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind in task.kinds)
    counts = tuple(sorted(set(task.per_class)))
    asked = net.layers.each(task.layers or net.layers.stage_ends())
    check_same(source, sources[-1])
    _draw([_labels(one) for one in sources], counts, task)  # mistakes show now
    found = [read_features(net, one, asked, task.dimensions, watch.named("features")) for one in sources]
    draws, left_out = _draw([one.labels for one in found], counts, task)
    if (broken := sum(len(one.skipped) for one in found)) > 0:
        first = next(skipped for one in found for skipped in one.skipped)
        left_out["images"] = f"{broken} can't be read, such as {first.name}: {first.reason}"
    for one in found:
        left_out |= {f"layer {name}": reason for name, reason in one.left_out.items()}
    names = [name for name in asked if all(name in one.vectors for one in found)]
    accuracy, penalty = _probes(found, names, draws, kinds, task.folds, watch)
    own, on_own = (np.full((len(draws), task.scratch), np.nan) for _ in range(2))
    if task.scratch:
        try:
            teacher = Scratch(net, sources, found, task, watch)
            for p, drawn in enumerate(draws):
                for i, fold in enumerate(drawn.folds[: task.scratch]):
                    own[p, i], on_own[p, i] = teacher.accuracy(drawn, fold)
        except NetloupeError as error:
            left_out["scratch"] = str(error)
    return Generalization(
        draw=figure.draw,
        layers=tuple(names),
        kinds=kinds,
        per_class=tuple(one.per_class for one in draws),
        accuracy=accuracy,
        penalty=penalty,
        scratch=own,
        trained=on_own,
        dimensions=tuple(found[0].vectors[name].shape[1] for name in names),
        grids=tuple(found[0].grids[name] for name in names),
        classes=tuple(len(one.classes) for one in draws),
        images=np.array([(len(one.folds[0].train), len(one.folds[0].test)) for one in draws]),
        left_out=left_out,
        provenance=decided(replace(task, layers=tuple(asked))),
    )


def _labels(source: ImageSource) -> np.ndarray:
    given = source.labels if source.labels is not None else [None] * len(source)
    return np.array([-1 if label is None else label for label in given], dtype=np.int64)


def _draw(
    labels: Sequence[np.ndarray], counts: Sequence[int], task: GeneralizationTask
) -> tuple[list[Folds], dict[str, str]]:
    """The folds for each number of images per class that allows some; and why not, for the others and for classes."""
    draws: list[Folds] = []
    left_out: dict[str, str] = {}
    error: InputError | None = None
    for count in counts:
        try:
            tests = labels[1] if len(labels) > 1 else None
            one = draw_folds(labels[0], count, task.folds, test_labels=tests, seed=task.seed)
        except InputError as reason:
            error = reason
            left_out[f"{count} per class"] = str(reason)
            continue
        draws.append(one)
        if one.short:
            few = ", ".join(f"{c} ({n} images)" for c, n in list(one.short.items())[:5])
            more = ", ..." if len(one.short) > 5 else ""
            left_out[f"classes at {count} per class"] = f"{len(one.short)} have too few images: {few}{more}"
        if one.same:
            left_out[f"folds at {count} per class"] = "every fold would train on the same images, so there is one"
    if not draws:
        assert error is not None
        raise error
    return draws, left_out


def _probes(
    found: Sequence[LayerFeatures],
    names: Sequence[str],
    draws: Sequence[Folds],
    kinds: Sequence[Kind],
    folds: int,
    watch: Watch,
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and penalties, (L, kinds, P, F) each."""
    accuracy = np.full((len(names), len(kinds), len(draws), folds), np.nan)
    penalty = accuracy.copy()
    part = watch.part("probes", len(names) * len(kinds) * sum(len(one.folds) for one in draws))
    for p, one in enumerate(draws):
        for f, fold in enumerate(one.folds):
            truth = np.searchsorted(one.classes, found[0].labels[fold.train])
            asked = np.searchsorted(one.classes, found[-1].labels[fold.test])
            for i, name in enumerate(names):
                for j, kind in enumerate(kinds):
                    now = probe(found[0].vectors[name][fold.train], truth, found[-1].vectors[name][fold.test], kind)
                    accuracy[i, j, p, f] = class_accuracy(asked, now.predicted)
                    penalty[i, j, p, f] = now.penalty
                    part.advance()
    return accuracy, penalty


@dataclass(frozen=True)
class LayerFeatures:
    """ids: (N,) of the images that could be read. vectors: layer -> (N, d) float32. grids: layer -> cells a side.

    labels: (N,) int64, -1 for none. left_out: layer -> why it has no features. skipped: the broken images.
    """

    ids: np.ndarray
    labels: np.ndarray
    vectors: Mapping[str, np.ndarray]
    grids: Mapping[str, int]
    left_out: Mapping[str, str]
    skipped: tuple[Skipped, ...]


def grid_of(net: Network, layer: str, dimensions: int) -> int:
    """Cells a side into which a layer's maps are averaged: 4, 2 or 1, as many as `dimensions` numbers allow."""
    one = net.layer(layer)
    return next(g for g in GRIDS if g == 1 or (g <= min(one.size) and one.channels * g * g <= dimensions))


def read_features(
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    dimensions: int,
    watch: Watch = SILENT,
) -> LayerFeatures:
    """The features of every image at `layers`: the means over the cells of a grid, see `grid_of`.

    A layer whose activations are not finite is left out and named. Raises InputError where no image can be read,
    NetworkError where no layer has finite activations.
    """
    grids = {layer: grid_of(net, layer, dimensions) for layer in layers}
    left_out: dict[str, str] = {}
    kept = {layer: Features(layer, grid) for layer, grid in grids.items()}
    try:
        report = sweep(net, source, kept, layers=list(kept), watch=watch)
    except NetworkError as error:
        kept, left_out = {}, {}
        for layer, grid in grids.items():  # which of them can be read
            alone = {layer: Features(layer, grid)}
            try:
                report = sweep(net, source, alone, layers=[layer], watch=watch)
                kept |= alone
            except NetworkError as own:
                left_out[layer] = str(own)
        if not kept:
            raise error
    check_any_read(report, source)
    found = {layer: accumulator.result() for layer, accumulator in kept.items()}
    ids = next(iter(found.values())).ids
    return LayerFeatures(
        ids, _labels(source)[ids], {name: one.vectors for name, one in found.items()}, grids, left_out, report.skipped
    )


class Scratch:
    """Trains the network of `net` anew for each fold that it is given.

    The images of all sources are read once, at the shorter side of the network's input. Raises NetworkError for a
    network that can't be made for other classes or does not take such images.
    """

    def __init__(
        self,
        net: Network,
        sources: Sequence[ImageSource],
        found: Sequence[LayerFeatures],
        task: GeneralizationTask,
        watch: Watch,
    ) -> None:
        self._net, self._epochs, self._seed, self._watch = net, task.epochs, task.seed, watch
        fresh(net, 2, task.seed)  # whether it can be made
        side = min(net.inputs.size)
        self._pixels = [read_pixels(one, side, net.inputs.channels) for one in sources]
        self._labels = [one.labels for one in found]

    def accuracy(self, folds: Folds, fold: Fold) -> tuple[float, float]:
        """Mean accuracy per class on the fold's test images, and on those it was trained on."""
        classes = len(folds.classes)
        train, truth = self._pixels[0][fold.train], np.searchsorted(folds.classes, self._labels[0][fold.train])
        test, asked = self._pixels[-1][fold.test], np.searchsorted(folds.classes, self._labels[-1][fold.test])
        module = fresh(self._net, classes, self._seed)
        epochs = usual_epochs(len(train)) if self._epochs is None else self._epochs
        recipe = usual_recipe(self._net, module, len(train), epochs=epochs, seed=self._seed)
        watch = self._watch.named(f"from scratch, {folds.per_class} per class")
        images = Images(train, torch.from_numpy(truth))
        net = trained(self._net, module, images, classes, recipe, watch)
        return class_accuracy(asked, predicted(net, test)), class_accuracy(truth, predicted(net, train))


def read_pixels(source: ImageSource, side: int, channels: int) -> Tensor:
    """(N, C, side, side) uint8 of the images of a source that can be read, in order."""
    batches = [eight_bits(batch.pixels) for batch in read_batches(source, (side, side), channels)]
    return torch.from_numpy(np.concatenate(batches)).permute(0, 3, 1, 2).contiguous()


def predicted(net: Network, pixels: Tensor) -> np.ndarray:
    """(N,) the most probable class of each image of (N, C, H, W) uint8."""
    return logits(net, pixels).argmax(1).numpy()

"""What a network's features are worth on other classes: linear probes of every layer with few images per class.

Beside them stands the same network trained from scratch on the same images (Zeiler & Fergus 2013, Tables 4, 5 and 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from netloupe.core.errors import InputError, NetloupeError
from netloupe.core.network import Network
from netloupe.core.perform import function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import check_same, required
from netloupe.data.sources import ImageSource
from netloupe.studies.features import LayerFeatures, read_features
from netloupe.studies.folds import Folds, class_accuracy, draw_folds
from netloupe.studies.generalization import figure
from netloupe.studies.generalization.probes import Kind, probe
from netloupe.studies.generalization.record import Generalization
from netloupe.studies.generalization.scratch import Scratch
from netloupe.studies.generalization.task import GeneralizationTask


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
    required(source, "the study")
    kinds: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind in task.kinds)
    counts = tuple(sorted(set(task.per_class)))
    asked = net.layers.each(task.layers or net.layers.stage_ends())
    if test is not None:
        required(test, "the study")
        check_same(source, test)
    _draw([_labels(one) for one in (source, test) if one is not None], counts, task)  # mistakes show now
    found = [
        read_features(net, one, asked, dimensions=task.dimensions, watch=watch.named("features"))
        for one in (source, *([] if test is None else [test]))
    ]
    draws, left_out = _draw([one.labels for one in found], counts, task)
    if (broken := sum(len(one.skipped) for one in found)) > 0:
        first = next(skipped for one in found for skipped in one.skipped)
        left_out["images"] = f"{broken} can't be read, such as {first.name}: {first.reason}"
    for one in found:
        left_out |= {f"layer {name}": reason for name, reason in one.left_out.items()}
    names = [name for name in asked if all(name in one.vectors for one in found)]
    accuracy, penalty = _probes(found, names, draws, kinds, task.folds, watch)
    own, trained = (np.full((len(draws), task.scratch), np.nan) for _ in range(2))
    if task.scratch:
        try:
            teacher = Scratch(net, source, test, found, task.epochs, task.seed, watch)
            for p, drawn in enumerate(draws):
                for i, fold in enumerate(drawn.folds[: task.scratch]):
                    own[p, i], trained[p, i] = teacher.accuracy(drawn, fold)
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
        trained=trained,
        dimensions=tuple(found[0].vectors[name].shape[1] for name in names),
        grids=tuple(found[0].grids[name] for name in names),
        classes=tuple(len(one.classes) for one in draws),
        images=np.array([(len(one.folds[0].train), len(one.folds[0].test)) for one in draws]),
        left_out=left_out,
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

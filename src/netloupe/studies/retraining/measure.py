"""Removing or resizing layers and training anew (Zeiler & Fergus 2013, Table 3)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import check_same, required
from netloupe.data.sources import ImageSource
from netloupe.studies.retraining import figure
from netloupe.studies.retraining.record import Retraining
from netloupe.studies.retraining.surgery import changed
from netloupe.studies.retraining.task import RetrainingTask, parse_changes
from netloupe.studies.training import fitted, fresh, logits, trained, usual_recipe
from netloupe.training.labeled import Images, read_labeled

UNCHANGED = "unchanged"
MINUTES = 2.0
MOST_EPOCHS = 100
HELD_OUT = 5  # without images to validate on, every fifth of each class
_TRIAL = 3  # batches, to measure how long an epoch takes
_MARGIN = 0.85  # of the budget is for the epochs, the rest for what is around them


@function_of(RetrainingTask)
def retraining(
    net: Network,
    source: ImageSource,
    changes: Sequence[str],
    val: ImageSource | None = None,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Retraining:
    """Train the network's architecture from random weights on labeled images, unchanged and with each of `changes`.

    changes: as "remove conv3 conv4" or "remove conv3, resize conv4 0.5", see `changed`. val: labeled images of the same
    classes; None holds out a fifth of each class. All networks have the same recipe (see `usual_recipe`), images, order
    and seed. From `minutes` the epochs follow by a trial of each network, so they depend on the machine.

    Raises InputError for images without labels, changes that can't be read and a budget that allows no epoch,
    UnknownName for layers that are not there, NetworkError for changes that don't fit the network.
    """
    task = RetrainingTask.of({"changes": changes, **settings})
    found: Retraining = perform(task, net, {"data": source.first(task.first), "val": val}, watch)
    return found


def run(task: RetrainingTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Retraining:
    source: ImageSource = inputs["data"]
    val: ImageSource | None = inputs.get("val")
    classes = len(required(source, "training"))
    if val is not None:
        required(val, "validation")
        check_same(source, val)
    side, channels = min(net.inputs.size), net.inputs.channels
    modules = {UNCHANGED: fresh(net, classes, task.seed)}
    for text in task.changes:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            modules[text] = changed(fresh(net, classes, task.seed), parse_changes(text), (channels, side, side))
    every = read_labeled(source, side, watch, channels=channels)
    train, held = _split(every, task.seed) if val is None else (every, read_labeled(val, side, channels=channels))
    train.check(classes, "training")
    held.check(classes, "validation")
    budget = (MINUTES if task.minutes is None else task.minutes) * 60
    epochs = _affordable(net, modules, train, classes, budget, task.seed) if task.epochs is None else task.epochs
    errors, seconds, counts = [], [], []
    for title, module in modules.items():
        counts.append(sum(p.numel() for p in module.parameters()))
        recipe = usual_recipe(net, module, len(train.labels), epochs=epochs, seed=task.seed)
        start = time.monotonic()
        found = trained(net, module, train, classes, recipe, watch.named(f"training: {title}"))
        seconds.append(time.monotonic() - start)
        errors.append(_errors(found, train, held))
    notes = [] if every.left_out == 0 else [f"{every.left_out} images are left out: broken, or without a label"]
    return Retraining(
        draw=figure.draw,
        titles=tuple(modules),
        parameters=tuple(counts),
        errors=np.array(errors),
        seconds=tuple(seconds),
        images=(len(train.labels), len(held.labels)),
        epochs=epochs,
        classes=classes,
        notes=tuple(notes),
        provenance=decided(replace(task, minutes=None, epochs=epochs)),
    )


def _split(images: Images, seed: int) -> tuple[Images, Images]:
    """A fifth of each class held out, at least one image of a class with two or more."""
    labels = images.labels.numpy()
    held = np.zeros(len(labels), bool)
    for c in np.unique(labels):
        places = np.random.default_rng([seed, int(c)]).permutation(np.flatnonzero(labels == c))
        held[places[: max(1, len(places) // HELD_OUT) if len(places) > 1 else 0]] = True
    parts = [torch.from_numpy(np.flatnonzero(one)) for one in (~held, held)]
    train, val = (Images(images.pixels[part], images.labels[part]) for part in parts)
    return train, val


def _affordable(
    net: Network, modules: Mapping[str, nn.Module], train: Images, classes: int, budget: float, seed: int
) -> int:
    """How many epochs of all networks fit in `budget` seconds."""
    import copy

    total = 0.0
    for module in modules.values():
        recipe = usual_recipe(net, module, len(train.labels), epochs=MOST_EPOCHS, seed=seed)
        count = min(len(train.labels), _TRIAL * recipe.batch)
        trial = Images(train.pixels[:count], train.labels[:count])
        short = replace(recipe, sizes=((recipe.size, 1),), finish=0)
        first = Images(trial.pixels[: recipe.batch], trial.labels[: recipe.batch])
        fitted(net, copy.deepcopy(module), first, classes, short)
        start = time.monotonic()
        fitted(net, copy.deepcopy(module), trial, classes, short)
        each = (time.monotonic() - start) / (count // recipe.batch)  # seconds a step at the full side
        areas = [(side / recipe.size) ** 2 * epochs for side, epochs in recipe.sizes] + [recipe.finish]
        total += each * (len(train.labels) // recipe.batch) * sum(areas) / recipe.epochs
    found = int(min(budget * _MARGIN / total, MOST_EPOCHS))  # a budget may be endless
    if found < 1:
        needed = total / _MARGIN / 60
        raise InputError(
            f"a budget of {budget / 60:g} minutes allows no epoch of {len(modules)} networks on {len(train.labels)} "
            f"images (accepted: {needed:.2g} or more, or fewer images)"
        )
    return found


def _errors(net: Network, train: Images, val: Images) -> tuple[float, float, float]:
    own, other = logits(net, train.pixels), logits(net, val.pixels)
    return (error(own, train.labels, 1), error(other, val.labels, 1), error(other, val.labels, 5))


def error(found: Tensor, labels: Tensor, top: int) -> float:
    """The share of images whose label is not among the `top` most probable classes."""
    best = found.topk(min(top, found.shape[1]), dim=1).indices
    return float((best != labels[:, None]).all(1).double().mean())

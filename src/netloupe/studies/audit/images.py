"""The images of an audit: each class's, one half to look at and the other to test what was seen there."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.watch import Watch
from netloupe.data.labels import class_names, of_network
from netloupe.data.sources import ImageSource, pixel_reader
from netloupe.studies.audit.task import LEAST, AuditTask
from netloupe.sweep.accumulator import Accumulator
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.vectors import Features, Predictions


@dataclass(frozen=True)
class Pool:
    """n images that are audited, by row.

    ids: (n,) in the source. labels: (n,) class indices of the network. explored: (n,) whether the image is of the half
    that is looked at. right: (n,) whether the most probable class is the label. features: (n, C), None where the
    network has no layer before its logits. predicted: the labels are the network's own predictions. size: (height,
    width) in px of each image.
    """

    source: ImageSource
    ids: np.ndarray
    labels: np.ndarray
    explored: np.ndarray
    right: np.ndarray
    features: np.ndarray | None
    predicted: bool
    size: tuple[int, int]
    unlabeled: int
    duplicates: int
    small: tuple[tuple[int, int], ...]  # (class, images) of classes with too few
    unreadable: tuple[str, ...]
    _read: Callable[[int], Tensor] = field(repr=False)

    @property
    def classes(self) -> list[int]:
        return sorted(set(self.labels.tolist()))

    def rows(self, label: int, *, explored: bool) -> np.ndarray:
        """The rows of a class in one of the halves."""
        return np.flatnonzero((self.labels == label) & (self.explored == explored))

    def images(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """(len(rows), C, H, W) in [0, 1]."""
        return torch.stack([self._read(int(self.ids[row])) for row in rows])

    def name(self, row: int) -> str:
        return self.source.names[int(self.ids[row])]


def gather(task: AuditTask, net: Network, source: ImageSource, watch: Watch) -> Pool:
    """The images of each class that has enough of them, without copies of the same pixels within a class.

    Labels are the network's predictions where the task says so or the source has none. Raises InputError for labels
    that are not the network's classes and where fewer than two classes have enough images.
    """
    labels = None if task.predicted or class_names(source) is None else _labels(net, source)
    chosen = np.arange(len(source)) if labels is None else _first(labels, task.per_class)
    if not len(chosen):
        raise InputError(f"no image of {source.spec!r} has a label (accepted: labels, or predictions: --predicted)")
    part = source.subset(chosen.tolist())
    predictions, features = Predictions(net.head.classes("an audit", 2).kind), _features(net)
    readers: dict[str, Accumulator] = {"predictions": predictions}
    report = sweep(
        net,
        part,
        readers if features is None else readers | {"features": features},
        layers=[],
        watch=watch,
    )
    check_any_read(report, part)
    found = predictions.result()
    best, vectors = found.classes[:, 0], None if features is None else features.result().vectors
    ids = chosen[found.ids]
    own = best if labels is None else labels[ids]
    kept = _first(own, task.per_class) if labels is None else np.arange(len(ids))
    read = pixel_reader(source, net.inputs.size, net.inputs.channels)
    first = _without_copies(kept, ids, own, read)
    counts = {int(c): int((own[first] == c).sum()) for c in np.unique(own[first])}
    small = tuple((c, n) for c, n in counts.items() if n < LEAST)
    rows = first[~np.isin(own[first], [c for c, _ in small])]
    if len(counts) - len(small) < 2:
        raise InputError(
            f"{source.spec!r}: classes with {LEAST} images or more: {len(counts) - len(small)} of {len(counts)} "
            "(accepted: 2, so that classes can be compared)"
        )
    return Pool(
        source=source,
        ids=ids[rows],
        labels=own[rows],
        explored=_halves(own[rows], task.seed),
        right=best[rows] == own[rows],
        features=None if vectors is None else vectors[rows],
        predicted=labels is None,
        size=net.inputs.size,
        unlabeled=0 if labels is None else int((labels < 0).sum()),
        duplicates=len(kept) - len(first),
        small=small,
        unreadable=tuple(f"{one.name}: {one.reason}" for one in report.skipped),
        _read=read,
    )


def _labels(net: Network, source: ImageSource) -> np.ndarray:
    """(N,), -1 for an image without a label."""
    names = net.head.labels
    if not of_network(source, names):
        classes = class_names(source) or []
        raise InputError(
            f"{source.spec!r} is labeled with other classes ({', '.join(classes[:3])}, {len(classes)} in all) than "
            f"{net.name} ({', '.join(names[:3])}, {len(names)} in all) (accepted: the network's classes in its order, "
            "or its predictions in place of labels: --predicted)"
        )
    return np.array([-1 if one is None else one for one in source.labels or ()], dtype=np.int64)


def _first(labels: np.ndarray, per_class: int | None) -> np.ndarray:
    """The places of the first `per_class` images of each class, in order; without those that have no label."""
    seen: dict[int, int] = defaultdict(int)
    kept = []
    for i, label in enumerate(labels.tolist()):
        if label >= 0 and (per_class is None or seen[label] < per_class):
            seen[label] += 1
            kept.append(i)
    return np.array(kept, dtype=np.int64)


def _features(net: Network) -> Features | None:
    try:
        return Features(net.layers.features().name)
    except InputError:
        return None


def _without_copies(rows: np.ndarray, ids: np.ndarray, labels: np.ndarray, read: Callable[[int], Tensor]) -> np.ndarray:
    """The rows whose pixels no earlier row of their class has: else both halves would hold the same image."""
    seen = set()
    kept = []
    for row in rows.tolist():
        key = int(labels[row]), hashlib.sha256(read(int(ids[row])).numpy().tobytes()).digest()
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _halves(labels: np.ndarray, seed: int) -> np.ndarray:
    explored = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        explored[rows[: len(rows) // 2]] = True
    return explored

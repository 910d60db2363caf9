"""How well an image's class can be told from the classes of its nearest neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.analysis.nearest import INDEX_ABOVE, Search, search
from netloupe.core.numbers import spread
from netloupe.core.watch import SILENT, Watch

ASKED = 10_000  # at most so many images are asked for, evenly spread; all are answers
ASKED_OF_INDEX = 1_000  # the same where an index answers


@dataclass(frozen=True)
class Votes:
    """accuracy: the share of `asked` images whose class is that of most of their k nearest others, in [0, 1].

    alone: classes with one image, which no neighbor can name; those images are not asked. found: how the neighbors
    were searched for.
    """

    accuracy: float
    k: int
    asked: int
    alone: int
    found: Search

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        return {"accuracy": self.accuracy, "k": self.k, "images": self.asked, "classes_of_one_image": self.alone} | (
            self.found.summary()
        )


def vote(
    vectors: np.ndarray,
    labels: Sequence[int | None],
    k: int,
    *,
    metric: str = "l2",
    watch: Watch = SILENT,
) -> Votes | None:
    """Leave-one-out accuracy of the k nearest neighbors among `vectors` (n, d) with their labels, None for unknown.

    An image has the class of most of its k nearest others; of classes with equally many the one that comes first.
    Equal distances go to the earlier vector. k is lowered to what there is. None where no class has two images.
    """
    known = np.array([i for i, label in enumerate(labels) if label is not None], dtype=np.int64)
    classes = np.array([labels[i] for i in known], dtype=np.int64)
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[place] > 1)
    if len(several) == 0:
        return None
    most = min(len(several), ASKED if len(known) <= INDEX_ABOVE else ASKED_OF_INDEX)
    asked = several[spread(0, len(several) - 1, most, down=True)]
    k = min(k, len(known) - 1)
    base = vectors[known]
    watch = watch.named("accuracy")
    near, found = search(base[asked], base, np.arange(len(known)), k, metric=metric, exclude=asked, watch=watch)
    right = sum(_winner(place[row[row >= 0]]) == own for row, own in zip(near.ids, place[asked], strict=True))
    return Votes(round(float(right / len(asked)), 6), k, len(asked), int((counts == 1).sum()), found)


def _winner(classes: np.ndarray) -> int:
    """The most frequent class; of equally frequent ones the one that comes first."""
    counts = np.bincount(classes)
    return int(next(c for c in classes if counts[c] == counts.max()))

"""Where the attribution mass of a class lies that the other classes' does not: boxes of a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

GRID = 8  # cells a side
LARGEST = 9  # cells of a box that is proposed: 3 x 3, or a strip along an edge
LARGEST_GROWN = 16  # cells of the same box with a border of one cell
OVERLAP = 0.5  # of two proposals of a class, at most: intersection over union

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Proposal:
    """A box of cells (top, left, bottom, right) with its excess of attribution.

    own, others: the mean share of the attribution inside, in [0, 1]. z: their difference in standard errors.
    """

    box: Box
    own: float
    others: float
    z: float


def shares(importance: Tensor) -> np.ndarray:
    """(N, 64): which share of each map's evidence, its positive part, lies in each cell, in rows from the top left.

    importance: (N, H, W). NaN for a map that is not finite or nowhere positive.
    """
    cells = torch.nn.functional.adaptive_avg_pool2d(importance.detach().double().clamp(min=0)[:, None], GRID)
    flat = cells.flatten(1).cpu().numpy()
    total = flat.sum(1, keepdims=True)
    good = np.isfinite(total) & (total > 0)
    found: np.ndarray = np.where(good, flat / np.where(good, total, 1), np.nan)
    return found


@cache
def boxes() -> tuple[Box, ...]:
    """Every box of up to LARGEST cells."""
    spans = [(a, b) for a in range(GRID) for b in range(a + 1, GRID + 1)]
    found = [(top, left, bottom, right) for top, bottom in spans for left, right in spans]
    return tuple(box for box in found if area(box) <= LARGEST)


@cache
def _members() -> np.ndarray:
    """(64, boxes): 1 where a cell lies in a box."""
    found = np.zeros((len(boxes()), GRID, GRID))
    for one, (top, left, bottom, right) in zip(found, boxes(), strict=True):
        one[top:bottom, left:right] = 1
    return found.reshape(len(boxes()), -1).T


def in_boxes(cells: np.ndarray) -> np.ndarray:
    """(N, boxes): the share of each map inside each box, for `shares` (N, 64)."""
    found: np.ndarray = cells @ _members()
    return found


def excess(inside: np.ndarray, labels: np.ndarray, label: int, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """(own, others, z), one of each for every column of `inside` (N, columns).

    own is the mean over `rows`, which are of class `label`; others the mean of the other classes' means; z = (own -
    others) / sqrt(W / n + B), with W the mean variance within classes and B the variance of the other classes' means.
    So a class stands out where it differs more than the others differ from each other. Without other classes others is
    own, and z 0.
    """
    groups = [inside[labels == c] for c in np.unique(labels)]
    within = np.mean([group.var(0) for group in groups], axis=0)
    own = inside[rows].mean(0)
    means = np.stack([inside[labels == c].mean(0) for c in np.unique(labels) if c != label] or [own])
    others = means.mean(0)
    spread = np.sqrt(within / len(rows) + means.var(0) + 1e-12)
    return own, others, (own - others) / spread


def propose(
    inside: np.ndarray, labels: np.ndarray, label: int, groups: Sequence[np.ndarray], count: int
) -> list[Proposal]:
    """Up to `count` boxes with the largest z, of all images of a class or of a group of them, that hardly overlap.

    And one more, where the class's evidence is densest whatever the other classes' is: of two classes, what speaks for
    one speaks against the other, and unsigned maps are the same for both.
    inside: `in_boxes` of the images that are looked at. groups: rows of the class, one array for each, all of it first.
    """
    found: list[Proposal] = []
    for rows in groups:
        own, others, z = excess(inside, labels, label, rows)
        best = np.argsort(-z, kind="stable")[:40]
        found += [Proposal(boxes()[i], float(own[i]), float(others[i]), float(z[i])) for i in best]
    own, others, z = excess(inside, labels, label, groups[0])
    chosen: list[Proposal] = []
    i = _densest(inside[groups[0]])
    densest = Proposal(boxes()[i], float(own[i]), float(others[i]), float(z[i]))
    for one, most in [*((one, count) for one in sorted(found, key=lambda p: -p.z)), (densest, count + 1)]:
        if len(chosen) < most and all(_alike(one.box, other.box) <= OVERLAP for other in chosen):
            chosen.append(one)
    return chosen


def _densest(inside: np.ndarray) -> int:
    """The box whose share of the attribution is most standard errors above its share of the area."""
    even = np.array([area(box) for box in boxes()]) / GRID**2
    error = np.sqrt((inside.var(0) + even * (1 - even) / GRID**2) / len(inside))
    return int(((inside.mean(0) - even) / error).argmax())


def _alike(a: Box, b: Box) -> float:
    return shared(a, b) / (area(a) + area(b) - shared(a, b))


def area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a: Box, b: Box) -> int:
    """The area that lies in both."""
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0, high) * max(0, wide)


def grown(box: Box) -> Box:
    """The box with a border of one cell; as it is where that would be too large.

    The strongest attribution covers part of a mark only.
    """
    top, left, bottom, right = box
    larger = max(0, top - 1), max(0, left - 1), min(GRID, bottom + 1), min(GRID, right + 1)
    return larger if area(larger) <= LARGEST_GROWN else box


def elsewhere(box: Box, count: int, seed: Sequence[int]) -> list[Box]:
    """`count` boxes of the same size at random places, as far outside of `box` as there is room."""
    high, wide = box[2] - box[0], box[3] - box[1]
    places = [(y, x, y + high, x + wide) for y in range(GRID - high + 1) for x in range(GRID - wide + 1)]
    least = min(shared(box, one) for one in places)
    free = [one for one in places if shared(box, one) == least]
    rng = np.random.default_rng(list(seed))
    return [free[i] for i in rng.choice(len(free), count, replace=len(free) < count)]


def in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """The box in px of an image (height, width), at least one px a side."""
    top, left, bottom, right = (round(v * size[i % 2] / GRID) for i, v in enumerate(box))
    return top, left, max(bottom, top + 1), max(right, left + 1)


def place_words(box: Box) -> str:
    """Where a box lies, in words."""
    y, x = (box[0] + box[2]) / 2 / GRID, (box[1] + box[3]) / 2 / GRID
    row = "top" if y < 0.375 else "bottom" if y > 0.625 else ""
    column = "left" if x < 0.375 else "right" if x > 0.625 else ""
    if row and column:
        return f"the {row} {column} corner"
    if row or column:
        return f"the {row or column} edge" if _at_edge(box) else f"the {row or column}"
    return "the middle"


def _at_edge(box: Box) -> bool:
    return box[0] == 0 or box[1] == 0 or box[2] == GRID or box[3] == GRID

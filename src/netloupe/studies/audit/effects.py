"""What hiding a place of an image, or carrying it into another, does to the probability of a class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from netloupe.core.blur import blurred
from netloupe.core.network import Network
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.places import Box, elsewhere, in_pixels
from netloupe.studies.audit.record import Change, Contrast

CONTROLS = 2  # boxes of the same size elsewhere, of every image
OTHERS = 64  # images of all classes that a class is compared with
BATCH = 32
FLOOR = 0.01  # the least standard deviation of a probability that a test assumes


def filled(images: Tensor, box: Box) -> Tensor:
    """Images (N, C, H, W) with the box (px) filled from around it: a Gaussian mean of the pixels outside.

    The standard deviation is half of the box's longer side, so no edge of the box stays in the middle of an image.
    """
    top, left, bottom, right = box
    mask = torch.ones_like(images[:1, :1])
    mask[..., top:bottom, left:right] = 0
    sigma = max(bottom - top, right - left) / 2
    weight = blurred(mask, sigma).clamp(min=1e-6)
    return torch.where(mask > 0, images, blurred(images * mask, sigma) / weight)


def pasted(images: Tensor, donors: Tensor, box: Box) -> Tensor:
    """Images with the content of a box (px) from donors of the same shape."""
    top, left, bottom, right = box
    found = images.clone()
    found[..., top:bottom, left:right] = donors[..., top:bottom, left:right]
    return found


def hidden_sides(images: Tensor, boxes: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) with only their objects, and without; boxes (N, 4) in px, color (C,)."""
    mask = inside(boxes, (images.shape[2], images.shape[3]))[:, None]
    blank = color.view(1, -1, 1, 1).expand_as(images)
    return torch.where(mask, images, blank), torch.where(mask, blank, images)


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) bool: the pixels whose middle lies in each box (top, left, bottom, right)."""
    top, left, bottom, right = boxes.view(-1, 4, 1, 1).unbind(1)
    y, x = torch.arange(size[0]).view(1, -1, 1) + 0.5, torch.arange(size[1]).view(1, 1, -1) + 0.5
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)


class Effects:
    """Measures changes image by image, each pair of image and box once."""

    def __init__(self, net: Network, pool: Pool, seed: int) -> None:
        self._net, self._pool, self._seed = net, pool, seed
        self._known: dict[tuple[int, Box], Change] = {}
        self._plain: dict[int, np.ndarray] = {}
        self._partners = self._pair(np.random.default_rng([seed, 1]))
        self.others = self._sample(np.random.default_rng([seed, 2]))

    def _pair(self, rng: np.random.Generator) -> np.ndarray:
        """For each row one of another class, from the half that is tested."""
        labels, tested = self._pool.labels, np.flatnonzero(~self._pool.explored)
        rows = [tested[labels[tested] != label] for label in self._pool.classes]
        other = dict(zip(self._pool.classes, rows, strict=True))
        return np.array([rng.choice(other[int(label)]) for label in labels])

    def _sample(self, rng: np.random.Generator) -> np.ndarray:
        """OTHERS rows of the tested half, from the classes in turn."""
        queues = [list(rng.permutation(self._pool.rows(c, explored=False))) for c in self._pool.classes]
        rng.shuffle(queues)
        turns = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
        return np.array(turns[:OTHERS])

    def partner(self, row: int) -> int:
        return int(self._partners[row])

    def probabilities(self, images: Tensor) -> np.ndarray:
        """(N, classes)."""
        return self._net.probabilities(images, BATCH).double().numpy()

    def plain(self, rows: Iterable[int]) -> np.ndarray:
        """(len(rows), classes): the probabilities of the images as they are."""
        rows = [int(row) for row in rows]
        missing = sorted(set(rows) - self._plain.keys())
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            self._plain |= dict(zip(part, self.probabilities(self._pool.images(part)), strict=True))
        return np.stack([self._plain[row] for row in rows])

    def changes(self, rows: Iterable[int], box: Box) -> list[Change]:
        """Of each row's image when `box` (cells) is hidden in it, and carried into its partner."""
        rows = [int(row) for row in rows]
        self._measure([(row, box) for row in rows])
        return [self._known[row, box] for row in rows]

    def beyond(self, rows: Iterable[int], box: Box, controls: int = CONTROLS) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) changes by the box and the means of those by `controls` other boxes of the size, for each row."""
        rows = [int(row) for row in rows]
        far = {row: elsewhere(box, controls, (self._seed, int(self._pool.ids[row]), *box)) for row in rows}
        self._measure([(row, one) for row in rows for one in (box, *far[row])])
        own = np.array([self._known[row, box] for row in rows])
        return own, np.array([np.mean([self._known[row, one] for one in far[row]], axis=0) for row in rows])

    def _measure(self, pairs: Sequence[tuple[int, Box]]) -> None:
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            self._known |= dict(zip(part, self._changes(part), strict=True))

    def _changes(self, pairs: Sequence[tuple[int, Box]]) -> list[Change]:
        rows, partners = [row for row, _ in pairs], [self.partner(row) for row, _ in pairs]
        images, targets = self._pool.images(rows), self._pool.images(partners)
        size = images.shape[2], images.shape[3]
        places = [in_pixels(box, size) for _, box in pairs]
        without = torch.cat([filled(image[None], at) for image, at in zip(images, places, strict=True)])
        carried = pasted_each(targets, images, places)
        after = self.probabilities(torch.cat([without, carried]))
        labels, each = self._pool.labels[rows], np.arange(len(rows))
        falls = self.plain(rows)[each, labels] - after[: len(rows)][each, labels]
        rises = after[len(rows) :][each, labels] - self.plain(partners)[each, labels]
        turned = after[len(rows) :].argmax(1) == labels
        return [Change(*map(float, one)) for one in zip(falls, rises, turned, strict=True)]


def pasted_each(images: Tensor, donors: Tensor, places: Sequence[Box]) -> Tensor:
    """`pasted` with a box of its own for each image."""
    each = zip(images, donors, places, strict=True)
    return torch.cat([pasted(image[None], donor[None], at) for image, donor, at in each])


def contrast(own: np.ndarray, far: np.ndarray, others: np.ndarray) -> Contrast:
    """Of changes (n,) by a box, by boxes elsewhere (n,), and others (m,): beyond in images of other classes.

    Two one-sided t tests, of own - far above 0 (paired) and above `others` (Welch); both have to hold, so p is the
    larger and `low` the lower bound.
    """
    beyond = own - far
    paired = _above(beyond, np.zeros(0))
    apart = _above(beyond, others)
    value = float(beyond.mean() - max(0.0, others.mean()))
    low, p = min(paired[0], apart[0]), max(paired[1], apart[1])
    return Contrast(float(own.mean()), float(far.mean()), float(others.mean()), value, low, p, paired[0])


def _above(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(lower bound at 95 %, p) of mean(a) - mean(b) > 0 by Welch's t test; `b` may be empty for 0."""
    parts = [max(float(one.std(ddof=1)), FLOOR) ** 2 / len(one) for one in (a, b) if len(one)]
    error = sum(parts) ** 0.5
    counts = [len(one) - 1 for one in (a, b) if len(one)]
    freedom = sum(parts) ** 2 / sum(part**2 / n for part, n in zip(parts, counts, strict=True))
    difference = float(a.mean() - (b.mean() if len(b) else 0.0))
    low = difference - float(stats.t.ppf(0.95, freedom)) * error
    return low, float(stats.t.sf(difference / error, freedom))


def above_zero(values: np.ndarray) -> tuple[float, float]:
    """(lower bound at 95 %, p) of a mean above 0, by a one-sided t test."""
    return _above(values, np.zeros(0))


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for being the several that they are (Holm 1979): their chance of any false alarm is held."""
    order = np.argsort(ps, kind="stable")
    found, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = worst
    return found

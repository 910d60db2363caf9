"""Random draws of n images per class for training, the rest for testing: the folds of Caltech-101's usual protocol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netloupe.core.errors import InputError

MOST = 50  # test images of a class, as Zeiler & Fergus (2013, section 4.3) have it


@dataclass(frozen=True)
class Fold:
    """Which images train and which test: places in the arrays of labels, ascending."""

    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Folds:
    """The folds for one number of images per class.

    classes: (K,) the classes that take part, ascending. short: class -> how many images it has, of those left out
    for having too few. same: the folds were asked for, but draw all images there are, so they would all be the same.
    """

    per_class: int
    classes: np.ndarray
    folds: tuple[Fold, ...]
    short: dict[int, int]
    same: bool


def draw_folds(
    labels: np.ndarray,
    per_class: int,
    folds: int = 5,
    *,
    test_labels: np.ndarray | None = None,
    most: int = MOST,
    seed: int = 0,
) -> Folds:
    """`folds` random draws of `per_class` training images of each class.

    labels: (N,) int, -1 for an image without one, which takes no part. test_labels: (M,), of images that are
    all for testing (up to `most` of a class, drawn once for all folds); None tests on what a fold does not train on,
    up to `most` of each class. A draw depends on the seed, the fold and the class alone, so that the training images
    for a small `per_class` are among those for a larger one.

    Classes with fewer than `per_class` training images, or without one left for the test, are left out.
    Raises InputError where fewer than two classes remain, or for numbers below 1.
    """
    for what, value in (("images per class", per_class), ("folds", folds), ("test images per class", most)):
        if value < 1:
            raise InputError(f"{value} {what} (accepted: 1 or more)")
    everyone = np.unique(labels[labels >= 0])
    counts = {int(c): int((labels == c).sum()) for c in everyone}
    tests = {c: 0 if test_labels is None else int((test_labels == c).sum()) for c in counts}
    needed = per_class + 1 if test_labels is None else per_class
    short = {c: n for c, n in counts.items() if n < needed or (test_labels is not None and tests[c] == 0)}
    kept = [c for c in counts if c not in short]
    if len(kept) < 2:
        what = f"{needed} or more" if test_labels is None else f"{needed} or more and some for testing"
        raise InputError(
            f"{len(kept)} of {len(counts)} classes have {what} images, for {per_class} per class (accepted: 2 or more)"
        )
    same = test_labels is not None and all(counts[c] == per_class for c in kept)
    drawn = [_draw(labels, per_class, fold, kept, test_labels, most, seed) for fold in range(1 if same else folds)]
    return Folds(per_class, np.array(kept), tuple(drawn), short, same and folds > 1)


def _draw(
    labels: np.ndarray,
    per_class: int,
    fold: int,
    classes: list[int],
    test_labels: np.ndarray | None,
    most: int,
    seed: int,
) -> Fold:
    train, test = [], []
    for c in classes:
        order = np.random.default_rng([seed, fold, c]).permutation(np.flatnonzero(labels == c))
        train.append(order[:per_class])
        if test_labels is None:
            test.append(order[per_class : per_class + most])
        else:
            test.append(np.random.default_rng([seed, c]).permutation(np.flatnonzero(test_labels == c))[:most])
    return Fold(np.sort(np.concatenate(train)), np.sort(np.concatenate(test)))


def class_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over classes of the share of a class's images that are predicted right, in [0, 1]."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))

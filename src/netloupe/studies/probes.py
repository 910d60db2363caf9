"""Linear probes: a linear classifier on a layer's features, logistic or support vector machine, by L-BFGS.

scikit-learn's `LogisticRegression` and `LinearSVC` reach the same optima (the tests hold it), but the latter solves a
problem of its own for each class, which takes minutes for a hundred classes on thousands of dense features. Here
both are one smooth function of all classes' weights, minimized by SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from netloupe.core.errors import InputError
from netloupe.studies.generalization.folds import class_accuracy

Kind = Literal["logistic", "svm"]
PENALTIES: dict[Kind, tuple[float, ...]] = {  # strong to weak; beside the mean loss, for features of mean square 1 / d
    "logistic": (1e-3, 1e-4, 1e-5, 1e-6),
    "svm": (1e-2, 1e-3, 1e-4, 1e-5),
}
STEPS = 100  # of L-BFGS for each penalty
TOLERANCE = 1e-5  # share of the loss below which a step ends it; a hundredth of that changes accuracies by 0.2 points
_HELD_OUT = 3  # a third of each class's training images chooses the penalty


@dataclass(frozen=True)
class Scale:
    """What standardizes features: those of the images that train have mean 0 and standard deviation 1 / sqrt(d)."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scale:
        """From (n, d) of the images that train. A feature that is the same for all of them becomes 0."""
        deviation = features.std(0, dtype=np.float64)
        mean = features.mean(0, dtype=np.float64)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
        deviation = np.where(constant, np.inf, deviation) * features.shape[1] ** 0.5
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = (features - self.mean) / self.deviation
        return scaled


@dataclass(frozen=True)
class Probe:
    """What a probe predicts, as places among the classes, and its penalty; chosen: by the images that train."""

    predicted: np.ndarray
    penalty: float
    chosen: bool


def probe(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    kind: Kind,
    penalties: Sequence[float] | None = None,
) -> Probe:
    """A linear classifier of features (n, d) with `labels` (n,) from 0 to K - 1, applied to `test` (m, d).

    Means, deviations and the penalty come from the training images alone: of each class a third of them judges
    the penalties by class accuracy (the stronger of equals wins), then all of them train. With one image of a
    class there is no third, and the middle penalty is taken. Raises InputError for features that are not finite.
    """
    for what, values in (("training", train), ("test", test)):
        if not np.isfinite(values).all():
            raise InputError(f"{int((~np.isfinite(values)).sum())} of the {what} features are not finite")
    scale = Scale.of(train)
    train, test = scale(train), scale(test)
    if train.shape[1] > len(train):  # turned so that the training images fill the first n axes: distances stay
        axes = np.linalg.qr(train.T)[0]
        train, test = train @ axes, test @ axes
    penalties = PENALTIES[kind] if penalties is None else penalties
    held = _held_out(labels)
    classes = int(labels.max()) + 1
    chosen = len(penalties) > 1 and bool(held.any())
    penalty, start = penalties[len(penalties) // 2], None
    if chosen:
        path = fit_path(train[~held], labels[~held], classes, kind, penalties)
        scores = [class_accuracy(labels[held], scores_of(train[held], w).argmax(1)) for w in path]
        best = int(np.argmax(scores))
        penalty, start = penalties[best], path[best]
    weights = fit_path(train, labels, classes, kind, [penalty], start=start)[0]
    return Probe(scores_of(test, weights).argmax(1), penalty, chosen)


def scores_of(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, K): features (n, d) times weights (d + 1, K), whose last row is the bias."""
    found: np.ndarray = features @ weights[:-1] + weights[-1]
    return found


def fit_path(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    kind: Kind,
    penalties: Sequence[float],
    *,
    start: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    steps: int = STEPS,
) -> list[np.ndarray]:
    """Weights (d + 1, K) float32 for each penalty, each starting from those of the one before, the first from `start`.

    Minimized: the mean over images of the loss, plus half the penalty times the squared weights (not the biases).
    logistic: cross-entropy of the softmax. svm: the squared hinge of each class against the rest, summed over classes.
    """
    from scipy.optimize import minimize

    loss = {"logistic": _cross_entropy, "svm": _squared_hinge}[kind]
    extended = np.concatenate([features, np.ones((len(features), 1), features.dtype)], 1)
    hot = np.zeros((len(labels), classes), extended.dtype)
    hot[np.arange(len(labels)), labels] = 1
    weights = np.zeros((extended.shape[1], classes)) if start is None else start.astype(np.float64)
    found = []
    for penalty in penalties:

        def value(flat: np.ndarray, penalty: float = penalty) -> tuple[float, np.ndarray]:
            now = flat.reshape(-1, classes)
            mean, slope = loss(extended @ now.astype(extended.dtype), hot)
            gradient = (extended.T @ slope).astype(np.float64)
            gradient[:-1] += penalty * now[:-1]
            return mean + penalty / 2 * float((now[:-1] ** 2).sum()), gradient.ravel()

        options = {"maxiter": steps, "ftol": tolerance, "gtol": 1e-6}
        minimized: Any = minimize(value, weights.ravel(), jac=True, method="L-BFGS-B", options=options)
        weights = minimized.x.reshape(-1, classes)
        found.append(weights.astype(np.float32))
    return found


_Loss = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def _cross_entropy(scores: np.ndarray, hot: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean loss and its derivative by the scores (n, K)."""
    shifted = scores - scores.max(1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(1, keepdims=True)
    loss = float((np.log(sums[:, 0]) - (shifted * hot).sum(1)).mean(dtype=np.float64))
    return loss, (exponentials / sums - hot) / len(scores)


def _squared_hinge(scores: np.ndarray, hot: np.ndarray) -> tuple[float, np.ndarray]:
    signs = 2 * hot - 1
    lacking = np.maximum(1 - signs * scores, 0)
    return float((lacking**2).sum(dtype=np.float64)) / len(scores), -2 * signs * lacking / len(scores)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """(n,) bool: a third of each class's images, drawn at random, at least one; none at all if a class has but one."""
    held = np.zeros(len(labels), bool)
    generator = np.random.default_rng(0)
    for c in np.unique(labels):
        places = np.flatnonzero(labels == c)
        if len(places) < 2:
            return np.zeros(len(labels), bool)
        held[generator.permutation(places)[: max(1, len(places) // _HELD_OUT)]] = True
    return held

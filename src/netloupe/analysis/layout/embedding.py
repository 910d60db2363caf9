"""Vectors laid out in two dimensions so that near ones stay near: PCA, t-SNE, UMAP, and new ones placed among them."""

from __future__ import annotations

import hashlib
import importlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from netloupe.analysis.layout.task import METHODS
from netloupe.core.errors import InputError, unknown
from netloupe.core.watch import SILENT, Part, Watch

COMPONENTS = 50  # principal components that t-SNE and UMAP start from
LEAST = {"tsne": 4, "pca": 2, "umap": 4}  # vectors that a method needs

_PERPLEXITY = 30.0
_EXAGGERATED, _PLAIN = 250, 500  # iterations of gradient descent, with attraction made stronger and without
_START = 1e-4  # standard deviation of the start's first coordinate
_EXACT = 20_000  # vectors up to which t-SNE's neighbors are exact
_DECOMPOSED = 1024  # up to this many dimensions or vectors all principal components are computed, beyond it the first
_TOGETHER = 4096  # vectors in double precision at once
_UMAP_NEIGHBORS = 15
_UMAP_DISTANCE = 0.1


@dataclass(frozen=True)
class Embedding:
    """A map of n vectors.

    points: (n, 2) float32, centered, without unit. perplexity: of t-SNE, otherwise None. about: JSON-able, all that
    was decided and found: the method with its settings, the start, the seed, `notes` in plain sentences.
    """

    points: np.ndarray
    method: str
    perplexity: float | None
    about: Mapping[str, Any]
    _place: Callable[[np.ndarray], np.ndarray] = field(repr=False, compare=False)
    _dimensions: int = field(repr=False, compare=False)

    def place(self, vectors: np.ndarray) -> np.ndarray:
        """Where new vectors (m, d) lie among the old, (m, 2) float32; the old points stay where they are.

        PCA projects. t-SNE starts each at the median of its nearest neighbors' points and moves it alone among the
        fixed points (Poličar et al. 2023); UMAP likewise from their mean. Raises InputError for another d
        or values that are not finite.
        """
        vectors = _checked(vectors)
        if vectors.shape[1] != self._dimensions:
            raise InputError(f"vectors of {vectors.shape[1]} dimensions on a map of {self._dimensions}")
        if len(vectors) == 0:
            return np.zeros((0, 2), np.float32)
        return self._place(vectors).astype(np.float32)


def embed_vectors(
    vectors: np.ndarray,
    method: str = "tsne",
    *,
    perplexity: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    watch: Watch = SILENT,
) -> Embedding:
    """A map of `vectors` (n, d), whose distances are Euclidean.

    method: "pca", the projection on the two directions of the largest variance; "tsne" (van der Maaten & Hinton 2008)
    by openTSNE, from the first 50 principal components, starting at the first two (Kobak & Berens 2019); "umap"
    (McInnes et al. 2018) from the same, which needs `pip install netloupe[umap]`. perplexity: of t-SNE, 1 or more, how
    many neighbors count; by default min(30, (n - 1) / 3), which is also the most that n vectors allow: a larger one is
    lowered, and `about["notes"]` says so. threads: by default those of torch. Equal calls give equal maps.

    Raises InputError for fewer vectors than `LEAST[method]`, vectors that are all the same, values that are not
    finite, or a missing umap-learn; UnknownName for another method.
    """
    check(method, perplexity)
    vectors = _checked(vectors)
    if len(vectors) < LEAST[method]:
        other = ", or pca" if method != "pca" and len(vectors) >= LEAST["pca"] else ""
        raise InputError(f"a map of {len(vectors)} images by {method} (accepted: {LEAST[method]} or more{other})")
    notes = _repeated(vectors)
    threads = torch.get_num_threads() if threads is None else threads
    about = {"method": method, "images": len(vectors), "dimensions": vectors.shape[1], "seed": seed}
    if method == "pca":
        return _by_pca(vectors, about, notes, seed)
    components = _principal(vectors, COMPONENTS, seed)
    start = _start(components.project(vectors), seed)
    about |= {
        "components": len(components.shares),
        "explained_variance": round(float(components.shares.sum()), 6),
        "start": "the first two principal components",
    }
    if method == "umap":
        return _by_umap(vectors, components, start, about, notes, seed)
    allowed = (len(vectors) - 1) / 3
    chosen = min(_PERPLEXITY if perplexity is None else perplexity, allowed)
    if perplexity is not None and chosen < perplexity:
        notes.append(
            f"perplexity {perplexity:g} is more than {len(vectors)} images allow; taken is (n - 1) / 3 = {chosen:.4g}"
        )
    return _by_tsne(vectors, components, start, about, notes, chosen, seed, threads, watch)


def check(method: str, perplexity: float | None) -> None:
    """Raise what `embed_vectors` raises for another method, a perplexity that can't be, or a missing umap-learn."""
    if method not in METHODS:
        raise unknown("map method", method, METHODS)
    if perplexity is not None and method != "tsne":
        raise InputError(f"perplexity {perplexity:g} for {method} (accepted: only for tsne)")
    if perplexity is not None and not (math.isfinite(perplexity) and perplexity >= 1):
        raise InputError(f"perplexity {perplexity:g} (accepted: 1 or more)")
    if method == "umap":
        _umap()


def _umap() -> Any:
    try:
        return importlib.import_module("umap")
    except ImportError:
        raise InputError("a map by umap needs umap-learn (pip install netloupe[umap]); tsne and pca don't") from None


@dataclass(frozen=True)
class _Components:
    """Principal components: `mean` (d,), `axes` (c, d) of unit length, and each one's `shares` (c,) of the variance."""

    mean: np.ndarray
    axes: np.ndarray
    shares: np.ndarray

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """(n, c) float64."""
        parts = (vectors[first : first + _TOGETHER] for first in range(0, len(vectors), _TOGETHER))
        return np.concatenate([(part.astype(np.float64) - self.mean) @ self.axes.T for part in parts])


def _principal(vectors: np.ndarray, count: int, seed: int) -> _Components:
    from sklearn.decomposition import PCA

    n, d = vectors.shape
    if min(n, d) > _DECOMPOSED:
        solver = "randomized"
    else:
        solver = "covariance_eigh" if n > d else "full"
    pca = PCA(min(count, n, d), svd_solver=solver, iterated_power=7, random_state=seed)
    pca.fit(vectors if solver == "randomized" else vectors.astype(np.float64))
    return _Components(
        pca.mean_.astype(np.float64), pca.components_.astype(np.float64), pca.explained_variance_ratio_.astype(float)
    )


def _start(projected: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2): the first two components, small, with a hundredth of noise so that equal vectors come apart."""
    start = np.zeros((len(projected), 2))
    start[:, : projected.shape[1]] = projected[:, :2]
    start *= _START / start[:, 0].std()
    return start + np.random.default_rng(seed).normal(0, _START / 100, start.shape)


def _by_pca(vectors: np.ndarray, about: dict[str, Any], notes: list[str], seed: int) -> Embedding:
    components = _principal(vectors, 2, seed)
    if len(components.shares) < 2:
        notes.append("vectors of one dimension: the second coordinate is 0")

    def place(given: np.ndarray) -> np.ndarray:
        return np.pad(components.project(given), ((0, 0), (0, 2 - len(components.shares))))

    shares = [round(float(share), 6) for share in components.shares]
    about |= {"explained_variance": shares, "notes": notes}
    return Embedding(place(vectors).astype(np.float32), "pca", None, about, place, vectors.shape[1])


def _by_tsne(
    vectors: np.ndarray,
    components: _Components,
    start: np.ndarray,
    about: dict[str, Any],
    notes: list[str],
    perplexity: float,
    seed: int,
    threads: int,
    watch: Watch,
) -> Embedding:
    from openTSNE import TSNE

    n = len(vectors)
    exact = n <= _EXACT
    fitted = TSNE(
        perplexity=perplexity,
        early_exaggeration_iter=_EXAGGERATED,
        n_iter=_PLAIN,
        initialization=start,
        neighbors="exact" if exact else "annoy",
        n_jobs=threads,
        random_state=seed,
        callbacks=_Reported(watch.part("tsne", _EXAGGERATED + _PLAIN)),
        callbacks_every_iters=25,
    ).fit(components.project(vectors))
    fitted -= (fitted.max(0) + fitted.min(0)) / 2  # as `transform` does, so that placing moves nothing
    # placing by Barnes-Hut, because interpolation stops new points at the edge of its grid
    fitted.gradient_descent_params |= {"callbacks": None, "negative_gradient_method": "bh"}
    near = min(5.0, (n - 1) / 3)  # perplexity of one new point among the old: openTSNE's own, or all there are

    def place(given: np.ndarray) -> np.ndarray:
        return np.asarray(
            fitted.transform(components.project(given), perplexity=near, k=min(25, max(1, int(3 * near))))
        )

    about |= {
        "perplexity": round(perplexity, 4),
        "iterations": [_EXAGGERATED, _PLAIN],
        "neighbors": "exact" if exact else "approximate (Annoy)",
        "kl_divergence": round(float(fitted.kl_divergence), 6),
        "made_with": f"openTSNE {version('openTSNE')}",
        "notes": notes,
    }
    return Embedding(np.array(fitted, np.float32), "tsne", perplexity, about, place, vectors.shape[1])


class _Reported:
    """openTSNE's callback: tells the iterations done, of both phases."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._before = self._last = 0

    def __call__(self, iteration: int, error: float, points: np.ndarray) -> bool:
        if iteration < self._last:
            self._before = _EXAGGERATED
        self._last = iteration
        self._part.at(self._before + iteration)
        return False  # go on


def _by_umap(
    vectors: np.ndarray,
    components: _Components,
    start: np.ndarray,
    about: dict[str, Any],
    notes: list[str],
    seed: int,
) -> Embedding:
    umap = _umap()
    neighbors = min(_UMAP_NEIGHBORS, len(vectors) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, which is meant
        fitted = umap.UMAP(
            n_neighbors=neighbors,
            min_dist=_UMAP_DISTANCE,
            init=(start * (10 / np.abs(start).max())).astype(np.float32),
            random_state=seed,
            n_jobs=1,
        ).fit(components.project(vectors).astype(np.float32))
    middle = (fitted.embedding_.max(0) + fitted.embedding_.min(0)) / 2

    def place(given: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(fitted.transform(components.project(given).astype(np.float32)) - middle)

    about |= {
        "umap_neighbors": neighbors,
        "umap_min_distance": _UMAP_DISTANCE,
        "made_with": f"umap-learn {version('umap-learn')}",
        "notes": notes,
    }
    return Embedding((fitted.embedding_ - middle).astype(np.float32), "umap", None, about, place, vectors.shape[1])


def _checked(vectors: np.ndarray) -> np.ndarray:
    """(n, d) float32. Raises InputError for another shape or values that are not finite, with the first rows."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(f"vectors of shape {vectors.shape} (accepted: (n, d) with d of 1 or more)")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        listed = ", ".join(str(i) for i in broken[:5]) + (f", ... ({len(broken)} in all)" if len(broken) > 5 else "")
        raise InputError(f"vectors with values that are not finite, in rows {listed} (accepted: finite numbers)")
    return vectors


def _repeated(vectors: np.ndarray) -> list[str]:
    """A note on vectors that are there more than once. Raises InputError if they are all the same."""
    different = len({hashlib.sha256(vector).digest() for vector in vectors})
    if different == 1:
        raise InputError(f"all {len(vectors)} vectors are the same, so there is nothing to lay out")
    more = len(vectors) - different
    return [f"{more} of {len(vectors)} vectors repeat another one exactly, and lie beside it"] if more else []

"""Groups of a class's images that are alike in where their evidence lies, or in features."""

from __future__ import annotations

import numpy as np

from netloupe.core.watch import Watch
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.record import (
    Groups,
)

MOST = 4  # groups
APART = 0.25  # mean silhouette from which groups count as such (Rousseeuw 1987)
FEWEST = 6  # vectors that are split at all


def group(vectors: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """(n,) the group of each of `vectors` (n, d), the largest first, and the mean silhouette.

    k-means with the k of 2 to MOST that has the highest mean silhouette; one group, and NaN, where that is below APART
    or there are fewer than FEWEST different vectors.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    whole = np.zeros(len(vectors), dtype=np.int64), float("nan")
    different = len(np.unique(vectors, axis=0))
    if different < FEWEST:
        return whole
    best, found = APART, whole[0]
    for k in range(2, min(MOST, different - 1) + 1):
        labels = KMeans(k, n_init=4, random_state=seed).fit_predict(vectors)
        score = float(silhouette_score(vectors, labels))
        if score >= best:
            best, found = score, labels
    if not found.any():
        return whole
    order = np.argsort(-np.bincount(found), kind="stable")
    return np.argsort(order)[found], best


def root(cells: np.ndarray) -> np.ndarray:
    """Shares (n, d) as vectors whose Euclidean distance is Hellinger's, so that few strong cells don't decide alone."""
    found: np.ndarray = np.sqrt(cells)
    return found


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Features (n, C) at length 1, so that their distance is by direction."""
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


def find_groups(pool: Pool, cells: np.ndarray, rows: np.ndarray, seed: int, watch: Watch) -> list[Groups]:
    """The groups of each class that has maps."""
    from sklearn.metrics import adjusted_rand_score

    found = []
    for label in watch.each("groups", pool.classes):
        mine = pool.labels[rows] == label
        own = rows[mine]
        if len(own):
            maps, apart = group(root(cells[mine]), seed)
            features, far = None, float("nan")
            if pool.features is not None:
                features, far = group(unit_length(pool.features[own]), seed)
            both = features is not None and maps.any() and features.any()
            agree = float(adjusted_rand_score(maps, features)) if both else float("nan")
            right = tuple(float(pool.right[own[maps == g]].mean()) for g in range(maps.max() + 1))
            found.append(Groups(label, own, maps, features, (apart, far), agree, right))
    return found

"""The attribution maps of the half of each class's images that is looked at, and groups of images alike in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from netloupe.analysis.methods import Method
from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.core.objectives import log_odds
from netloupe.core.watch import Watch
from netloupe.studies.audit.effects import inside
from netloupe.studies.audit.images import Pool
from netloupe.studies.audit.places import shares
from netloupe.studies.audit.record import Groups

BATCH = 32
MOST = 4  # groups
APART = 0.25  # mean silhouette from which groups count as such (Rousseeuw 1987)
FEWEST = 6  # vectors that are split at all


@dataclass(frozen=True)
class Explained:
    """Maps of m images. rows: (m,) of the pool. cells: (m, 64), `shares` of each map.

    within: by row, the share of the evidence in the object's box. blank: how many maps were nowhere positive and are
    left out. failed: images whose maps are not finite, with the reason.
    """

    rows: np.ndarray
    cells: np.ndarray
    within: dict[int, float]
    blank: int
    failed: list[str]


def explain_classes(net: Network, pool: Pool, method: Method, boxes: Tensor | None, watch: Watch) -> Explained:
    """Each explored image's map for its class.

    Raises NetworkError, as the method does, where it fails for every image of the first class.
    """
    done = watch.part("maps", int(pool.explored.sum()))
    kept: list[tuple[int, np.ndarray]] = []
    within: dict[int, float] = {}
    failed: list[str] = []
    for label in pool.classes:
        rows = pool.rows(label, explored=True)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            for row, found in zip(part.tolist(), explain(net, pool, method, label, part), strict=True):
                if isinstance(found, NetworkError):
                    failed.append(f"{pool.name(row)}: {found}")
                    continue
                kept.append((row, shares(found[None])[0]))
                if boxes is not None:
                    within[row] = _within(found, boxes[int(pool.ids[row])])
            done.advance(len(part))
        if not kept and failed:
            raise NetworkError(f"{method.name}: {failed[0]}")
    rows = np.array([row for row, _ in kept])
    cells = np.stack([cells for _, cells in kept])
    finite = np.isfinite(cells).all(1)
    within = {row: share for row, share in within.items() if np.isfinite(share)}
    return Explained(rows[finite], cells[finite], within, int((~finite).sum()), failed)


def explain(
    net: Network, pool: Pool, method: Method, label: int, rows: np.ndarray
) -> list[Tensor] | list[Tensor | NetworkError]:
    """A map (H, W) for each row, or why there is none: one image whose map is not finite leaves the others theirs."""
    images, objective = pool.images(rows), log_odds(label)
    try:
        return list(method.importance(method.attribution(net, images, objective)))
    except NetworkError:
        found: list[Tensor | NetworkError] = []
        for image in images:
            try:
                found.append(method.importance(method.attribution(net, image[None], objective))[0])
            except NetworkError as error:
                found.append(error)
        return found


def _within(importance: Tensor, box: Tensor) -> float:
    """The share of the evidence in a box (4,); NaN without a box or evidence."""
    positive = importance.detach().double().cpu().clamp(min=0)
    held = inside(box[None], (positive.shape[0], positive.shape[1]))[0]
    return float(positive[held].sum() / positive.sum()) if bool(box.isfinite().all()) else float("nan")


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

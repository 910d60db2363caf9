"""How far a map can be trusted: whether what lies together on it lay together in the space it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.core.errors import InputError
from netloupe.core.numbers import spread

ASKED = 1_000  # at most so many images are asked, evenly spread, for their ranks among all


@dataclass(frozen=True)
class Quality:
    """Of the k nearest neighbors of `asked` images.

    trustworthiness: in [0, 1], 1 if no image is near on the map that was far in the space (Venna & Kaski 2001).
    kept: the share of the nearest in the space that are among the nearest on the map; chance: of a random map.
    """

    k: int
    asked: int
    trustworthiness: float
    kept: float
    chance: float

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "k": self.k,
            "images": self.asked,
            "trustworthiness": round(self.trustworthiness, 6),
            "neighbors_kept": round(self.kept, 6),
            "neighbors_kept_by_chance": round(self.chance, 6),
        }


def map_quality(vectors: np.ndarray, points: np.ndarray, k: int = 10) -> Quality | None:
    """Compare neighbors among `vectors` (n, d) and among `points` (n, 2).

    Trustworthiness is T(k) = 1 - 2 / (n k (2 n - 3 k - 1)) sum_i sum_j (r(i, j) - k), over those j among the k
    nearest of i on the map whose rank r in the space is beyond k (Venna & Kaski 2001, equation 2); the sum over i is
    estimated from up to 1,000 images. Equal distances rank by place. k is lowered to what n allows, less than n / 2;
    None for fewer than 4 vectors. Raises InputError if the lengths differ.
    """
    if len(vectors) != len(points):
        raise InputError(f"{len(points)} points for {len(vectors)} vectors (accepted: as many)")
    n = len(vectors)
    k = min(k, (n - 1) // 2)
    if k < 1 or n < 4:
        return None
    asked = np.array(spread(0, n - 1, ASKED, down=True))
    excess, kept = 0.0, 0
    space, plane = vectors.astype(np.float64), points.astype(np.float64)
    lengths = (space**2).sum(1), (plane**2).sum(1)
    for start in range(0, len(asked), 128):
        rows = asked[start : start + 128]
        ranks = _ranks(_squared(space, lengths[0], rows), rows)
        near = np.argpartition(_ranks(_squared(plane, lengths[1], rows), rows), k, axis=1)[:, : k + 1]
        of_near = np.take_along_axis(ranks, near, 1)  # the image itself has rank 0 in both
        excess += float(np.maximum(of_near - k, 0).sum())
        kept += int(((of_near >= 1) & (of_near <= k)).sum())
    share = excess / len(asked)
    trusted = 1 - 2 / (k * (2 * n - 3 * k - 1)) * share
    return Quality(k, len(asked), trusted, kept / (len(asked) * k), k / (n - 1))


def _squared(vectors: np.ndarray, lengths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(m, n) squared distances from some of the vectors to all."""
    return np.asarray(lengths[rows, None] + lengths[None] - 2 * vectors[rows] @ vectors.T)


def _ranks(squares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(m, n) the rank of each by distance, 0 for the image itself."""
    squares[np.arange(len(rows)), rows] = -np.inf
    order = np.argsort(squares, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(squares.shape[1])[None], 1)
    return ranks

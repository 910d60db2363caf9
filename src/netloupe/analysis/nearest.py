"""Which of many vectors lie nearest to some, exactly or by an index where there are very many; and what they vote."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from netloupe.core.errors import InputError, unknown
from netloupe.core.numbers import spread
from netloupe.core.watch import SILENT, Watch
from netloupe.data.tables import lance

METRICS = ("l2", "cosine")
INDEX_ABOVE = 100_000  # vectors up to which the search is exact
ASKED = 10_000  # at most so many images are asked for, evenly spread; all are answers
ASKED_OF_INDEX = 1_000  # the same where an index answers

_BLOCK = 256  # queries at a time
_MARGIN = 16  # candidates beyond k, for the rounding of the first look
_PROBED = 32  # partitions of the index that are searched
CHECKED = 200  # queries by which its recall is measured


@dataclass(frozen=True)
class Nearest:
    """For each of N queries its k nearest images: `ids` (N, k) and `distances` (N, k), nearest first.

    Distances are Euclidean, or 1 - cosine. Where there are fewer than k, the rest has id -1 and distance inf.
    """

    ids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Search:
    """How neighbors were found: `exact`, or by an index that found the share `recall` of the true ones."""

    exact: bool
    recall: float | None = None

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        if self.exact:
            return {"search": "exact"}
        return {"search": "index", "recall": self.recall}


def search(
    queries: np.ndarray,
    vectors: np.ndarray,
    ids: np.ndarray,
    k: int,
    *,
    metric: str = "l2",
    exclude: np.ndarray | None = None,
    index_above: int = INDEX_ABOVE,
    watch: Watch = SILENT,
) -> tuple[Nearest, Search]:
    """As `nearest`, and how it was found: exactly among up to `index_above` vectors, by an index among more.

    The recall of the index is measured on up to 200 of the queries, evenly spread, against the exact search.
    """
    if len(vectors) <= index_above:
        return nearest(queries, vectors, ids, k, metric=metric, exclude=exclude, watch=watch), Search(True)
    check(k, metric)
    with tempfile.TemporaryDirectory(prefix="netloupe-index-") as folder:
        index = Index.of(folder, ids, _prepared(vectors, metric).numpy(), metric)
        found = index.nearest(_prepared(queries, metric).numpy(), k, exclude=exclude, watch=watch)
    some = np.array(spread(0, len(queries) - 1, CHECKED, down=True))
    true = nearest(queries[some], vectors, ids, k, metric=metric, exclude=None if exclude is None else exclude[some])
    return found, Search(False, round(recall(found.ids[some], true.ids), 4))


def recall(found: np.ndarray, true: np.ndarray) -> float:
    """The share of the ids in `true` (N, k), -1 for none, that stand in the same row of `found`."""
    hits = [np.isin(row[row >= 0], got).sum() for row, got in zip(true, found, strict=True)]
    return float(sum(hits) / max(1, int((true >= 0).sum())))


def nearest(
    queries: np.ndarray,
    vectors: np.ndarray,
    ids: np.ndarray,
    k: int,
    *,
    metric: str = "l2",
    exclude: np.ndarray | None = None,
    within: np.ndarray | None = None,
    watch: Watch = SILENT,
) -> Nearest:
    """Brute force: the k of `vectors` (n, d) nearest to each of `queries` (N, d), ties by smaller id.

    metric: "l2", or "cosine", 1 - cos; a vector of zeros has no direction, and is at 1 from all. exclude: (N,) an id
    that does not count for each query (the image itself). within: (N,) distances beyond which none need be found, as
    where k nearer ones are known.
    """
    check(k, metric)
    order = np.argsort(ids, kind="stable")
    ids, base = ids[order], _prepared(vectors[order], metric)
    asked = _prepared(queries, metric)
    found_ids = np.full((len(queries), k), -1, dtype=np.int64)
    found = np.full((len(queries), k), np.inf, dtype=np.float32)
    middle = base.mean(0)
    centered = base - middle
    squares = centered.square().sum(1)
    part = watch.part("queries", len(queries))
    for start in range(0, len(queries), _BLOCK):
        block = asked[start : start + _BLOCK]
        left_out = None if exclude is None else torch.from_numpy(exclude[start : start + _BLOCK, None] == ids[None])
        # a first look through the dot product, whose rounding tears equal images apart, then the differences
        from_middle = block - middle
        own = from_middle.square().sum(1, keepdim=True)
        coarse = torch.addmm(squares[None] + own, from_middle, centered.T, alpha=-2)
        if metric == "cosine":
            coarse[(block == 0).all(1)[:, None] | (base == 0).all(1)[None]] = 2.0  # the square for a right angle
        if left_out is not None:
            coarse[left_out] = torch.inf
        looked = coarse.topk(min(len(ids), k + _MARGIN), dim=1, largest=False)
        candidates = looked.indices.sort(dim=1).values
        rounding = 1e-5 * (own[:, 0] + squares.max())
        limit = torch.full_like(rounding, torch.inf)
        if within is not None:
            reach = torch.from_numpy(within[start : start + _BLOCK]).float()
            limit = (reach.square() if metric == "l2" else 2 * reach) + rounding
        near = coarse.gather(1, candidates)
        if within is None:
            exact = distances(block[:, None], base[candidates], metric)
        else:
            exact = torch.full(candidates.shape, torch.inf)
            of, which = (near <= limit[:, None]).nonzero(as_tuple=True)
            exact[of, which] = distances(block[of], base[candidates[of, which]], metric)
        exact[near.isinf()] = torch.inf
        best = exact.sort(dim=1, stable=True)
        count = min(k, candidates.shape[1])
        rows = slice(start, start + len(block))
        found[rows, :count] = best.values[:, :count].numpy()
        found_ids[rows, :count] = np.where(
            np.isinf(found[rows, :count]), -1, ids[candidates.gather(1, best.indices)[:, :count].numpy()]
        )
        if candidates.shape[1] < len(ids):  # where more than the candidates are about as near as the k-th
            close = torch.minimum(looked.values[:, k - 1] + rounding, limit)
            for row in (looked.values[:, -1] <= close).nonzero()[:, 0].tolist():
                among = (coarse[row] <= close[row]).nonzero()[:, 0]
                again = distances(block[row], base[among], metric).sort(stable=True)
                found[start + row] = again.values[:k].numpy()
                found_ids[start + row] = ids[among[again.indices[:k]].numpy()]
        part.advance(len(block))
    return Nearest(found_ids, found)


def check(k: int, metric: str) -> None:
    """Raise InputError for a k below 1, UnknownName for a metric that is none."""
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)


def distances(query: torch.Tensor, others: torch.Tensor, metric: str) -> torch.Tensor:
    """(..., m) from `query` (d) or (..., 1, d) to others (..., m, d), from differences; cosine: of length 1 or 0."""
    squares = (others - query).square().sum(-1)
    if metric == "l2":
        return squares.sqrt()
    return torch.where((others == 0).all(-1) | (query == 0).all(-1), 1.0, squares / 2)


def _prepared(vectors: np.ndarray, metric: str) -> torch.Tensor:
    """As float32, and of unit length for "cosine"."""
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        length = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)
        array = (array / np.where(length > 0, length, 1)).astype(np.float32)
    return torch.from_numpy(array)


class Index:
    """LanceDB's IVF_FLAT over a table with columns `id` and `vector`, so that vectors need not be held.

    It cuts n vectors into sqrt(n) partitions, and looks through the 32 nearest to a query for candidates, whose
    distances are computed anew. metric: for "cosine" the vectors are of unit length, or 0.
    """

    def __init__(self, table: Any, metric: str = "l2") -> None:
        self._table, self._metric = table, metric

    @classmethod
    def of(cls, folder: str, ids: np.ndarray, vectors: np.ndarray, metric: str) -> Index:
        """Of vectors (n, d) float32 with ids (n,), which are written into a folder."""
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"id": pa.array(ids, pa.int64()), "vector": column})
        found = cls(lance(folder).create_table("vectors", data=rows), metric)
        found.train()
        return found

    def train(self) -> None:
        from lancedb.index import IvfFlat

        count = max(1, int(self._table.count_rows() ** 0.5))
        self._table.create_index("vector", config=IvfFlat(distance_type="l2", num_partitions=count))

    def nearest(
        self, queries: np.ndarray, k: int, *, exclude: np.ndarray | None = None, watch: Watch = SILENT
    ) -> Nearest:
        """As `nearest`, of those that the index finds."""
        found = Nearest(
            np.full((len(queries), k), -1, dtype=np.int64), np.full((len(queries), k), np.inf, dtype=np.float32)
        )
        part = watch.part("queries", len(queries))
        for start in range(0, len(queries), _BLOCK):
            block = queries[start : start + _BLOCK]
            hits: Any = self._table.search(list(block))
            answer = hits.nprobes(_PROBED).limit(k + _MARGIN).select(["id", "vector", "_distance"]).to_arrow()
            ids = answer["id"].to_numpy()
            vectors = answer["vector"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1)
            of = answer["query_index"].to_numpy() if len(block) > 1 else np.zeros(len(ids), np.int64)
            for row, query in enumerate(block):
                those = np.flatnonzero((of == row) & (True if exclude is None else ids != exclude[start + row]))
                those = those[np.argsort(ids[those])]
                far = distances(torch.from_numpy(query), torch.from_numpy(vectors[those]), self._metric)
                best = far.sort(stable=True)
                count = min(k, len(those))
                found.distances[start + row, :count] = best.values[:count].numpy()
                found.ids[start + row, :count] = ids[those[best.indices[:count].numpy()]]
            part.advance(len(block))
        return found


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

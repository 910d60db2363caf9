"""Nearest vectors, exactly and by an index, and what they tell of an image's class."""

from __future__ import annotations

import numpy as np
import pytest

from netloupe.analysis.nearest import nearest, recall, search, vote
from netloupe.core.errors import InputError, UnknownName


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    lengths = float(np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
    return 1.0 if lengths == 0 else 1 - float((a * b).sum()) / lengths


def test_cosine_against_float64_loops() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5))
    vectors[10], vectors[20] = 0, 3 * vectors[4]  # without a direction; of the same
    near = nearest(vectors[:12], vectors, np.arange(60), 6, metric="cosine")
    for q in range(12):
        by_hand = [round(cosine_distance(vectors[q], other), 6) for other in vectors]
        order = sorted(range(60), key=lambda j: (by_hand[j], j))[:6]
        assert near.distances[q] == pytest.approx([by_hand[j] for j in order], abs=2e-6)
        assert near.ids[q].tolist() == order
    assert near.ids[4, :2].tolist() == [4, 20]
    assert near.distances[10].tolist() == [1.0] * 6


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_many_equal_vectors_come_by_smaller_id(metric: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 4)).astype(np.float32) + 50
    vectors[100:200] = vectors[5]
    vectors[200:260] = 0
    near = nearest(vectors[[5, 210]], vectors, np.arange(300)[::-1].copy(), 8, metric=metric)
    assert near.ids[0].tolist() == list(range(100, 108))  # of ids 100 to 199 and 294
    assert near.distances[0].tolist() == pytest.approx([0] * 8, abs=1e-6)
    # equal to it; by cosine vectors of zeros are as far as all
    assert near.ids[1].tolist() == (list(range(40, 48)) if metric == "l2" else list(range(8)))


def test_far_from_zero_the_order_is_still_right() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(400, 6)) * 1e-3 + 100).astype(np.float32)
    near = nearest(vectors[:5], vectors, np.arange(400), 5)
    for q in range(5):
        by_hand = ((vectors[q].astype(np.float64) - vectors.astype(np.float64)) ** 2).sum(1) ** 0.5
        assert near.ids[q].tolist() == sorted(range(400), key=lambda j: (by_hand[j], j))[:5]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_part_by_part_within_what_is_known_finds_what_all_at_once_does(metric: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(600, 5)).astype(np.float32)
    vectors[100:140] = vectors[7]  # more equals than candidates are looked at
    vectors[333] = 0
    whole = nearest(vectors[:20], vectors, np.arange(600), 6, metric=metric, exclude=np.arange(20))
    ids, far, computed = np.zeros((20, 0), int), np.zeros((20, 0), np.float32), 0
    for first in range(0, 600, 150):
        some = np.arange(first, first + 150)
        within = far[:, -1] if first else None
        found = nearest(vectors[:20], vectors[some], some, 6, metric=metric, exclude=np.arange(20), within=within)
        computed += int((found.ids >= 0).sum())
        ids, far = np.hstack([ids, found.ids]), np.hstack([far, found.distances])
        order = np.argsort(far, axis=1, kind="stable")[:, :6]
        ids, far = np.take_along_axis(ids, order, 1), np.take_along_axis(far, order, 1)
    assert np.array_equal(ids, whole.ids)
    assert far == pytest.approx(whole.distances, abs=1e-6)
    assert ids[7].tolist() == list(range(100, 106))
    assert computed < 20 * 6 * 3  # of 20 * 6 * 4: it left out what lies farther


def test_the_index_finds_nearly_all_and_its_recall_is_measured() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 8)).astype(np.float32)
    ids = rng.permutation(5000)[:3000]
    exact, how = search(vectors[:40], vectors, ids, 5, exclude=ids[:40])
    assert how.summary() == {"search": "exact"}
    found, how = search(vectors[:40], vectors, ids, 5, exclude=ids[:40], index_above=2999)
    assert not how.exact
    assert how.recall == pytest.approx(recall(found.ids, exact.ids), abs=1e-4)
    assert 0.9 < how.recall <= 1
    assert (found.ids != ids[:40, None]).all()
    same = found.ids == exact.ids
    assert np.allclose(found.distances[same], exact.distances[same])
    one, _ = search(vectors[:1], vectors, ids, 5, metric="cosine", index_above=100)
    assert one.ids[0, 0] == ids[0]


def test_recall_counts_what_was_found() -> None:
    assert recall(np.array([[1, 2], [3, -1]]), np.array([[2, 9], [3, -1]])) == pytest.approx(2 / 3)


def test_votes_against_loops() -> None:
    rng = np.random.default_rng(0)
    labels = [int(c) if c < 5 else None for c in rng.integers(0, 6, size=80)]
    labels[0], labels[1] = 7, 8  # classes of one image
    vectors = rng.normal(size=(80, 3)) + np.array([0 if c is None else c for c in labels])[:, None]
    found = vote(vectors, labels, 4)
    assert found is not None
    right = asked = 0
    for i in range(2, 80):
        if labels[i] is None:
            continue
        asked += 1
        others = [j for j in range(80) if j != i and labels[j] is not None]
        near = sorted(others, key=lambda j: float(((vectors[i] - vectors[j]) ** 2).sum()))[:4]
        votes = [labels[j] for j in near]
        right += next(c for c in votes if votes.count(c) == max(map(votes.count, votes))) == labels[i]
    assert (found.asked, found.alone, found.k) == (asked, 2, 4)
    assert found.accuracy == pytest.approx(right / asked, abs=1e-6)
    assert 0.3 < found.accuracy < 0.95


def test_votes_of_few() -> None:
    assert vote(np.eye(3), [0, 1, None], 5) is None
    found = vote(np.array([[0.0], [0.1], [5.0]]), [0, 0, 1], 9)
    assert found is not None
    assert (found.k, found.asked, found.alone, found.accuracy) == (2, 2, 1, 1.0)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="k is 0"):
        nearest(np.eye(2), np.eye(2), np.arange(2), 0)
    with pytest.raises(UnknownName, match="no metric 'cosin'; did you mean 'cosine'"):
        nearest(np.eye(2), np.eye(2), np.arange(2), 1, metric="cosin")

"""Vectors laid out in two dimensions: PCA, t-SNE and UMAP, and how far the map can be trusted."""

from __future__ import annotations

import importlib.util
import json
import os
import sys

import numpy as np
import pytest

from netloupe.analysis.layout.embedding import embed_vectors
from netloupe.analysis.layout.quality import map_quality
from netloupe.core.errors import InputError, UnknownName
from watch_helpers import Recorder

HAS_UMAP = importlib.util.find_spec("umap") is not None


def clusters(count: int = 60, dimensions: int = 12, groups: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated Gaussian clusters (n, d), and the cluster of each."""
    rng = np.random.default_rng(seed)
    which = np.arange(count) % groups
    return (rng.normal(size=(groups, dimensions)) * 8)[which] + rng.normal(size=(count, dimensions)), which


def test_pca_is_the_projection_on_the_largest_eigenvectors() -> None:
    vectors, _ = clusters()
    made = embed_vectors(vectors, "pca")
    centered = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh(centered.T @ centered)
    for axis in range(2):
        expected = centered @ axes[:, -1 - axis]
        got = made.points[:, axis]
        assert min(np.abs(got - expected).max(), np.abs(got + expected).max()) < 1e-3
        assert np.abs(expected).max() > 1
    assert made.about["explained_variance"] == pytest.approx((values[::-1] / values.sum())[:2], abs=1e-5)
    assert made.perplexity is None
    other = np.random.default_rng(1).normal(size=(3, 12))
    signs = np.sign((made.points * (centered @ axes[:, [-1, -2]])).sum(0))
    assert np.allclose(made.place(other), signs * ((other - vectors.mean(0)) @ axes[:, [-1, -2]]), atol=1e-3)


def test_tsne_keeps_clusters_is_seeded_and_places_new_vectors_alone() -> None:
    vectors, which = clusters(90)
    watch = Recorder()
    made = embed_vectors(vectors[:80], watch=watch)
    assert made.method == "tsne"
    assert made.perplexity == pytest.approx(79 / 3)
    assert made.points.dtype == np.float32
    assert watch.told == [("tsne", done, 750) for done in range(0, 751, 25)]
    assert np.isfinite(made.about["kl_divergence"])
    json.dumps(made.about)
    middles = np.stack([made.points[which[:80] == c].mean(0) for c in range(3)])
    assert (((made.points[:, None] - middles) ** 2).sum(2).argmin(1) == which[:80]).all()
    before = made.points.copy()
    placed = made.place(vectors[80:])
    assert (((placed[:, None] - middles) ** 2).sum(2).argmin(1) == which[80:]).all()
    assert np.abs(made.place(vectors[83:84])[0] - placed[3]).max() < 1e-4  # whoever else is placed
    assert (made.points == before).all()
    again = embed_vectors(vectors[:80])
    assert (again.points == made.points).all()
    assert (again.place(vectors[80:]) == placed).all()
    assert (embed_vectors(vectors[:80], seed=1).points != made.points).any()


def test_perplexity_is_lowered_to_what_the_count_allows_and_that_is_said() -> None:
    vectors, _ = clusters(13)
    made = embed_vectors(vectors, perplexity=30)
    assert made.perplexity == pytest.approx(4)
    assert made.about["notes"] == ["perplexity 30 is more than 13 images allow; taken is (n - 1) / 3 = 4"]
    assert embed_vectors(vectors, perplexity=2.5).perplexity == 2.5
    assert embed_vectors(vectors).about["notes"] == []


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_repeated_vectors_lie_together(method: str) -> None:
    vectors, _ = clusters(40)
    vectors[30:] = vectors[7]
    made = embed_vectors(vectors, method)
    assert made.about["notes"] == ["10 of 40 vectors repeat another one exactly, and lie beside it"]
    assert np.isfinite(made.points).all()
    same = np.array([7, *range(30, 40)])
    within = np.ptp(made.points[same], axis=0).max()
    assert within < 0.35 * np.ptp(made.points, axis=0).max()


def test_few_vectors() -> None:
    vectors, _ = clusters(6)
    assert np.isfinite(embed_vectors(vectors[:4]).points).all()
    assert np.isfinite(embed_vectors(vectors[:2], "pca").points).all()
    one = embed_vectors(vectors[:, :1], "pca")
    assert (one.points[:, 1] == 0).all()
    assert "one dimension" in one.about["notes"][0]
    assert embed_vectors(vectors, "pca").place(np.zeros((0, 12))).shape == (0, 2)


@pytest.mark.parametrize(
    ("vectors", "options", "error", "message"),
    [
        (clusters()[0], {"method": "tsn"}, UnknownName, "no map method 'tsn'; did you mean 'tsne'"),
        (clusters()[0], {"perplexity": 0.5}, InputError, r"perplexity 0.5 \(accepted: 1 or more\)"),
        (clusters()[0], {"perplexity": float("nan")}, InputError, "perplexity nan"),
        (clusters()[0], {"perplexity": 5, "method": "pca"}, InputError, "perplexity 5 for pca"),
        (clusters(3)[0], {}, InputError, r"3 images by tsne \(accepted: 4 or more, or pca\)"),
        (clusters(1)[0], {"method": "pca"}, InputError, "1 images by pca"),
        (np.ones((9, 4)), {}, InputError, "all 9 vectors are the same"),
        (np.ones((9, 4)), {"method": "pca"}, InputError, "all 9 vectors are the same"),
        (np.where(np.eye(9, 4) > 0, np.nan, 1.0), {}, InputError, "not finite, in rows 0, 1, 2, 3"),
        (np.ones(9), {}, InputError, r"shape \(9,\)"),
        (np.ones((9, 0)), {}, InputError, r"shape \(9, 0\)"),
    ],
)
def test_what_can_not_be_laid_out(
    vectors: np.ndarray, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        embed_vectors(vectors, **options)  # type: ignore[arg-type]


def test_what_can_not_be_placed() -> None:
    made = embed_vectors(clusters()[0], "pca")
    with pytest.raises(InputError, match="vectors of 5 dimensions on a map of 12"):
        made.place(np.ones((2, 5)))
    with pytest.raises(InputError, match="not finite, in rows 1"):
        made.place(np.array([np.ones(12), np.full(12, np.inf)]))


@pytest.mark.parametrize("count", [4, 6, 9])
def test_placing_among_few_is_silent(count: int, caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 5))
    made = embed_vectors(vectors)
    assert np.isfinite(made.place(vectors[:2])).all()
    assert not caplog.records


def test_umap_missing_is_one_line_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"needs umap-learn \(pip install netloupe\[umap\]\)"):
        embed_vectors(clusters()[0], "umap")


@pytest.mark.skipif(not HAS_UMAP, reason="umap-learn is not installed")
@pytest.mark.skipif("NETLOUPE_SLOW" not in os.environ, reason="umap-learn compiles for half a minute; NETLOUPE_SLOW=1")
def test_umap_keeps_clusters() -> None:
    vectors, which = clusters(60)
    made = embed_vectors(vectors, "umap")
    middles = np.stack([made.points[which == c].mean(0) for c in range(3)])
    assert (((made.points[:, None] - middles) ** 2).sum(2).argmin(1) == which).all()
    assert made.about["umap_neighbors"] == 15


def test_quality_against_scikit_learn_and_loops() -> None:
    from sklearn.manifold import trustworthiness

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6))
    points = vectors[:, :2] + 0.3 * rng.normal(size=(50, 2))
    found = map_quality(vectors, points, 7)
    assert found is not None
    assert found.trustworthiness == pytest.approx(trustworthiness(vectors, points, n_neighbors=7), abs=1e-9)
    assert 0.5 < found.trustworthiness < 0.99
    kept = 0
    for i in range(50):
        near = [
            set(sorted((j for j in range(50) if j != i), key=lambda j: float(((some[i] - some[j]) ** 2).sum()))[:7])
            for some in (vectors, points)
        ]
        kept += len(near[0] & near[1])
    assert found.kept == pytest.approx(kept / 350)
    assert found.chance == pytest.approx(7 / 49)
    same = map_quality(points, points)
    assert same is not None
    assert (same.trustworthiness, same.kept) == (1.0, 1.0)
    assert map_quality(vectors[:3], points[:3]) is None
    with pytest.raises(InputError, match="49 points for 50 vectors"):
        map_quality(vectors, points[:49])

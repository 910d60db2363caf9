"""Maps and neighbors: t-SNE beside scikit-learn's, recall of the index, accuracy of neighbors, the grid's cost.

python benchmarks/maps.py path/to/tiny-imagenet/val.parquet
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import publish
from sklearn.manifold import TSNE

import netloupe
from netloupe.analysis.layout.arrangement import arrange
from netloupe.analysis.layout.embedding import embed_vectors
from netloupe.analysis.layout.quality import map_quality
from netloupe.analysis.nearest import METRICS, search, vote
from netloupe.analysis.spaces import feature_space, pixel_space

WIDTH = 512  # dimensions of the features that are laid out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="labeled images")
    parser.add_argument("--first", type=int, help="only so many of the images")
    parser.add_argument("--peer", type=int, default=3000, help="points for scikit-learn's t-SNE, 0 for none")
    parser.add_argument("--vectors", type=int, default=120_000, help="vectors for the index, 0 for none")
    parser.add_argument("--whole", type=int, nargs="+", default=[1000, 2000], help="points for the exact grid")
    given = parser.parse_args()
    net, source = netloupe.load(), netloupe.open_source(given.images).first(given.first)
    features, pixels = feature_space(net, source, net.layers.features().name), pixel_space(source)
    labels = [source.label(int(i)) for i in features.ids]
    numbers: dict[str, Any] = {"layer": net.layers.features().name, "images": len(labels)}
    numbers["accuracy"] = accuracy({"features": features.vectors, "pixels": pixels.vectors}, labels)
    points, numbers["tsne"] = tsne(wide(features.vectors), given.peer)
    numbers["grid"] = grids(points, given.whole)
    numbers["index"] = index(given.vectors) if given.vectors else []
    publish(
        "maps",
        "Maps and neighbors",
        f"Accuracy of the k nearest neighbors of each image among the others (leave one out): {len(labels):,} images "
        f"of tiny-imagenet's validation set, features of layer {numbers['layer']} of lenslet, pixels at 32x32.",
        numbers["accuracy"],
        numbers,
        (
            f"t-SNE of lenslet's features, brought to {WIDTH} dimensions by a random rotation. Kept: the share of the "
            "10 nearest in the space that are among the 10 nearest on the map.",
            numbers["tsne"],
        ),
        (
            "Thumbnails moved onto a grid: mean squared distance to the cells, in cells, of the whole assignment "
            "problem and of windows.",
            numbers["grid"],
        ),
        *(
            [("The index above 100,000 vectors, beside the exact search.", numbers["index"])]
            if numbers["index"]
            else []
        ),
    )


def accuracy(spaces: dict[str, np.ndarray], labels: list[int | None]) -> list[dict[str, Any]]:
    rows = []
    for metric in METRICS:
        for k in (1, 10):
            found = {name: vote(vectors, labels, k, metric=metric) for name, vectors in spaces.items()}
            share = {name: votes.accuracy for name, votes in found.items() if votes is not None}
            ratio = share["features"] / share["pixels"]
            rows.append(
                {
                    "distance": metric,
                    "k": k,
                    "features": f"{share['features']:.1%}",
                    "pixels": f"{share['pixels']:.1%}",
                    "ratio": f"{ratio:.1f}",
                }
            )
            print(rows[-1], flush=True)
    return rows


def wide(vectors: np.ndarray) -> np.ndarray:
    """Vectors in WIDTH dimensions with the same distances, and a little noise that fills them."""
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
    if vectors.shape[1] > WIDTH:
        return (vectors @ rng.normal(size=(vectors.shape[1], WIDTH)) / WIDTH**0.5).astype(np.float32)
    noise = 0.01 * vectors.std() * rng.normal(size=(len(vectors), WIDTH))
    return (vectors @ turned[: vectors.shape[1]] + noise).astype(np.float32)


def tsne(vectors: np.ndarray, peer: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []

    def add(way: str, given: np.ndarray, points: np.ndarray, seconds: float, processor: float) -> None:
        quality = map_quality(given, points)
        assert quality is not None
        shown = {
            "way": way,
            "vectors": len(given),
            "seconds": f"{seconds:.1f}",
            "processor seconds": f"{processor:.1f}",
        }
        rows.append(shown | {"kept": f"{quality.kept:.3f}", "trustworthiness": f"{quality.trustworthiness:.3f}"})
        print(rows[-1], flush=True)

    def ours(given: np.ndarray) -> np.ndarray:
        return embed_vectors(given, "tsne").points

    def theirs(given: np.ndarray) -> np.ndarray:
        return np.asarray(TSNE(init="pca", random_state=0, n_jobs=-1).fit_transform(given))

    ours(vectors[:200])
    whole = np.zeros((0, 2))
    for name, way, some in (
        ("netloupe (openTSNE)", ours, vectors),
        ("netloupe (openTSNE)", ours, vectors[:peer]),
        ("scikit-learn", theirs, vectors[:peer]),
    ):
        if len(some) == 0:
            continue
        start, used = time.perf_counter(), time.process_time()
        points = way(some)
        add(name, some, points, time.perf_counter() - start, time.process_time() - used)
        if len(some) == len(vectors):
            whole = points
    return whole, rows


def grids(points: np.ndarray, whole: list[int]) -> list[dict[str, Any]]:
    rows = []
    for count in sorted({*whole, len(points)}):
        some = points[np.linspace(0, len(points) - 1, count).astype(int)]
        row: dict[str, Any] = {"images": count}
        for name, exact in (("whole", True), ("windows", False)):
            if exact and count not in whole:
                row |= {"whole: cost": "", "whole: processor seconds": ""}
                continue
            used = time.process_time()
            found = arrange(some, exact=exact)
            row |= {
                f"{name}: cost": f"{found.cost:.3f}",
                f"{name}: processor seconds": f"{time.process_time() - used:.1f}",
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def index(count: int) -> list[dict[str, Any]]:
    """Vectors in 300 clusters that overlap, of which every hundredth is a query."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(300, WIDTH)).astype(np.float32) * 0.35
    spread = np.linspace(1, 0.05, WIDTH, dtype=np.float32)
    vectors = rng.normal(size=(count, WIDTH)).astype(np.float32)
    vectors *= spread
    vectors += centers[rng.integers(300, size=count)]
    queries, ids, rows = vectors[:: count // 1000][:1000], np.arange(count), []
    for name, above in (("exact", count), ("index", count - 1)):
        start, used = time.perf_counter(), time.process_time()
        _, found = search(queries, vectors, ids, 10, index_above=above)
        seconds, processor = time.perf_counter() - start, time.process_time() - used
        share = 1.0 if found.recall is None else found.recall
        rows.append(
            {
                "search": name,
                "vectors": count,
                "queries": len(queries),
                "seconds, with building": f"{seconds:.1f}",
                "processor seconds": f"{processor:.1f}",
                "recall of 10": f"{share:.3f}",
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()

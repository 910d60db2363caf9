"""Nearest neighbors of images: by what the network sees in them, beside plain pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.display import as_seen
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.provenance import provenance
from netloupe.data.sources import ImageSource, read_batches
from netloupe.render.pictures import Picture, captioned, from_pixels, grid, resized, stacked
from netloupe.render.result import Result
from netloupe.sweep.accumulators import Features
from netloupe.sweep.engine import check_any_read, sweep

PIXEL_SIDE = 32  # px: the side at which images are compared pixel by pixel


@dataclass(frozen=True)
class Nearest:
    """For each of N queries its k nearest images: `ids` (N, k) and Euclidean `distances` (N, k), nearest first.

    Where there are fewer than k, the rest has id -1 and distance inf.
    """

    ids: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Neighbors(Result):
    """The nearest images of `queries` (N, C, H, W) in the feature space of `layer`, and in pixel space.

    The picture shows a row of each per query.
    """

    queries: np.ndarray
    layer: str
    features: Nearest
    pixels: Nearest
    source: ImageSource
    provenance: Mapping[str, Any]

    def pictures(self) -> dict[str, Picture]:
        side = 112
        parts = []
        for i, query in enumerate(self.queries):
            first = resized(from_pixels(query), (side, side))
            for name, near in ((f"the features of layer {self.layer}", self.features), ("pixels", self.pixels)):
                shown = [
                    resized(as_seen(self.source.open(int(j)), (side, side)), (side, side))
                    for j in near.ids[i]
                    if j >= 0
                ]
                parts.append(captioned(grid([first, *shown], 1 + len(shown)), f"nearest in {name}"))
        return {"neighbors": stacked(parts)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "feature-ids": self.features.ids,
            "feature-distances": self.features.distances,
            "pixel-ids": self.pixels.ids,
            "pixel-distances": self.pixels.distances,
        }

    def summary(self) -> dict[str, Any]:
        def listed(near: Nearest, i: int) -> list[dict[str, Any]]:
            return [
                {"id": int(j), "name": self.source.names[int(j)], "distance": float(d)}
                for j, d in zip(near.ids[i], near.distances[i], strict=True)
                if j >= 0
            ]

        return {
            "layer": self.layer,
            "queries": [
                {"features": listed(self.features, i), "pixels": listed(self.pixels, i)}
                for i in range(len(self.queries))
            ],
        }


def neighbors(
    net: Network,
    queries: Tensor,
    images: ImageSource,
    layer: str | None = None,
    k: int = 8,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbors:
    """The k images nearest to each query (N, C, H, W) in [0, 1], by Euclidean distance.

    In feature space: of the layer's outputs, averaged over positions; by default the last layer before the logits
    (Krizhevsky et al. 2012, section 6.1). In pixel space: of the pixels at 32x32 px. Ties go to the smaller id.
    """
    if k < 1:
        raise InputError(f"k is {k} (accepted: 1 or more)")
    layer = net.layer(layer).name if layer is not None else net.feature_layer
    features = Features(layer)
    report = sweep(net, images, {"features": features}, layers=[layer], progress=progress)
    check_any_read(report, images)
    ids, vectors = features.result()
    maps = net.activations(queries, [layer])[layer]
    asked = maps.flatten(2).mean(2) if maps.ndim > 2 else maps
    pixel_ids, pixels = pixel_vectors(images, net.inputs.channels)
    small = torch.nn.functional.interpolate(queries.float(), (PIXEL_SIDE, PIXEL_SIDE), mode="bilinear", antialias=True)
    return Neighbors(
        queries.detach().cpu().numpy(),
        layer,
        nearest(asked.cpu().numpy(), vectors, ids, k),
        nearest(small.flatten(1).cpu().numpy(), pixels, pixel_ids, k),
        images,
        provenance(net, "neighbors", layer=layer, k=k, images=images.spec),
    )


def pixel_vectors(images: ImageSource, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(ids (n,), vectors (n, channels * 32 * 32) float32 in [0, 1]) of every readable image."""
    ids, vectors = [], []
    for batch in read_batches(images, PIXEL_SIDE, channels, batch_size=256):
        ids.append(batch.ids)
        vectors.append(batch.pixels.transpose(0, 3, 1, 2).reshape(len(batch.ids), -1).astype(np.float32) / 255)
    return np.concatenate(ids), np.concatenate(vectors)


def nearest(
    queries: np.ndarray, vectors: np.ndarray, ids: np.ndarray, k: int, *, exclude: np.ndarray | None = None
) -> Nearest:
    """Brute force: the k of `vectors` (n, d) nearest to each of `queries` (N, d), ties by smaller id.

    exclude: (N,) an id that does not count for each query (the image itself).
    """
    order = np.argsort(ids, kind="stable")
    ids, base = ids[order], torch.from_numpy(np.ascontiguousarray(vectors[order], dtype=np.float32))
    found_ids = np.full((len(queries), k), -1, dtype=np.int64)
    found = np.full((len(queries), k), np.inf, dtype=np.float32)
    for start in range(0, len(queries), 256):
        block = torch.from_numpy(np.ascontiguousarray(queries[start : start + 256], dtype=np.float32))
        # computed as differences, not through the dot product, whose rounding tears equal images apart
        coarse = torch.cdist(block, base)
        if exclude is not None:
            coarse[torch.from_numpy(exclude[start : start + 256, None] == ids[None])] = torch.inf
        candidates = coarse.topk(min(len(ids), k + 16), dim=1, largest=False).indices.sort(dim=1).values
        exact = (block[:, None] - base[candidates]).square().sum(2).sqrt()
        exact[torch.isinf(coarse.gather(1, candidates))] = torch.inf
        best = exact.sort(dim=1, stable=True)
        count = min(k, candidates.shape[1])
        chosen = candidates.gather(1, best.indices)[:, :count].numpy()
        rows = slice(start, start + len(block))
        found[rows, :count] = best.values[:, :count].numpy()
        found_ids[rows, :count] = np.where(np.isinf(found[rows, :count]), -1, ids[chosen])
    return Nearest(found_ids, found)

"""Nearest neighbors of images: by what the network sees in them, beside plain pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.analysis.nearest import Nearest, Search, Votes, search, vote
from netloupe.analysis.spaces import Space, feature_space, features_of, pixel_space, pixels_of
from netloupe.analysis.tasks import NeighborsTask
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import as_seen
from netloupe.data.sources import ImageSource, Skipped
from netloupe.render.pictures import Picture, beside, captioned, from_pixels, grid, resized, stacked
from netloupe.render.result import Result

_SIDE = 112  # px of a picture
_COLUMNS = 4


@dataclass(frozen=True)
class Neighbors(Result):
    """The nearest images of `queries` (N, C, H, W) in the feature space of `layer`, and in pixel space, by `metric`.

    votes: by space ("features", "pixels") how well neighbors tell an image's class, where the images are labeled.
    found: by space how neighbors were searched for. skipped: images left out of the feature space; notes: what did
    not go as asked, in plain sentences. The picture shows the neighbors in both spaces side by side, a block a query.
    """

    queries: np.ndarray
    names: tuple[str, ...]
    layer: str
    features: Nearest
    pixels: Nearest
    source: ImageSource
    metric: str
    votes: Mapping[str, Votes | None]
    found: Mapping[str, Search]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def pictures(self) -> dict[str, Picture]:
        spaces = ((f"features of layer {self.layer}", self.features), ("pixels", self.pixels))
        blocks = []
        for i, query in enumerate(self.queries):
            first = resized(from_pixels(query), (2 * _SIDE, 2 * _SIDE))
            parts = [captioned(grid([first], 1), f"image {i}")]
            for name, near in spaces:
                shown = [
                    resized(as_seen(self.source.open(int(j)), (_SIDE, _SIDE)), (_SIDE, _SIDE))
                    for j in near.ids[i]
                    if j >= 0
                ]
                parts.append(captioned(grid(shown, _COLUMNS), f"nearest in {name}"))
            blocks.append(beside(parts))
        return {"neighbors": stacked(blocks)}

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
            "metric": self.metric,
            "queries": [
                {"name": name, "features": listed(self.features, i), "pixels": listed(self.pixels, i)}
                for i, name in enumerate(self.names)
            ],
            "found": {space: found.summary() for space, found in self.found.items()},
            "accuracy": {space: None if votes is None else votes.summary() for space, votes in self.votes.items()},
            "skipped": [dict(vars(one)) for one in self.skipped],
            "notes": list(self.notes),
        }

    def remarks(self) -> list[str]:
        return [*(str(one) for one in self.skipped), *(f"note: {note}" for note in self.notes)]


@function_of(NeighborsTask)
def neighbors(
    net: Network,
    queries: Tensor,
    images: ImageSource,
    layer: str | None = None,
    k: int = NeighborsTask.k,
    *,
    watch: Watch = SILENT,
    **settings: Any,
) -> Neighbors:
    """The k images nearest to each query (N, C, H, W) in [0, 1], by distance: "l2" (Euclidean) or "cosine".

    In feature space: of the layer's outputs, averaged over positions; by default the last layer before the logits
    (Krizhevsky et al. 2012, section 6.1). In pixel space: of the pixels at 32x32 px. Ties go to the smaller id. The
    search is exact up to 100,000 images; above, an index finds candidates, and its recall is measured. Where the images
    are labeled, also the accuracy of k-nearest-neighbor classification of each by all others, in both spaces.

    Raises InputError for a k below 1, queries that can't be used and images that can't be read; UnknownName for a
    layer or metric that is not there.
    """
    task = NeighborsTask.of({"layer": layer, "k": k, **settings})
    found: Neighbors = perform(task, net, {"images": queries, "data": images}, watch)
    return found


def run(task: NeighborsTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Neighbors:
    layer = net.layer(task.layer).name if task.layer is not None else net.layers.features().name
    k, metric, queries = task.k, task.metric, inputs["images"].fitted(net)
    images: ImageSource = inputs["data"]
    features = feature_space(net, images, layer, watch)
    pixels = pixel_space(images, net.inputs.channels, watch)
    found: dict[str, Search] = {}
    votes: dict[str, Votes | None] = {}
    near: dict[str, Nearest] = {}
    asked = {"features": features_of(net, queries, layer), "pixels": pixels_of(queries)}
    for name, space in (("features", features), ("pixels", pixels)):
        near[name], found[name] = search(asked[name], space.vectors, space.ids, min(k, len(images)), metric=metric)
        labels = [images.label(int(i)) for i in space.ids]
        votes[name] = vote(space.vectors, labels, k, metric=metric, watch=watch.named(f"accuracy in {name}"))
    return Neighbors(
        queries.detach().cpu().numpy(),
        inputs["images"].names,
        layer,
        near["features"],
        near["pixels"],
        images,
        metric,
        votes,
        found,
        features.skipped,
        tuple(_notes(images, {"features": features, "pixels": pixels}, k, votes)),
        provenance=decided(replace(task, layer=layer)),
    )


def _notes(images: ImageSource, spaces: Mapping[str, Space], k: int, votes: Mapping[str, Votes | None]) -> list[str]:
    notes = [
        f"only {len(space.ids)} image{'s' * (len(space.ids) != 1)} in the space of {name}, "
        f"fewer than the {k} neighbors asked for"
        for name, space in spaces.items()
        if len(space.ids) < k
    ]
    alone = max((v.alone for v in votes.values() if v is not None), default=0)
    if alone:
        what = "class has one image only, which is" if alone == 1 else "classes have one image each, which are"
        notes.append(f"{alone} {what} not counted in the accuracy: no neighbor shares its class")
    if images.labels is not None and all(v is None for v in votes.values()):
        notes.append("no accuracy: no class has two images")
    for name, voted in votes.items():
        if voted is not None and voted.k < k:
            notes.append(f"accuracy in {name} is of {voted.k} neighbors, which is all there are")
    return notes

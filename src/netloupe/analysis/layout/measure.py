"""A map of many images: each at a place of its own, near those that are alike to a layer, or in their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.analysis.layout.arrangement import Arrangement, arrange
from netloupe.analysis.layout.embedding import Embedding, check, embed_vectors
from netloupe.analysis.layout.figure import Drawn, dots, scatter, side_for, snapped
from netloupe.analysis.layout.quality import Quality, map_quality
from netloupe.analysis.layout.task import Layout
from netloupe.analysis.nearest import Votes, vote
from netloupe.analysis.spaces import feature_space, features_of, pixel_space, pixels_of
from netloupe.core.network import Network
from netloupe.core.perform import decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.data.labels import class_names, of_network
from netloupe.data.sources import ImageSource, Skipped
from netloupe.render.pictures import Picture
from netloupe.render.result import Result

VOTERS = 10  # neighbors that vote on an image's class


@dataclass(frozen=True)
class ImageMap(Result):
    """The images `ids` (n,) of `source` at `points` (n, 2), (x, y) with y down.

    layer: whose features were laid out, None for pixels. placed: (m, C, H, W) new images at `placed_points` (m, 2).
    arrangement: all of them on a grid, the placed ones last. embedding: the map itself, which can place more. quality:
    whether neighbors were kept. votes: "space" and "map", how well neighbors tell an image's class there, where the
    images are labeled. classes: their names by index. skipped: images left out; notes: what did not go as asked, in
    plain sentences.

    The pictures: thumbnails at their points, thumbnails on the grid, and dots by class where there are labels.
    """

    source: ImageSource
    layer: str | None
    ids: np.ndarray
    points: np.ndarray
    placed: np.ndarray
    placed_names: tuple[str, ...]
    placed_points: np.ndarray
    arrangement: Arrangement
    embedding: Embedding
    quality: Quality | None
    votes: Mapping[str, Votes | None]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    thumbnail: int
    classes: Sequence[str] | None

    @property
    def labels(self) -> list[int | None]:
        """The class of each image of `ids`, None where unknown."""
        return [self.source.label(int(i)) for i in self.ids]

    def pictures(self) -> dict[str, Picture]:
        drawn = Drawn(self.source, self.ids, self.placed, self.thumbnail)
        title = self._title()
        found = {
            "map": scatter(drawn, self.points, self.placed_points, title),
            "grid": snapped(drawn, self.arrangement, f"{title}, moved onto a grid"),
        }
        if self.classes is not None:
            found["classes"] = dots(self.points, self.labels, self.classes, self.placed_points, title)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"ids": self.ids, "points": self.points, "cells": self.arrangement.cells}
        return found | ({"placed-points": self.placed_points} if len(self.placed) else {})

    def summary(self) -> dict[str, Any]:
        return {
            "space": "pixels" if self.layer is None else "features",
            "layer": self.layer,
            "images": len(self.ids),
            **self.embedding.about,
            "grid": {
                "rows": self.arrangement.shape[0],
                "columns": self.arrangement.shape[1],
                "assignment": "exact" if self.arrangement.exact else "exact in overlapping windows",
                "rounds": self.arrangement.rounds,
                "mean_squared_distance": round(self.arrangement.cost, 4),
            },
            "quality": None if self.quality is None else self.quality.summary(),
            "accuracy": {name: None if votes is None else votes.summary() for name, votes in self.votes.items()},
            "placed_names": list(self.placed_names),
            "placed": np.round(self.placed_points.astype(float), 4).tolist(),
            "skipped": [dict(vars(one)) for one in self.skipped],
            "notes": list(self.notes),
        }

    def remarks(self) -> list[str]:
        return [*(str(one) for one in self.skipped), *(f"note: {note}" for note in self.notes)]

    def _title(self) -> str:
        about = self.embedding.about
        method = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}[self.embedding.method]
        what = "pixels" if self.layer is None else f"features of layer {self.layer}"
        words = [f"{method} of the {what}, {len(self.ids):,} images of {self.source.title}"]
        if self.embedding.perplexity is not None:
            words.append(f"perplexity {self.embedding.perplexity:.4g}")
        if self.embedding.method == "pca":
            words.append(f"{sum(about['explained_variance']):.1%} of the variance")
        return ", ".join(words)


@function_of(Layout)
def embed(
    net: Network,
    images: ImageSource,
    layer: str | None = None,
    method: str = Layout.method,
    *,
    place: Tensor | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> ImageMap:
    """Lay out images by what a layer makes of them, averaged over positions; by default the last before the logits.

    place: new images (m, C, H, W) in [0, 1], placed on the finished map and marked.

    Raises InputError for options and images that can't be used, or too few images; UnknownName for a layer or method
    that is not there. Images that can't be read or whose features are not finite are left out and listed.
    """
    task = Layout.of({"layer": layer, "method": method, **settings})
    found: ImageMap = perform(task, net, {"data": images, "place": place}, watch)
    return found


def run(task: Layout, net: Network, inputs: Mapping[str, Any], watch: Watch) -> ImageMap:
    check(task.method, task.perplexity)  # before all images are read
    images: ImageSource = inputs["data"].first(task.first)
    layer = None
    if task.pixels:
        space = pixel_space(images, net.inputs.channels, watch.named("images"))
    else:
        layer = net.layer(task.layer).name if task.layer is not None else net.layers.features().name
        space = feature_space(net, images, layer, watch)
    new = np.zeros((0, net.inputs.channels, *net.inputs.size), np.float32)
    asked = np.zeros((0, space.vectors.shape[1]), np.float32)
    names: tuple[str, ...] = ()
    if "place" in inputs:
        place = inputs["place"].fitted(net)
        new, names = place.detach().cpu().numpy(), inputs["place"].names
        asked = pixels_of(place) if layer is None else features_of(net, place, layer)
    made = embed_vectors(space.vectors, task.method, perplexity=task.perplexity, seed=task.seed, watch=watch)
    placed = made.place(asked)
    arrangement = arrange(np.concatenate([made.points, placed]), watch=watch)
    labels = [images.label(int(i)) for i in space.ids]
    votes = _votes(space.vectors, made.points, labels, watch)
    return ImageMap(
        images,
        layer,
        space.ids,
        made.points,
        new,
        names,
        placed,
        arrangement,
        made,
        map_quality(space.vectors, made.points),
        votes,
        space.skipped,
        tuple(_notes(made.about["notes"], votes)),
        side_for(len(space.ids)) if task.thumbnail is None else task.thumbnail,
        _class_names(net, images),
        provenance=decided(replace(task, layer=layer)),
    )


def _class_names(net: Network, images: ImageSource) -> list[str] | None:
    """The network's names where the images bear its classes without names; None without labels."""
    own = list(net.head.choices)
    names = class_names(images)
    return own if names is not None and images.classes is None and of_network(images, own) else names


def _votes(
    vectors: np.ndarray, points: np.ndarray, labels: Sequence[int | None], watch: Watch
) -> dict[str, Votes | None]:
    if all(label is None for label in labels):
        return {}
    return {name: vote(some, labels, VOTERS, watch=watch) for name, some in (("space", vectors), ("map", points))}


def _notes(of_map: Sequence[str], votes: Mapping[str, Votes | None]) -> list[str]:
    notes = list(of_map)
    if votes and all(v is None for v in votes.values()):
        return [*notes, "no accuracy of neighbors: no class has two images"]
    alone = max((v.alone for v in votes.values() if v is not None), default=0)
    if alone:
        what = "class has one image only, which is" if alone == 1 else "classes have one image each, which are"
        notes.append(f"{alone} {what} not counted in the accuracy: no neighbor shares its class")
    return notes

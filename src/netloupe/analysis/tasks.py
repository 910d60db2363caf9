"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import setting
from netloupe.core.table import table
from netloupe.core.task import IMAGES, PHOTOS, Task


@dataclass(frozen=True, kw_only=True)
class FiltersTask(Task):
    """Show the filters of a convolution, by default the first."""

    verb: ClassVar = "filters"
    runs: ClassVar = "analysis.filters:run"

    layer: str | None = setting(None, "The layer; see netloupe layers.", flags=("--layer", "-l"))
    scale: str = setting(
        "filter", "Map weights to gray values over each filter, or over the layer.", choices=("filter", "layer")
    )

    def words(self, found: Mapping[str, Any]) -> str:
        counts = f"{found['filters']} filters of {found['channels']} channels"
        height, width = found["size"]
        return f"{found['layer']}: {counts}, {height}x{width}, weights {found['low']:.3g} to {found['high']:.3g}"


@dataclass(frozen=True, kw_only=True)
class Activations(Task):
    """Show what each channel answers to images.

    By default the channels of every convolution.
    """

    verb: ClassVar = "activations"
    runs: ClassVar = "analysis.activations:run"
    inputs: ClassVar = (IMAGES,)
    head: ClassVar = ("image", "layer", "strongest channels (peak)")

    layers: tuple[str, ...] | None = setting(
        None, "A layer; may be given several times.", flags=("--layer", "-l"), metavar="NAME"
    )
    top: int = setting(16, "Strongest channels shown of each layer.", low=1)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (name, layer, "  ".join(f"{best['channel']} ({best['peak']:.3g})" for best in strongest[:5]))
            for name, layers in zip(found["names"], found["images"], strict=True)
            for layer, strongest in layers.items()
        ]


@dataclass(frozen=True, kw_only=True)
class Patches(Task):
    """Find the patches that excite each channel most.

    By default the channels of every layer. With --project each channel's patches stand beside their projections.
    """

    verb: ClassVar = "patches"
    runs: ClassVar = "analysis.patches:run"
    inputs: ClassVar = (PHOTOS,)
    head: ClassVar = ("layer", "channels", "patches", "highest", "dead")

    layers: tuple[str, ...] | None = setting(
        None, "A layer; may be given several times.", flags=("--layer", "-l"), metavar="NAME"
    )
    unit: str | None = setting(None, "One channel alone.", flags=("--unit", "-u"), metavar="LAYER:CHANNEL")
    k: int = setting(9, "Patches of each channel.", low=1, flags=("-k", "--top"))
    project: str | None = setting(
        None,
        "Lay the projection of each patch's neuron beside it; with --unit also as an array.",
        choices=("deconvnet", "guided"),
    )
    batch_size: int = setting(32, "Images run at once.", low=1)

    def check(self) -> None:
        if self.unit is not None and self.layers is not None:
            raise InputError("a layer and a unit were given (accepted: one of them)")

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [(name, one["channels"], one["k"], one["highest"], one["dead"]) for name, one in found["layers"].items()]


@dataclass(frozen=True, kw_only=True)
class NeighborsTask(Task):
    """Find the images nearest to an image.

    In feature space, by default of the last layer before the logits, and in pixel space. Where the data have labels,
    also how often the nearest neighbors of an image are of its class.
    """

    verb: ClassVar = "neighbors"
    runs: ClassVar = "analysis.neighbors:run"
    inputs: ClassVar = (IMAGES, PHOTOS)

    layer: str | None = setting(None, "The layer; see netloupe layers.", flags=("--layer", "-l"))
    k: int = setting(8, "Neighbors of each image.", low=1, flags=("-k", "--top"))
    metric: str = setting("l2", "Distance.", choices=("l2", "cosine"))

    def words(self, found: Mapping[str, Any]) -> str:
        rows = [
            (query["name"], space, rank, str(near["id"]), near["name"], near["distance"])
            for query in found["queries"]
            for space in ("features", "pixels")
            for rank, near in enumerate(query[space], 1)
        ]
        parts = [table(("image", "nearest in", "rank", "id", "name", "distance"), rows)]
        voted = [(space, votes) for space, votes in found["accuracy"].items() if votes is not None]
        if voted:
            lines = [(space, votes["k"], votes["images"], votes["accuracy"]) for space, votes in voted]
            parts.append(table(("accuracy of nearest neighbors in", "k", "images", "accuracy"), lines))
        indexed = [(space, how["recall"]) for space, how in found["found"].items() if how["search"] == "index"]
        if indexed:
            parts.append(table(("found by an index in", "recall"), indexed))
        return "\n\n".join(parts)

"""`netloupe neighbors`: the images that are alike to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, ImagePaths, Json, Layer, NetworkOptions, Out, grouped, read_images
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def neighbors(
    images: ImagePaths,
    network: NetworkOptions,
    data: Data = "photos",
    layer: Layer = None,
    k: Annotated[int, typer.Option("-k", "--top", metavar="N", help="Neighbors of each image.")] = 8,
    metric: Annotated[str, typer.Option(metavar="NAME", help="Distance: l2 or cosine.")] = "l2",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find the images nearest to an image.

    In feature space, by default of the last layer before the logits, and in pixel space. Where the data have labels,
    also how often the nearest neighbors of an image are of its class.
    """
    from netloupe.analysis.nearest import check
    from netloupe.analysis.neighbors import neighbors
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source

    check(k, metric)
    net, source = network.load(), open_source(data)
    queries = read_images(net, images)
    with Bars() as watch:
        result = neighbors(net, queries, source, layer, k, metric=metric, watch=watch)
    for one in result.skipped:
        typer.echo(f"skipped {one.name}: {one.reason}", err=True)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    deliver(result, out, as_json, lambda found: _text(images, found))


def _text(images: list[Path], found: dict[str, Any]) -> str:
    rows = [
        (image, space, rank, str(near["id"]), near["name"], near["distance"])
        for image, query in zip(images, found["queries"], strict=True)
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

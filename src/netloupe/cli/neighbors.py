"""`netloupe neighbors`: the images that are alike to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, ImagePaths, Json, Layer, NetworkOptions, Out, grouped, read_images
from netloupe.cli.output import deliver, table


@grouped
def neighbors(
    images: ImagePaths,
    network: NetworkOptions,
    data: Data = "photos",
    layer: Layer = None,
    k: Annotated[int, typer.Option("-k", "--top", metavar="N", help="Neighbors of each image.")] = 8,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find the images nearest to an image.

    In feature space, by default of the last layer before the logits, and in pixel space.
    """
    from netloupe.analysis.neighbors import neighbors
    from netloupe.cli.progress import Progress
    from netloupe.data.sources import open_source

    net, source = network.load(), open_source(data)
    queries = read_images(net, images)
    with Progress() as progress:
        result = neighbors(net, queries, source, layer, k, progress=progress.of("images"))
    deliver(result, out, as_json, lambda found: _text(images, found))


def _text(images: list[Path], found: dict[str, Any]) -> str:
    rows = [
        (image, space, rank, str(near["id"]), near["name"], near["distance"])
        for image, query in zip(images, found["queries"], strict=True)
        for space in ("features", "pixels")
        for rank, near in enumerate(query[space], 1)
    ]
    return table(("image", "nearest in", "rank", "id", "name", "distance"), rows)

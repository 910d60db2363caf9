"""`netloupe map`: many images laid out by what a network makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, Layer, NetworkOptions, Out, grouped, read_images
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def map_images(
    network: NetworkOptions,
    data: Data = "photos",
    layer: Layer = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Lay out the pixels instead of a layer's features.")] = False,
    method: Annotated[str, typer.Option(metavar="NAME", help="tsne, pca or umap.")] = "tsne",
    perplexity: Annotated[
        float | None, typer.Option(metavar="N", help="Neighbors that count in t-SNE; by default 30, or what fits.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    thumbnail: Annotated[
        int | None, typer.Option(metavar="PX", help="Longer side of an image in the pictures, 4 to 256.")
    ] = None,
    place: Annotated[
        list[Path] | None,
        typer.Option(metavar="IMAGE", help="A new image to place on the map; may be given several times."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Lay out images so that those that are alike lie together.

    Alike to a layer, by default the last before the logits, or in their pixels. Draws each image at its place, all on
    a grid without overlaps, and dots by class where there are labels.
    """
    from netloupe.analysis.layout.task import embed
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source

    net, source = network.load(), open_source(data).first(first)
    new = read_images(net, place) if place else None
    with Bars() as watch:
        result = embed(
            net,
            source,
            layer,
            method,
            pixels=pixels,
            perplexity=perplexity,
            seed=network.seed,
            place=new,
            thumbnail=thumbnail,
            watch=watch,
        )
    for one in result.skipped:
        typer.echo(f"skipped {one.name}: {one.reason}", err=True)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    deliver(result, out, as_json, lambda found: _text(place or [], found))


def _text(placed: list[Path], found: dict[str, Any]) -> str:
    rows: list[tuple[str, object]] = [
        ("map of", "pixels" if found["layer"] is None else f"features of layer {found['layer']}"),
        ("images", found["images"]),
        ("method", found["method"]),
    ]
    rows += [(name, found[name]) for name in ("perplexity", "kl_divergence") if name in found]
    variance = found.get("explained_variance")
    if isinstance(variance, list):
        rows += [(f"variance along axis {i}", share) for i, share in enumerate(variance, 1)]
    else:
        rows += [("components before", found["components"]), ("their share of the variance", variance)]
    grid = found["grid"]
    rows += [
        ("grid", f"{grid['rows']} x {grid['columns']}, {grid['assignment']}"),
        ("mean squared move, in cells", grid["mean_squared_distance"]),
    ]
    quality = found["quality"]
    if quality is not None:
        rows += [
            (f"trustworthiness, {quality['k']} neighbors", quality["trustworthiness"]),
            ("share of neighbors kept", quality["neighbors_kept"]),
            ("by chance", quality["neighbors_kept_by_chance"]),
        ]
    for name, votes in found["accuracy"].items():
        if votes is not None:
            rows.append((f"accuracy of {votes['k']} neighbors in the {name}", votes["accuracy"]))
    rows += [(f"{path} lies at", f"{x:.4g}, {y:.4g}") for path, (x, y) in zip(placed, found["placed"], strict=True)]
    return table(("", ""), [(name, _shown(value)) for name, value in rows]).strip("\n")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

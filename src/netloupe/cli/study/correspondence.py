"""`netloupe study correspondence`: whether hiding the same part in different images changes features alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, Layers, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def correspondence(
    network: NetworkOptions,
    data: Data = "photos",
    points: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the parts are, as .json; of photos, two faces are known.")
    ] = None,
    layer: Layers = None,
    square: Annotated[
        float, typer.Option(metavar="SHARE", help="Side of what is hidden, as a share of the shorter side.")
    ] = 0.2,
    draws: Annotated[int, typer.Option(min=1, metavar="N", help="Random squares for each image.")] = 10,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Hide the same part in several images and compare what changes in the features."""
    import torch

    from netloupe.cli.watch import Bars
    from netloupe.core.errors import InputError
    from netloupe.data.open import open_source
    from netloupe.data.sources import pixel_reader
    from netloupe.studies.correspondence.measure import correspondence
    from netloupe.studies.points import TWO_FACES, find_points, photo_faces, read_points

    net, source = network.load(), open_source(data)
    if points is None and source.opened != "photos":
        raise InputError(
            f"where the parts are in {data!r} is not known (fix: --points FILE; the atlas's #/points writes one)"
        )
    size = net.inputs.size
    found = find_points(photo_faces(), source, size) if points is None else read_points(points, source, size)
    for note in found.notes:
        typer.echo(f"left out: {note}", err=True)
    read = pixel_reader(source, size, net.inputs.channels)
    with Bars() as watch:
        result = correspondence(
            net,
            torch.stack([read(i) for i in found.ids]),
            {part: found.places[:, i] for i, part in enumerate(found.parts)},
            layer,
            names=[source.names[i] for i in found.ids],
            square=square,
            draws=draws,
            seed=network.seed,
            notes=[TWO_FACES] if points is None else found.notes,
            watch=watch,
        )
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    columns = {
        "images": "images",
        "delta": "Delta",
        "error": "± pairs",
        "jackknife": "± images",
        "chance": "chance",
        "below_random": "below random",
        "below_random_error": "±",
        "changed": "changed",
        "opposite": "opposite",
        "opposite_below_random": "below random",
        "opposite_below_random_error": "±",
    }
    lines = []
    for layer, one in found["layers"].items():
        rows = [(name, *(row.get(key) for key in columns)) for name, row in one["rows"].items()]
        lines += [f"{layer}, {one['features']:,} features", table(("part", *columns.values()), rows), ""]
    return "\n".join([*lines, *found["notes"]]).rstrip()

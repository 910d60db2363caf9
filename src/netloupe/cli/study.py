"""`netloupe study trust`: experiments about a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Data, Json, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver, table
from netloupe.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from netloupe.core.network import Network
    from netloupe.data.sources import ImageSource


@grouped
def trust(
    network: NetworkOptions,
    data: Data = "photos",
    first: Annotated[int, typer.Option(min=1, metavar="N", help="Only the first N images.")] = 8,
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "-m", metavar="NAMES", help="Methods, with commas; may be given several times."),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The objects' boxes as .json: {name: [x0, y0, x1, y1]}.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, metavar="PX", help="How far from its box a point counts as a hit.")
    ] = None,
    count: Annotated[int, typer.Option("--stages", min=1, metavar="N", help="Stages of randomization.")] = 8,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of deletion and insertion.")] = 10,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Test how far attribution maps can be trusted.

    By random weights, another class, deletion and insertion, and the objects' boxes.
    """
    from netloupe.analysis.methods import pick_methods
    from netloupe.cli.progress import Progress
    from netloupe.data.sources import open_source
    from netloupe.studies.boxes import read_boxes
    from netloupe.studies.trust import trust

    names = [name.strip() for given in methods for name in given.split(",")] if methods else None
    pick_methods(names)
    net, source = network.load(), open_source(data).first(first)
    found = None if boxes is None else read_boxes(boxes, source, net.inputs.size)
    ids, images = _read(net, source)
    with Progress() as progress:
        result = trust(
            net,
            images,
            _targets(net, source, ids),
            names,
            boxes=None if found is None else found[ids],
            tolerance=tolerance,
            count=count,
            steps=steps,
            seed=network.seed,
            progress=progress.of("maps"),
        )
    deliver(result, out, as_json, _text)


def _read(net: Network, source: ImageSource) -> tuple[list[int], Tensor]:
    """The ids of the images that can be read, and those (N, C, H, W); the others are named on stderr."""
    import numpy as np

    from netloupe.data.images import to_float
    from netloupe.data.sources import read_batches

    batches = list(read_batches(source, net.inputs.size, net.inputs.channels))
    skipped = [one for batch in batches for one in batch.skipped]
    ids = [int(i) for batch in batches for i in batch.ids]
    if not ids:
        raise InputError(f"none of {len(source)} images of {source.spec!r} can be read: {skipped[0].reason}")
    for one in skipped:
        typer.echo(f"skipped {one.name}: {one.reason}", err=True)
    return ids, to_float(np.concatenate([batch.pixels for batch in batches]))


def _targets(net: Network, source: ImageSource, ids: Sequence[int]) -> list[Any] | None:
    """The images' labels where those are the network's classes; None, for the top predictions, where not."""
    labels = [source.label(i) for i in ids]
    known = [label for label in labels if label is not None]
    names = None if source.classes is None else list(source.classes)
    if not known or max(known) >= net.classes or names not in (None, [net.label(i) for i in range(net.classes)]):
        return None
    return labels


def _text(found: dict[str, Any]) -> str:
    header = ("method", "all random", "rival", "another image", "deletion", "insertion", "pointing")
    rows = [
        (name, *(row.get(key) for key in ("all_random", "rival", "other_image", "deletion", "insertion", "pointing")))
        for name, row in (found["methods"] | found["baselines"]).items()
    ]
    columns = len(header) if found["boxes"] else len(header) - 1
    verdicts = [f"{row['title']}: {row['verdict']}" for row in found["methods"].values()]
    verdicts += [f"left out: {name}: {reason}" for name, reason in found["skipped"].items()]
    return "\n".join([table(header[:columns], [row[:columns] for row in rows]), "", *verdicts])

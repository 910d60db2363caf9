"""`netloupe study trust`: how far attribution maps can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, NetworkOptions, Out, grouped, read_source
from netloupe.cli.output import deliver
from netloupe.core.table import table


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
    from netloupe.cli.watch import Bars
    from netloupe.data.labels import of_network
    from netloupe.data.open import open_source
    from netloupe.studies.boxes import read_boxes
    from netloupe.studies.trust.measure import trust

    names = [name.strip() for given in methods for name in given.split(",")] if methods else None
    pick_methods(names)
    net, source = network.load(), open_source(data).first(first)
    found = None if boxes is None else read_boxes(boxes, source, net.inputs.size)
    ids, images = read_source(net, source)
    labeled = of_network(source, net.head.labels)
    with Bars() as watch:
        result = trust(
            net,
            images,
            [source.label(i) for i in ids] if labeled else None,
            names,
            boxes=None if found is None else found[ids],
            tolerance=tolerance,
            count=count,
            steps=steps,
            seed=network.seed,
            watch=watch,
        )
    deliver(result, out, as_json, _text)


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

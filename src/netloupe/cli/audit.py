"""`netloupe audit`: which classes are recognized by a mark at a fixed place, or by the background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def audit(
    network: NetworkOptions,
    data: Data = "photos",
    boxes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The objects' boxes as .json: {name: [x0, y0, x1, y1]}.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", metavar="NAME", help="The attribution method, as in netloupe explain.")
    ] = "gradient",
    per_class: Annotated[
        int | None, typer.Option("--per-class", min=1, metavar="N", help="Only the first N images of each class.")
    ] = None,
    tested: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many classes to test: those whose maps stand out most.")
    ] = 20,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    predicted: Annotated[
        bool, typer.Option("--predicted", help="Take the network's predictions in place of labels.")
    ] = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find classes recognized by a mark or the background.

    By a mark at a fixed place of the image, and, with boxes of the objects, by what lies around them.
    Without labels, the network's predictions stand for them.
    """
    from netloupe.analysis.methods import pick_methods
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.audit.measure import audit
    from netloupe.studies.boxes import read_boxes

    pick_methods([method])
    net, source = network.load(), open_source(data).first(first)
    found = None if boxes is None else read_boxes(boxes, source, net.inputs.size)
    with Bars() as watch:
        result = audit(
            net,
            source,
            boxes=found,
            method=method,
            per_class=per_class,
            tested=tested,
            predicted=predicted,
            seed=network.seed,
            watch=watch,
        )
        for text in _left_out(result):
            typer.echo(text, err=True)
    deliver(result, out, as_json, _text)


def _left_out(result: Any) -> list[str]:
    from netloupe.studies.audit.words import left_out

    return left_out(result)


def _text(found: dict[str, Any]) -> str:
    parts = [found["verdict"], *found["suspects"], ""]
    header = ("class", "place", "hiding", "elsewhere", "turned", "elsewhere", "effect", "at least", "p")
    parts.append(
        table(
            header,
            [
                (
                    row["class"],
                    row["place"],
                    *_short(row["hiding"]["own"], row["hiding"]["elsewhere"], row["turned"], row["turned_elsewhere"]),
                    *_short(row["effect"], row["low"], row["p"]),
                )
                for row in found["places"]
            ],
        )
    )
    if found["backgrounds"] is not None:
        keys = ("inside", "area", "plain", "object_only", "background_only", "effect", "low", "p")
        rows = [(row["class"], *_short(*(row[key] for key in keys))) for row in found["backgrounds"]]
        header = ("class", "inside", "area", "both", "object", "background", "effect", "at least", "p")
        parts += ["", table(header, rows)]
    return "\n".join(parts)


def _short(*values: float | None) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]

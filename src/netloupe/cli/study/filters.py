"""`netloupe study filters`: what is wrong with a network's filters and strides."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def filters(
    network: NetworkOptions,
    data: Data = "photos",
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="Size of the cosine from which two channels are alike.")
    ] = 0.95,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images read at once.")] = 32,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Diagnose a network's filters and strides.

    Dead and duplicate channels, missing frequencies, aliasing.
    """
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.diagnosis.measure import diagnose

    net, source = network.load(), open_source(data).first(first)
    with Bars() as watch:
        result = diagnose(net, source, threshold=threshold, batch_size=batch_size, seed=network.seed, watch=watch)
    for one in result.skipped:
        typer.echo(f"skipped {one.name}: {one.reason}", err=True)
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    header = ("layer", "channels", "dead", "alike in weights", "alike in responses", "stride", "folded")
    rows = []
    for name in [*found["layers"], *(n for n in found["aliasing"] if n not in found["layers"])]:
        layer, folded = found["layers"].get(name), found["aliasing"].get(name)
        own = (None,) * 4 if layer is None else (layer["channels"], layer["dead"], *_spare(layer))
        stride = "" if folded is None else "x".join(str(s) for s in dict.fromkeys(folded["stride"]))
        rows.append((name, *own, stride, None if folded is None else folded["share"]))
    sentences = [one["sentence"] for one in found["findings"]]
    return "\n".join([table(header, rows), "", *sentences, "", found["verdict"]])


def _spare(layer: dict[str, Any]) -> list[int | None]:
    groups = layer["alike_in_weights"], layer["alike_in_responses"]
    return [None if each is None else sum(len(group) - 1 for group in each) for each in groups]

"""`netloupe patches`: the images that excite each channel most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Data, Json, Layers, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    pass


@grouped
def patches(
    network: NetworkOptions,
    data: Data = "photos",
    layer: Layers = None,
    unit: Annotated[
        str | None, typer.Option("--unit", "-u", metavar="LAYER:CHANNEL", help="One channel alone.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", metavar="N", help="Patches of each channel.")] = 9,
    project: Annotated[
        str | None,
        typer.Option(
            metavar="deconvnet|guided",
            help="Lay the projection of each patch's neuron beside it; with --unit also as an array.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images run at once.")] = 32,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Find the patches that excite each channel most.

    By default the channels of every layer. With --project each channel's patches stand beside their projections.
    """
    from netloupe.analysis.patches import project_patches, top_patches
    from netloupe.analysis.unproject import named_rule, no_rectifier, rectifies
    from netloupe.cli.watch import Bars
    from netloupe.core.units import Unit
    from netloupe.data.open import open_source

    if unit is not None and layer:
        raise InputError("--layer and --unit were given (accepted: one of them)")
    rule = None if project is None else named_rule(project)
    net, source = network.load(), open_source(data)
    channel = None
    if unit is not None:
        name, channel = Unit.parse(unit).channel_of(net.layers)
        layer = [name]
    if rule is not None and not rectifies(net):
        raise no_rectifier(net, rule)
    with Bars() as watch:
        result = top_patches(net, source, layer, k, batch_size=batch_size, watch=watch)
        if channel is not None:
            result = result.only(name, channel)
        if rule is not None:
            result = project_patches(net, result, rule, batch_size=batch_size, watch=watch)
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    rows = [(name, one["channels"], one["k"], one["highest"], one["dead"]) for name, one in found["layers"].items()]
    return table(("layer", "channels", "patches", "highest", "dead"), rows)

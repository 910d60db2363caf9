"""`netloupe filters`: the weights of a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from netloupe.cli.options import Json, Layer, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver

if TYPE_CHECKING:
    from netloupe.analysis.filters import Scale


@grouped
def filters(
    network: NetworkOptions,
    layer: Layer = None,
    scale: Annotated[
        str,
        typer.Option(metavar="filter|layer", help="Map weights to gray values over each filter, or over the layer."),
    ] = "filter",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show the filters of a convolution, by default the first."""
    from netloupe.analysis.filters import filters

    result = filters(network.load(), layer, scale=cast("Scale", scale))
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    counts = f"{found['filters']} filters of {found['channels']} channels"
    height, width = found["size"]
    return f"{found['layer']}: {counts}, {height}x{width}, weights {found['low']:.3g} to {found['high']:.3g}"

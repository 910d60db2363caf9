"""`netloupe layers`: what can be looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netloupe.cli.options import Json, NetworkOptions, grouped
from netloupe.cli.output import show
from netloupe.core.table import by, table

if TYPE_CHECKING:
    from netloupe.core.layers import Layer


@grouped
def layers(network: NetworkOptions, as_json: Json = False) -> None:
    """List the layers of a network in the order of execution."""
    net = network.load()
    show([_row(layer) for layer in net.layers.values()], as_json, _text)


def _row(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "parameters": layer.parameters,
        "receptive_field": layer.receptive_field.document(),
    }


def _text(rows: list[dict[str, Any]]) -> str:
    def cells(row: dict[str, Any]) -> tuple[object, ...]:
        field = row["receptive_field"]
        size, stride = ("whole image", None) if field["whole"] else (by(field["size"]), by(field["stride"]))
        found = "exact" if field["exact"] else "measured"
        return row["name"], row["kind"], by(row["shape"]), row["parameters"], size, stride, found

    return table(("name", "kind", "shape", "parameters", "receptive field", "stride", "found"), map(cells, rows))

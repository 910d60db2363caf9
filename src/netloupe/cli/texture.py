"""`netloupe texture`: more of what a sample shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Layers, NetworkOptions, Out, Sweep, grouped, read_photo, weighted
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.render.result import Result
    from netloupe.synthesis.texture import Texture


@grouped
def texture(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The sample, an image file.")],
    network: NetworkOptions,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="gram, covariance, efros-leung, wei-levoy or quilting.")
    ] = "gram",
    side: Annotated[
        int, typer.Option(min=8, metavar="PX", help="The sample's shorter side; larger images are reduced.")
    ] = 128,
    result_size: Annotated[
        str | None, typer.Option("--to", metavar="HxW", help="Size of the texture; by default that of the sample.")
    ] = None,
    layer: Layers = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Which layers: sharp, gatys or johnson.")] = "sharp",
    by_layer: Annotated[bool, typer.Option("--by-layer", help="An image for each layer and those before it.")] = False,
    tileable: Annotated[bool, typer.Option("--tileable", help="Opposite sides fit each other.")] = False,
    start: Annotated[str, typer.Option(metavar="NAME", help="zeros, gray, mean, uniform or noise.")] = "noise",
    sizes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Go through N sizes, each twice the last.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="Steps at each size.")] = 150,
    lr: Annotated[float | None, typer.Option(metavar="SIZE", help="Size of a step.")] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="adam or lbfgs.")] = "adam",
    window: Annotated[int | None, typer.Option(metavar="PX", help="Of efros-leung and wei-levoy, odd.")] = None,
    block: Annotated[int | None, typer.Option(metavar="PX", help="Of quilting.")] = None,
    tolerance: Annotated[float | None, typer.Option(metavar="SHARE", help="Of efros-leung and quilting.")] = None,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make more of what a sample of a texture shows.

    By the statistics of a network's features, or by putting the sample's own pixels together. Prints how far the
    texture's statistics are from the sample's, and for climbed ones how far the start was.
    """
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.statistics import KINDS, preset_layers
    from netloupe.synthesis.texture import LR
    from netloupe.synthesis.texture import texture as make
    from netloupe.zoo.specs import parse_size

    if (window, block, tolerance) != (None, None, None) and method in KINDS:
        raise InputError(f"--window, --block or --tolerance with {method} (accepted: with the other methods)")
    numbers: dict[str, Any] = {"steps": int, "lr": float, "seed": int, "sizes": int, "method": str, "start": str}
    numbers |= {"window": int, "block": int, "tolerance": float}
    swept = None if sweep is None else parse_sweep(sweep, numbers)
    net = network.load()
    sample = read_photo(net, image, side)[0]
    options: dict[str, Any] = {
        "size": None if result_size is None else parse_size(result_size),
        "method": method,
        "layers": weighted(layer, "layer") if layer else preset_layers(net, preset)[0],
        "by_layer": by_layer,
        "tileable": tileable,
        "start": start,
        "sizes": sizes,
        "steps": steps,
        "optimizer": pick_optimizer(optimizer, lr, LR, steps),
        "window": window,
        "block": block,
        "tolerance": tolerance,
        "seed": network.seed,
    }
    with Bars() as watch:

        def made(**changed: Any) -> Texture:
            given = {**options, **changed}
            if {"lr", "steps"} & set(changed):
                given["optimizer"] = pick_optimizer(optimizer, given.pop("lr", lr), LR, given["steps"])
            return make(net, sample, **given, watch=watch)

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def pick_optimizer(name: str, lr: float | None, usual: float, steps: int) -> Any:
    """The optimizer of that name. lr: None for `usual` of Adam, whose steps fall to zero, and 1 of L-BFGS."""
    from netloupe.core.errors import unknown
    from netloupe.synthesis.optimizers import LBFGS, Adam

    if name == "adam":
        return Adam(usual if lr is None else lr, over=steps)
    if name == "lbfgs":
        return LBFGS(1.0 if lr is None else lr)
    raise unknown("optimizer", name, ("adam", "lbfgs"))


_HEAD = ("layers", "distance", "at the start")


def _rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (f"to {one['to']}" if one["to"] else found["method"], one["distance"], one["before"]) for one in found["images"]
    ]


def _text(found: dict[str, Any]) -> str:
    return table(_HEAD, _rows(found))


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), *row) for each in found["values"] for row in _rows(each)]
    return table((found["sweep"], *_HEAD), rows)

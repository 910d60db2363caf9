"""`netloupe dream`: a photo with more of what a layer sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, NetworkOptions, Out, Sweep, grouped, read_photo
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.render.result import Result
    from netloupe.synthesis.dream import Dream


@grouped
def dream(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    network: NetworkOptions,
    layer: Annotated[
        str, typer.Option("--layer", "-l", metavar="ADDRESS", help="A layer, a channel as conv5:17, or class:NAME.")
    ],
    side: Annotated[
        int, typer.Option(min=8, metavar="PX", help="The shorter side of the picture; larger images are reduced.")
    ] = 256,
    octaves: Annotated[int, typer.Option(min=1, metavar="N", help="Sizes that it goes through.")] = 4,
    scale: Annotated[float, typer.Option(metavar="FACTOR", help="From one size to the next.")] = 1.4,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps at each size.")] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="SIZE", help="How far a number goes in a step, in the mean.")
    ] = None,
    guide: Annotated[Path | None, typer.Option(metavar="IMAGE", help="Amplify what is like this image.")] = None,
    frames: Annotated[int, typer.Option(min=0, metavar="N", help="So many frames of a zoom, as a GIF.")] = 0,
    accentuate: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Instead: make one unit stand out, and keep the features of this layer."),
    ] = None,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Amplify what a layer, a channel or a class sees in a photo."""
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.dream import accentuate as stand_out
    from netloupe.synthesis.dream import dream as make

    if accentuate is not None and (guide is not None or frames):
        raise InputError("--accentuate was given with --guide or --frames (accepted: without)")
    numbers: dict[str, Any] = {"steps": int, "lr": float, "seed": int}
    if accentuate is None:
        numbers |= {"layer": str, "octaves": int, "scale": float}
    swept = None if sweep is None else parse_sweep(sweep, numbers)
    net = network.load()
    pixels = read_photo(net, image, side)
    options: dict[str, Any] = {"seed": network.seed}
    options |= {name: value for name, value in {"steps": steps, "lr": lr}.items() if value is not None}
    if accentuate is None:
        options |= {"layer": layer, "octaves": octaves, "scale": scale, "frames": frames}
        options |= {} if guide is None else {"guide": read_photo(net, guide, side)[0]}
    with Bars() as watch:

        def made(**changed: Any) -> Dream:
            given = {**options, **changed, "watch": watch}
            return (
                make(net, pixels, **given) if accentuate is None else stand_out(net, pixels, layer, accentuate, **given)
            )

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def _text(found: dict[str, Any]) -> str:
    return table(("before", "score"), [(one["before"], one["score"]) for one in found["images"]])


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), one["before"], one["score"]) for each in found["values"] for one in each["images"]]
    return table((found["sweep"], "before", "score"), rows)

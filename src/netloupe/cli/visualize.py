"""`netloupe visualize`: what units respond to, made by gradient ascent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Layer, NetworkOptions, Out, Sweep, grouped, read_images
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from torch import Tensor

    from netloupe.core.network import Network
    from netloupe.render.result import Result
    from netloupe.synthesis.facets import Facets
    from netloupe.synthesis.visualize import Visualization


@grouped
def visualize(
    network: NetworkOptions,
    units: Annotated[
        list[str] | None,
        typer.Argument(metavar="[UNIT]...", help="Addresses, as class:koala, conv5:17, conv5:17@4,5."),
    ] = None,
    layer: Layer = None,
    first: Annotated[int, typer.Option(min=1, metavar="N", help="With --layer: so many of its channels.")] = 16,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="lucid, maco, simonyan, yosinski, yosinski-2, yosinski-3, yosinski-4 or none."
        ),
    ] = "lucid",
    steps: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Steps of ascent, by default the preset's.")
    ] = None,
    lr: Annotated[float | None, typer.Option(metavar="SIZE", help="Size of a step, by default the preset's.")] = None,
    start: Annotated[
        str | None, typer.Option(metavar="START", help="zeros, gray, mean, uniform, noise or an image file.")
    ] = None,
    diverse: Annotated[
        int, typer.Option(min=1, metavar="N", help="So many images of each unit, kept unlike each other.")
    ] = 1,
    apart: Annotated[
        float | None, typer.Option(metavar="WEIGHT", help="With --diverse: how much unlikeness counts, else 0.5.")
    ] = None,
    facets: Annotated[
        int, typer.Option(min=0, metavar="N", help="One image for each of up to N groups of --data that excite it.")
    ] = 0,
    pull: Annotated[
        float | None, typer.Option(metavar="WEIGHT", help="With --facets: how much the group counts, else 1.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="With --facets: images, as elsewhere; else the photos.")
    ] = None,
    every: Annotated[int, typer.Option(min=0, metavar="N", help="Keep a frame each N steps.")] = 0,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Make images that classes, channels or neurons respond to.

    --size is the size of the images. With --out writes one picture of all, and each by itself. --facets groups the
    images of --data that excite a unit most, and makes an image from the mean of each group.
    """
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.tasks import STARTS
    from netloupe.synthesis.visualize import visualize as make

    swept = None if sweep is None else parse_sweep(sweep, {"preset": str, "steps": int, "lr": float, "seed": int})
    net = network.load()
    if not facets and (data is not None or pull is not None):
        raise InputError("--data or --pull without --facets (accepted: with --facets N)")
    if diverse == 1 and apart is not None:
        raise InputError("--apart without --diverse (accepted: with --diverse N)")
    options: dict[str, Any] = {
        "preset": preset,
        "steps": steps,
        "lr": lr,
        "start": start if start is None or start in STARTS else _photo(net, start),
        "every": every,
        "diverse": diverse,
        "apart": 0.5 if apart is None else apart,
        "seed": network.seed,
    }
    addresses = [*(units or ()), *_channels(net, layer, first)]
    if not addresses:
        raise InputError("no unit was given (accepted: addresses as class:koala or conv5:17, or --layer NAME)")
    if facets:
        if sweep is not None or every or diverse > 1 or start is not None:
            raise InputError("--facets with --sweep, --every, --diverse or --start (accepted: without them)")
        shared = {name: options[name] for name in ("preset", "steps", "lr", "seed")}
        weight = 1.0 if pull is None else pull
        found = _facets(net, addresses, data or "photos", facets, pull=weight, **shared)
        deliver(found, out, as_json, _facets_text)
        return
    with Bars() as watch:

        def made(**changed: Any) -> Visualization:
            return make(net, addresses, watch=watch, **{**options, **changed})

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def _facets(net: Network, addresses: list[str], data: str, count: int, **options: Any) -> Facets:
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.synthesis.facets import facets

    source = open_source(data)
    with Bars() as watch:
        return facets(net, addresses, source, count, watch=watch, **options)


def _photo(net: Network, path: str) -> Tensor:
    from netloupe.synthesis.tasks import STARTS

    try:
        return read_images(net, [Path(path)])[0]
    except InputError as error:
        raise InputError(f"{error} (accepted as a start: {', '.join(STARTS)}, or an image file)") from None


def _channels(net: Network, layer: str | None, first: int) -> list[str]:
    if layer is None:
        return []
    return [f"{layer}:{c}" for c in range(min(first, net.layer(layer).shape[0]))]


def _text(found: dict[str, Any]) -> str:
    rows = [(one["objective"], one["before"], one["score"], "dead" if one["dead"] else "") for one in found["images"]]
    note = "" if found["bounded"] else "\ncolors are not bounded: where they leave [0, 1] pictures show them cut off"
    return table(("objective", "before", "score", ""), rows) + note


def _facets_text(found: dict[str, Any]) -> str:
    rows = [
        (f["unit"], f["response"], f["best"], f["photographs"], "" if f["own"] else "went over to another facet")
        for f in found["facets"]
    ]
    note = f"\nwithout facets: {', '.join(found['without'])} (fewer than 2 photographs)" if found["without"] else ""
    return table(("unit", "response", "best photograph", "photographs", ""), rows) + note


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), one["objective"], one["score"]) for each in found["values"] for one in each["images"]]
    return table((found["sweep"], "objective", "score"), rows)

"""`netloupe style`: a photo painted as another picture is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Layers, NetworkOptions, Out, Sweep, grouped, read_photo, weighted
from netloupe.cli.output import deliver
from netloupe.cli.texture import pick_optimizer
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.render.result import Result
    from netloupe.synthesis.style import Styled


@grouped
def style(
    content: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photo to be painted.")],
    network: NetworkOptions,
    styles: Annotated[
        list[str],
        typer.Option("--style", "-s", metavar="IMAGE[=SHARE]", help="What to paint it like; several are mixed."),
    ],
    mask: Annotated[
        list[Path] | None,
        typer.Option(metavar="IMAGE", help="White where a style applies, one for each; then they are not mixed."),
    ] = None,
    side: Annotated[
        int, typer.Option(min=16, metavar="PX", help="The shorter side of the picture; larger photos are reduced.")
    ] = 256,
    content_weight: Annotated[float | None, typer.Option(metavar="W", help="How much the photo counts.")] = None,
    style_weight: Annotated[float, typer.Option(metavar="W", help="How much the style counts.")] = 1.0,
    style_scale: Annotated[
        float, typer.Option(metavar="FACTOR", help="The style's shorter side in terms of the photo's.")
    ] = 1.0,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Which layers: sharp, gatys or johnson.")] = "sharp",
    layer: Layers = None,
    content_layer: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=W]", help="Where content is read; several times.")
    ] = None,
    statistic: Annotated[str, typer.Option(metavar="NAME", help="gram or covariance.")] = "gram",
    colors: Annotated[
        str, typer.Option(metavar="NAME", help="style; luminance, match: the photo's own are kept.")
    ] = "style",
    start: Annotated[str, typer.Option(metavar="NAME", help="content, style, noise or uniform.")] = "content",
    smoothness: Annotated[float, typer.Option(metavar="W", help="Of the total variation.")] = 0.0,
    dream: Annotated[
        str | None, typer.Option(metavar="ADDRESS[=W]", help="Raise a layer or unit as well, as netloupe dream does.")
    ] = None,
    sizes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Go through N sizes, each twice the last.")
    ] = None,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="Steps at each size.")] = 150,
    lr: Annotated[float | None, typer.Option(metavar="SIZE", help="Size of a step.")] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="adam or lbfgs.")] = "adam",
    every: Annotated[
        int, typer.Option(min=0, metavar="N", help="Keep a frame each N steps: a GIF of the picture as it forms.")
    ] = 0,
    tile: Annotated[int, typer.Option(min=64, metavar="PX", help="Larger pictures are seen in tiles.")] = 1536,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Paint a photo as another picture is painted.

    Prints how far the features are from the photo's, and the statistics from the style's.
    """
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.statistics import preset_layers
    from netloupe.synthesis.style import CONTENT, LR
    from netloupe.synthesis.style import style as make

    numbers: dict[str, Any] = dict.fromkeys(
        ("content_weight", "style_weight", "style_scale", "smoothness", "lr"), float
    )
    numbers |= {"dream_weight": float, "steps": int, "seed": int, "sizes": int}
    numbers |= {"colors": str, "start": str, "statistic": str}
    swept = None if sweep is None else parse_sweep(sweep.replace("-", "_", sweep.partition("=")[0].count("-")), numbers)
    if mask is not None and len(mask) != len(styles):
        raise InputError(f"{len(mask)} masks for {len(styles)} styles (accepted: one each)")
    net = network.load()
    photo = read_photo(net, content, side)
    shares = weighted(styles, "style")
    usual = preset_layers(net, preset)
    options: dict[str, Any] = {
        "shares": list(shares.values()),
        "masks": None if mask is None else [_mask(path, photo.shape[2:]) for path in mask],
        "content_weight": CONTENT if content_weight is None else content_weight,
        "style_weight": style_weight,
        "style_scale": style_scale,
        "layers": weighted(layer, "layer") if layer else usual[0],
        "content_layers": weighted(content_layer, "content layer") if content_layer else usual[1],
        "statistic": statistic,
        "colors": colors,
        "start": start,
        "smoothness": smoothness,
        "sizes": sizes,
        "steps": steps,
        "every": every,
        "tile": tile,
        "seed": network.seed,
    }
    if dream is not None:
        ((address, weight),) = weighted([dream], "dream", usual=0.05).items()
        options |= {"dream": address, "dream_weight": weight}
    pictures = [read_photo(net, Path(path), None)[0] for path in shares]
    with Bars() as watch:

        def made(**changed: Any) -> Styled:
            given = {**options, **changed}
            given["optimizer"] = pick_optimizer(optimizer, given.pop("lr", lr), LR, given["steps"])
            return make(net, photo, pictures, **given, watch=watch)

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def _mask(path: Path, size: tuple[int, ...]) -> Any:
    """(H, W) in [0, 1], as large as the photo."""
    from netloupe.data.images import load_image

    return load_image(path, (int(size[0]), int(size[1])), channels=1)[0]


_HEAD = ("content", "style", "style at the start")


def _rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(one["content"], one["style"], one["before"]) for one in found["images"]]


def _text(found: dict[str, Any]) -> str:
    return table(_HEAD, _rows(found))


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), *row) for each in found["values"] for row in _rows(each)]
    return table((found["sweep"], *_HEAD), rows)

"""`netloupe invert`: what each layer keeps of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import ImagePaths, Json, Layers, NetworkOptions, Out, Sweep, grouped, read_images
from netloupe.cli.output import deliver
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.render.result import Result
    from netloupe.synthesis.invert import Inversion


@grouped
def invert(
    images: ImagePaths,
    network: NetworkOptions,
    layer: Layers = None,
    steps: Annotated[int, typer.Option(min=0, metavar="N", help="Steps of descent.")] = 300,
    lr: Annotated[float | None, typer.Option(metavar="SIZE", help="Size of a step.")] = None,
    smoothness: Annotated[float, typer.Option(metavar="WEIGHT", help="Of the total variation.")] = 1.0,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show what each layer keeps of an image.

    Finds images that a layer can't tell from the given ones. Without --layer, of every convolution and linear layer.
    """
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.invert import invert as make

    accepted: dict[str, Any] = {"steps": int, "lr": float, "smoothness": float, "seed": int}
    swept = None if sweep is None else parse_sweep(sweep, accepted)
    net = network.load()
    pixels = read_images(net, images)
    layers = layer or list(net.layers.where(lambda one: one.is_convolution or one.is_linear))
    options: dict[str, Any] = {"steps": steps, "lr": lr, "smoothness": smoothness, "seed": network.seed}
    with Bars() as watch:

        def made(**changed: Any) -> Inversion:
            return make(net, pixels, layers, watch=watch, **{**options, **changed})

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def _rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (one["layer"], i, f"{error:.2%}", f"{psnr:.1f} dB")
        for one in found["layers"]
        for i, (error, psnr) in enumerate(zip(one["feature_error"], one["psnr"], strict=True))
    ]


_HEAD = ("layer", "image", "feature error", "PSNR")


def _text(found: dict[str, Any]) -> str:
    return table(_HEAD, _rows(found))


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), *row) for each in found["values"] for row in _rows(each)]
    return table((found["sweep"], *_HEAD), rows)

"""`netloupe activations`: what each channel answers to an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import ImagePaths, Json, Layers, NetworkOptions, Out, grouped, read_images
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def activations(
    images: ImagePaths,
    network: NetworkOptions,
    layer: Layers = None,
    top: Annotated[int, typer.Option(metavar="N", help="Strongest channels shown of each layer.")] = 16,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show what each channel answers to images.

    By default the channels of every convolution.
    """
    from netloupe.analysis.activations import activation_maps

    net = network.load()
    result = activation_maps(net, read_images(net, images), layer, top=top)
    deliver(result, out, as_json, lambda found: _text(images, found))


def _text(images: list[Path], found: dict[str, Any]) -> str:
    rows = [
        (image, layer, "  ".join(f"{best['channel']} ({best['peak']:.3g})" for best in strongest[:5]))
        for image, layers in zip(images, found["images"], strict=True)
        for layer, strongest in layers.items()
    ]
    return table(("image", "layer", "strongest channels (peak)"), rows)

"""What is told where a network does not compute in float32: how far it is from it, on the images at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from netloupe.core.settings import FULL

if TYPE_CHECKING:
    from torch import Tensor

    from netloupe.core.network import Network

HELD = 32  # images at most


def tell_precision(net: Network, inputs: Mapping[str, Any]) -> None:
    """One line on stderr, of a network in another precision."""
    if getattr(net, "precision", FULL) == FULL:
        return
    from netloupe.core.agreement import agreement
    from netloupe.core.errors import NetloupeError

    try:
        images, whose = _some(net, inputs)
        typer.echo(f"{agreement(net, images)} ({whose})", err=True)
    except NetloupeError as error:
        typer.echo(f"{net.precision} was not held against {FULL}: {error}", err=True)


def _some(net: Network, inputs: Mapping[str, Any]) -> tuple[Tensor, str]:
    """Up to `HELD` of the images that a command is given, else embedded photographs; and which they are."""
    from netloupe.core.perform import Images
    from netloupe.data.photos import photos
    from netloupe.data.sources import ImageSource, read_all

    for given in inputs.values():
        if isinstance(given, Images):
            return given.fitted(net)[:HELD], "the images given"
        if isinstance(given, ImageSource):
            return read_all(given.first(HELD).read_for(net.inputs), net.inputs.size, net.inputs.channels)[1], (
                f"the first {min(HELD, len(given))} of the images"
            )
    source = photos().first(HELD)
    return read_all(source.read_for(net.inputs), net.inputs.size, net.inputs.channels)[1], "embedded photographs"

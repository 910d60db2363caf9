"""`netloupe studio`: a network looks at your own photo, live in the browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netloupe.cli.options import AllowHost, Also, Keep, NetworkOptions, Port, grouped
from netloupe.cli.stop import Terminated

if TYPE_CHECKING:
    from netloupe.core.network import Network


@grouped
def studio(
    network: NetworkOptions,
    photo: Annotated[
        Path | None, typer.Argument(metavar="[PHOTO]", help="The first photo: a JPEG, PNG or WebP file.")
    ] = None,
    port: Port = 8400,
    keep: Keep = None,
    also: Also = None,
    allow_host: AllowHost = None,
) -> None:
    """Look at your photo through a network, live in a browser."""
    from netloupe.atlas.server import serve
    from netloupe.studio.kept import Kept
    from netloupe.studio.live import Live
    from netloupe.studio.photos import Photo, opened
    from netloupe.studio.studio import Studio

    first = None if photo is None else Photo("first", opened(_bytes(photo)))
    kept = None if keep is None else Kept(keep, network.said)
    made = Studio(network.load(), first, kept, others(also or [], network.model, network.device))
    live = Live(lambda: made)

    def ready(address: str) -> None:
        typer.echo(f"{address}#/try (Ctrl-C ends)")
        sys.stdout.flush()

    try:
        serve(None, port=port, allowed=allow_host or (), studio=live.router, ready=ready)
    except Terminated:
        raise typer.Exit(143) from None
    except KeyboardInterrupt:
        raise typer.Exit from None
    finally:
        live.close()


def others(names: list[str], model: str, device: str) -> dict[str, Network]:
    """Networks by name: of the zoo, or files of weights of `model`, as its training wrote them."""
    from netloupe.zoo.load import load

    found = {}
    for name in names:
        weights = Path(name.partition("#")[0]).is_file() and not name.endswith(".py")
        found[name] = load(model, weights=name, device=device) if weights else load(name, device=device)
    return found


def _bytes(photo: Path) -> bytes:
    from netloupe.core.errors import InputError

    try:
        return photo.read_bytes()
    except OSError as error:
        raise InputError(f"{photo}: can't be read ({error.strerror})") from None

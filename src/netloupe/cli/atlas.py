"""`netloupe atlas build | serve | export`: the atlas in the browser."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.command import run
from netloupe.cli.options import AllowHost, Also, Keep, NetworkOptions, Port, out_folder
from netloupe.cli.stop import Terminated, keeping
from netloupe.core.errors import InputError
from netloupe.core.task import Task

if TYPE_CHECKING:
    from netloupe.core.network import Network
    from netloupe.studio.live import Live
    from netloupe.studio.studio import Studio

Folder = Annotated[Path, typer.Argument(metavar="ATLAS", help="The folder that `netloupe atlas build` wrote.")]


@dataclass(frozen=True)
class BuildOptions(NetworkOptions):
    """And whether the atlas is shown meanwhile."""

    serve: Annotated[bool, typer.Option("--serve", help="Show it in the browser while it is made, and after.")] = False
    port: Port = 8400
    allow_host: AllowHost = None
    keep: Keep = None
    also: Also = None


def build(kind: type[Task], options: BuildOptions, given: dict[str, Any]) -> None:
    """Of `netloupe atlas build`, which keeps what it has made when it is stopped."""
    if options.serve:
        _build_served(kind, options, given)
    elif any(getattr(options, f.name) != f.default for f in fields(BuildOptions)[len(fields(NetworkOptions)) :]):
        raise InputError("--port, --allow-host, --keep and --also are of the browser (accepted: with --serve)")
    else:
        _build(kind, options, given)


def _build(kind: type[Task], options: BuildOptions, given: dict[str, Any]) -> None:
    from netloupe.atlas.store import kept_of

    out = given["out"]
    with keeping(lambda: kept_of(out)):
        run(kind, options, given)


def _build_served(kind: type[Task], options: BuildOptions, given: dict[str, Any]) -> None:
    """Shown while it is made, and then until interrupted, with the studio of its network."""
    from netloupe.atlas.filling import Filling, shown_in
    from netloupe.atlas.server import serving
    from netloupe.studio.live import Live

    filling, to_stderr = Filling(studio=True), given["as_json"]
    data, first = given["data"] or "photos", given["first"]

    def load() -> Studio:
        from netloupe.cli.studio import others
        from netloupe.data.open import open_source
        from netloupe.studio.kept import Kept
        from netloupe.studio.studio import Studio

        assert filling.net is not None
        kept = None if options.keep is None else Kept(options.keep, options.said)
        also = others(options.also or [], options.model, options.device)
        return Studio(filling.net, None, kept, also, lambda: open_source(data).first(first))

    def ready(address: str) -> None:
        typer.echo(f"{address} (Ctrl-C ends)", err=to_stderr)
        sys.stdout.flush()

    live = Live(load)
    try:
        with serving(
            filling, options.port, allowed=options.allow_host or (), studio=live.router, ready=ready
        ) as server:
            with shown_in(filling):
                _build(kind, options, given)
            _wait(server)
    finally:
        live.close()


def _wait(server: threading.Thread) -> None:
    """Until it ends, or is interrupted."""
    try:
        while server.is_alive():
            server.join(1)
    except Terminated:
        raise typer.Exit(143) from None
    except KeyboardInterrupt:
        raise typer.Exit from None


def serve(
    store: Folder = Path("atlas"),
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8400,
    allow_host: AllowHost = None,
    keep: Keep = None,
    also: Also = None,
) -> None:
    """Serve an atlas to the browser until interrupted.

    On this machine with the studio, where its network looks at your own photos.
    """
    from netloupe.atlas.guard import Hosts
    from netloupe.atlas.server import serve

    live = _studio(store, keep, also or []) if Hosts(host).local else None
    if live is None and (keep is not None or also):
        raise InputError("--keep and --also are of the studio (accepted: where there is one, on this machine only)")
    if not Hosts(host).local:
        typer.echo(f"{host}: whoever reaches this machine can see the atlas and its photographs", err=True)

    def ready(address: str) -> None:
        typer.echo(f"{address} (Ctrl-C ends)")
        sys.stdout.flush()

    try:
        serve(store, host, port, allowed=allow_host or (), studio=None if live is None else live.router, ready=ready)
    except Terminated:
        raise typer.Exit(143) from None
    except KeyboardInterrupt:
        raise typer.Exit from None
    finally:
        if live is not None:
            live.close()


def _studio(store: Path, keep: Path | None, also: list[str]) -> Live | None:
    """The studio of an atlas's own network; None, with a line that says why, where that can't be loaded by its name."""
    from netloupe.atlas.store import Store
    from netloupe.studio.live import Live

    told = Store.open(store).network["provenance"]
    model = (told["network"].get("model") or {}).get("model")
    if not isinstance(model, str) or ".py" in model:
        name = told["network"]["name"]
        typer.echo(f"without the studio: {name} can't be loaded by its name (see netloupe studio --model)", err=True)
        return None

    def load() -> Studio:
        from netloupe.cli.studio import others
        from netloupe.remake import network_told, source_told
        from netloupe.studio.kept import Kept
        from netloupe.studio.studio import Studio

        net = network_told(told, store)
        kept = None if keep is None else Kept(keep, _said(net))
        return Studio(net, None, kept, others(also, model, str(net.device)), partial(source_told, told))

    return Live(load)


def _said(net: Network) -> dict[str, str] | None:
    """The options by which the command line loads that network; None where its name is not all there is to say."""
    from netloupe.zoo.load import load

    told = {name: value for name, value in (net.origin or {}).items() if value is not None}
    name, _ = told.pop("model", None), told.pop("seed", None)
    if not isinstance(name, str) or told:
        return None
    plain = load(name, device=str(net.device))
    return {"model": name} if (plain.fingerprint(), plain.inputs) == (net.fingerprint(), net.inputs) else None


def export(
    out: Annotated[Path, out_folder("The folder of the web pages.")],
    store: Folder = Path("atlas"),
) -> None:
    """Write an atlas as plain files that any web server can serve."""
    from netloupe.atlas.export import export
    from netloupe.cli.watch import Bars

    with Bars() as watch:
        count = export(store, out, watch=watch)
    typer.echo(f"{out}: {count:,} files")

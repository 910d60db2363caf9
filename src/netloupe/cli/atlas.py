"""`netloupe atlas build | serve | export`: the atlas in the browser."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import AllowHost, Data, Json, Layers, NetworkOptions, Port, grouped, writable
from netloupe.cli.output import show
from netloupe.cli.stop import Terminated, keeping
from netloupe.core.errors import InputError

if TYPE_CHECKING:
    from netloupe.studio.live import Live
    from netloupe.studio.studio import Studio

Folder = Annotated[Path, typer.Argument(metavar="ATLAS", help="The folder that `netloupe atlas build` wrote.")]


@dataclass(frozen=True)
class SynthesisOptions:
    """Which channels get an image made for them, and how."""

    synthesize: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Make an image for each channel of this layer; several times, or all."),
    ] = None
    facets: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --synthesize: up to N facets of each channel too.")
    ] = 0
    preset: Annotated[str, typer.Option(metavar="NAME", help="With --synthesize: as in netloupe visualize.")] = "lucid"
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --synthesize: steps of ascent, else the preset's.")
    ] = None


@grouped
def build(
    network: NetworkOptions,
    images: SynthesisOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", callback=writable, help="The folder of the atlas.")
    ] = Path("atlas"),
    data: Data = "photos",
    layer: Layers = None,
    k: Annotated[int, typer.Option("-k", "--top", metavar="N", help="Patches of each channel.")] = 9,
    project: Annotated[
        str,
        typer.Option(metavar="deconvnet|guided|none", help="Lay the projection of each patch's neuron beside it."),
    ] = "deconvnet",
    map_by: Annotated[
        str, typer.Option("--map", metavar="tsne|pca|umap|none", help="Lay the images out on a map.")
    ] = "tsne",
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images run at once.")] = 32,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")] = None,
    as_json: Json = False,
) -> None:
    """Build an atlas of a network over images.

    A build that was cut short goes on where it was.
    """
    from netloupe.analysis.unproject import named_rule
    from netloupe.atlas.build import build
    from netloupe.atlas.store import kept_of
    from netloupe.atlas.synthesis import Synthesis
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source

    rule = None if project == "none" else named_rule(project, "none")
    with keeping(lambda: kept_of(out)), Bars() as watch:
        net, source = network.load(), open_source(data).first(first)
        chosen = list(images.synthesize or ())
        if not chosen and images != SynthesisOptions(images.synthesize):
            raise InputError("--facets, --preset or --steps without --synthesize (accepted: with --synthesize LAYER)")
        if chosen == ["all"]:
            chosen = list(layer or net.layers.distinct())
        how = Synthesis(tuple(chosen), images.facets, images.preset, images.steps)
        report = build(
            net,
            source,
            out,
            layers=layer,
            k=k,
            project=rule,
            map_by=None if map_by == "none" else map_by,
            synthesize=how,
            batch_size=batch_size,
            watch=watch,
        )
    if report.no_projections is not None:
        typer.echo(f"no projections: {report.no_projections}", err=True)
    for skipped in report.skipped:
        typer.echo(f"skipped {skipped.name}: {skipped.reason}", err=True)
    show({**asdict(report), "path": str(report.path)}, as_json, _text)


def _text(report: dict[str, Any]) -> str:
    done = f"in {report['seconds']:.1f} s" if report["fresh"] else "(built before)"
    counts = f"{report['units']:,} units in {report['layers']} layers over {report['images']:,} images"
    return f"{report['path']}: {counts} {done}\nlook at it: netloupe atlas serve {report['path']}"


def serve(
    store: Folder = Path("atlas"),
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8400,
    allow_host: AllowHost = None,
) -> None:
    """Serve an atlas to the browser until interrupted.

    On this machine with the studio, where its network looks at your own photos.
    """
    from netloupe.atlas.guard import Hosts
    from netloupe.atlas.server import serve

    live = _studio(store) if Hosts(host).local else None
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


def _studio(store: Path) -> Live | None:
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
        from netloupe.remake import network_told
        from netloupe.studio.studio import Studio

        return Studio(network_told(told, store))

    return Live(load)


def export(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", callback=writable, help="The folder of the web pages.")
    ],
    store: Folder = Path("atlas"),
) -> None:
    """Write an atlas as plain files that any web server can serve."""
    from netloupe.atlas.export import export
    from netloupe.cli.watch import Bars

    with Bars() as watch:
        count = export(store, out, watch=watch)
    typer.echo(f"{out}: {count:,} files")

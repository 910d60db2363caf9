"""`netloupe study evolution`: how features evolve while a network is trained."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Layers, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table
from netloupe.core.watch import Watch

if TYPE_CHECKING:
    from netloupe.core.network import Network
    from netloupe.data.sources import ImageSource

    Snapshots = dict[int, Callable[[], Network]]


@grouped
def evolution(
    network: NetworkOptions,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Snapshots that a Recorder wrote.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Images, as elsewhere: photos; without FOLDER digits."),
    ] = None,
    layer: Layers = None,
    unit: Annotated[
        list[str] | None,
        typer.Option("--unit", "-u", metavar="LAYER:CHANNEL", help="A channel to show; may be given several times."),
    ] = None,
    show: Annotated[int, typer.Option(min=1, metavar="N", help="Channels shown of each layer.")] = 4,
    choose: Annotated[
        str, typer.Option(metavar="strongest|random", help="Which of them, as they are at the last snapshot.")
    ] = "strongest",
    project: Annotated[str, typer.Option(metavar="deconvnet|guided", help="The rule of the projections.")] = (
        "deconvnet"
    ),
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Images read at once.")] = 32,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show how a network's features evolve while it is trained.

    FOLDER holds the snapshots of a training, as `netloupe train --snapshots` or a Recorder in any loop writes them;
    --model names the network they are of. Without FOLDER a small network is trained first, on labeled images.
    """
    from netloupe.analysis.unproject import named_rule
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.evolution.measure import check_choice, evolution

    if unit and layer:
        raise InputError("--layer and --unit were given (accepted: one of them)")
    rule = named_rule(project)
    check_choice(choose)
    source = open_source(data if data is not None else "digits" if folder is None else "photos")
    with Bars() as watch, tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            _check_named(source, layer, unit)
            kept = Path(scratch) if out is None else out / "snapshots"
            snapshots = _train(network, source, kept, watch)
        else:
            snapshots = _read(network, folder)
        result = evolution(
            snapshots,
            source,
            layer,
            unit,
            channels=show,
            choose=choose,  # type: ignore[arg-type]  # checked there
            rule=rule,
            batch_size=batch_size,
            seed=network.seed,
            watch=watch,
        )
        for one in result.skipped:
            typer.echo(f"skipped {one.name}: {one.reason}", err=True)
        deliver(result, out, as_json, _text)


def _read(network: NetworkOptions, folder: Path) -> Snapshots:
    """The networks of the snapshots in a folder."""
    from netloupe.core.errors import StoreError
    from netloupe.training.recorder import snapshots

    if network.weights is not None:
        raise InputError(
            f"--weights was given beside {folder}, whose snapshots are the weights (accepted: one of them)"
        )
    found = snapshots(folder)
    if not found:
        raise StoreError(f"{folder}: no snapshots there (accepted: epoch-*.safetensors, as a Recorder writes them)")

    def reader(path: Path) -> Callable[[], Network]:
        return lambda: replace(network, weights=str(path)).load()

    return {epoch: reader(path) for epoch, path in found.items()}


def _check_named(source: ImageSource, layers: list[str] | None, units: list[str] | None) -> None:
    """Raises, before the network is trained, for layers and channels that it will not have."""
    from netloupe.core.inputs import InputSpec
    from netloupe.core.network import Network
    from netloupe.data.labels import required
    from netloupe.studies.evolution.measure import named_channels
    from netloupe.training.practice import SIZE, small_network

    classes = len(required(source, "training"))
    net = Network(small_network(classes, 3).eval(), InputSpec((SIZE, SIZE)), name="small network")
    named_channels(net, layers, units)


def _train(network: NetworkOptions, source: ImageSource, folder: Path, watch: Watch) -> Snapshots:
    """The networks of a training that happens here, and is told of on stderr."""
    from netloupe.core.device import device_of
    from netloupe.training.practice import practice
    from netloupe.training.recorder import networks

    given = [f.name for f in fields(network) if getattr(network, f.name) != f.default and f.name != "seed"]
    about = [name for name in given if name != "device"]
    if about:
        raise InputError(f"--{about[0]} is about the network of a FOLDER of snapshots, and none was given")
    done = practice(source, folder, device=str(device_of(network.device)), seed=network.seed, watch=watch)
    typer.echo(
        f"No FOLDER was given, so a small network was trained on {done.images} images of {source.title} for 64 epochs; "
        f"it names {done.top1:.1%} of the held-out images rightly.",
        err=True,
    )
    return networks(folder, done.net)


def _text(found: dict[str, Any]) -> str:
    header = ("layer", *(f"epoch {epoch}" for epoch in found["epochs"]), "settled by")
    rows = [(name, *one["likeness"], one["settled"]) for name, one in found["layers"].items()]
    return "\n".join([table(header, rows), "", found["verdict"]])

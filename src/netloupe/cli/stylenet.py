"""`netloupe stylenet train | apply | styles | export`: one network that paints in many styles, in a single pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.command import settled
from netloupe.cli.options import Device, Json, grouped, out_folder, writable
from netloupe.cli.output import show
from netloupe.cli.stop import checkpoint_in, keeping
from netloupe.core.errors import InputError
from netloupe.core.table import table
from netloupe.core.task import Task
from netloupe.stylenet.tasks import Apply
from netloupe.training.recipes import StylizerRecipe

if TYPE_CHECKING:
    from netloupe.data.sources import Skipped
    from netloupe.stylenet.apply import Applied
    from netloupe.stylenet.model import StyleModel

Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="What `netloupe stylenet train` wrote; else what comes along.")
]


@grouped
def train(
    styles: Annotated[Path, typer.Option(metavar="FOLDER", help="Pictures, each a style of the name of its file.")],
    images: Annotated[str, typer.Option(metavar="SOURCE", help="Photos: a folder, a list, Parquet, or photos.")],
    out: Annotated[
        Path,
        out_folder("Weights, card, log and checkpoint."),
    ],
    recipe: Annotated[dict[str, Any], StylizerRecipe],
    extend: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights to add the styles to; its own stay as they are.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights to begin with; all of them are trained further.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the weights file and in the card.")] = None,
    every: Annotated[int, typer.Option(metavar="N", help="Steps from one checkpoint to the next.")] = 250,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a network to paint photos in the styles of some pictures.

    A run that was cut short goes on from its last checkpoint. What is not given is as the recipe has it.
    """
    from netloupe.cli.watch import Bars
    from netloupe.stylenet.model import load_styles
    from netloupe.training.styles import train_styles

    kept = [name for name in ("norm", "blocks", "widths") if name in recipe]
    for option, value in (("extend", extend), ("start", start)):
        if value is not None and kept:
            raise InputError(f"--{kept[0]} was given with --{option} (accepted: without; the network keeps its own)")
    with keeping(checkpoint_in(out)), Bars() as watch:
        path = train_styles(
            styles,
            images,
            out,
            name=name,
            recipe=replace(StylizerRecipe(), **recipe),
            extend=extend,
            start=start,
            device=device,
            every=every,
            watch=watch,
        )
    show({"weights": str(path), "card": dict(load_styles(path).card)}, as_json, _trained)


@dataclass(frozen=True)
class StyleOptions:
    """Which style network paints, on which device, and how long a camera is recorded."""

    weights: Weights = None
    seconds: Annotated[float, typer.Option(metavar="S", help="How long a camera is recorded.")] = 10.0
    device: Device = "auto"


def apply(kind: type[Task], options: StyleOptions, given: dict[str, Any]) -> None:
    """Of `netloupe stylenet apply`, which also takes what is no image."""
    from netloupe.cli.watch import Bars
    from netloupe.stylenet.apply import apply_task
    from netloupe.stylenet.model import load_styles

    out, inputs = given.pop("out"), given.pop("images")
    task, _ = settled(kind, given, {"images": inputs}, 0)
    if out is None:
        raise InputError("no folder to write to (accepted: --out FOLDER)")
    assert isinstance(task, Apply)
    model = load_styles(options.weights, options.device)
    painted = lambda: f"what was painted lies in {out}" if out.exists() else None  # noqa: E731
    with keeping(painted, goes_on=False), Bars() as watch:
        done = apply_task(task, model, inputs, out, seconds=options.seconds, watch=watch, on_skip=_say_skipped)
    for name, reason in done.silent:
        typer.echo(f"{name}: its sound is left out, {reason}", err=True)
    show(_summary(model, task, done), given["as_json"], _applied)


def styles(weights: Weights = None, as_json: Json = False) -> None:
    """List the styles of a network."""
    from netloupe.stylenet.model import load_styles

    model = load_styles(weights)
    show({"name": model.name, "styles": list(model.styles)}, as_json, lambda found: "\n".join(found["styles"]))


def export(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .onnx file to write.")],
    weights: Weights = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Take one image of this size only; else any number and size.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, with inputs image and blend."""
    from netloupe.stylenet.export import export_onnx
    from netloupe.stylenet.model import load_styles
    from netloupe.zoo.specs import parse_size

    writable(out.parent)
    sides = None if size is None else parse_size(size)
    model = load_styles(weights)
    export_onnx(model, out, sides)
    found = {"file": str(out), "bytes": out.stat().st_size, "size": sides, "styles": list(model.styles)}
    show(found, as_json, lambda f: f"{f['file']}: {f['bytes'] / 1e6:.1f} MB, {len(f['styles'])} styles")


def _say_skipped(one: Skipped) -> None:
    reason = one.reason if one.reason.startswith(one.name) else f"{one.name}: {one.reason}"
    typer.echo(f"skipped {reason}", err=True)


def _summary(model: StyleModel, task: Apply, done: Applied) -> dict[str, Any]:
    return {
        "network": model.name,
        "style": model.shares(task.style),
        "files": [{"input": name, "file": str(path)} for name, path in done.files],
        "skipped": [asdict(one) for one in done.skipped],
    }


def _applied(found: dict[str, Any]) -> str:
    skipped = f"\n{len(found['skipped'])} skipped" if found["skipped"] else ""
    return table(("input", "file"), [(one["input"], one["file"]) for one in found["files"]]) + skipped


def _trained(found: dict[str, Any]) -> str:
    card = found["card"]
    losses = table(("style", "loss"), list(card["losses"].items()))
    return f"{found['weights']}: {len(card['styles'])} styles, {card['parameters']:,} parameters\n{losses}"

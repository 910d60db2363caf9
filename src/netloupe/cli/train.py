"""`netloupe train`: a network from labeled images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Device, Json, grouped, out_folder
from netloupe.cli.output import show
from netloupe.cli.stop import checkpoint_in, keeping
from netloupe.training.recipes import ClassifierRecipe


@grouped
def train(
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="Labeled images to train on.")],
    val: Annotated[str, typer.Option("--val", metavar="SOURCE", help="Labeled images to validate on.")],
    out: Annotated[
        Path,
        out_folder("Weights, card, log and checkpoint."),
    ],
    recipe: Annotated[dict[str, Any], ClassifierRecipe],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", metavar="NAME", help="lenslet, patchlet, zfnet or FILE.py:FACTORY.")
    ] = "lenslet",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the weights file and in the card.")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Class names by index, where the images don't tell them.")
    ] = None,
    snapshots: Annotated[
        bool,
        typer.Option(
            "--snapshots", help="Keep the weights after epochs 1, 2, 5, 10, 20, ... for netloupe study evolution."
        ),
    ] = False,
    start: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="Begin as this embedded network, or a file of weights.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="Learn from what this network of the same classes says.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a network on labeled images.

    Images are a folder of class folders or Parquet with labels. A run that was cut short goes on from its last epoch.
    What is not given is as the architecture's own recipe has it.
    """
    from netloupe.cli.watch import Bars
    from netloupe.training.models import default_recipe, train_model
    from netloupe.training.recorder import EPOCHS
    from netloupe.zoo.state import read_state

    with keeping(checkpoint_in(out)), Bars() as watch:
        path = train_model(
            architecture,
            data,
            val,
            out,
            name=name,
            recipe=replace(default_recipe(architecture), **recipe),
            device=device,
            labels=labels,
            snapshots=EPOCHS if snapshots else None,
            start=start,
            teacher=teacher,
            watch=watch,
        )
    show({"weights": str(path), "card": read_state(path).card}, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    card = found["card"]
    left = card["robustness"] or {"norm": "", "shares": {}}
    robust = "".join(f", {share:.1%} within {left['norm']} {size}" for size, share in left["shares"].items())
    return (
        f"{found['weights']}: {card['parameters']:,} parameters, top-1 {card['top1']:.1%}, top-5 {card['top5']:.1%}"
        f"{robust}"
    )

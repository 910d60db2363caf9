"""`netloupe train`: a network from labeled images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Json, grouped, parse_sizes, writable
from netloupe.cli.output import show


@dataclass(frozen=True)
class RecipeOptions:
    """What differs from the architecture's own recipe."""

    size: Annotated[int | None, typer.Option(metavar="PX", help="Side at which images are stored and validated.")] = (
        None
    )
    batch: Annotated[int | None, typer.Option(metavar="N", help="Images in a step.")] = None
    rate: Annotated[float | None, typer.Option(metavar="X", help="Highest learning rate.")] = None
    warmup: Annotated[float | None, typer.Option(metavar="X", help="Share of the steps in which it rises.")] = None
    momentum: Annotated[float | None, typer.Option(metavar="X", help="Nesterov momentum.")] = None
    decay: Annotated[float | None, typer.Option(metavar="X", help="Weight decay.")] = None
    smoothing: Annotated[float | None, typer.Option(metavar="X", help="Label smoothing.")] = None
    crop: Annotated[float | None, typer.Option(metavar="X", help="Smallest share of the area that a crop keeps.")] = (
        None
    )
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of all that is drawn at random.")] = None


@grouped
def train(
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="Labeled images to train on.")],
    val: Annotated[str, typer.Option("--val", metavar="SOURCE", help="Labeled images to validate on.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", callback=writable, help="Weights, card, log and checkpoint."),
    ],
    options: RecipeOptions,
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", metavar="NAME", help="lenslet, zfnet or FILE.py:FACTORY.")
    ] = "lenslet",
    sizes: Annotated[
        str | None, typer.Option(metavar="PX:EPOCHS,...", help="Sides of the training images and epochs at each.")
    ] = None,
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
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")] = "auto",
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

    changes = {key: value for key, value in asdict(options).items() if value is not None}
    if sizes is not None:
        changes["sizes"] = parse_sizes(sizes, "PX:EPOCHS,... as in 40:7,48:7,56:5")
    recipe = replace(default_recipe(architecture), **changes)
    with Bars() as watch:
        path = train_model(
            architecture,
            data,
            val,
            out,
            name=name,
            recipe=recipe,
            device=device,
            labels=labels,
            snapshots=EPOCHS if snapshots else None,
            watch=watch,
        )
    show({"weights": str(path), "card": read_state(path).card}, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    card = found["card"]
    return f"{found['weights']}: {card['parameters']:,} parameters, top-1 {card['top1']:.1%}, top-5 {card['top5']:.1%}"

"""`netloupe explain`: which pixels of an image made the network answer so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netloupe.cli.options import Address, ClassName, Json, NetworkOptions, ObjectiveText, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def explain(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    network: NetworkOptions,
    class_: ClassName = None,
    unit: Address = None,
    objective: ObjectiveText = None,
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "-m", metavar="NAMES", help="Methods, with commas; may be given several times."),
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show which pixels of an image matter to a class or unit.

    By every method side by side, with how far to trust each. By default to the most probable class.
    """
    from netloupe.analysis.display import as_seen
    from netloupe.analysis.explain.task import explain
    from netloupe.analysis.methods import pick_methods
    from netloupe.cli.watch import Bars
    from netloupe.core.objectives import target
    from netloupe.data.images import fit, open_image, to_float

    names = [name.strip() for given in methods for name in given.split(",")] if methods else None
    pick_methods(names)
    goal = target(class_, unit, objective)
    photo = open_image(image)
    net = network.load()
    pixels = to_float(fit(photo, net.inputs.size, net.inputs.channels))
    with Bars() as watch:
        result = explain(
            net,
            pixels,
            goal,
            names,
            photo=as_seen(photo, net.inputs.size),
            seed=network.seed,
            watch=watch,
        )
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    shares = (f"{one['label']} {one['probability']:.1%}" for one in found["predictions"])
    lines = [
        f"explained: {found['target']}",
        f"predictions: {', '.join(shares) or 'none'} ({found['head']})",
        f"object: {_place(found['object'])}",
    ]
    header = ("method", "peak", f"like {found['rival'] or 'a rival'}", "like random", "deletion", "insertion")
    rows = [_row(name, one) for name, one in found["methods"].items()]
    rows.append(_row("random order", found["by_chance"]))
    left_out = [f"left out: {name}. {why}" for name, why in found["skipped"].items()]
    return "\n".join([*lines, table(header, rows), *left_out])


def _row(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    peak = "zero everywhere" if one.get("zero") else _pair(one.get("peak"))
    likeness = one.get("class_likeness"), one.get("random_likeness")
    return name, peak, *likeness, one["deletion"], one["insertion"]


def _pair(position: list[int] | None) -> str:
    return "-" if position is None else f"{position[0]},{position[1]}"


def _place(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none found"
    top, left, bottom, right = found["box"]
    height, width = found["of"]
    return f"top {top}, left {left}, bottom {bottom}, right {right} of {height}x{width} px"

"""`netloupe occlude`: what hiding each part of an image does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Address, Data, Json, Layer, NetworkOptions, ObjectiveText, Out, grouped, read_images
from netloupe.cli.output import deliver, show
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.analysis.baselines import Baseline
    from netloupe.analysis.occlusion import Occlusion


@grouped
def occlude(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    network: NetworkOptions,
    class_name: Annotated[
        str | None, typer.Option("--class", "-c", metavar="NAME", help="The class, by default the one predicted.")
    ] = None,
    unit: Address = None,
    objective: ObjectiveText = None,
    layer: Layer = None,
    window: Annotated[
        list[int] | None,
        typer.Option("--window", "-w", metavar="PX", help="Side of the window; may be given several times."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", "-s", metavar="PX", help="Step of the window, by default half its side.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(metavar="FILL", help="What hides: mean, blur, a gray value from 0 to 1, or #rrggbb.")
    ] = "mean",
    growth: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Below 1, faster and not exact: how far windows grow inside the network."),
    ] = 1.0,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute in bfloat16: not exact, faster where processors have it.")
    ] = False,
    data: Data = "photos",
    first: Annotated[
        int, typer.Option(min=0, metavar="N", help="Other images searched for the map's best patches; 0 for none.")
    ] = 256,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Hide each part of an image in turn.

    Shows what becomes of the strongest feature map of a layer (by default the last convolution) and of the prediction,
    as Zeiler and Fergus did, or with --unit or --objective only of that score.
    """
    from netloupe.analysis.occlusion import occlusions
    from netloupe.analysis.occlusion_panels import occlusion_panels, usual_window
    from netloupe.cli.watch import Bars
    from netloupe.core.objectives import target
    from netloupe.data.open import open_source

    goal = target(class_name, unit, objective)
    alone = goal if class_name is None else None
    if alone is not None and layer is not None:
        raise InputError(f"a layer was given with {alone} (accepted: one of them)")
    net = network.load()
    fill = _baseline(baseline)
    pixels = read_images(net, [image])
    sides = window or [usual_window(net.inputs.size)]
    sizes: dict[int | tuple[int, int], int | tuple[int, int]] = {
        w: max(1, w // 2) if stride is None else stride for w in sides
    }
    with Bars() as watch:
        if alone is not None:
            found = occlusions(net, pixels, alone, sizes, fill, growth=growth, bfloat16=bfloat16, watch=watch)
            _deliver_score(unit or str(alone), found, out, as_json)
            return
        result = occlusion_panels(
            net,
            pixels,
            class_name,
            layer,
            windows=sizes,
            baseline=fill,
            others=open_source(data).first(first) if first else None,
            growth=growth,
            bfloat16=bfloat16,
            watch=watch,
        )
    deliver(result, out, as_json, _text)


def _deliver_score(name: str, found: list[Occlusion], out: Path | None, as_json: bool) -> None:
    files = []
    for one in found:
        if out is not None:
            folder = out / "x".join(map(str, one.windows.size)) if len(found) > 1 else out
            files += [str(path) for path in one.save(folder)]
    summary = {"unit": name, "windows": [one.summary() for one in found], **({"files": files} if files else {})}
    show(summary, as_json, _unit_text)


def _baseline(text: str) -> Baseline:
    if text == "mean":
        return "mean"
    if text == "blur":
        return "blur"
    digits = text.removeprefix("#")
    try:
        if text.startswith("#") and len(digits) == 6:
            return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        return float(text)
    except ValueError:
        raise InputError(f"baseline {text!r} (accepted: mean, blur, a gray value from 0 to 1, or #rrggbb)") from None


def _text(found: dict[str, Any]) -> str:
    rows = [
        (
            _sides(one["window"]),
            _sides(one["grid"]),
            one["lowest_probability"]["value"],
            _box(one["lowest_probability"]["box"]),
            one["lowest_activation"]["value"],
            _box(one["lowest_activation"]["box"]),
        )
        for one in found["windows"]
    ]
    head = f"{found['class']}, probability {found['probability']:.3g}; {found['unit']}, total {found['activation']:.3g}"
    shown = table(("window", "positions", "lowest probability", "where", "lowest total", "where"), rows)
    return f"{head}\n{shown}\n{_how(found)}"


def _unit_text(found: dict[str, Any]) -> str:
    rows = [
        (_sides(w["window"]), _sides(w["grid"]), one["clean"], one["lowest"], _box(one["lowest_box"]), one["highest"])
        for w in found["windows"]
        for one in w["images"]
    ]
    shown = table(("window", "positions", "score", "lowest", "where", "highest"), rows)
    return f"{found['unit']}\n{shown}\n{_how(found['windows'][0])}"


def _how(found: dict[str, Any]) -> str:
    error = "" if found["error"] is None else f", approximate: off by up to {found['error']:.1%} of the range"
    return f"computed by {found['method']}{error}" if found["method"] != "incremental" else f"incremental{error}"


def _sides(values: list[int]) -> str:
    return "x".join(map(str, values))


def _box(values: list[int]) -> str:
    top, left, bottom, right = values
    return f"({top}, {left}) to ({bottom}, {right})"

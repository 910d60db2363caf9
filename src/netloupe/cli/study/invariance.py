"""`netloupe study invariance`: what shifting, scaling and turning images does to features and answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, Layers, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def invariance(
    network: NetworkOptions,
    data: Data = "photos",
    first: Annotated[int, typer.Option(min=1, metavar="N", help="Only the first N images.")] = 32,
    layer: Layers = None,
    images: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="The images shown by themselves; the first five otherwise.")
    ] = None,
    shift: Annotated[
        float, typer.Option(metavar="SHARE", help="The largest shift up and down, as a share of the height.")
    ] = 60 / 224,
    scale: Annotated[float, typer.Option(metavar="RATIO", help="The largest scale.")] = 1.8,
    steps: Annotated[
        int, typer.Option(min=2, metavar="N", help="Steps up, down and in scale; three times as many rotations.")
    ] = 8,
    window: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of the image's middle that the untouched image shows.")
    ] = 1.0,
    fill: Annotated[
        str, typer.Option(metavar="FILL", help="What stands beyond the edges: reflection or mean.")
    ] = "reflection",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Shift, scale and turn images; compare features and answer with the original's."""
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.invariance.measure import invariance

    examples = None if images is None else _numbers(images)
    net, source = network.load(), open_source(data).first(first)
    with Bars() as watch:
        result = invariance(
            net,
            source,
            layer,
            examples=examples,
            shift=shift,
            scale=scale,
            steps=steps,
            window=window,
            fill=fill,
            watch=watch,
        )
    for one in result.skipped:
        typer.echo(f"skipped {one.name}: {one.reason}", err=True)
    deliver(result, out, as_json, _text)


def _numbers(text: str) -> list[int]:
    from netloupe.core.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"images {text!r} (accepted: numbers with commas, as in 0,4,7)")
    return [int(part) for part in parts]


def _text(found: dict[str, Any]) -> str:
    from netloupe.studies.invariance.record import amount

    def put(motion: str, value: float | None) -> str:
        return "never" if value is None else amount(motion, value)

    features, answers = [], []
    for motion, row in found["motions"].items():
        for layer, one in row["layers"].items():
            amounts = put(motion, row["smallest"]), put(motion, one["half"])
            features.append((motion, layer, amounts[0], one["small"], amounts[1], one["highest"], one["linearity"]))
        p = row["probability"]
        shares = (f"{share:.0%}" for share in (p["kept"], p["stable"], row["filled"]))
        answers.append((motion, put(motion, p["half"]), *shares))
    header = ("motion", "layer", "smallest", "distance", "half of highest at", "highest", "explained by a line")
    said = [
        f"{'holds' if one['holds'] else 'does not hold'}: {one['claim']} ({one['evidence']})" for one in found["claims"]
    ]
    return "\n".join(
        [
            f"{found['images']} images, probability of {found['class']}: {found['probability']:.3f}",
            "",
            table(header, features),
            "",
            table(("motion", "probability half at", "kept", "images that keep half", "beyond the edges"), answers),
            "",
            *said,
        ]
    )

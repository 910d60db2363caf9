"""`netloupe fool`: images changed until a network takes them for another class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import ImagePaths, Json, NetworkOptions, Out, Sweep, grouped, read_images
from netloupe.cli.output import deliver, table

if TYPE_CHECKING:
    from netloupe.render.result import Result
    from netloupe.synthesis.fool import Fooled


@grouped
def fool(
    images: ImagePaths,
    network: NetworkOptions,
    target: Annotated[str, typer.Option("--target", "-t", metavar="CLASS", help="What they shall be taken for.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="ascent, fgsm, iterated or pgd.")] = "ascent",
    norm: Annotated[str, typer.Option(metavar="NAME", help="Of the change: linf or l2.")] = "linf",
    epsilon: Annotated[
        str | None, typer.Option(metavar="SIZE", help="How large the change may be, pixels in [0, 1]; also as 8/255.")
    ] = None,
    sure: Annotated[float, typer.Option(metavar="P", help="Stop at this probability.")] = 0.9,
    steps: Annotated[int | None, typer.Option(min=0, metavar="N", help="Steps at most.")] = None,
    lr: Annotated[float | None, typer.Option(metavar="SIZE", help="How far a number goes in a step.")] = None,
    sweep: Sweep = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Change images until the network takes them for another class.

    Shows each image before and after, and the change. The files saved with --out fool the network as well.
    """
    from netloupe.cli.watch import Bars
    from netloupe.synthesis.contact import parse_sweep
    from netloupe.synthesis.contact import sweep as sweep_over
    from netloupe.synthesis.fool import fool as make

    accepted: dict[str, Any] = {"method": str, "epsilon": fraction, "sure": float, "steps": int, "lr": float}
    swept = None if sweep is None else parse_sweep(sweep, accepted)
    net = network.load()
    pixels = read_images(net, images)
    options: dict[str, Any] = {
        "method": method,
        "norm": norm,
        "epsilon": None if epsilon is None else as_fraction(epsilon),
        "sure": sure,
        "steps": steps,
        "lr": lr,
        "seed": network.seed,
    }
    with Bars() as watch:

        def made(**changed: Any) -> Fooled:
            return make(net, pixels, target, watch=watch, **{**options, **changed})

        result: Result = made() if swept is None else sweep_over(made, *swept)
    deliver(result, out, as_json, _text if swept is None else _sweep_text)


def fraction(text: str) -> float:
    """A number, or one over another as 8/255."""
    over, slash, under = text.partition("/")
    return float(over) / float(under) if slash else float(over)


def as_fraction(text: str) -> float:
    from netloupe.core.errors import InputError

    try:
        return fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"epsilon {text!r} (accepted: a number, as 0.03 or 8/255)") from None


def _rows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            one["before"],
            one["predicted"],
            one["target"],
            one["probability"],
            f"{one['largest_change']:.0f}/255",
            "none" if one["psnr"] is None else f"{one['psnr']:.1f} dB",
            one["steps"],
        )
        for one in found["images"]
    ]


_HEAD = ("before", "after", "target", "its probability", "largest change", "PSNR", "steps")


def _text(found: dict[str, Any]) -> str:
    return f"{table(_HEAD, _rows(found))}\n{found['fooled']} of {found['of']} fooled"


def _sweep_text(found: dict[str, Any]) -> str:
    rows = [(str(each["value"]), *row) for each in found["values"] for row in _rows(each)]
    return table((found["sweep"], *_HEAD), rows)

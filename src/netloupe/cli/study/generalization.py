"""`netloupe study generalization`: linear probes of every layer, beside the same network from scratch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from netloupe.cli.options import Data, Json, Layers, NetworkOptions, Out, grouped
from netloupe.cli.output import deliver
from netloupe.core.table import table


@grouped
def generalization(
    network: NetworkOptions,
    data: Data = "digits",
    test: Annotated[
        str | None,
        typer.Option("--test", metavar="SOURCE", help="Other labeled images of the same classes to test on."),
    ] = None,
    layers: Layers = None,
    per_class: Annotated[
        list[int] | None,
        typer.Option(
            "--per-class", "-n", metavar="N", help="Training images of each class; may be given several times."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=1, metavar="N", help="Random draws of training images.")] = 5,
    kinds: Annotated[
        list[str] | None, typer.Option("--probe", metavar="KIND", help="logistic or svm; may be given several times.")
    ] = None,
    dimensions: Annotated[int, typer.Option(min=1, metavar="N", help="The most numbers of a layer's vector.")] = 2048,
    scratch: Annotated[
        int, typer.Option(min=0, metavar="N", help="Folds in which the network is trained from scratch; 0 for none.")
    ] = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs of training from scratch, by default at least 24.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Test what each layer's features are worth on other classes, with few images of each.

    By linear probes, beside the same network trained from scratch on the same images.
    """
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.generalization.measure import PER_CLASS, generalization
    from netloupe.studies.generalization.probes import KINDS

    net, source = network.load(), open_source(data)
    with Bars() as watch:
        result = generalization(
            net,
            source,
            None if test is None else open_source(test),
            layers=layers,
            per_class=per_class or PER_CLASS,
            folds=folds,
            kinds=kinds or KINDS,
            dimensions=dimensions,
            scratch=scratch,
            epochs=epochs,
            seed=network.seed,
            watch=watch,
        )
    deliver(result, out, as_json, _text)


def _text(found: dict[str, Any]) -> str:
    from netloupe.studies.generalization.figure import percent

    counts = found["per_class"]
    kinds = list(next(iter(next(iter(counts.values()))["probes"].values())))
    header = ("layer", *(f"{kind}, {count} per class" for count in counts for kind in kinds))
    rows = [
        (layer, *(percent(counts[count]["probes"][layer][kind]) for count in counts for kind in kinds))
        for layer in found["layers"]
    ]
    lines = [table(header, rows), ""]
    for count, one in counts.items():
        best = one["best"]
        lead = "" if one["ahead"] is None else f", {100 * one['ahead']:.1f} points ahead of training from scratch"
        lines.append(
            f"{count} per class: best {best['layer']} ({best['kind']}) {percent(best)}{lead}; "
            f"from scratch {percent(one['scratch'])}, chance {100 * one['chance']:.1f}"
        )
    return "\n".join([*lines, *(f"left out: {what}: {reason}" for what, reason in found["left_out"].items())])

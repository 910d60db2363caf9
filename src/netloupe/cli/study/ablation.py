"""`netloupe study ablation`: what a network loses without a channel or a layer, at once or after training anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netloupe.cli.options import Json, Layers, NetworkOptions, Out, grouped, read_source
from netloupe.cli.output import deliver
from netloupe.core.errors import InputError
from netloupe.core.table import table

if TYPE_CHECKING:
    from netloupe.core.network import Network


@grouped
def ablation(
    network: NetworkOptions,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="SOURCE", help="Images, by default the photos; with --retrain labeled ones, the digits."
        ),
    ] = None,
    layers: Layers = None,
    first: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N images; without --retrain 32.")
    ] = None,
    retrain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANGES", help="Train anew with these changes, as in 'remove conv3, resize conv4 0.5'; repeatable."
        ),
    ] = None,
    val: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Images to validate on; without, a fifth of each class.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="MINUTES", help="For all trainings together, 2 by default; sets the epochs."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs of each training, instead of a budget.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Rank channels by what the network loses without them, or retrain it without layers.

    A channel is replaced by its mean over the images. With --retrain the changed networks and the unchanged one are
    trained alike, from random weights, and their errors compared.
    """
    net = network.load()
    if retrain:
        if layers:
            raise InputError("--layer goes with the ablation of channels (accepted: --retrain or --layer)")
        _retrain(network, net, data or "digits", first, retrain, val, budget, epochs, out, as_json)
        return
    for name, value in (("--val", val), ("--budget", budget), ("--epochs", epochs)):
        if value is not None:
            raise InputError(f"{name} goes with --retrain CHANGES")
    _channels(network, net, data or "photos", 32 if first is None else first, layers, out, as_json)


def _channels(
    network: NetworkOptions,
    net: Network,
    data: str,
    first: int,
    layers: list[str] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    from netloupe.cli.watch import Bars
    from netloupe.data.labels import of_network
    from netloupe.data.open import open_source
    from netloupe.studies.ablation.measure import ablation

    source = open_source(data).first(first)
    ids, images = read_source(net, source)
    labels = None
    if of_network(source, net.head.labels):
        labels = [source.label(i) for i in ids]
    with Bars() as watch:
        result = ablation(net, images, labels, layers=layers, watch=watch)
    deliver(result, out, as_json, _text)


def _retrain(
    network: NetworkOptions,
    net: Network,
    data: str,
    first: int | None,
    retrain: list[str],
    val: str | None,
    budget: float | None,
    epochs: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    from netloupe.cli.watch import Bars
    from netloupe.data.open import open_source
    from netloupe.studies.retraining.measure import MINUTES, retraining

    source = open_source(data).first(first)
    with Bars() as watch:
        result = retraining(
            net,
            source,
            retrain,
            None if val is None else open_source(val),
            minutes=MINUTES if budget is None else budget,
            epochs=epochs,
            seed=network.seed,
            watch=watch,
        )
    deliver(result, out, as_json, _retrained_text)


def _text(found: dict[str, Any]) -> str:
    header = ("layer", "channels", "whole layer", "worst channel", "its loss", "+-", "harmful", "rank corr. with mean")
    rows = [
        (name, one["channels"], one["whole"]["loss"], one["worst"][0]["channel"], one["worst"][0]["loss"],
         one["worst"][0]["error"], one["helps"], one["activity"])
        for name, one in found["layers"].items()
    ]  # fmt: skip
    clean = found["clean"]
    right = "" if clean["accuracy"] is None else f", accuracy {clean['accuracy']:.1%}"
    first = (
        f"{found['images']} images, {found['judged_by']}; loss {clean['loss']:.4f}{right}; below, by how much it rises"
    )
    return "\n".join([first, table(header, rows), *found["notes"]])


def _retrained_text(found: dict[str, Any]) -> str:
    header = ("network", "parameters", "train error", "val error", "val top-5 error", "seconds")
    rows = [
        (one["title"], one["parameters"], *(f"{100 * one[key]:.1f} %" for key in ("train", "val", "val_top5")),
         round(one["seconds"], 1))
        for one in found["networks"]
    ]  # fmt: skip
    first = f"{found['images']} images to train, {found['val_images']} to validate, {found['epochs']} epochs each"
    return "\n".join([first, table(header, rows), *found["notes"]])

"""The picture of `ablation`: loss by rank, whole layers, and the channels that are needed most with their patches."""

from __future__ import annotations

from typing import Any

import numpy as np

from netloupe.render.chart import Line, axis, line_chart, text_table
from netloupe.render.colors import COLORS
from netloupe.render.pictures import Picture, beside, captioned, cropped, from_pixels
from netloupe.render.sheet import Sheet, paragraph
from netloupe.studies.ablation.record import Ablation, LayerAblation

WIDTH = 940  # px of the sheet, without its margin
_CELL = 92  # px of a patch
_NAME = 130  # px of a layer's name beside its patches
NOTE = (
    "Each channel's map is replaced by its mean over the images, position by position; numbers are the mean rise of "
    "the loss in nats, ± standard error over images. Patches: where the channel is strongest among these images."
)


def draw(a: Ablation) -> dict[str, Picture]:
    """Its one picture."""
    return {"ablation": _sheet(a)}


def _sheet(a: Ablation) -> Picture:
    """The ranking curves, a table of layers, and a row of patches for each layer."""
    summary = a.summary()
    clean = summary["clean"]
    right = "" if clean["accuracy"] is None else f", accuracy {clean['accuracy']:.1%}"
    name = a.provenance["network"]["name"]
    title = f"{name}: {summary['images']} images, {summary['judged_by']}; loss {clean['loss']:.3f}{right}"
    sheet = Sheet(title, WIDTH, gap=16).add(_chart(a)).add(_table(summary))
    sheet.say("The channels that the network needs most", size=15)
    for layer in a.layers:
        sheet.add(_row(a, layer))
    return sheet.say(*summary["notes"], gap=16).notes(NOTE).picture()


def _chart(a: Ablation) -> Picture:
    """The mean rise of the loss by rank; ranks as shares, since layers have different numbers of channels."""
    places = [float(place) for place in np.linspace(0, 100, 101)]
    lines = []
    for i, layer in enumerate(a.layers):
        loss = layer.loss[layer.ranking]
        at = np.linspace(0, 100, len(loss)) if len(loss) > 1 else np.zeros(1)
        values = [float(v) for v in np.interp(places, at, loss)]
        lines.append(Line(layer.name, values, COLORS[i % len(COLORS)]))
    losses = np.concatenate([layer.loss for layer in a.layers])
    y = axis("rise of the loss, nats", min(0.0, float(losses.min())), max(1e-6, float(losses.max())))
    x = axis("share of the layer's channels, those needed most first, %", 0, 100)
    return line_chart(
        "What the loss rises by without one channel", lines, places, x, y, size=(320, WIDTH), room=120, ends=False
    )


def _table(summary: dict[str, Any]) -> Picture:
    header = [
        "layer", "channels", "whole layer:\nloss", "whole layer:\naccuracy", "half of all loss\nin channels",
        "channels\nthat harm", "without\neffect", "rank corr.\nwith mean", "rank corr.\nwith change",
    ]  # fmt: skip
    rows = [
        [
            name, str(one["channels"]), f"{one['whole']['loss']:+.3f}", f"{100 * one['whole']['accuracy']:+.1f} %",
            "-" if one["half_of_the_loss"] is None else str(one["half_of_the_loss"]),
            str(one["helps"]), str(one["no_effect"]), _correlation(one["activity"]), _correlation(one["change"]),
        ]
        for name, one in summary["layers"].items()
    ]  # fmt: skip
    return text_table(header, rows, [150, 80, 100, 100, 120, 90, 80, 100, 110])


def _correlation(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _row(a: Ablation, layer: LayerAblation) -> Picture:
    """The patches of the channels that are needed most, with channel and loss above them."""
    found = layer.summary(a.clean_right)
    cells = []
    for one in found["worst"]:
        image, *box = (int(v) for v in layer.patches[one["channel"]])
        error = "" if one["error"] is None else f"±{one['error']:.2f}"
        patch = cropped(from_pixels(a.images[image]), box, _CELL)
        cells.append(captioned(captioned(patch, f"{one['loss']:+.2f}{error}"), f"{layer.name}:{one['channel']}"))
    return beside([paragraph(layer.name, _NAME), *cells], gap=8)

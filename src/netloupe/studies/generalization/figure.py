"""The picture of `generalization`: accuracy by layer, beside the same network from scratch, and a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from netloupe.render.chart import LEFT, Axis, Line, axis, fits, line_chart, text_table
from netloupe.render.colors import COLORS
from netloupe.render.pictures import Picture
from netloupe.render.sheet import Sheet
from netloupe.studies.generalization.record import Generalization
from netloupe.studies.generalization.task import percent

WIDTH = 900  # px of the sheet, without its margin
_ROOM = 210  # px for the chart's labels
TITLES = {"logistic": "logistic", "svm": "linear SVM"}
NOTE = (
    "Mean accuracy per class over random folds, ± standard deviation between folds. A layer's maps are averaged over "
    "the cells of a grid and standardized; the penalty is chosen on the training images. From scratch: the same "
    "architecture with random weights, trained on the same images."
)


def draw(g: Generalization) -> dict[str, Picture]:
    """Its one picture."""
    return {"generalization": _sheet(g)}


def _sheet(g: Generalization) -> Picture:
    """A line a kind of probe and number of images per class, dashed ones from scratch; below, all numbers."""
    summary = g.summary()
    sheet = Sheet(f"{g.provenance['network']['name']}: linear probes of its layers", WIDTH, gap=16)
    sheet.add(_chart(g, summary)).add(_table(g, summary))
    sheet.say(*(f"Left out: {what}: {reason}" for what, reason in g.left_out.items()), gap=16)
    return sheet.notes(NOTE).picture()


def _chart(g: Generalization, summary: dict[str, Any]) -> Picture:
    places = list(range(len(g.layers)))
    lines = []
    for p, count in enumerate(g.per_class):
        found = summary["per_class"][str(count)]
        for j, kind in enumerate(g.kinds):
            values = [100 * float(v) for v in np.nanmean(g.accuracy[:, j, p], axis=1)]
            color = COLORS[(p * len(g.kinds) + j) % len(COLORS)]
            lines.append(Line(f"{TITLES[kind]}, {count} per class", values, color))
        if found["scratch"] is not None:
            level = [100 * found["scratch"]["mean"]] * len(places)
            color = COLORS[(p * len(g.kinds)) % len(COLORS)]
            lines.append(Line(f"from scratch, {count} per class", level, color, dashed=True))
    room = WIDTH - LEFT - _ROOM
    ticks = [(float(i), name) for i, name in enumerate(g.layers)]
    if not fits([name for _, name in ticks], room):
        ticks = [(float(i), str(i + 1)) for i in range(len(g.layers))]
    x = Axis("layer", -0.3, max(places) + 0.3, ticks)
    y = axis("mean accuracy per class, %", 0, 100)
    return line_chart("What each layer's features are worth", lines, places, x, y, size=(360, WIDTH), room=_ROOM)


def _table(g: Generalization, summary: dict[str, Any]) -> Picture:
    columns = [(count, kind) for count in g.per_class for kind in g.kinds]
    header = ["layer", "numbers", *(f"{TITLES[kind]},\n{count} per class" for count, kind in columns)]
    probes = {count: summary["per_class"][str(count)]["probes"] for count in g.per_class}
    rows = [
        [f"{i + 1}  {name}", str(g.dimensions[i]), *(percent(probes[count][name][kind]) for count, kind in columns)]
        for i, name in enumerate(g.layers)
    ]
    scratch = [summary["per_class"][str(count)]["scratch"] for count, _ in columns]
    if any(one is not None for one in scratch):
        first = [kind == g.kinds[0] for _, kind in columns]
        rows.append(["from scratch", "", *(percent(s) if f else "" for s, f in zip(scratch, first, strict=True))])
    width = max(90, min(150, (WIDTH - 260) // len(columns)))
    return text_table(header, rows, [190, 70, *[width] * len(columns)])

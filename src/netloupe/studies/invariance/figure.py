"""The picture of `invariance`, in the form of the paper's Figure 5."""

from __future__ import annotations

from typing import Any

import numpy as np

from netloupe.render.chart import Axis, Band, Line, axis, line_chart, text_table
from netloupe.render.colors import COLORS, INK, SOFT
from netloupe.render.pictures import Color, Picture, beside, fitted, from_pixels, resized, stacked
from netloupe.render.sheet import Sheet, paragraph
from netloupe.studies.invariance.record import Invariance, shown_places
from netloupe.studies.invariance.task import MOTIONS, amount

_TITLES = {"shift": "Vertical shift", "scale": "Scale", "rotation": "Rotation"}
_AXES = {"shift": "shift down, of the height", "scale": "scale", "rotation": "rotation, counterclockwise"}
_BAND: Color = (226, 221, 211)
_CHART = (330, 330)
_ROOM = 14  # px right of a chart
_CELL = 56  # px of a picture's longer side
_EDGE = 6  # px of an example's color beside its pictures


def draw(found: Invariance) -> dict[str, Picture]:
    """Its one picture."""
    return {"invariance": _sheet(found)}


def _sheet(found: Invariance) -> Picture:
    """A row for each motion: examples, their distances in each layer, their probabilities; then numbers and claims."""
    summary = found.summary()
    rows = [_row(found, motion) for motion in MOTIONS]
    title = f"{found.provenance['network']['name']}, {summary['images']} images"
    sheet = Sheet(title, max(row.shape[1] for row in rows), gap=20).add(stacked(rows, gap=20)).add(_table(summary))
    verbs = {True: "Holds", False: "Does not hold"}
    sheet.say(*(f"{verbs[one['holds']]}: {one['claim']} ({one['evidence']})." for one in summary["claims"]))
    return sheet.notes(*_notes(found, summary)).picture()


def _row(found: Invariance, motion: str) -> Picture:
    values = found.steps[motion]
    x = _x_axis(motion, values)
    distances = found.normalized(motion)
    charts = []
    for i, layer in enumerate(found.layers):
        y = axis("distance, different images = 1", 0, _top(found, distances[:, i]))
        charts.append(_chart(f"{_TITLES[motion]}: {layer}", found, values, distances[:, i], x, y))
    answer = found.probability(motion)
    if answer is not None:
        y = Axis("probability", 0, 1, [(i / 5, f"{i / 5:g}") for i in range(6)])
        charts.append(_chart(f"{_TITLES[motion]}: probability", found, values, answer, x, y))
    strips = [_strip(found, motion)] if found.examples else []
    return beside([*strips, *charts], gap=14)


def _chart(title: str, found: Invariance, values: np.ndarray, curves: np.ndarray, x: Axis, y: Axis) -> Picture:
    """Examples in color, the mean of all images in ink, half of the images in the band."""
    places, curves = _around(x, values, curves)
    low, high = np.percentile(curves, [25, 75], axis=0)
    lines = [Line("", curves.mean(0).tolist(), INK)]
    lines += [Line("", curves[i].tolist(), color) for i, color in zip(found.examples, _colors(found), strict=True)]
    bands = [Band(low.tolist(), high.tolist(), _BAND)]
    return line_chart(title, lines, places.tolist(), x, y, size=_CHART, room=_ROOM, ends=False, bands=bands)


def _strip(found: Invariance, motion: str) -> Picture:
    """A row for each example, its color at the left, under the values of the motion."""
    pictures = found.strips[motion]
    size = fitted(pictures.shape[-2:], _CELL)
    places = shown_places(motion, len(found.steps[motion]))
    names = [paragraph(_value(motion, found.steps[motion][place]), size[1], 11, SOFT) for place in places]
    rows = [beside([np.full((1, _EDGE, 3), 246, np.uint8), *names], gap=3)]
    for images, color in zip(pictures, _colors(found), strict=True):
        edge = np.empty((size[0], _EDGE, 3), np.uint8)
        edge[:] = color
        cells = [resized(from_pixels(image), size, smooth=size[0] <= image.shape[1]) for image in images]
        rows.append(beside([edge, *cells], gap=3))
    return stacked([paragraph(_TITLES[motion], rows[0].shape[1], 15), *rows], gap=3)


def _around(x: Axis, values: np.ndarray, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A whole turn is no turn: the curve of rotations closes."""
    if x.high != 360:
        return values, curves
    return np.append(values, 360), np.concatenate([curves, curves[:, :1]], axis=1)


def _x_axis(motion: str, values: np.ndarray) -> Axis:
    if motion == "rotation":
        return Axis(_AXES[motion], 0, 360, [(angle, f"{angle}°") for angle in range(0, 361, 90)])
    low, high = float(values[0]), float(values[-1])
    middle = [(low + (high - low) * i / 4) for i in range(5)]
    return Axis(_AXES[motion], low, high, [(value, _value(motion, value)) for value in middle])


def _value(motion: str, value: float) -> str:
    return {"shift": f"{value:.0%}", "scale": f"{value:.2g}", "rotation": f"{value:.0f}°"}[motion]


def _top(found: Invariance, curves: np.ndarray) -> float:
    """Of the chart: what it shows has room, a few extreme images that it doesn't show need none."""
    shown = curves[list(found.examples)].max(initial=0.0)
    return max(*(float(each.max()) for each in (np.percentile(curves, 75, axis=0), curves.mean(0), shown)), 1e-6)


def _colors(found: Invariance) -> list[Color]:
    return [COLORS[i % len(COLORS)] for i in range(len(found.examples))]


def _table(summary: dict[str, Any]) -> Picture:
    header = ["", "smallest\namount", "distance\nthere", "half of the\nhighest at", "highest", "explained\nby a line"]
    heads = ["", "probability\nhalf at", "kept over\nthe range", "images that always\nkeep half", "beyond the\nedges"]
    rows, answers = [], []
    for motion, row in summary["motions"].items():
        for layer, one in row["layers"].items():
            amounts = amount(motion, row["smallest"]), amount(motion, one["half"])
            numbers = f"{one['highest']:.3f}", _number(one["linearity"])
            rows.append([f"{_TITLES[motion]}, {layer}", amounts[0], f"{one['small']:.3f}", amounts[1], *numbers])
        if (p := row["probability"]) is None:
            continue
        shares = (f"{share:.0%}" for share in (p["kept"], p["stable"], row["filled"]))
        answers.append([_TITLES[motion], amount(motion, p["half"]), *shares])
    tables = (header, rows, [210, 150, 100, 150, 100, 100]), (heads, answers, [210, 150, 100, 150, 100])
    return stacked([text_table(*one) for one in tables if one[1]], gap=16)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _notes(found: Invariance, summary: dict[str, Any]) -> list[str]:
    fill = found.provenance["parameters"]["fill"]
    beyond = {"reflection": "its reflection", "mean": "the data set's mean color"}[fill]
    names = [one["name"] if one["class"] is None else f"{one['name']} ({one['class']})" for one in summary["examples"]]
    whose = "" if summary["class"] is None else f" The probability is of {summary['class']}."
    return [
        f"Colored: {', '.join(names)}. Black: the mean of all images. Shaded: the middle half of them.",
        "Distances are Euclidean, of the layer's whole output, and divided by the root mean square distance between "
        f"different untouched images.{whose} Beyond the photograph's edges stands "
        f"{beyond}.",
    ]

"""The pictures of `trust`: its curves and figures on one sheet, and one image's maps through the cascade."""

from __future__ import annotations

from typing import Any

import numpy as np

from netloupe.analysis.tasks import left_out
from netloupe.render.chart import LEFT, Axis, Line, axis, fits, line_chart, text_table
from netloupe.render.colors import COLORS, GRAY, SOFT, diverging, heat, strength
from netloupe.render.pictures import Picture, beside, fitted, from_pixels, grid, resized, stacked
from netloupe.render.sheet import Sheet, framed, paragraph
from netloupe.studies.trust.record import Trust

WIDTH = 1180  # px of the sheet, without its margin
_CHART = (300, (WIDTH - 20) // 2)
_ROOM = 190  # px for a chart's labels
NOTES = (
    "Likeness is of the maps' sizes, by rank correlation or structural similarity: 1 is the same map, 0 is nothing in "
    "common. All random: to the map of the same network with every weight drawn anew. Its rival: to the map for the "
    "most probable other class, or the strongest other unit. Another image: to the map of an unrelated image.",
    "Deletion: the mean score, of a class its probability, while the strongest pixels give way to the mean color. "
    "Insertion: while they come back over a blurred image. Both as the area under the curve.",
)
_CELL = 84  # px of a map in the cascade
_NAME = 120  # px of a method's name beside its maps
_COLUMNS = {  # of the table, in order, by the key of the summary
    "all_random": "all random:\nrank",
    "all_random_structure": "all random:\nstructure",
    "rival": "its rival:\nrank",
    "other_image": "another image:\nrank",
    "deletion": "deletion\n(low is good)",
    "insertion": "insertion\n(high is good)",
    "pointing": "pointing\nat the object",
}
_BASELINES = {"random": "Random order", "center": "Center"}


def draw(t: Trust) -> dict[str, Picture]:
    """The sheet of all numbers, and the maps of one image."""
    return {"trust": _sheet(t), "cascade": _cascade(t)}


def _sheet(t: Trust) -> Picture:
    """The cascade by both likenesses, deletion and insertion, all figures in a table, and the verdicts."""
    summary = t.summary()
    kinds = {"rank correlation": t.ranks, "structural similarity": t.structures}
    verdicts = [f"{row['title']}: {row['verdict']}" for row in summary["methods"].values()]
    verdicts += [f"Left out: {name}: {reason}" for name, reason in left_out(t.skipped)]
    sheet = Sheet(f"{t.provenance['network']['name']}, {summary['images']} images", WIDTH, gap=20)
    sheet.add(*(_cascade_chart(t, title, values) for title, values in kinds.items()))
    sheet.add(*(_curve_chart(t, summary, way) for way in ("deletion", "insertion")))
    return sheet.add(_table(summary)).say(*verdicts).notes(*NOTES).picture()


def _cascade(t: Trust) -> Picture:
    """The first image's maps, a row a method: trained, then stage by stage, each map on its own scale."""
    size = fitted(t.image.shape[1:], _CELL)
    photo = resized(from_pixels(t.image), size, smooth=max(size) < max(t.image.shape[1:]))
    names = [paragraph(name, size[1], 12, SOFT) for name in ["trained", *(layers[-1] for layers in t.stages)]]
    rows = [beside([_blank(1, _NAME + 2), photo, _blank(1, 8), paragraph(t.targets[0], WIDTH // 2)], gap=0)]
    rows.append(beside([_blank(1, _NAME), *names], gap=2))
    for method, maps in zip(t.methods, t.maps, strict=True):
        cells = grid([_map(one, method.signed, size) for one in maps], len(maps))
        rows.append(beside([paragraph(method.title, _NAME), cells], gap=0))
    return framed(stacked(rows, gap=4), 16)


def _cascade_chart(t: Trust, title: str, values: np.ndarray) -> Picture:
    lines = [
        Line(method.title, _means(rows), color)
        for method, rows, color in zip(t.methods, values, _colors(len(t.methods)), strict=True)
    ]
    names = ["none", *(layers[-1] for layers in t.stages)]
    by_name = fits(names, _CHART[1] - _ROOM - LEFT)
    texts = names if by_name else ["0", *(str(len(layers)) for layers in t.stages)]
    measured = "weights drawn anew, from the score down to" if by_name else "layers drawn anew, from the score down"
    x = Axis(measured, 0, len(t.stages), list(enumerate(texts)))
    low = min(0.0, *(value for line in lines for value in line.values if np.isfinite(value)))
    y = axis("likeness to the trained network's map", low, 1)
    return line_chart(f"Weights drawn anew: {title}", lines, range(len(names)), x, y, size=_CHART, room=_ROOM)


def _curve_chart(t: Trust, summary: dict[str, Any], way: str) -> Picture:
    """The curves with their areas, best first: low is good under deletion, high under insertion."""
    rows = summary["methods"] | summary["baselines"]
    titles = {name: row.get("title", _BASELINES.get(name, "")) for name, row in rows.items()}
    colors = dict(zip(t.rows, [*_colors(len(t.methods)), GRAY, GRAY], strict=True))
    values = dict(zip(t.rows, getattr(t, way).mean(1), strict=True))
    order = sorted(t.rows, key=lambda name: rows[name][way], reverse=way == "insertion")
    lines = [
        Line(f"{rows[name][way]:.3f}  {titles[name]}", values[name], colors[name], name == "random") for name in order
    ]
    places = np.linspace(0, 1, len(values[order[0]])).tolist()
    x = Axis("share of the pixels", 0, 1, [(i / 4, f"{i * 25}%") for i in range(5)])
    low, high = (float(f(np.stack(list(values.values())))) for f in (np.min, np.max))
    title = {"deletion": "Deletion: low is good", "insertion": "Insertion: high is good"}[way]
    y = axis("mean score", min(0.0, low), high)
    return line_chart(title, lines, places, x, y, size=_CHART, room=_ROOM, ends=False)


def _table(summary: dict[str, Any]) -> Picture:
    header = ["", *_COLUMNS.values()]
    shown = len(header) if summary["boxes"] else len(header) - 1
    rows = []
    for name, row in (summary["methods"] | summary["baselines"]).items():
        numbers = [row.get(key) for key in _COLUMNS]
        texts = ["" if number is None else f"{number:.3f}" for number in numbers]
        rows.append([row.get("title", _BASELINES.get(name, "")), *texts][:shown])
    return text_table(header[:shown], rows, [190, *[112] * (shown - 1)])


def _map(values: np.ndarray, signed: bool, size: tuple[int, int]) -> Picture:
    """Pixels are kept as squares where they are enlarged, so that fine structure is not smoothed away."""
    high = strength(values)
    picture = diverging(values, high) if signed else heat(values, high)
    return resized(picture, size, smooth=size[0] < picture.shape[0])


def _means(rows: np.ndarray) -> list[float]:
    """Of each row over its finite numbers; NaN where there is none."""
    return [float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else float("nan") for row in rows]


def _colors(count: int) -> list[tuple[int, int, int]]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _blank(height: int, width: int) -> Picture:
    return paragraph("", width)[:height]

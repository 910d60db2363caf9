"""The picture of `correspondence`: what was hidden, how alike the changes are at each layer, and the table."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from netloupe.render.chart import Axis, axis, font, text_table
from netloupe.render.colors import COLORS, GRAY, INK, RULE, SOFT
from netloupe.render.pictures import PAPER, Color, Picture, beside, fitted, from_pixels, grid, resized, stacked
from netloupe.render.sheet import Sheet, paragraph
from netloupe.studies.correspondence.record import RANDOM, Correspondence

_CELL = 92  # px of an image's longer side
_SHOWN = 10  # images at most
_ROW = 26  # px of a row of the chart
_NAME = 130  # px of a name beside pictures and dots
_CHART = 480
_FINE = 4
NOTES = (
    "Delta: the share of features whose sign of change (up, down or none) differs, over all pairs of images; low where "
    "hiding the part does the same to all. Bars: two standard errors to each side, over images (each left out once). "
    "Tick: what features in random order would give. Opposite ways: of the features that change in both images.",
)


def draw(found: Correspondence) -> dict[str, Picture]:
    """Its one picture."""
    return {"correspondence": _sheet(found)}


def _sheet(found: Correspondence) -> Picture:
    """Images with each part hidden, then a chart and a table for each layer."""
    layers = found.summary()["layers"].items()
    body = [beside([_chart(layer, one["rows"]), _table(layer, one)], gap=30) for layer, one in layers]
    strips = _strips(found)
    width = max(strips.shape[1], *(row.shape[1] for row in body))
    sheet = Sheet(f"{found.provenance['network']['name']}, {len(found.names)} images", width, gap=20).add(strips)
    for row in body:
        sheet.add(row)
    return sheet.notes(*NOTES, *found.notes).picture()


def _strips(found: Correspondence) -> Picture:
    """A row for the images, one for each part hidden, and one for the first draw of random squares."""
    count = min(_SHOWN, len(found.images))
    size = fitted(found.images.shape[2:], _CELL)
    rows = [
        beside(
            [paragraph("untouched", _NAME), grid([_shown(found, i, None, size) for i in range(count)], count)], gap=0
        )
    ]
    for row, name in enumerate([*found.parts, RANDOM]):
        cells = [_shown(found, i, found.boxes[row, i], size) for i in range(count)]
        rows.append(beside([paragraph(name, _NAME), grid(cells, count)], gap=0))
    return stacked(rows, gap=0)


def _shown(found: Correspondence, i: int, box: np.ndarray | None, size: tuple[int, int]) -> Picture:
    """The image with the box hidden; empty where it lacks the part."""
    image = found.images[i]
    if box is not None:
        if not np.isfinite(box).all():
            return np.full((*size, 3), RULE, dtype=np.uint8)
        top, left, bottom, right = map(int, box)
        image = image.copy()
        image[:, top:bottom, left:right] = found.color[:, None, None]
    return resized(from_pixels(image), size, smooth=max(size) < max(image.shape[1:]))


def _chart(layer: str, rows: dict[str, Any]) -> Picture:
    """A dot for each part with its error, at its share."""
    reach = [(row["delta"] or 0) + 2 * (row["jackknife"] or 0) for row in rows.values()] + [
        row["chance"] or 0 for row in rows.values()
    ]
    x = axis("Delta", 0, max(*reach, 1e-6))
    top, bottom = 30, 30 + _ROW * len(rows)
    sheet = Image.new("RGB", (_CHART, bottom + 48), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((0, 4), layer, fill=INK, font=font(15))
    for value, text in x.ticks:
        at = _across(x, value)
        draw.line((at, top, at, bottom), fill=RULE)
        draw.text((at, bottom + 5), text, fill=SOFT, font=font(12), anchor="ma")
    draw.text(
        (_across(x, (x.low + x.high) / 2), bottom + 26),
        "share of features that differ (Delta)",
        fill=SOFT,
        font=font(12),
        anchor="ma",
    )
    for i, name in enumerate(rows):
        draw.text((0, top + _ROW * (i + 0.5)), name, fill=INK, font=font(13), anchor="lm")
    return _with_dots(sheet, x, list(rows.values()), top)


def _with_dots(sheet: Image.Image, x: Axis, rows: list[dict[str, Any]], top: int) -> Picture:
    fine = sheet.resize((sheet.width * _FINE, sheet.height * _FINE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(fine)
    for i, row in enumerate(rows):
        color: Color = GRAY if i == len(rows) - 1 else COLORS[i % len(COLORS)]
        y = (top + _ROW * (i + 0.5)) * _FINE
        if row["delta"] is None:
            continue
        at, error = row["delta"], 2 * (row["jackknife"] or 0)
        ends = [_across(x, value) * _FINE for value in (max(x.low, at - error), at + error)]
        draw.line((ends[0], y, ends[1], y), fill=color, width=2 * _FINE)
        dot, radius = _across(x, at) * _FINE, 5 * _FINE
        draw.ellipse((dot - radius, y - radius, dot + radius, y + radius), fill=color)
        tick = _across(x, row["chance"]) * _FINE
        draw.line((tick, y - 8 * _FINE, tick, y + 8 * _FINE), fill=INK, width=_FINE)
    return np.asarray(fine.resize(sheet.size, Image.Resampling.BOX))


def _across(x: Axis, value: float) -> float:
    return _NAME + x.share(value) * (_CHART - _NAME - 30)


def _table(layer: str, one: dict[str, Any]) -> Picture:
    keys = {
        "delta": "Delta",
        "error": "± pairs",
        "jackknife": "± images",
        "chance": "by\nchance",
        "changed": "features\nchanged",
        "opposite": "opposite\nways",
        "opposite_below_random": "below\nrandom",
        "opposite_below_random_error": "± images",
    }
    header = [f"{one['features']:,} features", "images", *keys.values()]
    rows = [[name, str(row["images"]), *(_text(row.get(key)) for key in keys)] for name, row in one["rows"].items()]
    return text_table(header, rows, [130, 56, 62, 62, 70, 62, 74, 74, 62, 70])


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"

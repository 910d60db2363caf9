"""Line charts and tables as pictures, drawn with Pillow: lines smoothed, text at the picture's own size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from netloupe.render.colors import INK, RULE, SOFT
from netloupe.render.pictures import PAPER, Color, Picture

_FINE = 4  # lines are drawn at four times the size, then reduced
_TEXT = 13  # px
_LABEL_STEP = 16  # px from one label to the next
LEFT, _TOP, _BOTTOM = 56, 34, 52  # px around the plot


@dataclass(frozen=True)
class Line:
    """One line of a chart: `values` at each x (NaN where there is none), drawn in `color`, with `label` beside it."""

    label: str
    values: Sequence[float]
    color: Color
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """The space between `low` and `high` at each x, filled in `color`; it lies below the lines."""

    low: Sequence[float]
    high: Sequence[float]
    color: Color


@dataclass(frozen=True)
class Axis:
    """The range from `low` to `high`, ticks as (place, text), and what is measured."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """Where a value lies, from 0 at `low` to 1 at `high`."""
        return (value - self.low) / (self.high - self.low)


def axis(title: str, low: float, high: float) -> Axis:
    """An axis from `low` to `high`, widened to round ticks, seven or so."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / 6))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6 + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    texts = [f"{i * step:.6g}" for i in range(first, last + 1)]
    return Axis(title, float(texts[0]), float(texts[-1]), [(float(text), text) for text in texts])


def line_chart(
    title: str,
    lines: Sequence[Line],
    places: Sequence[float],
    x: Axis,
    y: Axis,
    *,
    size: tuple[int, int] = (300, 560),
    room: int = 170,
    ends: bool = True,
    bands: Sequence[Band] = (),
) -> Picture:
    """(height, width, 3): `lines` over `places`, with `room` px for their labels at the right; for a line without a
    label nothing stands there.

    ends: each label stands where its line ends, moved as little as keeps them apart, and a thin line leads there; for
    lines that end in one place give False, and the labels follow one another from the top in the order given.
    """
    height, width = size
    plot = (LEFT, _TOP, width - room, height - _BOTTOM)
    sheet = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(sheet).text((LEFT, 6), title, fill=INK, font=font(15))
    for band in bands:
        _draw_band(sheet, band, places, x, y, plot)
    _draw_axes(sheet, x, y, plot)
    drawn = [(line, points) for line in lines if (points := _points(line, places, x, y, plot))]
    if ends:
        drawn.sort(key=lambda pair: pair[1][-1][1])
        heights = settled([points[-1][1] for _, points in drawn], _LABEL_STEP, plot[1], plot[3])
    else:
        heights = [plot[1] + _LABEL_STEP * (i + 0.5) for i in range(len(drawn))]
    sheet = _with_lines(sheet, drawn, heights if ends else [], plot[2])
    draw = ImageDraw.Draw(sheet)
    for (line, _), at in zip(drawn, heights, strict=True):
        if not line.label:
            continue
        for start, end in ((16, 19), (21, 24)) if line.dashed else ((16, 24),):
            draw.line((plot[2] + start, at, plot[2] + end, at), fill=line.color, width=2)
        draw.text((plot[2] + 28, at), line.label, fill=INK, font=font(_TEXT), anchor="lm")
    return np.asarray(sheet)


def fits(texts: Sequence[str], width: int) -> bool:
    """Whether these ticks find room side by side on an axis of `width` px."""
    return max(font(12).getlength(text) for text in texts) + 4 <= width / max(1, len(texts) - 1)


def shortened(text: str, length: int) -> str:
    """The text in at most `length` characters, an ellipsis in place of the rest."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


_Box = tuple[int, int, int, int]
_Points = list[tuple[float, float]]


def _points(line: Line, places: Sequence[float], x: Axis, y: Axis, plot: _Box) -> _Points:
    left, top, right, bottom = plot
    return [
        (left + x.share(place) * (right - left), bottom - y.share(value) * (bottom - top))
        for place, value in zip(places, line.values, strict=True)
        if math.isfinite(value)
    ]


def _draw_band(sheet: Image.Image, band: Band, places: Sequence[float], x: Axis, y: Axis, plot: _Box) -> None:
    edges = [_points(Line("", values, band.color), places, x, y, plot) for values in (band.low, band.high)]
    ImageDraw.Draw(sheet).polygon([*edges[0], *reversed(edges[1])], fill=band.color)


def _draw_axes(sheet: Image.Image, x: Axis, y: Axis, plot: _Box) -> None:
    left, top, right, bottom = plot
    draw = ImageDraw.Draw(sheet)
    for value, text in y.ticks:
        at = bottom - y.share(value) * (bottom - top)
        draw.line((left, at, right, at), fill=RULE)
        draw.text((left - 7, at), text, fill=SOFT, font=font(12), anchor="rm")
    draw.line((left, bottom, right, bottom), fill=SOFT)
    for value, text in x.ticks:
        at = left + x.share(value) * (right - left)
        draw.line((at, bottom, at, bottom + 4), fill=SOFT)
        draw.text((at, bottom + 6), text, fill=SOFT, font=font(12), anchor="ma")
    draw.text(((left + right) / 2, bottom + 28), x.title, fill=SOFT, font=font(12), anchor="ma")
    upright = Image.new("RGB", (bottom - top, 18), PAPER)
    ImageDraw.Draw(upright).text(((bottom - top) / 2, 9), y.title, fill=SOFT, font=font(12), anchor="mm")
    sheet.paste(upright.rotate(90, expand=True), (2, top))


def _with_lines(
    sheet: Image.Image, lines: Sequence[tuple[Line, _Points]], heights: Sequence[float], right: int
) -> Image.Image:
    """The lines, the first on top, and thin ones from their ends to the labels' heights."""
    fine = sheet.resize((sheet.width * _FINE, sheet.height * _FINE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(fine)
    for line, points in reversed(lines):
        scaled = [(a * _FINE, b * _FINE) for a, b in points]
        for part in _dashes(scaled) if line.dashed else [scaled]:
            draw.line(part, fill=line.color, width=2 * _FINE, joint="curve")
    for (line, points), height in zip(lines, heights, strict=False):
        end, at = points[-1]
        draw.line([(v * _FINE) for v in (end + 3, at, right + 16, height)], fill=line.color, width=_FINE)
    return fine.resize(sheet.size, Image.Resampling.BOX)


def _dashes(points: _Points, length: float = 5.0 * _FINE) -> list[_Points]:
    """A line in pieces of `length` px with as long gaps between them."""
    if len(points) < 2:
        return []
    spots = np.array(points)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(spots, axis=0).T))])
    starts = np.arange(0.0, along[-1], 2 * length)
    found = []
    for start in starts:
        inside = along[(along > start) & (along < start + length)]
        at = np.array([start, *inside, min(start + length, along[-1])])
        found.append([(float(np.interp(a, along, spots[:, 0])), float(np.interp(a, along, spots[:, 1]))) for a in at])
    return found


def settled(wanted: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Sorted places as near to the wanted ones as can be, `step` apart and from `low` to `high` if they find room."""
    groups: list[tuple[float, int]] = []  # (middle, how many) of places that touch
    for place in wanted:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < step * (groups[-1][1] + groups[-2][1]) / 2:
            (middle, count), (other, more) = groups.pop(), groups.pop()
            groups.append(((middle * count + other * more) / (count + more), count + more))
        middle, count = groups[-1]
        half = step * (count - 1) / 2
        groups[-1] = (max(low + half, min(middle, high - half)), count)
    return [middle + step * (i - (count - 1) / 2) for middle, count in groups for i in range(count)]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Picture:
    """A table with columns of the given px, the first flush left, the others flush right; headers may have lines."""
    deep = 8 + 17 * max(head.count("\n") + 1 for head in header)
    sheet = Image.new("RGB", (sum(widths), deep + 4 + 21 * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    ends = np.cumsum(widths)
    for i, head in enumerate(header):
        at, anchor, align = (0, "ld", "left") if i == 0 else (int(ends[i]), "rd", "right")
        draw.multiline_text((at, deep - 4), head, fill=SOFT, font=font(12), anchor=anchor, align=align)
    draw.line((0, deep, sheet.width, deep), fill=SOFT)
    for j, row in enumerate(rows):
        for i, cell in enumerate(row):
            at, anchor = (0, "lm") if i == 0 else (int(ends[i]), "rm")
            draw.text((at, deep + 15 + 21 * j), cell, fill=INK, font=font(_TEXT), anchor=anchor)
    return np.asarray(sheet)


def legend(entries: list[tuple[Color, str]], height: int, width: int = 232) -> Picture:
    """Lines of a color and what it stands for, top to bottom, on `height` px; those that find no room are left out."""
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (color, text) in enumerate(entries[: max(1, (height - 22) // 20)]):
        y = 22 + 20 * i
        draw.rectangle((8, y, 22, y + 13), fill=color)
        draw.text((30, y - 1), text, fill=(40, 38, 34), font_size=12)
    return np.asarray(sheet)

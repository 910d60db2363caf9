"""The pictures of a map: thumbnails at their points, thumbnails on a grid, and dots by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from netloupe.analysis.layout.arrangement import Arrangement
from netloupe.core.numbers import spread
from netloupe.data.images import as_seen
from netloupe.data.sources import ImageSource
from netloupe.render.chart import font, shortened
from netloupe.render.colors import COLORS, INK, SOFT
from netloupe.render.pictures import PAPER, Color, Picture, from_pixels, resized

MARK: Color = (255, 77, 46)

_WIDE = 3200  # px that a row of thumbnails side by side takes, at most
_LARGEST = 96  # px of a thumbnail, unless asked for larger
_AIR = 1.6  # side of the free map, in terms of the thumbnails of the grid side by side
_FREE = 0.6  # side of a thumbnail on the free map, in terms of those of the grid: there, they cover each other
_FRAME = 3  # px of the frame of a placed image
_GAP = 2  # px between thumbnails on the grid
_TITLE = 14, 44  # px of the title's letters, at least and at most

_DOTS = 1100  # px of the dots' square
_LEGEND = 250  # px at its right
_FINE = 3  # dots are drawn at three times the size, then reduced
_SHADES: tuple[Color, ...] = (*COLORS, (213, 62, 79), (120, 180, 40), (0, 140, 150), (190, 150, 220))
_REST: Color = (196, 190, 180)


@dataclass(frozen=True)
class Drawn:
    """The images of a map as they are drawn: `ids` of a source and `placed` (m, C, H, W) ones, `side` px long."""

    source: ImageSource
    ids: np.ndarray
    placed: np.ndarray
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of each thumbnail, of the proportions of the network's input."""
        height, width = self.placed.shape[2:]
        longer = max(height, width)
        return max(1, round(self.side * height / longer)), max(1, round(self.side * width / longer))

    @cached_property
    def thumbnails(self) -> list[Picture]:
        """Of every image, then of every placed one."""
        old = [resized(as_seen(self.source.open(int(i)), self.size), self.size) for i in self.ids]
        return old + [resized(from_pixels(image), self.size) for image in self.placed]


def side_for(count: int) -> int:
    """px of the thumbnails of so many images."""
    return max(4, min(_LARGEST, int(_WIDE / math.sqrt(count))))


def scatter(drawn: Drawn, points: np.ndarray, placed: np.ndarray, title: str) -> Picture:
    """Thumbnails at `points` (n, 2), then the placed ones at theirs; later ones cover earlier ones."""
    height, width = (max(2, round(_FREE * side)) for side in drawn.size)
    every = np.concatenate([points, placed]).astype(np.float64)
    low, extent = every.min(0), np.ptp(every, axis=0)
    inside = max(_AIR * math.sqrt(len(every)) * drawn.side, 2.0 * drawn.side)
    scale = inside / max(float(extent.max()), 1e-12)
    size = tuple(
        math.ceil(float(e) * scale) + side + 2 * _FRAME for e, side in zip(extent, (width, height), strict=True)
    )
    sheet = Image.new("RGB", (max(size[0], 480), size[1]), PAPER)
    for i, (x, y) in enumerate((every - low) * scale):
        thumbnail = resized(drawn.thumbnails[i], (height, width))
        thumbnail = _framed(thumbnail) if i >= len(points) else thumbnail
        sheet.paste(Image.fromarray(thumbnail), (_FRAME + round(x), _FRAME + round(y)))
    return _titled(np.asarray(sheet), title)


def snapped(drawn: Drawn, arrangement: Arrangement, title: str) -> Picture:
    """Thumbnails on the cells of the grid, none over another."""
    (height, width), (rows, columns) = drawn.size, arrangement.shape
    size = columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP
    sheet = Image.new("RGB", (max(size[0], 480), size[1]), PAPER)
    for i, (row, column) in enumerate(arrangement.cells.tolist()):
        thumbnail = _framed(drawn.thumbnails[i]) if i >= len(drawn.ids) else drawn.thumbnails[i]
        sheet.paste(Image.fromarray(thumbnail), (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return _titled(np.asarray(sheet), title)


def dots(
    points: np.ndarray, labels: Sequence[int | None], names: Sequence[str], placed: np.ndarray, title: str
) -> Picture:
    """Dots at `points` (n, 2), colored by class: the twelve most frequent, the others and those without one gray.

    Each colored class is named where its dots lie densest as well; a placed image is a ring.
    """
    shown, counts = most_frequent(labels, len(_SHADES))
    every = np.concatenate([points, placed]).astype(np.float64)
    low, extent = every.min(0), np.ptp(every, axis=0)
    radius = float(np.clip(120 / math.sqrt(len(points)), 1.6, 6))
    edge = 3 * radius + 6
    scale = (_DOTS - 2 * edge) / max(float(extent.max()), 1e-12)
    at = (every - low) * scale + edge
    height = max(math.ceil(float(extent[1]) * scale + 2 * edge), 24 * (len(shown) + 4))
    fine = Image.new("RGB", (_DOTS * _FINE, height * _FINE), PAPER)
    draw = ImageDraw.Draw(fine)
    color = {label: _SHADES[i] for i, label in enumerate(shown)}
    order = sorted(range(len(points)), key=lambda i: labels[i] in color)  # gray ones below
    for i in order:
        label = labels[i]
        _circle(draw, at[i], radius, fill=_REST if label is None else color.get(label, _REST))
    for place in at[len(points) :]:
        _circle(draw, place, radius + 4, outline=MARK)
    sheet = Image.new("RGB", (_DOTS + _LEGEND, height), PAPER)
    sheet.paste(fine.resize((_DOTS, height), Image.Resampling.BOX), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for label in shown:
        mine = at[[i for i, other in enumerate(labels) if other == label]]
        x, y = densest(mine)
        draw.text(
            (x, y), shortened(names[label], 18), fill=INK, font=font(18), anchor="mm", stroke_width=3, stroke_fill=PAPER
        )
    _legend(
        draw, [(color[label], f"{shortened(names[label], 22)} ({counts[label]:,})") for label in shown], labels, placed
    )
    return _titled(np.asarray(sheet), title)


def densest(points: np.ndarray) -> tuple[float, float]:
    """The middle of the quarter of `points` (n, 2) that lies closest around one of them; of up to 500 of them."""
    some = points[spread(0, len(points) - 1, 500, down=True)]
    squares = ((some[:, None] - some[None]) ** 2).sum(2)
    count = max(1, len(some) // 4)
    near = np.argsort(squares, axis=1, kind="stable")[:, :count]
    tight = np.take_along_axis(squares, near, 1).sum(1).argmin()
    x, y = some[near[tight]].mean(0)
    return float(x), float(y)


def most_frequent(labels: Sequence[int | None], most: int) -> tuple[list[int], dict[int, int]]:
    """Up to `most` classes, by index, that have the most images, ties by index; and how many each class has."""
    counts: dict[int, int] = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[:most]), counts


def _legend(
    draw: ImageDraw.ImageDraw, entries: Sequence[tuple[Color, str]], labels: Sequence[int | None], placed: np.ndarray
) -> None:
    lines: list[tuple[Color, str]] = list(entries)
    more = len({label for label in labels if label is not None}) - len(entries)
    without = sum(label is None for label in labels)
    if more:
        lines.append((_REST, f"{more:,} further class{'es' if more > 1 else ''}"))
    if without:
        lines.append((_REST, f"without a class ({without:,})"))
    if len(placed):
        lines.append((MARK, f"placed ({len(placed):,})"))
    for i, (color, text) in enumerate(lines):
        y = 20 + 24 * i
        draw.ellipse((_DOTS + 10, y - 6, _DOTS + 22, y + 6), fill=color)
        draw.text((_DOTS + 30, y), text, fill=INK if color != _REST else SOFT, font=font(14), anchor="lm")


def _circle(
    draw: ImageDraw.ImageDraw,
    at: np.ndarray,
    radius: float,
    *,
    fill: Color | None = None,
    outline: Color | None = None,
) -> None:
    x, y = (float(v) * _FINE for v in at)
    r = radius * _FINE
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=3 * _FINE if outline else 1)


def _framed(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    frame = min(_FRAME, max(1, min(height, width) // 6))
    framed = np.empty((height, width, 3), dtype=np.uint8)
    framed[:] = MARK
    framed[frame : height - frame, frame : width - frame] = picture[frame : height - frame, frame : width - frame]
    return framed


def _titled(picture: Picture, title: str) -> Picture:
    letters = int(np.clip(picture.shape[1] / 75, *_TITLE))
    strip = Image.new("RGB", (picture.shape[1], 2 * letters), PAPER)
    ImageDraw.Draw(strip).text((8, letters), title, fill=INK, font=font(letters), anchor="lm")
    return np.concatenate([np.asarray(strip), picture])

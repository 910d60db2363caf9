"""Pictures with words: sheets of paper, and the paragraphs, bars and color bars on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from PIL import Image, ImageDraw

from netloupe.render.chart import font, text_table
from netloupe.render.colors import INK, RULE, SOFT, diverging, heat
from netloupe.render.pictures import PAPER, Color, Picture, beside, stacked

BAR: Color = (156, 54, 32)


class Sheet:
    """A figure: its parts one below the other, flush left, `gap` px apart, with `margin` px of paper around them.

    Every method adds one part and gives the sheet back: `Sheet(title, 940).add(chart).table(...).notes(...).picture()`.
    Words run over `width` px. A sheet without a title begins with its first part.
    """

    def __init__(self, title: str, width: int, *, gap: int = 18, margin: int = 20) -> None:
        self._width, self._gap, self._margin = width, gap, margin
        self._parts: list[Picture] = []
        if title:
            self.say(title, size=16)

    def add(self, *pictures: Picture, gap: int = 20) -> Self:
        """Pictures side by side; none is no part."""
        if pictures:
            self._parts.append(beside(pictures, gap=gap))
        return self

    def say(self, *texts: str, size: int = 13, color: Color = INK, gap: int = 4) -> Self:
        """Paragraphs below one another; none is no part."""
        if texts:
            self._parts.append(stacked([paragraph(text, self._width, size, color) for text in texts], gap=gap))
        return self

    def notes(self, *texts: str) -> Self:
        """What one has to know to read the sheet, small."""
        return self.say(*texts, size=12, color=SOFT, gap=2)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Self:
        """As `text_table`."""
        return self.add(text_table(header, rows, widths))

    def picture(self) -> Picture:
        return framed(stacked(self._parts, gap=self._gap), self._margin)


def lines_of(text: str, width: int, size: int) -> list[str]:
    """The text in lines of up to `width` px; a longer word is cut, with an ellipsis."""
    letters = font(size)
    lines = [""]
    for word in text.split():
        while letters.getlength(word) > width and len(word) > 2:
            word = word[:-2] + "…"
        longer = f"{lines[-1]} {word}".strip()
        if letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def paragraph(text: str, width: int, size: int = 13, color: Color = INK) -> Picture:
    """The text on a picture of `width` px, as high as it needs."""
    lines, height = lines_of(text, width, size), round(size * 1.4)
    sheet = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((0, i * height), line, fill=color, font=font(size))
    return np.asarray(sheet)


def framed(picture: Picture, margin: int) -> Picture:
    """The picture with `margin` px of paper around it."""
    height, width = picture.shape[:2]
    sheet = np.empty((height + 2 * margin, width + 2 * margin, 3), dtype=np.uint8)
    sheet[:] = PAPER
    sheet[margin : margin + height, margin : margin + width] = picture
    return sheet


def bars(rows: Sequence[tuple[str, float]], width: int, size: int = 13, colors: Sequence[Color] = ()) -> Picture:
    """Names with shares in [0, 1] as bars, one below the other; the full width of the track is 1.

    colors: of the bars; all the same without.
    """
    name_width, number_width, height = round(width * 0.42), 52, round(size * 1.9)
    track = width - name_width - number_width - 8
    sheet = Image.new("RGB", (width, height * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (name, share) in enumerate(rows):
        y = i * height
        draw.text((0, y), lines_of(name, name_width - 8, size)[0], fill=INK, font=font(size))
        draw.rectangle((name_width, y + 3, name_width + track, y + size), fill=RULE)
        if share > 0:
            draw.rectangle(
                (name_width, y + 3, name_width + max(1, round(share * track)), y + size),
                fill=colors[i] if colors else BAR,
            )
        draw.text((name_width + track + 8, y), f"{share:.1%}", fill=SOFT, font=font(size))
    return np.asarray(sheet)


def color_bar(width: int, *, signed: bool, height: int = 12) -> Picture:
    """`diverging` from -1 to 1 if signed, else `heat` from 0 to 1."""
    values = np.linspace(-1 if signed else 0, 1, width)[None].repeat(height, axis=0)
    return diverging(values, 1.0) if signed else heat(values, 1.0)

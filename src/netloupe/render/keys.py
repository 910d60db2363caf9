"""What explains a picture's colors: palettes for categories and legends."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from netloupe.render.charts import COLORS
from netloupe.render.pictures import PAPER, Color, Picture

OTHERS: Color = (214, 212, 206)


def palette(count: int) -> list[Color]:
    """Colors for `count` categories, most frequent first; those for which there is no color left share a light gray."""
    return [*COLORS, *[OTHERS] * count][:count]


def legend(entries: list[tuple[Color, str]], height: int, width: int = 232) -> Picture:
    """Lines of a color and what it stands for, top to bottom, on `height` px; those that find no room are left out."""
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (color, text) in enumerate(entries[: max(1, (height - 22) // 20)]):
        y = 22 + 20 * i
        draw.rectangle((8, y, 22, y + 13), fill=color)
        draw.text((30, y - 1), text, fill=(40, 38, 34), font_size=12)
    return np.asarray(sheet)

"""What a network says of a photograph, drawn over it: the classes of its pixels, and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from netloupe.render.chart import font, shortened
from netloupe.render.colors import palette
from netloupe.render.pictures import Color, Picture

_VEIL = 0.5  # of a class's color over the photograph
_TEXT = 12  # px

Marked = tuple[tuple[int, int, int, int], str]
"""A box (top, left, bottom, right) and what is written at it."""


def region_colors(regions: np.ndarray) -> dict[int, Color]:
    """A color for each class of (h, w) class indices, most frequent first."""
    found, counts = np.unique(regions, return_counts=True)
    order = found[np.argsort(-counts, kind="stable")].tolist()
    return dict(zip(order, palette(len(order)), strict=True))


def over_regions(photo: Picture, regions: np.ndarray) -> Picture:
    """The photograph (H, W, 3) under the colors of its pixels' classes (h, w), with lines where these change."""
    height, width = photo.shape[:2]
    rows, columns = (np.arange(side) * own // side for side, own in zip((height, width), regions.shape, strict=True))
    classes = regions[np.ix_(rows, columns)]
    colors = np.zeros((height, width, 3))
    for index, color in region_colors(regions).items():
        colors[classes == index] = color
    shown = photo * (1 - _VEIL) + colors * _VEIL
    edge = np.zeros((height, width), dtype=bool)
    edge[1:] |= classes[1:] != classes[:-1]
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    shown[edge] = 255
    return np.asarray(shown.round().astype(np.uint8))


def with_boxes(photo: Picture, boxes: Sequence[Marked], size: Sequence[int]) -> Picture:
    """The photograph with boxes in px of an image of (height, width) `size`, foremost first, each in a color."""
    image = Image.fromarray(photo)
    draw = ImageDraw.Draw(image)
    for (box, text), color in reversed(list(zip(boxes, palette(len(boxes)), strict=True))):
        top, left, bottom, right = (round(side * photo.shape[i % 2] / size[i % 2]) for i, side in enumerate(box))
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=2)
        words = shortened(text, 24)
        wide = round(draw.textlength(words, font=font(_TEXT))) + 6
        y = top - _TEXT - 4 if top >= _TEXT + 4 else max(0, top)
        x = max(0, min(left, photo.shape[1] - wide))
        draw.rectangle((x, y, x + wide, y + _TEXT + 3), fill=color)
        draw.text((x + 3, y), words, fill=(255, 255, 255), font=font(_TEXT))
    return np.asarray(image)

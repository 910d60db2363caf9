"""An explanation as one picture, and the pictures of one method."""

from __future__ import annotations

import numpy as np

from netloupe.analysis.explain.evidence import Curves, ExplainedBy
from netloupe.analysis.explain.record import Explanation
from netloupe.analysis.explain.words import NOTES, likeness, on_curves, on_random, on_rival, score
from netloupe.analysis.tasks import left_out
from netloupe.render.answers import over_regions, with_boxes
from netloupe.render.colors import SOFT, diverging, enlarged, heat, overlay, palette, relief
from netloupe.render.pictures import Color, Picture, beside, fitted, resized, stacked
from netloupe.render.sheet import Sheet, bars, color_bar, paragraph

_SIDE = 176  # px of a map's longer side
_GAP = 8
_CELL = 3 * _SIDE + 2 * _GAP
_WIDTH = 2 * _CELL + 4 * _GAP


def map_picture(one: ExplainedBy, size: tuple[int, int]) -> Picture:
    """The importance as a share of its strength: `diverging` if signed, else `heat`."""
    values = enlarged(one.importance, size)
    return diverging(values, one.strength) if one.method.signed else heat(values, one.strength)


def overlay_picture(one: ExplainedBy, photo: Picture) -> Picture:
    """The importance over the photo, on the same scale."""
    return overlay(photo, one.importance, one.strength, signed=one.method.signed)


def color_picture(one: ExplainedBy, size: tuple[int, int]) -> Picture | None:
    """The raw attribution in the image's own colors, gray at zero; None if the method gives no colors."""
    raw = one.attribution
    if raw.ndim != 3 or raw.shape[0] not in (1, 3):
        return None
    return relief(np.stack([enlarged(color, size) for color in raw]))


def seen(e: Explanation) -> tuple[Picture, str]:
    """The photograph, with the classes of its pixels or the boxes that the network gives, and its caption."""
    if e.regions is not None:
        return over_regions(e.photo, e.regions), "What the network sees, and the class of each pixel"
    boxes = [(one.box, str(one)) for one in e.predictions if one.box is not None]
    if boxes:
        return with_boxes(e.photo, boxes, e.image.shape[1:]), "What the network sees, and the boxes that it gives"
    return e.photo, "What the network sees"


def bar_colors(e: Explanation) -> list[Color]:
    """Of the predictions where they are drawn over the photograph, else none."""
    return palette(len(e.shares)) if e.shares and e.predictions[0].what in ("share", "score") else []


def draw(e: Explanation) -> dict[str, Picture]:
    return {"explain": _sheet(e)}


def _sheet(e: Explanation) -> Picture:
    """The photo with its object, the predictions, and each method: its map, the overlay, its colors, its figures."""
    cells = [_cell(e, one) for one in e.maps.values()]
    rows = [beside(cells[i : i + 2], gap=4 * _GAP) for i in range(0, len(cells), 2)]
    notes = [*NOTES, *e.said, *(f"Left out: {name}. {reason}" for name, reason in left_out(e.skipped))]
    sheet = Sheet("", _WIDTH, gap=3 * _GAP).add(_head(e))
    for row in rows:
        sheet.add(row)
    return sheet.notes(*notes).picture()


def _head(e: Explanation) -> Picture:
    size = fitted(e.photo.shape[:2], 256)
    photo = resized(e.photo, size)
    located = photo if e.object is None else e.object.drawn(photo)
    answered, words_of_it = seen(e)
    said = e.no_object or "The object, by the colors of the gradient's strongest pixels"
    width = _WIDTH - 2 * size[1] - 4 * _GAP
    words = [
        paragraph(e.target.title, width, 26),
        paragraph(f"Explained: {e.target.phrase} in {e.provenance['network']['name']}", width, 13, SOFT),
        paragraph(e.answered, width, 13),
        *([bars(e.shares, width, colors=bar_colors(e))] if e.shares else ()),
        _legend(),
    ]
    pictures = [
        stacked([picture, paragraph(text, size[1], 12, SOFT)], gap=4)
        for picture, text in ((resized(answered, size), words_of_it), (located, said))
    ]
    return beside([*pictures, stacked(words, gap=6)], gap=2 * _GAP)


def _legend() -> Picture:
    """The color bars of signed and unsigned maps on one axis from -1 to 1."""
    half = 120
    signed = beside([color_bar(2 * half, signed=True), paragraph("signed: against, for", 150, 12, SOFT)])
    blank = paragraph("", half - 8, 9)
    unsigned = beside([blank, color_bar(half, signed=False), paragraph("unsigned", 150, 12, SOFT)])
    ticks = beside([paragraph(text, half - 8, 11, SOFT) for text in ("-1", "0")] + [paragraph("1", 20, 11, SOFT)])
    return stacked([signed, unsigned, ticks], gap=2)


def _cell(e: Explanation, one: ExplainedBy) -> Picture:
    size = fitted(e.photo.shape[:2], _SIDE)
    photo = resized(e.photo, size)
    colors = color_picture(one, size)
    shown = [map_picture(one, size), overlay_picture(one, photo), *([] if colors is None else [colors])]
    head = f"{one.method.title}{', zero everywhere' if one.zero else ''}"
    words = [
        paragraph(head, _CELL, 16),
        paragraph(one.method.paper, _CELL, 12, SOFT),
        beside(shown, gap=_GAP),
        _said(likeness(one.class_likeness), on_rival(one, e.target)),
        _said(likeness(one.random_likeness), on_random(one)),
        _said(areas_of(one.curves), f"{on_curves(one, e.by_chance)} ({areas_of(e.by_chance)})"),
    ]
    return stacked(words, gap=3)


def areas_of(curves: Curves | None) -> str:
    """Deletion and insertion, as in "0.12, 0.56"."""
    return "none" if curves is None else ", ".join(map(score, curves.areas))


def _said(figure: str, words: str) -> Picture:
    return beside([paragraph(figure, 84, 12), paragraph(words, _CELL - 92, 12)])

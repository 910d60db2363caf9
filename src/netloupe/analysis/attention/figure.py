"""Where tokens look, drawn: the photo beside a map for each attention head, and what was measured below."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from netloupe.analysis.attention.record import ALIKE, AttentionMaps, Looks
from netloupe.render.chart import Axis, Band, Line, axis, line_chart
from netloupe.render.colors import COLORS, diverging, heat
from netloupe.render.pictures import Picture, captioned, fitted, grid, resized, stacked
from netloupe.render.sheet import Sheet, paragraph

_WIDTH = 1000
_MARK = (255, 64, 32)


def draw(a: AttentionMaps) -> dict[str, Picture]:
    return {"attention": _sheet(a)}


def _sheet(a: AttentionMaps) -> Picture:
    shown = {name: range(len(one.maps)) if a.heads is None else a.heads for name, one in a.looks.items()}
    most = max(len(heads) for heads in shown.values())
    side = min(112, max(40, (_WIDTH - 220) // (most + 1) - 4))
    rows = [_row(name, one, shown[name], side) for name, one in a.looks.items()]
    sheet = Sheet(f"Where tokens look, from {a.origin}", _WIDTH).add(_photo(a), stacked(rows))
    measured = {name: one for name, one in a.looks.items() if one.distance is not None}
    if len(measured) > 1:
        sheet.add(*_charts(list(measured.values())))
    for one in list(measured.values()) * (len(measured) == 1):
        sheet.table(("head", "how far, px", "how widely, bits"), _figures(one), (80, 140, 140))
    if measured:
        sheet.say("Heads by heads of each attention: red where they look alike (1), white where not (0), blue opposite")
        sheet.add(_likeness(list(measured.values())))
    return sheet.notes(*_notes(a, bool(measured))).picture()


def _photo(a: AttentionMaps) -> Picture:
    """What the network sees, with the place from which is looked framed."""
    size = fitted(a.image.shape[1:], 192)
    sheet = Image.fromarray(resized(a.photo, size))
    if a.place is not None:
        down, across = size[0] / a.image.shape[1], size[1] / a.image.shape[2]
        top, left, bottom, right = a.place
        box = (left * across, top * down, right * across - 1, bottom * down - 1)
        ImageDraw.Draw(sheet).rectangle(box, outline=_MARK, width=2)
    return captioned(np.asarray(sheet), "What the network sees")


def _row(name: str, one: Looks, heads: range | tuple[int, ...], side: int) -> Picture:
    """A map for each head, and the mean over all heads."""
    maps = [one.maps[h] for h in heads] + [one.maps.mean(0)] * (len(one.maps) > 1)
    tiles = [resized(heat(values), fitted(values.shape, side), smooth=False) for values in maps]
    which = f"heads {heads[0]} to {heads[-1]}" if len(heads) > 1 else f"head {heads[0]}"
    mean = f", and the mean of all {len(one.maps)}" if len(one.maps) > 1 else ""
    pooled = "; its queries are no patches, and all are taken in the mean" if one.distance is None else ""
    return stacked([paragraph(f"{name}: {which}{mean}{pooled}", _WIDTH - 220), grid(tiles, len(tiles))], gap=0)


def _figures(one: Looks) -> list[tuple[str, str, str]]:
    assert one.distance is not None
    assert one.entropy is not None
    return [
        (str(h), f"{far:.1f}", f"{wide:.2f}")
        for h, (far, wide) in enumerate(zip(one.distance, one.entropy, strict=True))
    ]


def _charts(measured: list[Looks]) -> list[Picture]:
    """The lowest, middle and highest head of each attention, in distance and in entropy."""
    places = list(range(len(measured)))
    ticks = [(float(i), str(i)) for i in places[:: -(-len(places) // 12)]]
    across = Axis("attention, in the order of execution", 0, len(measured) - 1, ticks)
    found = []
    for title, unit, values in (
        ("How far heads look", "px", [one.distance for one in measured]),
        ("How widely heads look", "bits", [one.entropy for one in measured]),
    ):
        heads = [np.sort(one) for one in values if one is not None]
        lines = [
            Line("highest head", [float(one[-1]) for one in heads], COLORS[0]),
            Line("middle head", [float(np.median(one)) for one in heads], COLORS[1]),
            Line("lowest head", [float(one[0]) for one in heads], COLORS[2]),
        ]
        band = Band(lines[2].values, lines[0].values, (226, 232, 240))
        y = axis(unit, 0, max(float(one[-1]) for one in heads))
        chart = line_chart(title, lines, places, across, y, size=(240, 480), room=120, ends=False, bands=[band])
        found.append(chart)
    return found


def _likeness(measured: list[Looks]) -> Picture:
    """A square for each attention, by its number in the order of execution."""
    tiles = [
        captioned(resized(diverging(one.likeness, 1.0), (72, 72), smooth=False), str(i))
        for i, one in enumerate(measured)
        if one.likeness is not None
    ]
    return grid(tiles, 12, gap=6)


def _notes(a: AttentionMaps, measured: bool) -> list[str]:
    found = [
        "Maps: the weights of the patches, each from 0 (black) to its own highest (pale). What goes to other tokens "
        "is not shown.",
    ]
    if measured:
        found += [
            f"Over {a.images} image{'s' * (a.images != 1)}, in the mean over patches. How far: the distance from a "
            "patch to the patches it attends to, weighted by its attention among them (Dosovitskiy et al. 2021). How "
            "widely: the entropy of its attention to all tokens.",
            f"Alike: the correlation of two heads' weights over patches and images, called alike from {ALIKE:g}.",
        ]
    return [*found, *(f"Left out: {name}: {reason}" for name, reason in a.skipped.items())]

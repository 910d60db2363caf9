"""The pictures of an audit: each suspect's place, the images that speak for it, and those that don't."""

from __future__ import annotations

import numpy as np

from netloupe.render.colors import SOFT, diverging, overlay
from netloupe.render.pictures import Picture, beside, fitted, from_pixels, resized, stacked
from netloupe.render.sheet import Sheet, paragraph
from netloupe.studies.audit.places import Box, in_pixels, place_words
from netloupe.studies.audit.record import LEAST_EFFECT, Audit, Background, Example, Place, Shown
from netloupe.studies.audit.words import NOTES, left_out, p_text, verdict, words

WIDTH = 1180  # px of the sheet, without its margin
CELL = 132  # px of the longer side of an image
MARK = (255, 64, 160)  # of a place's frame
ROWS = 12  # of the table
HEADER = (
    "class",
    "place",
    "hiding it",
    "hiding\nother places",
    "carrying it:\ntaken for the class",
    "carrying\nother places",
    "effect",
    "at least",
    "p",
)


def draw(a: Audit) -> dict[str, Picture]:
    """Its one picture."""
    return {"audit": _sheet(a)}


def _sheet(a: Audit) -> Picture:
    """The verdict, the suspects with examples and counterexamples, and the classes tested in a table."""
    head = [paragraph(f"{a.provenance['network']['name']}: {verdict(a)}", WIDTH, 16)]
    head += [paragraph(text, WIDTH, 12, SOFT) for text in left_out(a)]
    sheet = Sheet("", WIDTH, gap=22).add(stacked(head, gap=4))
    for one in a.shown[:3]:
        sheet.add(_suspect(a, one))
    if a.places:
        rows = [place_cells(a, one) for one in a.places[:ROWS]]
        sheet.table(HEADER, rows, [190, 170, 90, 100, 150, 110, 90, 90, 90])
    if len(a.places) > ROWS:
        sheet.notes(f"... and {len(a.places) - ROWS} more tested")
    return sheet.notes(*(note.format(least=LEAST_EFFECT) for note in NOTES)).picture()


def place_cells(a: Audit, one: Place) -> list[str]:
    """A row of the table, as HEADER says."""
    numbers = (one.hiding.own, one.hiding.elsewhere)
    after = (one.effect, one.low)
    name = a.names[one.label] + (" (suspect)" if one.suspect else "")
    shares = (f"{one.turned:.0%}", f"{one.turned_elsewhere:.0%}")
    falls, rest = ([f"{n:z.2f}" for n in each] for each in (numbers, after))
    return [name, place_words(one.proposal.box).removeprefix("the "), *falls, *shares, *rest, p_text(one.p)]


def _suspect(a: Audit, shown: Shown) -> Picture:
    one = shown.suspect
    box = in_pixels(one.proposal.box, a.size) if isinstance(one, Place) else None
    strips = [paragraph(words(a, one), WIDTH, 14)]
    for title, examples in titled(a, shown):
        cells = [_example(a.names[one.label], each, box) for each in examples]
        strips.append(stacked([paragraph(title, WIDTH, 12, SOFT), beside(cells, gap=14)], gap=4))
    if isinstance(one, Place):
        where = excess_picture(a, one)
        side = stacked([paragraph("Excess of attribution", CELL + 40, 12, SOFT), where], gap=4)
        strips.insert(1, side)
    return stacked(strips, gap=10)


def titled(a: Audit, shown: Shown) -> list[tuple[str, tuple[Example, ...]]]:
    """The kinds of images that are shown, with what they are; empty kinds left out."""
    one, name = shown.suspect, a.names[shown.suspect.label]
    if isinstance(one, Background):
        rows = [
            (f"{name}: the photo, where its evidence lies, and without the object; most is left", shown.examples),
            ("Counterexamples: least is left, wrongly classified ones first", shown.counterexamples),
        ]
    else:
        rows = [
            (f"{name}: the image, where its evidence lies, and with the place hidden; falls most", shown.examples),
            ("Counterexamples: falls least, wrongly classified ones first", shown.counterexamples),
            ("Carried: images of other classes, as they are and with the content of the place", shown.carried),
        ]
    return [(title, examples) for title, examples in rows if examples]


def excess_picture(a: Audit, one: Place) -> Picture:
    """Where the class's attribution lies above (red) or below (blue) the other classes', the place framed."""
    i = a.labels.index(a.names[one.label])
    size = fitted(a.size, CELL)
    picture = resized(diverging(a.excess[i]), size, smooth=False)
    return frame(picture, in_pixels(one.proposal.box, size))


def frame(picture: Picture, box: Box, color: tuple[int, int, int] = MARK, width: int = 2) -> Picture:
    """The picture with a box (px) drawn around its inside."""
    found = picture.copy()
    top, left, bottom, right = box
    for area in (
        (slice(top, top + width), slice(left, right)),
        (slice(bottom - width, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + width)),
        (slice(top, bottom), slice(right - width, right)),
    ):
        found[area] = color
    return found


def pictures_of(one: Example, box: Box | None) -> list[Picture]:
    """The image, its map over it where there is one, and the changed image; the place framed in the first."""
    size = fitted(one.image.shape[1:], CELL)
    scale = size[0] / one.image.shape[1]
    photo, changed = (resized(from_pixels(each), size, smooth=scale < 1) for each in (one.image, one.changed))
    found = [photo if box is None else frame(photo, _scaled(box, scale))]
    if one.importance is not None:
        found.append(overlay(photo, one.importance.clip(min=0)))
    return [*found, changed]


def _scaled(box: Box, scale: float) -> Box:
    top, left, bottom, right = (round(v * scale) for v in box)
    return top, left, bottom, right


def before_after(name: str, one: Example) -> str:
    """The probability before and after, and what each is taken for."""
    before, after = one.taken
    said = f"taken for {before}, then for {after}" if before != after else f"taken for {before}"
    own = f"{one.truth}: " if one.truth != name else ""
    return f"{own}{name} {one.before:z.2f} to {one.after:z.2f}, {said}"


def _example(name: str, one: Example, box: Box | None) -> Picture:
    pictures = pictures_of(one, box)
    smaller = [resized(p, (p.shape[0] * 88 // CELL, p.shape[1] * 88 // CELL)) for p in pictures]
    row = beside(smaller, gap=2)
    return stacked([row, paragraph(before_after(name, one), row.shape[1], 12, SOFT)], gap=3)


def mean_map(values: np.ndarray, size: tuple[int, int]) -> Picture:
    """The mean attribution of a class by cells, white where it is spread evenly."""
    return resized(diverging(values - 1 / values.size), fitted(size, CELL), smooth=False)

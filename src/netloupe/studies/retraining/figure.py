"""The picture of `retraining`: our table, and below it the paper's."""

from __future__ import annotations

from netloupe.render.pictures import Picture
from netloupe.render.sheet import Sheet
from netloupe.studies.retraining.record import Retraining

PAPER = (  # Table 3: what was changed, errors in % on ImageNet 2012: train top-1, val top-1, val top-5
    ("their replication of Krizhevsky et al. (2012)", 35.1, 40.5, 18.1),
    ("  without layers 3, 4", 41.8, 45.4, 22.1),
    ("  without layer 7", 27.4, 40.0, 18.4),
    ("  without layers 6, 7", 27.4, 44.8, 22.4),
    ("  without layers 3, 4, 6, 7", 71.1, 71.3, 50.1),
)


def draw(r: Retraining) -> dict[str, Picture]:
    """Its one picture."""
    return {"retraining": _sheet(r)}


def _sheet(r: Retraining) -> Picture:
    """Our table, and below it the paper's."""
    name = r.provenance["network"]["name"]
    title = f"{name} trained on {r.images[0]:,} images of {r.classes} classes, {r.epochs} epochs each"
    header = ["network", "parameters", "train\nerror", "val\nerror", "val top-5\nerror"]
    rows = [
        [title, f"{count:,}", *(f"{100 * value:.1f} %" for value in errors)]
        for title, count, errors in zip(r.titles, r.parameters, r.errors, strict=True)
    ]
    paper = [[title, "", *(f"{value:.1f} %" for value in values)] for title, *values in PAPER]
    note = (
        "Every network was trained from random weights by the same recipe on the same images. Below, Table 3 of "
        "Zeiler & Fergus (2013), on ImageNet 2012."
    )
    widths = [440, 120, 90, 90, 110]
    sheet = Sheet(title, 860, gap=16).table(header, rows, widths).notes(note)
    return sheet.table(["network", "", *header[2:]], paper, widths).say(*r.notes, gap=16).picture()

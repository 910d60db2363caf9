"""The picture of `probe`: overlap by layer, and some images with what is there and what was predicted."""

from __future__ import annotations

import numpy as np

from netloupe.render.chart import LEFT, Axis, Line, axis, fits, legend, line_chart, text_table
from netloupe.render.colors import COLORS, GRAY, palette
from netloupe.render.pictures import Color, Picture, captioned, fitted, from_pixels, grid, resized, stacked
from netloupe.render.sheet import Sheet
from netloupe.studies.probe.record import DenseProbe
from netloupe.studies.probe.task import percent

WIDTH = 940  # px of the sheet, without its margin
_ROOM = 130  # px for the chart's labels
_TILE = 148
_MOST = 6  # classes that get a line of their own
NOTE = (
    "Each position's channels are classified by themselves, linearly; scores are brought to the size of the image. "
    "IoU: pixels where what is predicted and what is there agree, over pixels where one of them is, over all images "
    "that did not train. Place alone knows where a position lies and sees no image: what lies below it tells nothing."
)


def draw(p: DenseProbe) -> dict[str, Picture]:
    """Its one picture."""
    title = f"{p.provenance['network']['name']}: what positions tell, by layer"
    sheet = Sheet(title, WIDTH, gap=16).add(_chart(p)).add(_table(p))
    sheet.say(f"Some of the {p.counts[1]} images that are judged, by {p.best}", size=15).add(_examples(p))
    return {"probe": sheet.notes(NOTE).picture()}


def _chart(p: DenseProbe) -> Picture:
    names, places = p.layers[:-1], list(range(len(p.layers) - 1))
    lines = [Line("mean", [100 * float(v) for v in p.means[:-1]], COLORS[0])]
    if len(p.classes) <= _MOST:
        for k, title in enumerate(p.classes):
            values = [100 * float(v) for v in np.nan_to_num(p.shares[:-1, k])]
            lines.append(Line(title, values, COLORS[(k + 1) % len(COLORS)]))
    lines.append(Line("place alone", [100 * float(p.means[-1])] * len(places), GRAY, dashed=True))
    ticks = [(float(i), name) for i, name in enumerate(names)]
    if not fits(list(names), WIDTH - LEFT - _ROOM):
        ticks = [(float(i), str(i + 1)) for i in places]
    x, y = Axis("layer", -0.3, max(places) + 0.3, ticks), axis("intersection over union, %", 0, 100)
    return line_chart("A linear probe at every position", lines, places, x, y, size=(320, WIDTH), room=_ROOM)


def _table(p: DenseProbe) -> Picture:
    shown = p.classes[:_MOST]
    header = ["layer", "positions", "mean IoU", *shown]
    rows = [
        [f"{i + 1}  {name}", "x".join(map(str, size)), percent(float(mean)),
         *(percent(None if np.isnan(v) else float(v)) for v in each[: len(shown)])]
        for i, (name, size, mean, each) in enumerate(zip(p.layers, p.grids, p.means, p.shares, strict=True))
    ]  # fmt: skip
    return text_table(header, rows, [190, 90, 90, *[100] * len(shown)])


def _examples(p: DenseProbe) -> Picture:
    colors = np.array([(40, 38, 34), *palette(max(1, len(p.classes) - 1))], dtype=np.float32)
    size = fitted(p.images.shape[2:], _TILE)
    tiles = []
    for what, masks in (("there", p.masks), (f"by {p.best}", p.predicted)):
        for image, mask in zip(p.images, masks, strict=True):
            photo = from_pixels(image).astype(np.float32)
            mixed = np.where((mask >= 0)[..., None], 0.45 * photo + 0.55 * colors[np.maximum(mask, 0)], photo)
            tiles.append(captioned(resized(mixed.round().astype(np.uint8), size), what))
    rows = grid(tiles, len(p.images), gap=6)
    keys: list[tuple[Color, str]] = [
        ((int(r), int(g), int(b)), title) for (r, g, b), title in zip(colors, p.classes, strict=True)
    ]
    return stacked([rows, legend(keys, 22 + 20 * min(len(keys), 12))])

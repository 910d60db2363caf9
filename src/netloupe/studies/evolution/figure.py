"""The pictures of `evolution`: features at a series of epochs in the form of Figure 4, and curves of convergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netloupe.analysis.patches import tile_of
from netloupe.render.chart import Axis, Line, axis, line_chart, text_table
from netloupe.render.colors import COLORS, SOFT
from netloupe.render.pictures import PAPER, Color, Picture, beside, cropped, stacked
from netloupe.render.sheet import Sheet, paragraph
from netloupe.studies.evolution.record import SETTLED, Evolution, LayerEvolution

_CELL = 56  # px of a projection, and of the patch beside it
_FRAME = 2  # px
_GAP = 4
_NAME = 74  # px of a channel's address
_NEW: Color = (214, 96, 22)  # the frame where another image became the strongest
_EMPTY: Color = (226, 222, 213)  # nothing above zero
_CHART = (300, 590)
_ROOM = 110  # px for a chart's labels


def draw(e: Evolution) -> dict[str, Picture]:
    """The features at each epoch, and the curves."""
    return {"evolution": _features(e), "convergence": _convergence(e)}


def _features(e: Evolution) -> Picture:
    """A block for each layer, a row a channel, a column an epoch; each cell a projection with its patch beside it."""
    pair = 2 * _CELL + 2 * _FRAME
    heads = [paragraph(f"epoch {epoch}", pair, 12, SOFT) for epoch in e.epochs]
    header = beside([_blank(_NAME), *heads], gap=_GAP)
    blocks = []
    for name, layer in e.layers.items():
        head = beside([_blank(_NAME), paragraph(name, header.shape[1] - _NAME, 15)], gap=_GAP)
        blocks.append(stacked([head, header, *(_row(e, name, layer, k) for k in range(len(layer.channels)))], gap=_GAP))
    network = e.provenance["network"]["name"]
    title = f"{network}: the strongest response of each channel over {e.images} images"
    note = (
        "Left in each cell: the response projected to the pixels, gray at zero, on a scale of its own (contrast up to "
        "the 99.5th percentile of its sizes). Right: what the neuron sees of the image. An orange frame marks where "
        "another image became the strongest; an empty cell, a channel with no response above zero."
    )
    sheet = Sheet(title, max(block.shape[1] for block in blocks), gap=14, margin=16)
    return sheet.add(stacked(blocks, gap=14)).notes(note).picture()


def _convergence(e: Evolution) -> Picture:
    """How like each layer's responses, strongest images and weights are to those at the last epoch; and a table."""
    means = {name: layer.mean for name, layer in e.layers.items()}
    shares = {name: layer.final_image for name, layer in e.layers.items()}
    cosines = {name: layer.weights.mean(1) for name, layer in e.layers.items() if layer.weights is not None}
    note = (
        f"The table: mean rank correlation of the channels' responses with those at the last epoch (in brackets, the "
        f"quartiles over channels), and the first of these epochs from which on the mean stays at {SETTLED} or above. "
        "Epochs stand evenly apart."
    )
    sheet = Sheet(f"{e.provenance['network']['name']}, {e.images} images", 2 * _CHART[1] + 20)
    sheet.add(
        _chart(e, "Responses", "mean rank correlation with the last", means),
        _chart(e, "Strongest image", "share of channels with their last one", shares),
    )
    if cosines:
        sheet.add(_chart(e, "Weights", "mean cosine to the last", cosines))
    return sheet.add(_table(e)).say(e.verdict()).notes(note).picture()


def _row(e: Evolution, name: str, layer: LayerEvolution, k: int) -> Picture:
    channel = layer.channels[k]
    cells = []
    for i in range(len(e.epochs)):
        new = i > 0 and layer.images[i, channel] != layer.images[i - 1, channel]
        silent = not layer.values[i, channel] > 0
        tiles = [_blank_tile()] * 2 if silent else _tiles(e, layer, k, i)
        cells.append(_bordered(np.concatenate(tiles, axis=1), _NEW if new and not silent else PAPER))
    label = paragraph(f"{name}:{channel}" if len(name) < 8 else f":{channel}", _NAME, 12, SOFT)
    return beside([label, *cells], gap=_GAP)


def _tiles(e: Evolution, layer: LayerEvolution, k: int, i: int) -> list[Picture]:
    """The projection and the patch."""
    box = layer.boxes[k][i]
    tile = tile_of(layer.projections[k, i], box, _CELL)
    photo = e.photo(int(layer.images[i, layer.channels[k]]))
    return [cropped(tile, (0, 0, *tile.shape[:2]), _CELL), cropped(photo, box, _CELL, of=e.size)]


def _chart(e: Evolution, title: str, measured: str, values: dict[str, np.ndarray]) -> Picture:
    lines = [Line(n, v.tolist(), COLORS[i % len(COLORS)], i >= len(COLORS)) for i, (n, v) in enumerate(values.items())]
    finite = [float(v) for each in values.values() for v in each if np.isfinite(v)]
    x = Axis("epoch", 0, len(e.epochs) - 1, [(i, str(epoch)) for i, epoch in enumerate(e.epochs)])
    y = axis(measured, min(0.0, *finite), 1)
    places = range(len(e.epochs))
    return line_chart(title, lines, places, x, y, size=_CHART, room=_ROOM, ends=False)


def _table(e: Evolution) -> Picture:
    header = ["layer", *(f"epoch {epoch}" for epoch in e.epochs), "settled by"]
    rows = []
    for name, layer in e.layers.items():
        low, high = layer.quartiles()
        settled = e.settled(name)
        cells = [_cell(*three) for three in zip(layer.mean, low, high, strict=True)]
        rows.append([name, *cells, "" if settled is None else str(settled)])
    first = 30 + max(60, *(7 * len(name) for name in e.layers))
    return text_table(header, rows, [first, *[122] * len(e.epochs), 90])


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f} ({low:.2f}, {high:.2f})" if np.isfinite(mean) else ""


def _bordered(picture: Picture, color: Sequence[int]) -> Picture:
    height, width = picture.shape[:2]
    found = np.empty((height + 2 * _FRAME, width + 2 * _FRAME, 3), dtype=np.uint8)
    found[:] = color
    found[_FRAME:-_FRAME, _FRAME:-_FRAME] = picture
    return found


def _blank_tile() -> Picture:
    return np.full((_CELL, _CELL, 3), _EMPTY, dtype=np.uint8)


def _blank(width: int) -> Picture:
    return np.full((1, width, 3), PAPER, dtype=np.uint8)

"""The picture of `filters`: the first filters by frequency with their spectra, aliasing, all layers in a table."""

from __future__ import annotations

import itertools

import numpy as np

from netloupe.render.chart import Axis, Line, axis, line_chart, text_table
from netloupe.render.colors import COLORS, heat, relief
from netloupe.render.pictures import Picture, grid, resized, stacked
from netloupe.render.sheet import BAR, Sheet, paragraph
from netloupe.studies.diagnosis.record import Diagnosis, LayerDiagnosis
from netloupe.studies.diagnosis.spectra import BANDS, HIGH, LOW, Aliasing, frequencies
from netloupe.studies.diagnosis.words import findings, verdict

_WIDTH = 1180  # px, without the margin
_TILE = 44  # px of a filter and of its spectrum
_SHOWN = 60  # filters of each band
_CHART = (290, 590)
_ROOM = 190
_STEPS = 24  # of a radial spectrum
_CURVES = 8  # strides in the chart


def draw(d: Diagnosis) -> dict[str, Picture]:
    """Its one picture."""
    return {"filters": _sheet(d)}


def _sheet(d: Diagnosis) -> Picture:
    """The verdict, the first filters sorted by their strongest frequency, the spectra, every layer, every finding."""
    found = findings(d)
    words = [paragraph(one["sentence"], _WIDTH, color=BAR) for one in found if one["found"]]
    words += [paragraph(one["sentence"], _WIDTH) for one in found if not one["found"]]
    note = (
        f"Frequencies in cycles per pixel: low below {LOW}, middle up to {HIGH}, high above. Under each filter its "
        "spectrum, zero frequency in the middle, black to yellow on a scale of its own. Alike: how many channels could "
        "be spared. Folded: the share of a map's variation above the Nyquist limit of the stride. Red: past the limit."
    )
    sheet = Sheet(f"{d.provenance['network']['name']}, {d.images} images", _WIDTH).say(verdict(found)).add(_filters(d))
    sheet.add(_filters_chart(d), *([_strides_chart(d)] if d.aliasing else []))
    return sheet.add(_table(d)).add(stacked(words, gap=4)).notes(note).picture()


def _filters(d: Diagnosis) -> Picture:
    """The filters with their spectra, in three parts by band, the lowest frequency first."""
    parts = []
    columns = (_WIDTH - 4) // (_TILE + 4)
    for i, band in enumerate(BANDS):
        chosen = np.flatnonzero(d.spectra.bands == i)
        order = chosen[np.argsort(d.spectra.peak[chosen], kind="stable")]
        more = f", {_SHOWN} shown" if len(order) > _SHOWN else ""
        title = f"{d.first}: {len(order)} filters with their strongest frequency in the {band} band{more}"
        parts.append(paragraph(title, _WIDTH))
        if len(order):
            parts.append(grid([_tile(d, int(f)) for f in order[:_SHOWN]], columns, gap=4))
    return stacked(parts, gap=4)


def _tile(d: Diagnosis, f: int) -> Picture:
    """A filter above its spectrum; of more than three input channels the one of most weight."""
    weights = d.weights[f]
    if len(weights) not in (1, 3):
        weights = weights[[int((weights**2).sum((1, 2)).argmax())]]
    picture = resized(relief(weights, float(np.abs(weights).max())), (_TILE, _TILE), smooth=False)
    return np.concatenate([picture, resized(heat(d.spectra.power[f]), (_TILE, _TILE))])


def _filters_chart(d: Diagnosis) -> Picture:
    """How the filters' power falls on the frequencies, and how many filters are strongest there."""
    known = d.spectra.bands >= 0
    edges = np.linspace(0, 0.75, 13)
    middles = (edges[:-1] + edges[1:]) / 2
    y, x = frequencies(*d.spectra.power.shape[1:])
    radius = np.hypot(y, x)
    total = np.maximum(d.spectra.power[known].sum((1, 2)), 1e-30)
    power = [
        float((d.spectra.power[known][:, (radius >= a) & (radius < b)].sum(1) / total).mean())
        for a, b in itertools.pairwise(edges)
    ]
    peaks = np.histogram(d.spectra.peak[known], edges)[0] / max(1, known.sum())
    white = [float(((radius >= a) & (radius < b)).mean()) for a, b in itertools.pairwise(edges)]
    lines = [
        Line("power of the filters", power, COLORS[0]),
        Line("strongest component", peaks.tolist(), COLORS[1]),
        Line("white noise", white, (140, 134, 124), True),
    ]
    across = Axis("cycles per pixel", 0, 0.75, [(LOW, str(LOW)), (HIGH, str(HIGH)), (0.5, "0.5"), (0.75, "0.75")])
    top = axis("share", 0, max(0.1, *power, *peaks.tolist()))
    return line_chart(
        f"{d.first}: frequencies", lines, middles.tolist(), across, top, size=_CHART, room=_ROOM, ends=False
    )


def _strides_chart(d: Diagnosis) -> Picture:
    """The variation above each frequency before each stride, with the frequency in units of the Nyquist limit."""
    lines = []
    places = np.linspace(0, 2, _STEPS + 1)
    for i, (name, each) in enumerate(list(d.aliasing.items())[:_CURVES]):
        stride = "x".join(str(s) for s in dict.fromkeys(each.stride))
        lines.append(Line(f"{each.mean:.0%}  {name} / {stride}", _above(each, places), COLORS[i % len(COLORS)]))
    across = Axis(
        "frequency in units of the stride's Nyquist limit", 0, 2, [(0, "0"), (0.5, "0.5"), (1, "1"), (2, "2")]
    )
    top = axis("share of variation above it", 0, 1)
    title = "Before each stride: what lies past 1 is folded"
    return line_chart(title, lines, places.tolist(), across, top, size=_CHART, room=_ROOM, ends=False)


def _above(each: Aliasing, places: np.ndarray) -> list[float]:
    y, x = frequencies(*each.power.shape)
    relative = np.maximum(np.abs(y) * 2 * each.stride[0], np.abs(x) * 2 * each.stride[1])
    total = each.power.sum()
    return [float(each.power[relative > place + 1e-9].sum() / total) if total > 0 else float("nan") for place in places]


def _table(d: Diagnosis) -> Picture:
    """Every convolution, and every pooling with a stride."""
    names = [*d.layers, *(name for name in d.aliasing if name not in d.layers)]
    rows = [[name, *_cells(d.layers.get(name), d.aliasing.get(name))] for name in names]
    header = ["layer", "channels", "dead", "alike in\nweights", "alike in\nresponses", "stride", "folded"]
    first = 40 + max(80, *(8 * len(name) for name in names))
    return text_table(header, rows, [first, *[110] * 6])


def _cells(layer: LayerDiagnosis | None, folded: Aliasing | None) -> list[str]:
    found = [""] * 6
    if layer is not None:
        spare = [round(layer.spare(how) * layer.channels) for how in ("weights", "responses")]
        found[:4] = [
            str(layer.channels),
            str(int(layer.dead.sum())),
            str(spare[0]) if layer.compared else "-",
            str(spare[1]),
        ]
    if folded is not None:
        mean = "" if not np.isfinite(folded.mean) else f"{folded.mean:.0%}"
        found[4:] = ["x".join(str(s) for s in dict.fromkeys(folded.stride)), mean]
    return found

"""The features of all chosen layers for every image, as vectors, read in one sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource, Skipped
from netloupe.sweep.engine import check_any_read, sweep
from netloupe.sweep.vectors import Features

GRIDS = (4, 2, 1)  # cells a side
DIMENSIONS = 2048


@dataclass(frozen=True)
class LayerFeatures:
    """ids: (N,) of the images that could be read. vectors: layer -> (N, d) float32. grids: layer -> cells a side.

    labels: (N,) int64, -1 for none. left_out: layer -> why it has no features. skipped: the broken images.
    """

    ids: np.ndarray
    labels: np.ndarray
    vectors: Mapping[str, np.ndarray]
    grids: Mapping[str, int]
    left_out: Mapping[str, str]
    skipped: tuple[Skipped, ...]


def grid_of(net: Network, layer: str, dimensions: int = DIMENSIONS) -> int:
    """Cells a side into which a layer's maps are averaged: 4, 2 or 1, as many as `dimensions` numbers allow."""
    one = net.layer(layer)
    return next(g for g in GRIDS if g == 1 or (g <= min(one.size) and one.channels * g * g <= dimensions))


def read_features(
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    *,
    dimensions: int = DIMENSIONS,
    watch: Watch = SILENT,
) -> LayerFeatures:
    """The features of every image at `layers`: the means over the cells of a grid, see `grid_of`.

    A layer whose activations are not finite is left out and named. Raises InputError where no image can be read,
    NetworkError where no layer has finite activations.
    """
    grids = {layer: grid_of(net, layer, dimensions) for layer in layers}
    left_out: dict[str, str] = {}
    kept = {layer: Features(layer, grid) for layer, grid in grids.items()}
    try:
        report = sweep(net, source, kept, layers=list(kept), watch=watch)
    except NetworkError as error:
        kept, left_out = {}, {}
        for layer, grid in grids.items():  # which of them can be read
            alone = {layer: Features(layer, grid)}
            try:
                report = sweep(net, source, alone, layers=[layer], watch=watch)
                kept |= alone
            except NetworkError as own:
                left_out[layer] = str(own)
        if not kept:
            raise error
    check_any_read(report, source)
    found = {layer: accumulator.result() for layer, accumulator in kept.items()}
    ids = next(iter(found.values())).ids
    given = source.labels if source.labels is not None else [None] * len(source)
    labels = np.array([-1 if label is None else label for label in given], dtype=np.int64)[ids]
    return LayerFeatures(
        ids, labels, {name: one.vectors for name, one in found.items()}, grids, left_out, report.skipped
    )

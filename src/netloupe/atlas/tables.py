"""From what a sweep found to the rows of an atlas: channels, patches, tiles, neighbors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from netloupe.analysis.nearest import search
from netloupe.atlas.pages import UNITS_PER_BLOCK
from netloupe.atlas.photographs import Photographs
from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.spread import evenly
from netloupe.render.pictures import Color, Picture, cropped, encode

TILE_COLUMNS = 8
TILE_SIDE = 120
CLASSES_KEPT = 8
NEIGHBORS_KEPT = 12

_PER_ROW = 3  # patches in a row of a tile
_PATCH = (TILE_SIDE - _PER_ROW + 1) // _PER_ROW  # 39 px, one px apart
DARK: Color = (28, 27, 25)


def selectivity(means: np.ndarray) -> np.ndarray:
    """(m - r) / (|m| + |r|) of each channel, m its highest class mean and r the mean over the other classes.

    means: (classes, C), NaN for classes without images. (C,) in [0, 1]; NaN with fewer than two classes
    (the class selectivity index, Morcos et al. 2018).
    """
    known = means[~np.isnan(means).all(axis=1)]
    if len(known) < 2:
        return np.full(means.shape[1], np.nan)
    highest = known.max(axis=0)
    rest = (known.sum(axis=0) - highest) / (len(known) - 1)
    size = np.abs(highest) + np.abs(rest)
    return np.where(size > 0, (highest - rest) / np.where(size > 0, size, 1), 0.0)


def unit_rows(layer: int, peaks: Any, class_means: np.ndarray, class_counts: np.ndarray) -> pa.Table:
    """The rows of table `units` for one layer: statistics of the peak activation, and the classes preferred.

    class_means (classes, C) with NaN where class_counts (classes,) is zero.
    """
    channels = len(peaks.maximum)
    order = np.argsort(np.where(np.isnan(class_means), -np.inf, -0.0 + class_means), axis=0, kind="stable")[::-1]
    kept = min(CLASSES_KEPT, int((class_counts > 0).sum()))
    best = order[:kept].T  # (C, kept)
    dead = peaks.maximum <= 0
    return pa.table(
        {
            "layer": pa.array([layer] * channels, pa.int32()),
            "channel": pa.array(range(channels), pa.int32()),
            "strength": pa.array(peaks.maximum.tolist(), pa.float32()),
            "mean": pa.array(peaks.mean.tolist(), pa.float32()),
            "sparsity": pa.array((1 - peaks.active).tolist(), pa.float32()),
            "selectivity": pa.array(
                [None if np.isnan(s) else float(s) for s in selectivity(class_means)], pa.float32()
            ),
            "dead": pa.array(dead.tolist(), pa.bool_()),
            "low": pa.array(peaks.low.tolist(), pa.float32()),
            "high": pa.array(peaks.high.tolist(), pa.float32()),
            "counts": pa.array(peaks.counts.tolist(), pa.list_(pa.int32())),
            "classes": pa.array(best.tolist(), pa.list_(pa.int32())),
            "class_means": pa.array(
                [class_means[row, c].tolist() for c, row in enumerate(best)], pa.list_(pa.float32())
            ),
            "class_counts": pa.array([class_counts[row].tolist() for row in best], pa.list_(pa.int32())),
        }
    )


def patch_rows(
    layer: int,
    field: ReceptiveField,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    floor: np.ndarray,
    size: tuple[int, int],
) -> pa.Table:
    """The rows of table `patches` for one layer.

    found: values (C, k), image ids (C, k), positions (C, k, 2). floor: (C,) each channel's weakest peak over all
    images; a response that is no stronger says nothing about the channel and is left out.
    """
    values, images, positions = found
    rows: dict[str, list[Any]] = {name: [] for name in _PATCH_SCHEMA.names}
    for channel, rank in np.argwhere((images >= 0) & (values > floor[:, None])):
        y, x = (int(v) for v in positions[channel, rank])
        box = field.box(y, x, size)
        entries = (layer, channel, rank, images[channel, rank], values[channel, rank], y, x, *box)
        for name, entry in zip(rows, entries, strict=True):
            rows[name].append(entry)
    return pa.table(rows, schema=_PATCH_SCHEMA)


_PATCH_SCHEMA = pa.schema(
    [
        *((name, pa.int32()) for name in ("layer", "channel", "rank")),
        ("image", pa.int64()),
        ("value", pa.float32()),
        *((name, pa.int32()) for name in ("y", "x", "top", "left", "bottom", "right")),
    ]
)


def tile_rows(
    layer: int, channels: int, patches: pa.Table, photographs: Photographs, size: tuple[int, int]
) -> pa.Table:
    """The rows of table `tiles` for one layer: nine patches a channel, 64 channels a sheet."""
    best: dict[int, list[dict[str, Any]]] = {}
    for p in patches.to_pylist():
        if p["rank"] < _PER_ROW**2:
            best.setdefault(p["channel"], []).append(p)
    sheets = []
    for first in range(0, channels, UNITS_PER_BLOCK):
        shown = range(first, min(first + UNITS_PER_BLOCK, channels))
        rows = -(-len(shown) // TILE_COLUMNS)
        sheet = np.empty((rows * TILE_SIDE, TILE_COLUMNS * TILE_SIDE, 3), dtype=np.uint8)
        sheet[:] = DARK
        for i, channel in enumerate(shown):
            top, left = (i // TILE_COLUMNS) * TILE_SIDE, (i % TILE_COLUMNS) * TILE_SIDE
            for p in best.get(channel, ()):
                y = top + p["rank"] // _PER_ROW * (_PATCH + 1)
                x = left + p["rank"] % _PER_ROW * (_PATCH + 1)
                sheet[y : y + _PATCH, x : x + _PATCH] = _crop(photographs[p["image"]], p, size)
        sheets.append(encode(sheet, "JPEG", 86))
    return pa.table(
        {
            "layer": pa.array([layer] * len(sheets), pa.int32()),
            "sheet": pa.array(range(len(sheets)), pa.int32()),
            "jpeg": pa.array(sheets, pa.binary()),
        }
    )


def _crop(photo: Picture, patch: Mapping[str, Any], size: tuple[int, int]) -> Picture:
    box = patch["top"], patch["left"], patch["bottom"], patch["right"]
    return cropped(photo, box, _PATCH, of=size, background=DARK)


def neighbor_rows(space: str, ids: np.ndarray, vectors: np.ndarray) -> pa.Table:
    """The rows of table `neighbors` for one space: each image's nearest others, Euclidean; vectors (n, d)."""
    near, _ = search(vectors, vectors, ids, NEIGHBORS_KEPT, exclude=ids)
    known = near.ids >= 0
    return pa.table(
        {
            "id": pa.array(ids.tolist(), pa.int64()),
            "space": pa.array([space] * len(ids), pa.string()),
            "ids": pa.array([row[k].tolist() for row, k in zip(near.ids, known, strict=True)], pa.list_(pa.int64())),
            "distances": pa.array(
                [row[k].tolist() for row, k in zip(near.distances, known, strict=True)], pa.list_(pa.float32())
            ),
        }
    )


def typical(strength: np.ndarray, dead: np.ndarray, count: int = 12) -> list[int]:
    """Up to `count` channels for a layer's strip: evenly spread over the living ones in order of strength."""
    living = [int(c) for c in np.argsort(-strength, kind="stable") if not dead[c]]
    return evenly(living, count)

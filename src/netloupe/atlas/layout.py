"""Where the images of a map lie and in which units its resources tell it; what writing and reading a map share.

Needs neither the network nor torch, so that serving an atlas begins at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netloupe.atlas.store import Store

THUMB = 32  # px: images are compared pixel by pixel at this side
SPACES = ("features", "pixels")
SHEET = 1024  # px: height and width of a full sheet of thumbnails
SIDES = (8, THUMB)  # px: thumbnails come in two sizes, the smaller for looking at all of them at once
BLOCK = (SHEET // THUMB) ** 2  # images whose features are read together: those of one sheet of the larger size

_GRID = 65535  # coordinates on the page are whole numbers from 0 to this


def laid_out(store: Store) -> list[tuple[np.ndarray, np.ndarray]]:
    """(ids (n,) ascending, points (n, 2) as x, y) of each space that has a map, in the order of SPACES."""
    table = store.arrow("embeddings")
    rows = {space: row for row, space in enumerate(table["space"].to_pylist()) if not table["missing"][row].is_valid}

    def numbers(column: str, row: int) -> np.ndarray:
        found: np.ndarray = table[column][row].values.to_numpy()
        return found

    kept = [rows[space] for space in SPACES if space in rows]
    return [(numbers("ids", row), np.stack([numbers("x", row), numbers("y", row)], axis=1)) for row in kept]


def feature_vectors(store: Store, where: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ids, ascending, and features of all images, or of those for which the SQL condition holds."""
    table = store.arrow("features", where, columns=["id", "vector"])
    ids = table["id"].to_numpy()
    column = table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), column.type.list_size)
    order = np.argsort(ids, kind="stable")
    return ids[order], vectors[order]


def in_grid(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) as whole numbers in [0, 65535], the longer side of their box filling it, the shorter centered."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    span = float((high - low).max())
    if span == 0:
        return np.full(points.shape, (_GRID + 1) // 2, np.uint16)
    inset = (1 - (high - low) / span) / 2
    return np.asarray(np.rint(((points - low) / span + inset) * _GRID).astype(np.uint16))


def quantized(vectors: np.ndarray, document: Mapping[str, Any]) -> np.ndarray:
    """Features (n, C) as uint8: 0 at the lowest value of a channel over all images, 255 at its highest."""
    low, high = np.array(document["low"]), np.array(document["high"])
    span = np.where(high > low, high - low, 1)
    return np.asarray(np.rint(np.clip((vectors - low) / span, 0, 1) * 255).astype(np.uint8))

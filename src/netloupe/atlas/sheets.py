"""How what an atlas shows is cut into sheets: channels of a layer, activation maps, thumbnails, projections.

Needs neither the network nor torch, as all that serving needs, so that it begins at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netloupe.core.numbers import evenly
from netloupe.render.pictures import Color, Picture

UNITS_PER_BLOCK = 64
TILE_COLUMNS = 8
TILE_SIDE = 120  # px
TILES = 32  # on a sheet of tiles in the order in which they are shown
DARK: Color = (28, 27, 25)
THUMB = 32  # px: images are compared pixel by pixel at this side
MAP_COLUMNS = 8
MAP_SIDE = 64  # px at most
MAP_STEPS = 15  # between black and the brightest color of a map: enough to see where it is high, and few bytes
QUALITY = 70  # of pictures as WebP
PER_PHOTOGRAPH = 2  # patches of a channel shown of pieces of one photograph


def blocks(channels: int) -> range:
    """The numbers of a layer's blocks, by which its sheets go too."""
    return range(math.ceil(channels / UNITS_PER_BLOCK))


def block(number: int, channels: int) -> range:
    """The channels of a block."""
    first = number * UNITS_PER_BLOCK
    return range(first, min(first + UNITS_PER_BLOCK, channels))


def shown_order(strength: np.ndarray, dead: np.ndarray) -> list[int]:
    """The channels of a layer as its page shows them at first: strongest first, the dead ones last."""
    return [int(c) for c in np.lexsort((-strength, dead))]


def tile_sheets(channels: int) -> range:
    """The numbers of a layer's sheets of tiles."""
    return range(math.ceil(channels / TILES))


def map_size(shape: Sequence[int]) -> tuple[int, int]:
    """(height, width) of a map on its sheet, of a layer of that shape: its own, but not above MAP_SIDE."""
    return min(MAP_SIDE, shape[1]), min(MAP_SIDE, shape[2])


def sheet(tiles: Sequence[Picture | None], columns: int = TILE_COLUMNS) -> Picture:
    """Tiles of TILE_SIDE px in rows of `columns`, dark where there is none."""
    rows = -(-len(tiles) // columns)
    found = np.empty((rows * TILE_SIDE, columns * TILE_SIDE, 3), dtype=np.uint8)
    found[:] = DARK
    for i, tile in enumerate(tiles):
        if tile is not None:
            top, left = (i // columns) * TILE_SIDE, (i % columns) * TILE_SIDE
            found[top : top + TILE_SIDE, left : left + TILE_SIDE] = tile
    return found


def projection_side(size: tuple[int, int]) -> int:
    """px of a tile for input of `size`: 64, 80 or 96, whole blocks of WebP, so that tiles don't run into each other."""
    return min(96, max(64, -(-max(size) // 16) * 16))


def projection_columns(k: int) -> int:
    """Tiles in a row of a mosaic of k: three, and more where it would be higher than a WebP can be."""
    return max(3, math.ceil(k / 160))


def typical(strength: np.ndarray, dead: np.ndarray, count: int = 12) -> list[int]:
    """Up to `count` channels for a layer's strip: evenly spread over the living ones in order of strength."""
    living = [int(c) for c in np.argsort(-strength, kind="stable") if not dead[c]]
    return evenly(living, count)

"""The resources of the map: `data/map.json`, the points, the sheets of thumbnails and the features in blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from netloupe.atlas.layout import BLOCK, SHEET, SIDES, SPACES, feature_vectors, in_grid, laid_out, quantized
from netloupe.atlas.store import Store

NONE = 65535  # in place of a class where there is none


class MapPages:
    """The map of one store, which may have none."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def _there(self) -> bool:
        found = self.store.network["map"]
        return found is not None and len(found["spaces"]) > 0

    @cached_property
    def _row(self) -> dict[str, Any]:
        table = self.store.arrow("map")
        return {"ids": table["ids"][0].values.to_numpy(), "document": json.loads(table["document"][0].as_py())}

    def paths(self) -> Iterator[str]:
        if not self._there:
            return
        yield from ("data/map.json", "data/map/points.bin")
        count = len(self._row["ids"])
        for side in SIDES:
            yield from (f"sprites/{side}/{sheet}.jpg" for sheet in range(math.ceil(count / (SHEET // side) ** 2)))
        yield from (f"data/map/features/{block}.bin" for block in range(math.ceil(count / BLOCK)))

    @cached_property
    def document(self) -> dict[str, Any] | None:
        """`data/map.json`."""
        if not self._there:
            return None
        rows = {row["space"]: row for row in self.store.rows("embeddings", columns=["space", "about"])}
        spaces = [s for s in SPACES if s in self.store.network["map"]["spaces"]]
        return {
            "count": len(self._row["ids"]),
            "spaces": [{"name": s, "about": json.loads(rows[s]["about"])} for s in spaces],
            "sprites": [{"side": side, "columns": SHEET // side, "count": (SHEET // side) ** 2} for side in SIDES],
            "block": BLOCK,
            "channels": self._row["document"],
        }

    @cached_property
    def points(self) -> bytes | None:
        """`data/map/points.bin`, by places: ids as uint32; labels, classes predicted and their probabilities, and x and
        y of each space, as uint16; little-endian, one column after the other."""
        if not self._there:
            return None
        ids = self._row["ids"]
        table = self.store.arrow("images", columns=["id", "label", "classes", "probabilities"])
        place = np.argsort(table["id"].to_numpy(), kind="stable")[np.searchsorted(np.sort(table["id"].to_numpy()), ids)]
        labels = table["label"].fill_null(NONE).to_numpy()[place]
        first = [column.to_numpy()[offsets][place] for column, offsets in (_firsts(table, c) for c in _BY_RANK)]
        columns = [labels, first[0], np.rint(first[1].astype(np.float64) * 65535)]
        for known, points in laid_out(self.store):
            columns += [*in_grid(points)[np.searchsorted(known, ids)].T]
        return b"".join([ids.astype("<u4").tobytes(), *(column.astype("<u2").tobytes() for column in columns)])

    def features(self, block: int) -> bytes | None:
        """`data/map/features/BLOCK.bin`: uint8 (images, channels) of the places BLOCK * block and on."""
        if not self._there:
            return None
        ids = self._row["ids"][block * BLOCK : (block + 1) * BLOCK]
        if len(ids) == 0:
            return None
        known, vectors = feature_vectors(self.store, f"id IN ({', '.join(map(str, ids.tolist()))})")
        return quantized(vectors[np.searchsorted(known, ids)], self._row["document"]).tobytes()

    def sprites(self, side: int, sheet: int) -> bytes | None:
        """`sprites/SIDE/SHEET.jpg`."""
        if not self._there:
            return None
        rows = self.store.rows("sprites", f"side = {side} AND sheet = {sheet}", ["jpeg"])
        return rows[0]["jpeg"] if rows else None


_BY_RANK = ("classes", "probabilities")


def _firsts(table: Any, column: str) -> tuple[Any, np.ndarray]:
    """The values of a column of lists in one array, and where each list begins."""
    lists = table[column].combine_chunks()
    return lists.values, lists.offsets.to_numpy()[:-1]

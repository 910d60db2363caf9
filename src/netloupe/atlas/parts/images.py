"""The photographs: as people look at them, what they are taken for, their activation maps, and their neighbors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import MAP_COLUMNS, THUMB, map_size
from netloupe.atlas.store import Rows, any_of

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

IMAGES_PER_BLOCK = 200
SPACES = ("features", "pixels")
NEIGHBORS_KEPT = 12

_TOGETHER = 4096  # thumbnails held at once


class Images(Part):
    tables: ClassVar = {
        "images": "id int64, name string, label int32, classes int32[], probabilities float32[], picture binary, "
        "thumb binary, maps binary, map_channels int32[], map_peaks float32[], map_tops int32[]",
        "answers": "id int64, said string, drawn bool, picture binary",  # but for classes of whole images
        "features": "id int64, vector float32[]",  # of an image; all vectors are of one length
        "neighbors": "id int64, space string, ids int64[], distances float32[]",  # of an image in one space
    }

    def steps(self, making: Making) -> Iterator[Step]:
        yield Step("sweep", lambda: self._sweep(making))
        yield Step("vectors", lambda: self._features(making))
        for space in making.watch.each("neighbors", SPACES):
            yield Step(f"neighbors in {space}", partial(self._neighbors, space))

    def _sweep(self, making: Making) -> Rows:
        """The sweep itself writes `images`."""
        _ = making.found
        return {}

    def _features(self, making: Making) -> Rows:
        ids, vectors = making.found.features
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
        return {"features": pa.table({"id": pa.array(ids, pa.int64()), "vector": vector})}

    def _neighbors(self, space: str) -> Rows:
        ids, near, distances = self._nearest(space)
        found = [
            {"id": i, "space": space, "ids": row[known].tolist(), "distances": far[known].tolist()}
            for i, row, far, known in zip(ids.tolist(), near, distances, near >= 0, strict=True)
        ]
        return {"neighbors": found}

    def _nearest(self, space: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids (n,), and of each its nearest others (n, k), -1 for none, with their Euclidean distances (n, k)."""
        from netloupe.analysis.nearest import INDEX_ABOVE, nearest, search

        ids = np.sort(self.store.arrow("images", columns=["id"])["id"].to_numpy())
        if space == "features" or not _TOGETHER < len(ids) <= INDEX_ABOVE:
            ids, vectors = vectors_of(self, space)
            near, _ = search(vectors, vectors, ids, NEIGHBORS_KEPT, exclude=ids)
            return ids, near.ids, near.distances
        parts = [ids[first : first + _TOGETHER] for first in range(0, len(ids), _TOGETHER)]
        best = []
        for part in parts:
            _, queries = vectors_of(self, space, part)
            found = [nearest(queries, vectors_of(self, space, o)[1], o, NEIGHBORS_KEPT, exclude=part) for o in parts]
            those = np.concatenate([each.ids for each in found], axis=1)
            far = np.concatenate([each.distances for each in found], axis=1)
            order = np.argsort(far, axis=1, kind="stable")[:, :NEIGHBORS_KEPT]  # ids ascend among equals
            best.append((np.take_along_axis(those, order, 1), np.take_along_axis(far, order, 1)))
        return ids, np.concatenate([b[0] for b in best]), np.concatenate([b[1] for b in best])

    def about(self, making: Making) -> About:
        columns = ["id", "label", "classes"]
        rows = sorted(self.store.rows("images", columns=columns), key=lambda row: row["id"])
        skipped = [{"id": s.id, "name": s.name, "reason": s.reason} for s in making.found.skipped]
        told = {
            "images": len(rows),
            "images_per_block": IMAGES_PER_BLOCK,
            "accuracy": _accuracy(rows) if making.source_classes is None else None,
            "skipped": skipped,
            "maps": {
                "columns": MAP_COLUMNS,
                "layers": making.map_layers,
                "sizes": [list(map_size(making.net.layers[n].shape)) for n in making.map_layers],
            },
        }
        return About(told)

    def resources(self) -> Sequence[Resource]:
        return [
            Resource("data/images/BLOCK.json", self._block, lambda: [(i,) for i in range(self._blocks())]),
            Resource("data/image/ID.json", self._image, lambda: self.keys("images", "id")),
            self.stored("img/ID.webp", "images", "picture"),
            Resource("answers/ID.webp", self._answer, self._drawn),
            self.stored("maps/ID.webp", "images", "maps"),
        ]

    def _drawn(self) -> list[tuple[int, ...]]:
        return sorted((row["id"],) for row in self.store.rows("answers", "drawn", ["id"]))

    def _answer(self, image: int) -> bytes | None:
        return self.one("answers", f"id = {image}", "picture") or None

    def _blocks(self) -> int:
        """Ids run over all images of the source, skipped ones included."""
        network = self.store.network
        return math.ceil((int(network["images"]) + len(network["skipped"])) / IMAGES_PER_BLOCK)

    def _block(self, number: int) -> dict[str, Any] | None:
        if number >= self._blocks():
            return None
        first = number * IMAGES_PER_BLOCK
        columns = ["id", "name", "label", "classes", "probabilities"]
        rows = self.store.rows("images", f"id >= {first} AND id < {first + IMAGES_PER_BLOCK}", columns)
        return {"images": [listed(self, row) for row in sorted(rows, key=lambda row: row["id"])]}

    def _image(self, image: int) -> dict[str, Any] | None:
        columns = ["id", "name", "label", "classes", "probabilities", "map_channels", "map_peaks", "map_tops"]
        rows = self.store.rows("images", f"id = {image}", columns)
        if not rows:
            return None
        row, network = rows[0], self.store.network
        near = {r["space"]: r for r in self.store.rows("neighbors", f"id = {image}")}
        per_row = network["maps"]["columns"]
        maps = []
        for i, layer in enumerate(network["maps"]["layers"]):
            span = slice(i * per_row, (i + 1) * per_row)
            channels = [c for c in row["map_channels"][span] if c >= 0]
            peaks = row["map_peaks"][span][: len(channels)]
            maps.append({"layer": layer, "channels": channels, "peaks": peaks, "top": row["map_tops"][i]})
        return {
            "id": image,
            "name": row["name"],
            "label": self.label(row["label"]),
            "size": network["input"]["size"],
            "top": [
                {"label": self.predicted(c), "index": c, "probability": p}
                for c, p in zip(row["classes"], row["probabilities"], strict=True)
            ],
            "said": json.loads(self.one("answers", f"id = {image}", "said") or "[]"),
            "drawn": bool(self.one("answers", f"id = {image}", "drawn")),
            "maps": maps,
            "neighbors": {
                space: [
                    {"id": i, "distance": d} for i, d in zip(near[space]["ids"], near[space]["distances"], strict=True)
                ]
                for space in SPACES
                if space in near
            },
        }


def listed(part: Part, row: Mapping[str, Any]) -> dict[str, Any]:
    """An image as lists show it."""
    return {
        "id": row["id"],
        "name": row["name"],
        "label": part.label(row["label"]),
        "prediction": part.predicted(row["classes"][0]) if row["classes"] else None,
        "index": next(iter(row["classes"]), None),
        "probability": next(iter(row["probabilities"]), None),
    }


def vectors_of(part: Part, space: str, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,), ascending, and vectors (n, d) float32 of a space: of all images, or of those with the given ids."""
    if space == "pixels":
        ids, thumbs = thumbs_of(part, ids)
        return ids, np.divide(thumbs.reshape(len(ids), -1), 255, dtype=np.float32)
    where = None if ids is None else any_of("id", ids.tolist())
    table = part.store.arrow("features", where, columns=["id", "vector"])
    found, column = table["id"].to_numpy(), table["vector"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(found), column.type.list_size)
    order = np.argsort(found, kind="stable")
    return found[order], vectors[order]


def thumbs_of(part: Part, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,), ascending, and thumbnails (n, THUMB, THUMB, 3) uint8: of all images, or of those with the given ids."""
    where = None if ids is None else any_of("id", ids.tolist())
    table = part.store.arrow("images", where, columns=["id", "thumb"])
    found = table["id"].to_numpy()
    order = np.argsort(found, kind="stable")
    thumbs = np.frombuffer(b"".join(table["thumb"].take(pa.array(order)).to_pylist()), dtype=np.uint8)
    return found[order], thumbs.reshape(len(found), THUMB, THUMB, 3)


def _accuracy(rows: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """Top-1 and top-5 shares over the labeled images, in [0, 1]."""
    ranks = [
        row["classes"].index(row["label"]) if row["label"] in row["classes"] else len(row["classes"])
        for row in rows
        if row["label"] is not None
    ]
    if not ranks:
        return None
    count = len(ranks)
    return {"top1": sum(r == 0 for r in ranks) / count, "top5": sum(r < 5 for r in ranks) / count, "count": count}

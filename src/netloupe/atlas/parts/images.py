"""The photographs: as people look at them, what they are taken for, their activation maps, and their neighbors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import MAP_COLUMNS, map_size
from netloupe.atlas.shelf import thumbs_in
from netloupe.atlas.store import Rows, any_of
from netloupe.atlas.task import ALL, NONE, SHOWN
from netloupe.core.numbers import evenly

if TYPE_CHECKING:
    from netloupe.analysis.nearest import Nearest
    from netloupe.atlas.making import Making

IMAGES_PER_BLOCK = 200
SPACES = ("features", "pixels")
VIEW = "layer:"  # begins the name of a space by another layer's features
NEIGHBORS_KEPT = 12

_TOGETHER = 4096  # vectors, or thumbnails, held at once


class Images(Part):
    tables: ClassVar = {
        "images": "id int64, name string, label int32, classes int32[], probabilities float32[], said string, "
        "thumb binary",  # said: JSON, but for classes of whole images; thumb: WebP, where it is all that is kept
        "pictures": "id int64, picture binary, drawn binary, maps binary, map_channels int32[], map_peaks float32[], "
        "map_tops int32[]",  # of the images whose pictures are kept
        "features": "id int64, vector float32[]",  # of an image; all vectors are of one length
        "views": "id int64, layer string, means float32[]",  # of an image in another layer, to lay it out by
        "neighbors": "id int64, space string, ids int64[], distances float32[]",  # of an image in one space
        "searched": "space string, search string, recall double",  # exact, by an index that finds that share, or none
    }

    def first(self, making: Making) -> Iterator[Step]:
        yield Step("sweep", lambda: self._sweep(making))
        if making.images == SHOWN:
            yield Step("pictures", lambda: self._pictures(making))

    def brings(self, making: Making) -> Sequence[str]:
        return ["neighbors"]

    def steps(self, making: Making) -> Iterator[Step]:
        keys = {f"neighbors in {space}": space for space in SPACES}
        told = making.watch.part("neighbors", len(keys), sum(map(self.made, keys)))
        for key, space in keys.items():
            yield Step(key, partial(self._neighbors, space), then=told.advance, brings=self.brings(making))

    def _sweep(self, making: Making) -> Rows:
        """The sweep itself writes `images` and `features`, and the `pictures` of all images."""
        _ = making.found
        return {} if making.images == ALL else {"pictures": []}

    def _pictures(self, making: Making) -> Rows:
        """A sweep over the images that pages show, which writes their `pictures`."""
        making.show()
        return {}

    def _neighbors(self, space: str) -> Rows:
        """The nearest of each image: exactly of up to INDEX_ABOVE, of more as they are asked for, by an index of their
        features that is made here; and none by their pixels."""
        from netloupe.analysis.nearest import INDEX_ABOVE

        ids = np.sort(self.store.arrow("images", columns=["id"])["id"].to_numpy())
        searched: dict[str, Any] = {"space": space, "search": "exact", "recall": None}
        found: Rows = {"neighbors": []}
        if len(ids) <= INDEX_ABOVE:
            found = {
                "neighbors": pa.concat_tables(_rows(space, part, self._exact(space, part, ids)) for part in _cut(ids))
            }
        elif space == "features":
            self.store.train(space)
            searched |= {"search": "index", "recall": self._recall(ids)}
        else:
            searched |= {"search": "none"}
        return {**found, "searched": [searched]}

    def _exact(self, space: str, asked: np.ndarray, ids: np.ndarray) -> Nearest:
        """The nearest others of some images among all, a part of which is held."""
        from netloupe.analysis.nearest import Nearest, nearest

        queries = vectors_of(self, space, asked)[1]
        those = np.zeros((len(asked), 0), np.int64)
        far = np.zeros((len(asked), 0), np.float32)
        for part, vectors in zip(_cut(ids), parts_of(self, space, ids), strict=True):
            within = far[:, -1] if far.shape[1] else None
            found = nearest(queries, vectors, part, NEIGHBORS_KEPT, exclude=asked, within=within)
            those, far = np.hstack([those, found.ids]), np.hstack([far, found.distances])
            order = np.argsort(far, axis=1, kind="stable")[:, :NEIGHBORS_KEPT]  # ids ascend among equals
            those, far = np.take_along_axis(those, order, 1), np.take_along_axis(far, order, 1)
        return Nearest(those, far)

    def _recall(self, ids: np.ndarray) -> float:
        """The share of the nearest by their features that the index finds, of some of the images."""
        from netloupe.analysis.nearest import CHECKED, recall

        some = ids[evenly(range(len(ids)), CHECKED)]
        return round(recall(self._by_index(some).ids, self._exact("features", some, ids).ids), 4)

    def _by_index(self, asked: np.ndarray) -> Nearest:
        """The nearest others of some images by their features, as the index finds them."""
        vectors = vectors_of(self, "features", asked)[1]
        return self.store.index("features").nearest(vectors, NEIGHBORS_KEPT, exclude=asked)

    def about(self, making: Making) -> About:
        skipped = [{"id": s.id, "name": s.name, "reason": s.reason} for s in making.found.skipped]
        searched = sorted(self.store.rows("searched"), key=itemgetter("space"))  # in whatever order they were made
        told = {
            "images": self.store.count("images"),
            "pictures": {"of": making.images, "kept": self.store.count("pictures")},
            "images_per_block": IMAGES_PER_BLOCK,
            "accuracy": self._accuracy() if making.source_classes is None else None,
            "skipped": skipped,
            "neighbors": {row.pop("space"): row for row in searched},
            "maps": {
                "columns": MAP_COLUMNS,
                "layers": making.map_layers,
                "sizes": [list(map_size(making.net.layers[n].shape)) for n in making.map_layers],
            },
        }
        return About(told)

    def _accuracy(self) -> dict[str, float] | None:
        table = self.store.arrow("images", "label IS NOT NULL", ["label", "classes"])
        return accuracy(table["label"].to_numpy(), table["classes"].combine_chunks())

    def resources(self) -> Sequence[Resource]:
        return [
            Resource("data/images/BLOCK.json", self._block, lambda: [(i,) for i in range(self._blocks())]),
            Resource("data/image/ID.json", self._image, lambda: self.keys("images", "id")),
            Resource("img/ID.webp", self._picture, self._with_pictures),
            Resource("answers/ID.webp", self._answer, self._drawn),
            self.stored("maps/ID.webp", "pictures", "maps"),
        ]

    def _with_pictures(self) -> list[tuple[int, ...]]:
        """Images that have one, as large as the network saw it or a thumbnail."""
        kept = self.store.network["pictures"]["of"]
        return [] if kept == NONE else self.keys("images" if kept == SHOWN else "pictures", "id")

    def _picture(self, image: int) -> bytes | None:
        found: bytes | None = self.one("pictures", f"id = {image}", "picture")
        return self.one("images", f"id = {image}", "thumb") if found is None else found

    def _drawn(self) -> list[tuple[int, ...]]:
        return sorted((row["id"],) for row in self.store.rows("pictures", "drawn IS NOT NULL", ["id"]))

    def _answer(self, image: int) -> bytes | None:
        found: bytes | None = self.one("pictures", f"id = {image}", "drawn")
        return found

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
        rows = self.store.rows("images", f"id = {image}", ["id", "name", "label", "classes", "probabilities", "said"])
        if not rows:
            return None
        row, network = rows[0], self.store.network
        return {
            "id": image,
            "name": row["name"],
            "label": self.label(row["label"]),
            "size": network["input"]["size"],
            "top": [
                {"label": self.predicted(c), "index": c, "probability": p}
                for c, p in zip(row["classes"], row["probabilities"], strict=True)
            ],
            "said": json.loads(row["said"] or "[]"),
            "drawn": self.store.count("pictures", f"id = {image} AND drawn IS NOT NULL") > 0,
            "kept": self._kept(image),
            "maps": self._maps(image),
            "neighbors": self._near(image),
        }

    def _near(self, image: int) -> dict[str, list[dict[str, Any]]]:
        """Its nearest by what is compared, found before or now."""
        found = {r["space"]: (r["ids"], r["distances"]) for r in self.store.rows("neighbors", f"id = {image}")}
        if self.store.network["neighbors"].get("features", {}).get("search") == "index":
            near = self._by_index(np.array([image]))
            found["features"] = near.ids[0].tolist(), near.distances[0].tolist()
        return {
            space: [{"id": i, "distance": d} for i, d in zip(*found[space], strict=True)]
            for space in SPACES
            if space in found
        }

    def _kept(self, image: int) -> str | None:
        """What is kept of how an image looks."""
        whole = self.store.count("pictures", f"id = {image}") > 0
        return "picture" if whole else "thumbnail" if self.store.network["pictures"]["of"] == SHOWN else None

    def _maps(self, image: int) -> list[dict[str, Any]]:
        """The rows of its sheet of activation maps."""
        rows = self.store.rows("pictures", f"id = {image}", ["map_channels", "map_peaks", "map_tops"])
        told = self.store.network["maps"]
        maps = []
        for i, layer in enumerate(told["layers"] if rows else ()):
            span = slice(i * told["columns"], (i + 1) * told["columns"])
            channels = [c for c in rows[0]["map_channels"][span] if c >= 0]
            peaks = rows[0]["map_peaks"][span][: len(channels)]
            maps.append({"layer": layer, "channels": channels, "peaks": peaks, "top": rows[0]["map_tops"][i]})
        return maps


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
    if space.startswith(VIEW):
        layer = "layer = '{}'".format(space.removeprefix(VIEW).replace("'", "''"))
        where = layer if where is None else f"{layer} AND {where}"
    name, values = ("views", "means") if space.startswith(VIEW) else ("features", "vector")
    table = part.store.arrow(name, where, columns=["id", values])
    found, column = table["id"].to_numpy(), table[values].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(found), len(flat) // max(1, len(found)))
    order = np.argsort(found, kind="stable")
    return found[order], vectors[order]


def parts_of(part: Part, space: str, ids: np.ndarray) -> Iterator[np.ndarray]:
    """As `vectors_of` gives the vectors of these ids, ascending, some at a time."""
    for some in _cut(ids):
        yield vectors_of(part, space, some)[1]


def _cut(ids: np.ndarray) -> list[np.ndarray]:
    """So many at a time as vectors are held of."""
    return [ids[first : first + _TOGETHER] for first in range(0, len(ids), _TOGETHER)]


def _rows(space: str, ids: np.ndarray, near: Nearest) -> pa.Table:
    """The rows of table `neighbors` of these images."""
    known = near.ids >= 0
    ends = pa.array(np.concatenate([[0], known.sum(1).cumsum()]), pa.int32())
    columns = {
        "id": pa.array(ids, pa.int64()),
        "space": pa.array([space] * len(ids), pa.string()),
        "ids": pa.ListArray.from_arrays(ends, pa.array(near.ids[known], pa.int64())),
        "distances": pa.ListArray.from_arrays(ends, pa.array(near.distances[known], pa.float32())),
    }
    return pa.table(columns)


def thumbs_of(part: Part, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,), ascending, and thumbnails (n, THUMB, THUMB, 3) uint8: of all images, or of those with the given ids.

    They are there while the atlas is built.
    """
    if ids is None:
        ids = part.store.arrow("images", columns=["id"])["id"].to_numpy()
    ids = np.sort(ids)
    return ids, thumbs_in(part.store).get(ids.tolist())


def accuracy(labels: np.ndarray, classes: pa.ListArray) -> dict[str, float] | None:
    """Top-1 and top-5 shares, in [0, 1], of labeled images (n,), of which the most probable classes are given."""
    if len(labels) == 0:
        return None
    offsets = classes.offsets.to_numpy()
    image = np.repeat(np.arange(len(labels)), np.diff(offsets))
    place = np.arange(len(image)) - (offsets[:-1] - offsets[0])[image]
    right = classes.flatten().to_numpy(zero_copy_only=False) == labels[image]
    first, among = right[place == 0].sum(), right[place < 5].sum()
    return {"top1": float(first / len(labels)), "top5": float(among / len(labels)), "count": len(labels)}


def firsts(table: Any, column: str, none: int) -> np.ndarray:
    """The first value of each list of a column, `none` of an empty one."""
    lists = table[column].combine_chunks()
    values, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    found = np.full(len(lists), none, dtype=values.dtype)
    filled = offsets[1:] > offsets[:-1]
    found[filled] = values[offsets[:-1][filled]]
    return found

"""The map of the images: where each lies among the others, in the network's features and in the pixels.

Images have a place in one order, which follows the map of the first space, so that images near each other on the map
mostly share a sheet of thumbnails and a block of features, and the page reads few of them when it looks at a part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netloupe.atlas.parts.images import SPACES, VIEW, firsts, parts_of, thumbs_of, vectors_of
from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import THUMB
from netloupe.atlas.store import Rows
from netloupe.core.errors import InputError
from netloupe.core.numbers import evenly
from netloupe.core.watch import Part as Told
from netloupe.core.watch import Watch
from netloupe.render.pictures import Picture, encode

if TYPE_CHECKING:
    from netloupe.atlas.making import Making

SHEET = 1024  # px: height and width of a full sheet of thumbnails
SIDES = (8, THUMB)  # px: thumbnails come in two sizes, the smaller for looking at all of them at once
BLOCK = (SHEET // THUMB) ** 2  # images whose features are read together: those of one sheet of the larger size
LAID = 10_000  # images at most that a method lays out; of more, the others are placed among them
NONE = 65535  # in place of a class where there is none

_GRID = 65535  # coordinates on the page are whole numbers from 0 to this
_STEPS = 1000  # of a space, whatever a method counts


class Layout(Part):
    tables: ClassVar = {
        "embeddings": "space string, ids int64[], x float32[], y float32[], about string, missing string",
        "map": "ids int64[], document string, points binary",  # ids by place; JSON, as `about`; `data/map/points.bin`
        "sprites": "side int32, sheet int32, jpeg binary",
    }

    def brings(self, making: Making) -> Sequence[str]:
        return [] if making.map_by is None else ["map"]

    def steps(self, making: Making) -> Iterator[Step]:
        if making.map_by is None:
            return
        spaces = _spaces_of(making)
        done = _STEPS * sum(map(self.made, spaces)) + self.made("sheets")
        told = making.watch.part("map", len(spaces) * _STEPS + 1, done)
        for space in spaces:
            yield Step(space, partial(self._embedding, space, making.map_by, told), brings=["map"])
        sheets = partial(self.sheets, making.feature_layer, SIDES if making.pictured else (), spaces)
        yield Step("sheets", sheets, spaces, told.advance, ["map"])

    def _embedding(self, space: str, method: str, told: Told) -> Rows:
        """Of many images some, evenly spread, are laid out, and the others placed among them."""
        ids, before = self._all(), told.done
        laid, others = parted(len(ids))
        vectors = vectors_of(self, space, ids[laid] if len(others) else None)[1]
        found = embedded(vectors, method, told.share(_STEPS), parts_of(self, space, ids[others]), len(others))
        told.at(before + _STEPS)
        order = np.argsort(np.concatenate([laid, others]))
        at = {axis: found[axis][order] if len(found[axis]) else found[axis] for axis in "xy"}
        return {"embeddings": [{"space": space, "ids": ids, **found, **at}]}

    def _all(self) -> np.ndarray:
        """The ids of all images, ascending."""
        found: np.ndarray = np.sort(self.store.arrow("images", columns=["id"])["id"].to_numpy())
        return found

    def sheets(self, layer: str, sides: Sequence[int] = SIDES, spaces: Sequence[str] = SPACES) -> Rows:
        """The thumbnails in the order of places, each side px large, that order, the points, and each channel's range.

        Nothing without a map.
        """
        if not (laid := self._spaces(spaces)[0]):
            return {}
        ids, where = self.laid_out(laid)[0]
        order = np.argsort(_along(in_grid(where)), kind="stable")
        sprites, colors = [], []
        for side in sides:
            per_sheet = (SHEET // side) ** 2
            for number, first in enumerate(range(0, len(ids), per_sheet)):
                shown = ids[order[first : first + per_sheet]]
                known, thumbs = thumbs_of(self, shown)
                thumbs = thumbs[np.searchsorted(known, shown)]
                colors += [np.rint(thumbs.mean((1, 2))).astype(np.uint8).tobytes()] if side == sides[0] else []
                jpeg = encode(_sheet(thumbs, side), "JPEG", 90, whole_color=True)
                sprites.append({"side": side, "sheet": number, "jpeg": jpeg})
        ranges = _channels(layer, partial(parts_of, self, "features", ids))
        points = self._points(ids[order], laid, b"".join(colors))
        row = {"ids": ids[order], "document": json.dumps(ranges), "points": points}
        return {"sprites": sprites, "map": [row]}

    def _spaces(self, of: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Those of the spaces that have a map, and why others have none."""
        rows = {row["space"]: row["missing"] for row in self.store.rows("embeddings", columns=["space", "missing"])}
        missing = {space: rows[space] for space in of if rows.get(space) is not None}
        return [space for space in of if space in rows and space not in missing], missing

    def laid_out(self, spaces: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(ids (n,) ascending, points (n, 2) as x, y) of each of these spaces, which have a map."""
        table = self.store.arrow("embeddings")
        row = {space: i for i, space in enumerate(table["space"].to_pylist())}

        def numbers(column: str, space: str) -> np.ndarray:
            found: np.ndarray = table[column][row[space]].values.to_numpy()
            return found

        return [
            (numbers("ids", space), np.stack([numbers("x", space), numbers("y", space)], axis=1)) for space in spaces
        ]

    def about(self, making: Making) -> About:
        if making.map_by is None:
            return About({"map": None})
        spaces, missing = self._spaces(_spaces_of(making)) if self.made("sheets") else ([], {})
        layer = making.feature_layer
        return About({"map": {"method": making.map_by, "layer": layer, "spaces": spaces, "missing": missing}})

    def resources(self) -> Sequence[Resource]:
        found = self.store.network["map"]
        if found is None or not found["spaces"]:
            return []
        return [
            Resource("data/map.json", lambda: self._document),
            Resource("data/map/points.bin", lambda: self._stored_points),
            Resource("data/map/features/BLOCK.bin", self._features, self._blocks),
            self.stored("sprites/SIDE/SHEET.jpg", "sprites", "jpeg"),
        ]

    def _blocks(self) -> list[tuple[int]]:
        return [(block,) for block in range(math.ceil(len(self._ids) / BLOCK))]

    @cached_property
    def _ids(self) -> np.ndarray:
        found: np.ndarray = self.store.arrow("map", columns=["ids"])["ids"][0].values.to_numpy()
        return found

    @cached_property
    def _ranges(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.rows("map", columns=["document"])[0]["document"])
        return found

    @cached_property
    def _document(self) -> dict[str, Any]:
        rows = {row["space"]: row for row in self.store.rows("embeddings", columns=["space", "about"])}
        spaces = self.store.network["map"]["spaces"]
        return {
            "count": len(self._ids),
            "spaces": [{"name": s, "about": json.loads(rows[s]["about"])} for s in spaces],
            "sprites": [
                {"side": side, "columns": SHEET // side, "count": (SHEET // side) ** 2} for side in self._sides()
            ],
            "block": BLOCK,
            "channels": self._ranges,
        }

    def _sides(self) -> list[int]:
        """Of the thumbnails that are kept."""
        return [side for side in SIDES if self.store.count("sprites", f"side = {side}")]

    @cached_property
    def _stored_points(self) -> bytes:
        found: bytes = self.store.rows("map", columns=["points"])[0]["points"]
        return found

    def _points(self, ids: np.ndarray, spaces: Sequence[str], colors: bytes) -> bytes:
        """By places: ids as uint32; labels, classes predicted and their probabilities, and x and
        y of each space, as uint16; little-endian, one column after the other; and, where thumbnails are kept, the mean
        color of each, as three bytes."""
        table = self.store.arrow("images", columns=["id", "label", "classes", "probabilities"])
        known = table["id"].to_numpy()
        place = np.argsort(known, kind="stable")[np.searchsorted(np.sort(known), ids)]
        labels = table["label"].fill_null(NONE).to_numpy()[place]
        classes, probabilities = (firsts(table, column, none)[place] for column, none in _BY_RANK)
        columns = [labels, classes, np.rint(probabilities.astype(np.float64) * 65535)]
        for there, points in self.laid_out(spaces):
            columns += [*in_grid(points)[np.searchsorted(there, ids)].T]
        return b"".join([ids.astype("<u4").tobytes(), *(column.astype("<u2").tobytes() for column in columns), colors])

    def _features(self, block: int) -> bytes | None:
        """uint8 (images, channels) of the places BLOCK * block and on."""
        ids = self._ids[block * BLOCK : (block + 1) * BLOCK]
        if len(ids) == 0:
            return None
        known, vectors = vectors_of(self, "features", ids)
        return quantized(vectors[np.searchsorted(known, ids)], self._ranges).tobytes()


_BY_RANK = (("classes", NONE), ("probabilities", 0))


def _spaces_of(making: Making) -> list[str]:
    """The spaces in which images are laid out: by the features, by those of other layers, by their pixels."""
    return [SPACES[0], *(f"{VIEW}{name}" for name in making.views), SPACES[1]]


def parted(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of so many vectors are laid out, evenly spread, and which are placed among them."""
    laid = np.array(evenly(range(count), LAID))
    return laid, np.setdiff1d(np.arange(count), laid)


def embedded(
    vectors: np.ndarray,
    method: str,
    watch: Watch,
    others: Iterable[np.ndarray] = (),
    more: int = 0,
    what: str = "image",
) -> dict[str, Any]:
    """x, y, about and missing of a row, x and y of `vectors` and then of `more` others, which come in parts.

    Fewer than the method needs are laid out by PCA, one in the middle. what: a vector stands for.
    """
    from netloupe.analysis.layout.embedding import LEAST, embed_vectors

    try:
        if len(vectors) == 1:
            points, about = np.zeros((1, 2), np.float32), {"method": "none", f"{what}s": 1, "notes": [f"one {what}"]}
        elif len(vectors) < LEAST[method]:
            embedding = embed_vectors(vectors, "pca")
            note = f"by pca, because {method} needs {LEAST[method]} {what}s or more"
            points, about = embedding.points, {**embedding.about, "notes": [note, *embedding.about["notes"]]}
        else:
            embedding = embed_vectors(vectors, method, watch=watch)
            points = np.concatenate([embedding.points, *(embedding.place(some) for some in others)])
            about = {**embedding.about, "notes": [*embedding.about["notes"], *_placed(len(vectors), more, what)]}
    except InputError as error:  # of vectors that have no map; the atlas has all the rest
        return {"x": [], "y": [], "about": "null", "missing": str(error)}
    return {"x": points[:, 0], "y": points[:, 1], "about": json.dumps(about), "missing": None}


def _placed(laid: int, more: int, what: str) -> list[str]:
    return [f"laid out are {laid:,} of {laid + more:,} {what}s, evenly spread; the others are placed among them"][:more]


def _channels(layer: str, parts: Callable[[], Iterable[np.ndarray]]) -> dict[str, Any]:
    """What `data/map.json` tells of channels: the range over all images, mean and standard deviation of each.

    parts: gives the features, some images at a time.
    """
    lows, highs, sums, counts = zip(*((v.min(0), v.max(0), v.sum(0, np.float64), len(v)) for v in parts()), strict=True)
    mean = np.sum(sums, 0) / sum(counts)
    squares = np.sum([np.square(v - mean).sum(0) for v in parts()], 0)
    columns = {
        "low": np.min(lows, 0),
        "high": np.max(highs, 0),
        "mean": mean,
        "deviation": np.sqrt(squares / sum(counts)),
    }
    return {"layer": layer, **{name: [float(f"{v:.6g}") for v in values] for name, values in columns.items()}}


def _along(points: np.ndarray) -> np.ndarray:
    """(n,) places of points (n, 2) on Morton's curve, which mostly keeps near points near: their bits interleaved."""
    place = np.zeros(len(points), np.uint64)
    for bit in range(16):
        for axis in range(2):
            place |= ((points[:, axis].astype(np.uint64) >> np.uint64(bit)) & np.uint64(1)) << np.uint64(2 * bit + axis)
    return place


def _sheet(thumbs: np.ndarray, side: int) -> Picture:
    """Thumbnails (n, THUMB, THUMB, 3) in rows from the top left, each side x side px."""
    if side != THUMB:
        step = THUMB // side
        cells = thumbs.reshape(len(thumbs), side, step, side, step, 3)
        thumbs = np.rint(cells.mean((2, 4))).astype(np.uint8)
    columns = SHEET // side
    rows = -(-len(thumbs) // columns)
    full = np.zeros((rows * columns, side, side, 3), np.uint8)
    full[: len(thumbs)] = thumbs
    sheet: Picture = full.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
    return sheet


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

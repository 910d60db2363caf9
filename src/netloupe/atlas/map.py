"""The map of an atlas: where each image lies among the others, in the network's features and in the pixels.

Images have a place in one order, which follows the map of the first space, so that images near each other on the map
mostly share a sheet of thumbnails and a block of features, and the page reads few of them when it looks at a part.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from netloupe.analysis.layout.embedding import LEAST, METHODS, embed_vectors
from netloupe.atlas.layout import SHEET, SIDES, SPACES, THUMB, feature_vectors, in_grid, laid_out
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError, unknown
from netloupe.core.watch import Part, Watch
from netloupe.render.pictures import Picture, encode

_WHOLE = 1000  # steps of a space, whatever a method counts


def check_method(method: str | None) -> None:
    """Raises UnknownName for a method that is not there, InputError where its package is missing."""
    if method is None:
        return
    if method not in METHODS:
        raise unknown("map method", method, (*METHODS, "none"))
    if method == "umap":
        embed_vectors(
            np.eye(LEAST["umap"], dtype=np.float32), "umap"
        )  # so that a missing package is known before the sweep


def write_map(store: Store, method: str, layer: str, watch: Watch) -> dict[str, Any]:
    """Tables `embeddings`, `map` and `sprites`, from `features` and `images`; the spaces that are there are kept.

    layer: whose features they are. Returns what `data/network.json` tells of the map: {"method", "layer", "spaces",
    "missing"}, where `missing` maps a space that has no map to the reason.
    """
    part = watch.part("map", len(SPACES) * _WHOLE + 1)
    spaces = write_embeddings(store, method, part)
    found = {name: row for name, row in spaces.items() if row["missing"] is None}
    missing = {name: row["missing"] for name, row in spaces.items() if row["missing"] is not None}
    if found:
        write_sheets(store, layer)
    part.advance()
    return {"method": method, "layer": layer, "spaces": list(found), "missing": missing}


def write_embeddings(store: Store, method: str, part: Part) -> dict[str, dict[str, Any]]:
    """Table `embeddings`, one row a space, for those that it lacks; all its rows."""
    done = {row["space"]: row for row in store.rows("embeddings")} if store.count("embeddings") else {}
    for i, space in enumerate(SPACES, 1):
        if space not in done:
            ids, vectors = _vectors(store, space)
            row = {"space": space, "ids": ids.tolist(), **_embedded(vectors, method, part.share(_WHOLE))}
            store.write("embeddings", pa.Table.from_pylist([row], schema=EMBEDDINGS))
            done[space] = row
        part.at(i * _WHOLE)
    return {space: done[space] for space in SPACES}


EMBEDDINGS = pa.schema(
    [
        ("space", pa.string()),
        ("ids", pa.list_(pa.int64())),
        ("x", pa.list_(pa.float32())),
        ("y", pa.list_(pa.float32())),
        ("about", pa.string()),
        ("missing", pa.string()),
    ]
)


def _embedded(vectors: np.ndarray, method: str, watch: Watch) -> dict[str, Any]:
    """x, y, about and missing of a row. Fewer images than the method needs are laid out by PCA, one in the middle."""
    try:
        if len(vectors) == 1:
            points, about = np.zeros((1, 2), np.float32), {"method": "none", "images": 1, "notes": ["one image"]}
        elif len(vectors) < LEAST[method]:
            embedding = embed_vectors(vectors, "pca")
            note = f"by pca, because {method} needs {LEAST[method]} images or more"
            points, about = embedding.points, {**embedding.about, "notes": [note, *embedding.about["notes"]]}
        else:
            embedding = embed_vectors(vectors, method, watch=watch)
            points, about = embedding.points, dict(embedding.about)
    except InputError as error:  # of vectors that have no map; the atlas has all the rest
        return {"x": [], "y": [], "about": "null", "missing": str(error)}
    return {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "about": json.dumps(about), "missing": None}


def _vectors(store: Store, space: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,), ascending, and vectors (n, d) float32 of a space."""
    if space == "features":
        return feature_vectors(store)
    ids, thumbs = _thumbs(store)
    return ids, thumbs.reshape(len(ids), -1).astype(np.float32) / 255


def _thumbs(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,), ascending, and thumbnails (n, THUMB, THUMB, 3) uint8."""
    table = store.arrow("images", columns=["id", "thumb"])
    ids = table["id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    thumbs = np.frombuffer(b"".join(table["thumb"].take(pa.array(order)).to_pylist()), dtype=np.uint8)
    return ids[order], thumbs.reshape(len(ids), THUMB, THUMB, 3)


def write_sheets(store: Store, layer: str) -> None:
    """Tables `sprites` and `map`: the thumbnails in the order of places, that order, and the range of each channel."""
    for table in ("sprites", "map"):
        store.drop(table)
    ids, points = laid_out(store)[0]
    order = np.argsort(_along(in_grid(points)), kind="stable")
    thumb_ids, thumbs = _thumbs(store)
    assert np.array_equal(thumb_ids, ids)
    for side in SIDES:
        per_sheet = (SHEET // side) ** 2
        for sheet, first in enumerate(range(0, len(ids), per_sheet)):
            picture = _sheet(thumbs[order[first : first + per_sheet]], side)
            row = {"side": [side], "sheet": [sheet], "jpeg": [encode(picture, "JPEG", 90, whole_color=True)]}
            store.write("sprites", pa.table(row, schema=_SPRITES))
    _, vectors = feature_vectors(store)
    store.write("map", pa.table({"ids": [ids[order].tolist()], "document": [json.dumps(_document(layer, vectors))]}))


_SPRITES = pa.schema([("side", pa.int32()), ("sheet", pa.int32()), ("jpeg", pa.binary())])


def _document(layer: str, vectors: np.ndarray) -> dict[str, Any]:
    """What `data/map.json` tells of channels: the range over all images, mean and standard deviation of each."""
    wide = vectors.astype(np.float64)
    columns = {"low": wide.min(0), "high": wide.max(0), "mean": wide.mean(0), "deviation": wide.std(0)}
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

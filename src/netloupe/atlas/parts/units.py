"""The channels of each layer: how strongly they respond, to which classes, and their best patches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from netloupe.atlas.parts.part import About, Part, Resource, Step
from netloupe.atlas.sheets import (
    DARK,
    PER_PHOTOGRAPH,
    QUALITY,
    TILE_COLUMNS,
    TILE_SIDE,
    TILES,
    UNITS_PER_BLOCK,
    blocks,
    sheet,
    shown_order,
    tile_sheets,
    typical,
)
from netloupe.atlas.store import Rows, Store, any_of
from netloupe.atlas.task import NONE
from netloupe.render.pictures import Picture, cropped, decode, encode

if TYPE_CHECKING:
    from netloupe.atlas.making import Making
    from netloupe.core.receptive_field import Box

CLASSES_KEPT = 8
LEAST = 5  # images of a class that a channel is said to prefer; fewer say nothing of the class

_PER_ROW = 3  # patches in a row of a tile
_PATCH = (TILE_SIDE - _PER_ROW + 1) // _PER_ROW  # 39 px, one px apart
_HELD = 1024  # photographs held decoded while tiles are made
_PATCH_COLUMNS = (
    "layer int32, channel int32, rank int32, image int64, value float32, y int32, x int32, top int32, left int32, "
    "bottom int32, right int32"
)


class Units(Part):
    tables: ClassVar = {
        "units": "layer int32, channel int32, strength float32, mean float32, sparsity float32, selectivity float32, "
        "dead bool, low float32, high float32, counts int32[], classes int32[], class_means float32[], "
        "class_counts int32[]",
        "patches": _PATCH_COLUMNS,  # one of a channel's best images, as shown
        "strictest": _PATCH_COLUMNS,  # the strictly best, where not all of them are shown
        "tiles": "layer int32, sheet int32, like int32, picture binary",  # like: the layer that has it
        "strips": "layer int32, picture binary",  # of typical channels
    }

    def first(self, making: Making) -> Iterator[Step]:
        keys = {f"channels of {name}": name for name in making.layers}
        told = making.watch.part("layers", len(keys), sum(map(self.made, keys)))
        for i, (key, name) in enumerate(keys.items()):
            yield Step(key, partial(self._channels, making, i, name), then=told.advance)

    def steps(self, making: Making) -> Iterator[Step]:
        keys = [f"tiles of {name}" for name in making.layers]
        told = making.watch.part("tiles", len(keys), sum(map(self.made, keys)))
        for i, key in enumerate(keys):
            yield Step(key, partial(self._layer_tiles, making, i), keys[max(0, i - 1) : i], told.advance)

    def _channels(self, making: Making, i: int, name: str) -> Rows:
        net, statistics = making.net, making.found.peaks[name]
        shown, *rest = self._rankings(making, i, name)
        means, counts = (a.numpy() for a in making.found.classes[name])
        units = unit_rows(i, statistics, means, counts)
        found = {"units": units, "patches": shown, **({"strictest": rest[0]} if rest else {})}
        if not making.pictured:
            return {**found, "strips": []}
        strength, dead = (np.array([row[column] for row in units]) for column in ("strength", "dead"))
        chosen = typical(strength, dead)
        strip = Tiles(shown, self._photographs, net.inputs.size).sheet(chosen, columns=max(1, len(chosen)))
        return {
            **found,
            "strips": [{"layer": i, "picture": strip}],
        }

    def _rankings(self, making: Making, i: int, name: str) -> list[list[dict[str, Any]]]:
        """Rows of a layer's patches as shown and, where these are not simply the best, the strictly best."""
        net, floor = making.net, making.found.peaks[name].minimum
        strict, varied = making.found.patches[name], making.found.varied
        return [
            patch_rows(i, net.layers[name].patch, [t.numpy()[:, : making.k] for t in found], floor, net.inputs.size)
            for found in ([strict] if varied is None else [varied[name], strict])
        ]

    def shows(self, making: Making) -> Iterable[int]:
        for i, name in enumerate(making.layers):
            yield from (row["image"] for rows in self._rankings(making, i, name) for row in rows)

    def _layer_tiles(self, making: Making, layer: int) -> Rows:
        sheets = self._sheets(layer) if making.pictured else []
        pictures = (self._drawn(layer, chosen, making.net.inputs.size) for chosen in sheets)
        return {"tiles": [self._tiles_row(layer, number, picture) for number, picture in enumerate(pictures)]}

    def _sheets(self, layer: int) -> list[list[int]]:
        """The channels of each of a layer's sheets of tiles."""
        rows = sorted(
            self.store.rows("units", f"layer = {layer}", ["channel", "strength", "dead"]), key=lambda r: r["channel"]
        )
        order = shown_order(*(np.array([row[column] for row in rows]) for column in ("strength", "dead")))
        return [order[TILES * number : TILES * (number + 1)] for number in tile_sheets(len(order))]

    def _drawn(self, layer: int, channels: Sequence[int], size: Sequence[int]) -> bytes:
        """The sheet of these channels, as WebP."""
        columns = ["channel", "rank", "image", "top", "left", "bottom", "right"]
        patches = self.store.rows("patches", f"layer = {layer} AND {any_of('channel', channels)}", columns)
        return Tiles(patches, self._photographs, (size[0], size[1])).sheet(channels)

    @cached_property
    def _photographs(self) -> Photographs:
        return Photographs(self.store)

    def _tiles_row(self, layer: int, number: int, picture: bytes) -> dict[str, Any]:
        """Of a sheet. What the layer before has as well, as a ReLU what it follows, is kept once."""
        like = self.one("tiles", f"layer = {layer - 1} AND sheet = {number}", "like") if layer > 0 else None
        same = like is not None and self._tiles(like, number) == picture
        return {"layer": layer, "sheet": number, "like": like if same else layer, "picture": None if same else picture}

    def about(self, making: Making) -> About:
        layers = []
        answers = making.net.layers.answers() if making.net.head.choices else ()
        repeats = self._repeats(making)
        for i, name in enumerate(making.layers):
            rows = self.store.rows("units", f"layer = {i}", ["channel", "strength", "dead"])
            rows.sort(key=lambda row: row["channel"])
            dead = np.array([row["dead"] for row in rows])
            strength = np.array([row["strength"] for row in rows])
            layers.append(
                {
                    "dead": int(dead.sum()),
                    "typical": typical(strength, dead),
                    "classes": name in answers,
                    "repeats": repeats[i],
                }
            )
        tile = {"columns": TILE_COLUMNS, "size": TILE_SIDE, "count": TILES}
        per = None if making.source.photographs is None else PER_PHOTOGRAPH
        return About({"units_per_block": UNITS_PER_BLOCK, "tile": tile, "per_photograph": per}, layers)

    def _repeats(self, making: Making) -> list[str | None]:
        """For each layer the earlier one that it repeats: it has no weights, and its channels the same images."""
        found: list[str | None] = []
        shown: dict[int, list[int]] = {}
        first = ""
        for i, name in enumerate(making.layers):
            layer = making.net.layers[name]
            own = self._images_of(i)
            again = bool(found) and not layer.is_weighted and _agree(own, shown)
            again = again and layer.channels == making.net.layers[first].channels
            found.append(first if again else None)
            if not again:
                first, shown = name, own
        return found

    def _images_of(self, layer: int) -> dict[int, list[int]]:
        """Channel -> the images of its patches, best first, of those that have some."""
        rows = self.store.rows("patches", f"layer = {layer}", ["channel", "rank", "image"])
        images: dict[int, list[int]] = {}
        for row in sorted(rows, key=lambda row: (row["channel"], row["rank"])):
            images.setdefault(row["channel"], []).append(row["image"])
        return images

    def resources(self) -> Sequence[Resource]:
        return [
            Resource("data/layer/LAYER.json", self._columns, lambda: [(i,) for i in range(len(self._layers))]),
            Resource("data/units/LAYER/BLOCK.json", self._units, self._blocks),
            *self._strictest(),
            Resource("tiles/LAYER/SHEET.webp", self._tiles, lambda: self.keys("tiles", "layer", "sheet")),
            self.stored("strips/LAYER.webp", "strips", "picture"),
        ]

    def _strictest(self) -> list[Resource]:
        """Where the patches shown are not simply the best, these too."""
        if self.store.network["per_photograph"] is None:
            return []

        def read(layer: int, number: int) -> dict[str, Any] | None:
            patches = self._patches("strictest", block_of(layer, number))
            return {"units": [{"channel": c, "patches": some} for c, some in patches.items()]} if patches else None

        def listed() -> list[tuple[int, int]]:
            rows = self.store.arrow("strictest", columns=["layer", "channel"])
            layers, channels = (rows[name].to_numpy() for name in ("layer", "channel"))
            return sorted(set(zip(layers.tolist(), (channels // UNITS_PER_BLOCK).tolist(), strict=True)))

        return [Resource("data/strictest/LAYER/BLOCK.json", read, listed)]

    def _patches(self, table: str, where: str) -> dict[int, list[dict[str, Any]]]:
        """Channel -> its patches, best first, of the channels that have some."""
        found: dict[int, list[dict[str, Any]]] = {}
        for patch in sorted(self.store.rows(table, where), key=lambda p: (p["channel"], p["rank"])):
            found.setdefault(patch["channel"], []).append(_document(patch))
        return found

    @property
    def _layers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.store.network["layers"]
        return found

    def _blocks(self) -> list[tuple[int, int]]:
        return [(i, n) for i, layer in enumerate(self._layers) for n in blocks(layer["shape"][0])]

    def _tiles(self, layer: int, number: int) -> bytes | None:
        rows = self.store.rows("tiles", f"layer = {layer} AND sheet = {number}", ["like", "picture"])
        if not rows:  # drawn when it is asked for, in an atlas that is being made
            if not self.store.grows or self.store.network["pictures"]["of"] == NONE:
                return None
            sheets = self._sheets(layer)
            size = self.store.network["input"]["size"]
            return self._drawn(layer, sheets[number], size) if number < len(sheets) else None
        picture: bytes | None = rows[0]["picture"]
        return picture if rows[0]["like"] == layer else self._tiles(rows[0]["like"], number)

    def _columns(self, layer: int) -> dict[str, Any]:
        columns = ["channel", "strength", "mean", "sparsity", "selectivity", "dead", "classes", "class_counts"]
        rows = sorted(self.store.rows("units", f"layer = {layer}", columns), key=lambda r: r["channel"])
        best = [r["classes"][0] if r["classes"] and not r["dead"] else None for r in rows]
        counts = [None if c is None else r["class_counts"][0] for c, r in zip(best, rows, strict=True)]
        named = {name: [r[name] for r in rows] for name in ("strength", "mean", "sparsity", "selectivity", "dead")}
        name = self._layers[layer]["name"]
        order = shown_order(np.array(named["strength"]), np.array(named["dead"]))
        places = np.argsort(order).tolist()
        labels = [self.label(c) for c in best]
        return {"name": name, **named, "place": places, "class": best, "label": labels, "count": counts}

    def _units(self, layer: int, number: int) -> dict[str, Any] | None:
        where = block_of(layer, number)
        rows = sorted(self.store.rows("units", where), key=lambda r: r["channel"])
        if not rows:
            return None
        patches = self._patches("patches", where)
        made = [None] * len(rows)
        if self._layers[layer]["synthesized"] is not None:
            made = json.loads(self.one("synthesized", f"layer = {layer} AND sheet = {number}", "units") or "[]") or made
        return {
            "units": [
                {
                    "channel": r["channel"],
                    "patches": patches.get(r["channel"], []),
                    "histogram": {"low": r["low"], "high": r["high"], "counts": r["counts"]},
                    "classes": [
                        {"label": self.label(c), "index": c, "mean": mean, "count": count}
                        for c, mean, count in zip(r["classes"], r["class_means"], r["class_counts"], strict=True)
                    ],
                    "synthesized": own,
                }
                for r, own in zip(rows, made, strict=True)
            ]
        }


def _document(patch: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "image": patch["image"],
        "value": patch["value"],
        "position": [patch["y"], patch["x"]],
        "box": [patch["top"], patch["left"], patch["bottom"], patch["right"]],
    }


def _agree(some: Mapping[int, list[int]], others: Mapping[int, list[int]]) -> bool:
    """Whether the channels that are in both, one or more, have the same images in the same order."""
    both = some.keys() & others.keys()
    return bool(both) and all(some[channel] == others[channel] for channel in both)


def block_of(layer: int, number: int) -> str:
    """The SQL condition for the channels of a block."""
    first = number * UNITS_PER_BLOCK
    return f"layer = {layer} AND channel >= {first} AND channel < {first + UNITS_PER_BLOCK}"


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


def unit_rows(layer: int, peaks: Any, class_means: np.ndarray, class_counts: np.ndarray) -> list[dict[str, Any]]:
    """The rows of table `units` for one layer: statistics of the peak activation, and the classes preferred.

    class_means (classes, C) with NaN where class_counts (classes,) is zero. Classes of fewer than LEAST images are left
    out, of the selectivity too: of one image the mean says nothing about a class.
    """
    class_means = np.where(class_counts[:, None] < LEAST, np.nan, class_means)
    order = np.argsort(np.where(np.isnan(class_means), -np.inf, -0.0 + class_means), axis=0, kind="stable")[::-1]
    kept = min(CLASSES_KEPT, int((class_counts >= LEAST).sum()))
    best = order[:kept].T  # (C, kept)
    columns = {
        "strength": peaks.maximum,
        "mean": peaks.mean,
        "sparsity": 1 - peaks.active,
        "dead": peaks.maximum <= 0,
        "low": peaks.low,
        "high": peaks.high,
        "counts": peaks.counts,
        "classes": best,
    }
    named = {name: array.tolist() for name, array in columns.items()}
    return [
        {
            "layer": layer,
            "channel": c,
            **{name: values[c] for name, values in named.items()},
            "selectivity": None if np.isnan(chosen) else float(chosen),
            "class_means": class_means[best[c], c].tolist(),
            "class_counts": class_counts[best[c]].tolist(),
        }
        for c, chosen in enumerate(selectivity(class_means))
    ]


def patch_rows(
    layer: int,
    shown: Callable[[int, int, tuple[int, int]], Box],
    found: Sequence[np.ndarray],
    floor: np.ndarray,
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """The rows of table `patches` for one layer.

    shown: what is shown of an image of that size for neuron (y, x).
    found: values (C, k), image ids (C, k), positions (C, k, 2). floor: (C,) each channel's weakest peak over all
    images; a response that is no stronger says nothing about the channel and is left out.
    """
    values, images, positions = found
    rows = []
    for channel, rank in np.argwhere((images >= 0) & (values > floor[:, None])).tolist():
        y, x = (int(v) for v in positions[channel, rank])
        top, left, bottom, right = shown(y, x, size)
        row = {"layer": layer, "channel": channel, "rank": rank, "image": int(images[channel, rank]), "y": y, "x": x}
        box = {"top": top, "left": left, "bottom": bottom, "right": right}
        rows.append({**row, "value": float(values[channel, rank]), **box})
    return rows


class Tiles:
    """The channels of a layer, each as the mosaic of its nine best patches. patches: rows of that table."""

    def __init__(self, patches: Sequence[Mapping[str, Any]], photographs: Photographs, size: tuple[int, int]) -> None:
        self._photographs, self._size = photographs, size
        self._best: dict[int, list[Mapping[str, Any]]] = {}
        for p in patches:
            if p["rank"] < _PER_ROW**2:
                self._best.setdefault(p["channel"], []).append(p)

    def sheet(self, channels: Sequence[int], columns: int = TILE_COLUMNS) -> bytes:
        """These channels in rows of `columns`, as WebP."""
        best = [self._best.get(channel, []) for channel in channels]
        photos = self._photographs.of({p["image"] for patches in best for p in patches})
        tiles = [_tile(patches, photos, self._size) for patches in best or [[]]]  # a dark one where all are dead
        return encode(sheet(tiles, columns), "WEBP", QUALITY)


def _tile(patches: Sequence[Mapping[str, Any]], photos: Mapping[int, Picture], size: tuple[int, int]) -> Picture:
    tile = np.empty((TILE_SIDE, TILE_SIDE, 3), dtype=np.uint8)
    tile[:] = DARK
    for p in patches:
        y, x = (place * (_PATCH + 1) for place in divmod(p["rank"], _PER_ROW))
        box = p["top"], p["left"], p["bottom"], p["right"]
        tile[y : y + _PATCH, x : x + _PATCH] = cropped(photos[p["image"]], box, _PATCH, of=size, background=DARK)
    return tile


class Photographs:
    """The display pictures of a store's images, read when asked for; the latest are kept decoded."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[int, Picture] = {}

    def of(self, ids: set[int]) -> dict[int, Picture]:
        """The pictures of these images."""
        found = {i: self._held.pop(i) for i in ids if i in self._held}
        if missing := sorted(ids - found.keys()):
            rows = self._store.rows("pictures", any_of("id", missing), ["id", "picture"])
            found |= {row["id"]: decode(row["picture"]) for row in rows}
        self._held |= found
        for i in list(self._held)[: max(0, len(self._held) - _HELD)]:
            del self._held[i]
        return found

"""From a store to the resources that the page asks for; the paths and their contents are in docs/architecture.md.

The server answers requests with `Pages.resource`, the export writes every path of `Pages.paths` to a file.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from netloupe.atlas.map_pages import MapPages
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError
from netloupe.core.numbers import finite

IMAGES_PER_BLOCK = 200
UNITS_PER_BLOCK = 64


class Pages:
    """The resources of one store. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._map = MapPages(store)
        self._lock = threading.Lock()
        self._mosaics = lru_cache(maxsize=4)(self._read_mosaics)
        self._synthesized = lru_cache(maxsize=4)(self._read_synthesized)

    @cached_property
    def _layers(self) -> dict[str, int]:
        return {layer["name"]: i for i, layer in enumerate(self.store.network["layers"])}

    def resource(self, path: str) -> tuple[bytes, str] | None:
        """(content, media type) of a path such as "data/network.json"; None if there is none."""
        parts = path.split("/")
        if path in ("", "index.html"):
            return _static("index.html")
        if parts[0] == "static":
            return _static("/".join(parts[1:]))
        with self._lock:
            content = self._content(parts)
        if content is None:
            return None
        if isinstance(content, bytes):
            return content, "application/octet-stream" if path.endswith(".bin") else "image/jpeg"
        return json.dumps(_spelled(content), separators=(",", ":")).encode(), "application/json"

    def paths(self) -> Iterator[str]:
        """Every path that has a resource, with names encoded as the page asks for them."""
        yield "index.html"
        yield from (f"static/{name}" for name in _static_names())
        yield "data/network.json"
        for layer in self.store.network["layers"]:
            slug = quote(layer["name"], safe="")
            blocks = math.ceil(layer["shape"][0] / UNITS_PER_BLOCK)
            yield f"data/layer/{slug}.json"
            yield from (f"data/units/{slug}/{block}.json" for block in range(blocks))
            yield from (f"tiles/{slug}/{block}.jpg" for block in range(blocks))
        if self.store.network["projections"]["rule"] is not None:
            names = [quote(layer["name"], safe="") for layer in self.store.network["layers"]]
            rows = self.store.rows("projections", columns=["layer", "channel"])
            for layer, channel in sorted((row["layer"], row["channel"]) for row in rows):
                yield f"projections/{names[layer]}/{channel}.jpg"
        for layer in self.store.network["layers"]:
            if layer["synthesized"] is not None:
                slug = quote(layer["name"], safe="")
                for block in range(math.ceil(layer["shape"][0] / UNITS_PER_BLOCK)):
                    yield f"synthesis/{slug}/{block}.jpg"
                    pictures = self._synthesized(self._layers[layer["name"]], block).get("mosaics", [])
                    channels = [block * UNITS_PER_BLOCK + i for i, jpeg in enumerate(pictures) if jpeg is not None]
                    yield from (f"synthesized/{slug}/{channel}.jpg" for channel in channels)
        yield from self._map.paths()
        ids = sorted(self.store.arrow("images", columns=["id"])["id"].to_pylist())
        yield from (f"data/images/{block}.json" for block in range(self._image_blocks()))
        for i in ids:
            yield from (f"data/image/{i}.json", f"img/{i}.jpg", f"maps/{i}.jpg")

    def _content(self, parts: list[str]) -> Any:
        match parts:
            case ["data", "network.json"]:
                return self.store.network
            case ["data", "layer", name] if (layer := self._layer(name, ".json")) is not None:
                return self._layer_columns(layer)
            case ["data", "units", slug, name] if (layer := self._layer(slug)) is not None:
                block = _number(name, ".json")
                return None if block is None else self._units(layer, block)
            case ["data", "images", name] if (block := _number(name, ".json")) is not None:
                return self._images(block)
            case ["data", "image", name] if (image := _number(name, ".json")) is not None:
                return self._image(image)
            case ["data", "map.json"]:
                return self._map.document
            case ["data", "map", "points.bin"]:
                return self._map.points
            case ["data", "map", "features", name] if (block := _number(name, ".bin")) is not None:
                return self._map.features(block)
            case ["sprites", side, name] if (sheet := _number(name, ".jpg")) is not None:
                return None if (size := _number(side, "")) is None else self._map.sprites(size, sheet)
            case ["img", name] if (image := _number(name, ".jpg")) is not None:
                return self._bytes("images", "jpeg", f"id = {image}")
            case ["maps", name] if (image := _number(name, ".jpg")) is not None:
                return self._bytes("images", "maps", f"id = {image}")
            case ["tiles", slug, name] if (layer := self._layer(slug)) is not None:
                sheet = _number(name, ".jpg")
                return None if sheet is None else self._bytes("tiles", "jpeg", f"layer = {layer} AND sheet = {sheet}")
            case ["projections", slug, name] if (layer := self._layer(slug)) is not None:
                channel = _number(name, ".jpg")
                return None if channel is None else self._mosaics(layer, channel // UNITS_PER_BLOCK).get(channel)
            case ["synthesis", slug, name] if (layer := self._layer(slug)) is not None:
                sheet = _number(name, ".jpg")
                return None if sheet is None else self._synthesized(layer, sheet).get("jpeg")
            case ["synthesized", slug, name] if (layer := self._layer(slug)) is not None:
                channel = _number(name, ".jpg")
                return None if channel is None else self._image_of(layer, channel)
        return None

    def _image_of(self, layer: int, channel: int) -> bytes | None:
        """The synthesized image of a channel and its facets, in one row."""
        pictures = self._synthesized(layer, channel // UNITS_PER_BLOCK).get("mosaics", [])
        place = channel % UNITS_PER_BLOCK
        return pictures[place] if place < len(pictures) else None

    def _read_synthesized(self, layer: int, block: int) -> dict[str, Any]:
        """The row of table `synthesized`; empty where there is none."""
        if self.store.network["layers"][layer]["synthesized"] is None:
            return {}
        rows = self.store.rows("synthesized", f"layer = {layer} AND sheet = {block}", ["jpeg", "mosaics", "units"])
        return rows[0] if rows else {}

    def _read_mosaics(self, layer: int, block: int) -> dict[int, bytes]:
        """The mosaics of projections of channels UNITS_PER_BLOCK * block and on."""
        if self.store.network["projections"]["rule"] is None:
            return {}
        where = _block_of(layer, block)
        return {r["channel"]: r["jpeg"] for r in self.store.rows("projections", where, ["channel", "jpeg"])}

    def _layer(self, slug: str, suffix: str = "") -> int | None:
        return self._layers.get(unquote(slug.removesuffix(suffix))) if slug.endswith(suffix) else None

    def _bytes(self, table: str, column: str, where: str) -> bytes | None:
        rows = self.store.rows(table, where, [column])
        return rows[0][column] if rows else None

    def _predicted(self, index: int) -> str:
        labels = self.store.network["labels"]
        return labels[index] if index < len(labels) else str(index)

    def _label(self, index: int | None) -> str | None:
        """The name of a class as the images are labeled; without labels of their own, as the network predicts."""
        if index is None:
            return None
        network = self.store.network
        names = network["labels"] if network["source_classes"] is None else network["source_classes"]
        return names[index] if index < len(names) else str(index)

    def _layer_columns(self, layer: int) -> dict[str, Any]:
        columns = ["channel", "strength", "mean", "sparsity", "selectivity", "dead", "classes"]
        rows = sorted(self.store.rows("units", f"layer = {layer}", columns), key=lambda r: r["channel"])
        best = [r["classes"][0] if r["classes"] and not r["dead"] else None for r in rows]
        named = {name: [r[name] for r in rows] for name in ("strength", "mean", "sparsity", "selectivity", "dead")}
        name = self.store.network["layers"][layer]["name"]
        return {"name": name, **named, "class": best, "label": [self._label(c) for c in best]}

    def _units(self, layer: int, block: int) -> dict[str, Any] | None:
        where = _block_of(layer, block)
        rows = sorted(self.store.rows("units", where), key=lambda r: r["channel"])
        if not rows:
            return None
        patches: dict[int, list[dict[str, Any]]] = {}
        for p in sorted(self.store.rows("patches", where), key=lambda p: (p["channel"], p["rank"])):
            patches.setdefault(p["channel"], []).append(
                {
                    "image": p["image"],
                    "value": p["value"],
                    "position": [p["y"], p["x"]],
                    "box": [p["top"], p["left"], p["bottom"], p["right"]],
                }
            )
        made = json.loads(self._synthesized(layer, block).get("units", "[]")) or [None] * len(rows)
        return {
            "units": [
                {
                    "channel": r["channel"],
                    "patches": patches.get(r["channel"], []),
                    "histogram": {"low": r["low"], "high": r["high"], "counts": r["counts"]},
                    "classes": [
                        {"label": self._label(c), "index": c, "mean": mean, "count": count}
                        for c, mean, count in zip(r["classes"], r["class_means"], r["class_counts"], strict=True)
                    ],
                    "synthesized": own,
                }
                for r, own in zip(rows, made, strict=True)
            ]
        }

    def _image_blocks(self) -> int:
        """Ids run over all images of the source, skipped ones included."""
        network = self.store.network
        total: int = network["images"] + len(network["skipped"])
        return math.ceil(total / IMAGES_PER_BLOCK)

    def _images(self, block: int) -> dict[str, Any] | None:
        if block >= self._image_blocks():
            return None
        first = block * IMAGES_PER_BLOCK
        columns = ["id", "name", "label", "classes", "probabilities"]
        rows = self.store.rows("images", f"id >= {first} AND id < {first + IMAGES_PER_BLOCK}", columns)
        return {
            "images": [
                {
                    "id": r["id"],
                    "name": r["name"],
                    "label": self._label(r["label"]),
                    "prediction": self._predicted(r["classes"][0]),
                    "index": r["classes"][0],
                    "probability": r["probabilities"][0],
                }
                for r in sorted(rows, key=lambda r: r["id"])
            ]
        }

    def _image(self, image: int) -> dict[str, Any] | None:
        columns = ["id", "name", "label", "classes", "probabilities", "map_channels", "map_peaks"]
        rows = self.store.rows("images", f"id = {image}", columns)
        if not rows:
            return None
        row = rows[0]
        near = {r["space"]: r for r in self.store.rows("neighbors", f"id = {image}")}
        per_row = self.store.network["maps"]["columns"]
        maps = []
        for i, layer in enumerate(self.store.network["maps"]["layers"]):
            span = slice(i * per_row, (i + 1) * per_row)
            channels = [c for c in row["map_channels"][span] if c >= 0]
            maps.append({"layer": layer, "channels": channels, "peaks": row["map_peaks"][span][: len(channels)]})
        return {
            "id": image,
            "name": row["name"],
            "label": self._label(row["label"]),
            "size": self.store.network["input"]["size"],
            "top": [
                {"label": self._predicted(c), "index": c, "probability": p}
                for c, p in zip(row["classes"], row["probabilities"], strict=True)
            ],
            "maps": maps,
            "neighbors": {
                space: [
                    {"id": i, "distance": d} for i, d in zip(near[space]["ids"], near[space]["distances"], strict=True)
                ]
                for space in ("features", "pixels")
                if space in near
            },
        }


def _block_of(layer: int, block: int) -> str:
    """The condition for the channels of a block."""
    first = block * UNITS_PER_BLOCK
    return f"layer = {layer} AND channel >= {first} AND channel < {first + UNITS_PER_BLOCK}"


def _number(name: str, suffix: str) -> int | None:
    stem = name.removesuffix(suffix)
    return int(stem) if name.endswith(suffix) and stem.isascii() and stem.isdigit() and len(stem) < 10 else None


def _spelled(value: Any) -> Any:
    """The value with numbers that JSON has no spelling for as None."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, dict):
        return {key: _spelled(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_spelled(v) for v in value]
    return value


def _static_names() -> list[str]:
    root = resources.files("netloupe.atlas") / "static"
    return sorted(f.name for f in root.iterdir() if f.is_file() and f.name != "index.html")


def _static(name: str) -> tuple[bytes, str] | None:
    """A file of the page. Only names that are listed there are served, so no path leads elsewhere."""
    if name != "index.html" and name not in _static_names():
        return None
    file = resources.files("netloupe.atlas") / "static" / name
    if not file.is_file():
        raise StoreError(f"the page's file {name!r} is missing from this installation")
    return file.read_bytes(), _MEDIA_TYPES[file.name.rpartition(".")[2]]


_MEDIA_TYPES = {  # not the machine's own table, which may be wrong
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

"""What the sweep of a build leaves in the store of every photograph: what it is taken for, how it looks, its maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torch import Tensor

from netloupe.atlas.sheets import MAP_COLUMNS, MAP_STEPS, QUALITY, THUMB, map_size
from netloupe.atlas.shelf import Shelf
from netloupe.atlas.store import Store
from netloupe.core.head import Classes, NoHead, Prediction, Vector
from netloupe.core.head import Maps as MapsOfClasses
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS
from netloupe.data.bands import Bands, Opened, eight_bits
from netloupe.data.images import as_seen, fit, to_float
from netloupe.data.sources import ImageSource, pixel_reader
from netloupe.render.answers import over_regions, with_boxes
from netloupe.render.colors import heat, palette
from netloupe.render.pictures import Picture, decode, encode, resized, stacked
from netloupe.sweep.accumulator import Scribe, Sink
from netloupe.sweep.blocks import Block
from netloupe.sweep.maps import Maps
from netloupe.sweep.vectors import TOP, most_probable

_TOGETHER = 2048  # rows written at once: a shard
_HEAVY = 32 << 20  # bytes written at once, where so many rows hold more
_LARGEST = 4 << 30  # bytes of pixels kept on disk; images beyond are decoded again where they are needed again

_NO_ARRAYS = pa.schema([("id", pa.int64()), ("array", pa.large_binary())]).empty_table()

Shown = Callable[[Picture, Picture], bytes]
"""From a picture as the network sees it, for people, and its thumbnail: what of them is kept."""


def whole(picture: Picture, thumb: Picture) -> bytes:
    """The display picture as WebP."""
    del thumb
    return encode(picture, "WEBP", QUALITY)


def small(picture: Picture, thumb: Picture) -> bytes:
    """The thumbnail as WebP."""
    del picture
    return encode(thumb, "WEBP", QUALITY)


class Looks:
    """Opens photographs as the network sees them, and meanwhile makes what is kept of how each looks.

    `take` gives that: its thumbnail, uint8 (THUMB, THUMB, 3), and what `shown` makes of it. It can be copied into other
    processes.
    """

    def __init__(self, source: ImageSource, size: tuple[int, int], channels: int, shown: Shown | None) -> None:
        self._source, self._size, self._channels, self._shown = source, size, channels, shown
        self._waiting: dict[int, dict[str, bytes]] = {}
        self.slow = getattr(source.opener, "slow", False)

    def __call__(self, image_id: int) -> Opened:
        """The image as the network sees it, with 8 bits a value. Raises InputError if it can't be read."""
        image = self._source.open(image_id)
        pixels = eight_bits(fit(image, self._size, self._channels))
        picture = as_seen(image, self._size)
        thumb = resized(picture, (THUMB, THUMB))
        made = {"thumb": thumb.tobytes()}
        self._waiting[image_id] = made if self._shown is None else {**made, "shown": self._shown(picture, thumb)}
        if self._channels in (1, 3):
            return Image.fromarray(pixels if self._channels == 3 else pixels[:, :, 0])
        return Bands(to_float(pixels).numpy(), self._source.names[image_id], getattr(image, "picture", None))

    def take(self, image_id: int) -> Mapping[str, bytes]:
        """What was made of an image that was opened."""
        return self._waiting.pop(image_id)


class Photographs:
    """Photographs that were opened, as the network sees them. shelf: where they lie, None where nobody will ask."""

    def __init__(self, source: ImageSource, size: tuple[int, int], channels: int, shelf: Shelf | None) -> None:
        self._again = pixel_reader(source, size, channels)
        self._shelf = shelf
        self.shelved = 0 if shelf is None else _LARGEST // (size[0] * size[1] * channels)

    def read(self, image_id: int) -> Tensor:
        """(C, H, W) in [0, 1]. Those with an id below `shelved` lie on the shelf, others are decoded again."""
        if self._shelf is not None and image_id < self.shelved:
            return to_float(self._shelf.get([image_id])[0])
        return self._again(image_id)


@final
class Ledger(Sink):
    """Where the rows of photographs go, in order and each once: into the store, and those of `shelves` onto these.

    Rows of one image are written together, so table `of` tells how far all of them are.
    """

    def __init__(
        self, store: Store, source: ImageSource, scribes: Sequence[Scribe], of: str, shelves: Mapping[str, Shelf]
    ) -> None:
        self._store, self._source, self._scribes, self._shelves = store, source, scribes, shelves
        self._next = _after(store, of)
        self._waiting: list[Mapping[str, pa.Table]] = []

    @property
    def scribes(self) -> Sequence[Scribe]:
        return self._scribes

    @property
    def next_id(self) -> int:
        """The image that follows those which were written."""
        return self._next

    def put(self, rows: Mapping[str, pa.Table]) -> None:
        new = {table: given.filter(pc.greater_equal(given["id"], self._next)) for table, given in rows.items()}
        for name, shelf in self._shelves.items():
            for number, array in zip(*new.pop(name, _NO_ARRAYS).to_pydict().values(), strict=True):
                shelf.put(number, np.frombuffer(array, np.uint8))
        if any(map(len, new.values())):
            self._waiting.append(new)
        together = sum(max(map(len, one.values())) for one in self._waiting)
        if together >= _TOGETHER or sum(rows.nbytes for one in self._waiting for rows in one.values()) > _HEAVY:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            rows = {name: pa.concat_tables(one[name] for one in self._waiting) for name in self._waiting[0]}
            ids = next(iter(rows.values()))["id"]
            self._store.put({name: self._named(given) if name == "images" else given for name, given in rows.items()})
            self._next = int(ids[-1].as_py()) + 1
            self._waiting = []

    def _named(self, rows: pa.Table) -> pa.Table:
        """Rows of table `images` with what the source knows of them."""
        known: dict[str, Callable[[int], Any]] = {"name": self._source.names.__getitem__, "label": self._source.label}
        for column, told in known.items():
            place, ids = rows.schema.get_field_index(column), rows["id"].to_pylist()
            values = pa.array([told(i) for i in ids], rows.schema.field(place).type)
            rows = rows.set_column(place, rows.schema.field(place), values)
        return rows


@final
class Shelved(Scribe):
    """Makes the rows of shelves: `thumbs`, and `pixels` of images with an id below that number."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._rows: dict[str, list[tuple[int, bytes]]] = {"thumbs": [], "pixels": []}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        return ()

    def begin_batch(self, block: Block) -> None:
        assert block.pixels is not None
        for i, pixels, beside in zip(block.ids.tolist(), block.pixels, block.beside, strict=True):
            self._rows["thumbs"].append((i, beside["thumb"]))
            if i < self._pixels:
                self._rows["pixels"].append((i, eight_bits(pixels).tobytes()))

    def update(self, layer: str, maps: Maps) -> None:
        raise AssertionError("it reads no layer")

    def take(self) -> Mapping[str, pa.Table]:
        rows, self._rows = self._rows, {name: [] for name in self._rows}
        return {
            name: pa.table({"id": [i for i, _ in some], "array": [array for _, array in some]}, _NO_ARRAYS.schema)
            for name, some in rows.items()
            if some
        }


@final
class Listed(Scribe):
    """Makes the rows of tables `images`, all but names and labels, `features` and `views`.

    layer: gives the features; thumb: whether a thumbnail is kept of each image. views: layers that give others.
    """

    def __init__(self, store: Store, net: Network, layer: str, thumb: bool, views: Sequence[str] = ()) -> None:
        self._images, self._means, self._head = store.schema("images"), store.schema("views"), net.head
        self._layer, self._thumb, self._views = layer, thumb, views
        self._viewed: dict[str, np.ndarray] = {}
        self._predicted: tuple[np.ndarray, np.ndarray] | None = None
        self._said: list[list[Prediction]] = []
        self._clear()

    def _clear(self) -> None:
        self._rows: list[dict[str, object]] = []
        self._vectors: list[np.ndarray] = []
        self._others: list[dict[str, object]] = []

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        read = [self._layer, *self._views]
        return read if isinstance(self._head, NoHead | Vector) else [*read, LOGITS]

    def begin_batch(self, block: Block) -> None:
        self._block = block

    def update(self, layer: str, maps: Maps) -> None:
        if layer == self._layer:
            self._seen = maps.mean
        elif layer in self._views:
            self._viewed[layer] = maps.mean
        elif isinstance(self._head, Classes):
            self._predicted = most_probable(maps.peak, self._head.kind)
        else:
            self._said = self._head.says(maps.answer, TOP)

    def end_batch(self) -> None:
        self._vectors.append(self._seen)
        for row, i in enumerate(self._block.ids.tolist()):
            self._rows.append(self._row(row, i))
            self._others += [{"id": i, "layer": name, "means": means[row]} for name, means in self._viewed.items()]

    def take(self) -> Mapping[str, pa.Table]:
        if not self._rows:
            return {}
        vectors = np.concatenate(self._vectors)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
        images = pa.Table.from_pylist(self._rows, self._images)
        found = {"images": images, "features": pa.table({"id": images["id"], "vector": column})}
        found |= {"views": pa.Table.from_pylist(self._others, self._means)} if self._views else {}
        self._clear()
        return found

    def _row(self, row: int, image_id: int) -> dict[str, object]:
        return {
            "id": image_id,
            "classes": [] if self._predicted is None else self._predicted[0][row].tolist(),
            "probabilities": [] if self._predicted is None else self._predicted[1][row].tolist(),
            "said": _told(self._said[row]) if self._said else None,
            "thumb": self._block.beside[row]["shown"] if self._thumb else None,
        }


@final
class Pictures(Scribe):
    """Makes the rows of table `pictures`. layers: the rows of the sheets of maps; ids: of a subset, those it has."""

    def __init__(self, store: Store, layers: Sequence[str], net: Network, ids: Sequence[int] | None = None) -> None:
        self._columns, self._layers, self._own = store.schema("pictures"), layers, ids
        self._head, self._size = net.head, net.inputs.size
        self._rows: list[dict[str, object]] = []
        self._said: list[list[Prediction]] = []
        self._regions: np.ndarray | None = None
        self._strongest: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        plain = isinstance(self._head, NoHead | Vector | Classes)
        return [*self._layers, *([] if plain else [LOGITS])] or layers[:1]

    def begin_batch(self, block: Block) -> None:
        self._block = block

    def update(self, layer: str, maps: Maps) -> None:
        if layer == LOGITS:
            self._said = self._head.says(maps.answer, TOP)
            masks = isinstance(self._head, MapsOfClasses)
            self._regions = maps.answer.argmax(1).cpu().numpy() if masks else None
        elif layer in self._layers:
            channels = np.argsort(-maps.peak, axis=1, kind="stable")[:, :MAP_COLUMNS]
            self._strongest[layer] = channels, np.take_along_axis(maps.peak, channels, 1), maps.of(channels)

    def end_batch(self) -> None:
        for row, place in enumerate(self._block.ids.tolist()):
            i, shown = place if self._own is None else self._own[place], self._block.beside[row]["shown"]
            sheet, chosen, peaks, tops = self._sheet(row)
            maps = {"maps": sheet, "map_channels": chosen, "map_peaks": peaks, "map_tops": tops}
            self._rows.append({"id": i, "picture": shown, "drawn": self._drawn(row, shown), **maps})

    def take(self) -> Mapping[str, pa.Table]:
        rows, self._rows = self._rows, []
        return {"pictures": pa.Table.from_pylist(rows, self._columns)} if rows else {}

    def _drawn(self, row: int, shown: bytes) -> bytes | None:
        """The photograph with what is said drawn over it, by a network that says where."""
        said = self._said[row] if self._said else []
        if self._regions is not None:
            drawn = over_regions(decode(shown), self._regions[row])
        elif boxes := [(one.box, one.label) for one in said if one.box is not None]:
            drawn = with_boxes(decode(shown), boxes, self._size)
        else:
            return None
        return encode(drawn, "WEBP", QUALITY)

    def _sheet(self, image: int) -> tuple[bytes, list[int], list[float], list[int]]:
        """The encoded sheet, the channels row by row (-1 where a layer has fewer), their peaks, and each row's top.

        A row that looks as one above, as a ReLU's looks as what it follows, has that one's top.
        """
        channels: list[int] = []
        values: list[float] = []
        rows: list[Picture] = []
        tops: dict[bytes, int] = {}
        at: list[int] = []
        for layer in self._layers:
            chosen, peaks, maps = (array[image] for array in self._strongest[layer])
            row = _map_row(maps, float(peaks[0]))
            key = repr(row.shape).encode() + row.tobytes()
            if key not in tops:
                tops[key] = sum(len(one) for one in rows)
                rows.append(row)
            at.append(tops[key])
            gap = MAP_COLUMNS - len(chosen)
            channels += [*chosen.tolist(), *[-1] * gap]
            values += [*peaks.tolist(), *[0.0] * gap]
        sheet = stacked(rows, gap=0, background=(0, 0, 0)) if rows else np.zeros((1, 1, 3), np.uint8)
        return encode(sheet, "WEBP", 75, lossless=True), channels, values, at


def _map_row(maps: np.ndarray, peak: float) -> Picture:
    """Maps (n, H, W) beside each other in colors, black at 0 and below, brightest at `peak`, in MAP_STEPS steps."""
    height, width = map_size(maps.shape)
    shares = np.clip(maps / peak, 0, 1) if peak > 0 else np.zeros_like(maps)
    colored = heat(np.concatenate(list(np.round(shares * MAP_STEPS) / MAP_STEPS), axis=1), 1.0)
    return resized(colored, (height, len(maps) * width), smooth=False)


def _after(store: Store, table: str) -> int:
    """One more than the highest id that a table holds."""
    there = store.arrow(table, columns=["id"])["id"].to_numpy() if store.count(table) else np.zeros(0, np.int64)
    return int(there.max(initial=-1)) + 1


def _told(said: Sequence[Prediction]) -> str:
    """What a network says of an image for which it gives no classes, as JSON, each with the color it is drawn in."""
    told = [
        {"label": one.label, "what": one.what, "number": one.number, "color": "#{:02x}{:02x}{:02x}".format(*color)}
        for one, color in zip(said, palette(len(said)), strict=True)
    ]
    return json.dumps(told)

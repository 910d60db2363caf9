"""What the sweep of a build leaves in the store of every photograph: what it is taken for, how it looks, its maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import pyarrow as pa
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
from netloupe.sweep.accumulator import Sink
from netloupe.sweep.maps import Maps
from netloupe.sweep.vectors import TOP, most_probable

_TOGETHER = 2048  # rows written at once: a shard
_HEAVY = 32 << 20  # bytes of pictures written at once, where so many rows hold more
_LARGEST = 4 << 30  # bytes of pixels kept on disk; images beyond are decoded again where they are needed again

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


class Photographs:
    """The photographs of a build. `open` decodes one, and keeps what is made of it.

    Its pixels as the network sees them go on the shelf `pixels`, where `read` finds them again, its thumbnail on
    `thumbs`; what `shown` makes of it waits for `take`. None of these where nobody will ask.
    """

    def __init__(
        self,
        source: ImageSource,
        size: tuple[int, int],
        channels: int,
        shown: Shown | None,
        pixels: Shelf | None = None,
        thumbs: Shelf | None = None,
    ) -> None:
        self._source, self._size, self._channels = source, size, channels
        self._again = pixel_reader(source, size, channels)
        self._shown, self._pixels, self._thumbs = shown, pixels, thumbs
        self._waiting: dict[int, bytes] = {}
        self._shelved = 0 if pixels is None else _LARGEST // (size[0] * size[1] * channels)

    def open(self, image_id: int) -> Opened:
        """The image as the network sees it, with 8 bits a value. Raises InputError if it can't be read."""
        image = self._source.open(image_id)
        pixels = eight_bits(fit(image, self._size, self._channels))
        if self._pixels is not None and image_id < self._shelved:
            self._pixels.put(image_id, pixels)
        picture = as_seen(image, self._size)
        thumb = resized(picture, (THUMB, THUMB))
        if self._thumbs is not None:
            self._thumbs.put(image_id, thumb)
        if self._shown is not None:
            self._waiting[image_id] = self._shown(picture, thumb)
        if self._channels in (1, 3):
            return Image.fromarray(pixels if self._channels == 3 else pixels[:, :, 0])
        return Bands(to_float(pixels).numpy(), self._source.names[image_id], getattr(image, "picture", None))

    def take(self, image_id: int) -> bytes:
        """What is shown of an image that was opened."""
        return self._waiting.pop(image_id)

    def read(self, image_id: int) -> Tensor:
        """(C, H, W) in [0, 1], as the network sees an image that was opened."""
        if self._pixels is not None and image_id < self._shelved:
            return to_float(self._pixels.get([image_id])[0])
        return self._again(image_id)


@final
class Listed(Sink):
    """Writes the rows of tables `images`, `features` and `views`.

    layer: gives the features; thumb: the thumbnail that is kept of an image. views: layers that give others.
    """

    def __init__(
        self,
        store: Store,
        source: ImageSource,
        net: Network,
        layer: str,
        thumb: Callable[[int], bytes] | None,
        views: Sequence[str] = (),
    ) -> None:
        self._views: dict[str, list[np.ndarray]] = {name: [] for name in views}
        self._viewed: dict[str, np.ndarray] = {}
        self._store, self._source, self._layer, self._thumb = store, source, layer, thumb
        self._head = net.head
        self._next = after(store, "images")
        self._rows: list[dict[str, object]] = []
        self._vectors: list[np.ndarray] = []
        self._predicted: tuple[np.ndarray, np.ndarray] | None = None
        self._said: list[list[Prediction]] = []

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        read = [self._layer, *self._views]
        return read if isinstance(self._head, NoHead | Vector) else [*read, LOGITS]

    def update(self, layer: str, maps: Maps) -> None:
        self._ids = maps.ids
        if layer == self._layer:
            self._seen = maps.mean
        elif layer in self._views:
            self._viewed[layer] = maps.mean
        elif isinstance(self._head, Classes):
            self._predicted = most_probable(maps.peak, self._head.kind)
        else:
            self._said = self._head.says(maps.answer, TOP)

    def end_batch(self) -> None:
        for row, i in enumerate(self._ids.tolist()):
            thumb = None if self._thumb is None else self._thumb(i)
            if i >= self._next:
                self._rows.append({**self._row(row, i), "thumb": thumb})
                self._vectors.append(self._seen[row])
                for name, vectors in self._views.items():
                    vectors.append(self._viewed[name][row])
        if len(self._rows) >= _TOGETHER:
            self.flush()

    @property
    def next_id(self) -> int:
        """The image that follows those which were written."""
        return self._next

    def flush(self) -> None:
        if not self._rows:
            return
        vectors = np.stack(self._vectors)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
        ids = pa.array([row["id"] for row in self._rows], pa.int64())
        views = [
            {"id": row["id"], "layer": name, "means": vector}
            for name, some in self._views.items()
            for row, vector in zip(self._rows, some, strict=True)
        ]
        features = {"features": pa.table({"id": ids, "vector": column}), **({"views": views} if views else {})}
        self._store.put({"images": self._rows, **features})
        self._next = int(str(self._rows[-1]["id"])) + 1
        self._rows, self._vectors = [], []
        self._views = {name: [] for name in self._views}

    def _row(self, row: int, image_id: int) -> dict[str, object]:
        return {
            "id": image_id,
            "name": self._source.names[image_id],
            "label": self._source.label(image_id),
            "classes": [] if self._predicted is None else self._predicted[0][row].tolist(),
            "probabilities": [] if self._predicted is None else self._predicted[1][row].tolist(),
            "said": _told(self._said[row]) if self._said else None,
        }


@final
class Pictures(Sink):
    """Writes the rows of table `pictures`. layers: the rows of the sheets of maps; ids: of a subset, those it has."""

    def __init__(
        self,
        store: Store,
        photographs: Photographs,
        layers: Sequence[str],
        net: Network,
        ids: Sequence[int] | None = None,
    ) -> None:
        self._store, self._photographs, self._layers, self._own = store, photographs, layers, ids
        self._head, self._size = net.head, net.inputs.size
        self._next = after(store, "pictures")
        self._rows: list[dict[str, object]] = []
        self._weight = 0
        self._said: list[list[Prediction]] = []
        self._regions: np.ndarray | None = None
        self._strongest: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        plain = isinstance(self._head, NoHead | Vector | Classes)
        return [*self._layers, *([] if plain else [LOGITS])] or layers[:1]

    def update(self, layer: str, maps: Maps) -> None:
        self._ids = maps.ids
        if layer == LOGITS:
            self._said = self._head.says(maps.answer, TOP)
            masks = isinstance(self._head, MapsOfClasses)
            self._regions = maps.answer.argmax(1).cpu().numpy() if masks else None
        elif layer in self._layers:
            channels = np.argsort(-maps.peak, axis=1, kind="stable")[:, :MAP_COLUMNS]
            self._strongest[layer] = channels, np.take_along_axis(maps.peak, channels, 1), maps.of(channels)

    def end_batch(self) -> None:
        for row, place in enumerate(self._ids.tolist()):
            i = place if self._own is None else self._own[place]
            shown = self._photographs.take(i)
            if i >= self._next:
                sheet, chosen, peaks, tops = self._sheet(row)
                maps = {"maps": sheet, "map_channels": chosen, "map_peaks": peaks, "map_tops": tops}
                self._rows.append({"id": i, "picture": shown, "drawn": self._drawn(row, shown), **maps})
                self._weight += len(shown) + len(sheet)
        if len(self._rows) >= _TOGETHER or self._weight > _HEAVY:
            self.flush()

    @property
    def next_id(self) -> int:
        """The image that follows those which were written."""
        return self._next

    def flush(self) -> None:
        if self._rows:
            self._store.put({"pictures": self._rows})
            self._next = int(str(self._rows[-1]["id"])) + 1
            self._rows, self._weight = [], 0

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


def after(store: Store, table: str) -> int:
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

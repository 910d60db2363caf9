"""What the sweep of a build leaves in the store: every photograph, decoded once, and its activation maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image
from torch import Tensor

from netloupe.atlas.sheets import MAP_COLUMNS, MAP_STEPS, QUALITY, THUMB, map_size
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

_TOGETHER = 200  # rows written at once
_LARGEST = 4 << 30  # bytes of pixels kept on disk; images beyond are decoded again where they are needed again


class Photographs:
    """The photographs of a build. `open` decodes one, and keeps what is made of it.

    Its pixels as the network sees them go to `file`, where `read` finds them again; its display picture and thumbnail
    wait for `take`. file: None where nobody will read; new: whether to begin it, otherwise an earlier build wrote it.
    """

    def __init__(self, source: ImageSource, size: tuple[int, int], channels: int, file: Path | None, new: bool) -> None:
        self._source, self._size, self._channels = source, size, channels
        self._again = pixel_reader(source, size, channels)
        self._waiting: dict[int, tuple[bytes, bytes]] = {}
        shape = (min(len(source), _LARGEST // (size[0] * size[1] * channels)), *size, channels)
        self._pixels = np.zeros((0, *shape[1:]), np.uint8)
        if file is not None and (new or file.exists()):
            self._pixels = np.memmap(file, np.uint8, "w+" if new else "r+", shape=shape)

    def open(self, image_id: int) -> Opened:
        """The image as the network sees it, with 8 bits a value. Raises InputError if it can't be read."""
        image = self._source.open(image_id)
        pixels = eight_bits(fit(image, self._size, self._channels))
        if image_id < len(self._pixels):
            self._pixels[image_id] = pixels
        picture = as_seen(image, self._size)
        self._waiting[image_id] = encode(picture, "WEBP", QUALITY), resized(picture, (THUMB, THUMB)).tobytes()
        if self._channels in (1, 3):
            return Image.fromarray(pixels if self._channels == 3 else pixels[:, :, 0])
        return Bands(to_float(pixels).numpy(), self._source.names[image_id], getattr(image, "picture", None))

    def take(self, image_id: int) -> tuple[bytes, bytes]:
        """The display picture, as WebP, and the thumbnail of an image that was opened."""
        return self._waiting.pop(image_id)

    def read(self, image_id: int) -> Tensor:
        """(C, H, W) in [0, 1], as the network sees an image that was opened."""
        return to_float(self._pixels[image_id]) if image_id < len(self._pixels) else self._again(image_id)


@final
class Pictures(Sink):
    """Writes the rows of tables `images` and `answers`; `layers` are the rows of the sheets of maps."""

    def __init__(
        self, store: Store, source: ImageSource, photographs: Photographs, layers: Sequence[str], net: Network
    ) -> None:
        self._store, self._source = store, source
        self._head, self._size = net.head, net.inputs.size
        self._photographs, self._layers = photographs, layers
        there = store.arrow("images", columns=["id"])["id"].to_pylist() if store.count("images") else []
        self._next = max(there, default=-1) + 1
        self._rows: list[dict[str, object]] = []
        self._answers: list[dict[str, object]] = []
        self._predicted: tuple[np.ndarray, np.ndarray] | None = None
        self._said: list[list[Prediction]] = []
        self._regions: np.ndarray | None = None
        self._strongest: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        read = [*self._layers] if isinstance(self._head, NoHead | Vector) else [*self._layers, LOGITS]
        return read or layers[:1]

    def update(self, layer: str, maps: Maps) -> None:
        self._ids = maps.ids
        if layer == LOGITS:
            if isinstance(self._head, Classes):
                self._predicted = most_probable(maps.peak, self._head.kind)
            else:
                self._said = self._head.says(maps.answer, TOP)
                masks = isinstance(self._head, MapsOfClasses)
                self._regions = maps.answer.argmax(1).cpu().numpy() if masks else None
        elif layer in self._layers:
            channels = np.argsort(-maps.peak, axis=1, kind="stable")[:, :MAP_COLUMNS]
            self._strongest[layer] = channels, np.take_along_axis(maps.peak, channels, 1), maps.of(channels)

    def end_batch(self) -> None:
        for row, i in enumerate(self._ids.tolist()):
            shown, thumb = self._photographs.take(i)
            if i >= self._next:
                self._rows.append(self._row(row, i, shown, thumb))
                self._answers.append(self._answer(row, i, shown))
        if len(self._rows) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._store.put({"images": self._rows, "answers": self._answers})
            self._next = int(str(self._rows[-1]["id"])) + 1
            self._rows, self._answers = [], []

    def _answer(self, row: int, image_id: int, shown: bytes) -> dict[str, object]:
        """What a network says that gives no classes of whole images, and the photograph with it drawn over."""
        said = self._said[row] if self._said else []
        colors = palette(len(said))
        photo, drawn = decode(shown), None
        if self._regions is not None:
            drawn = over_regions(photo, self._regions[row])
        elif boxes := [(one.box, one.label) for one in said if one.box is not None]:
            drawn = with_boxes(photo, boxes, self._size)
        told = [
            {"label": one.label, "what": one.what, "number": one.number, "color": "#{:02x}{:02x}{:02x}".format(*color)}
            for one, color in zip(said, colors, strict=True)
        ]
        picture = b"" if drawn is None else encode(drawn, "WEBP", QUALITY)
        return {"id": image_id, "said": json.dumps(told), "drawn": drawn is not None, "picture": picture}

    def _row(self, row: int, image_id: int, shown: bytes, thumb: bytes) -> dict[str, object]:
        sheet, chosen, peaks, tops = self._sheet(row)
        return {
            "id": image_id,
            "name": self._source.names[image_id],
            "label": self._source.label(image_id),
            "classes": [] if self._predicted is None else self._predicted[0][row].tolist(),
            "probabilities": [] if self._predicted is None else self._predicted[1][row].tolist(),
            "picture": shown,
            "thumb": thumb,
            "maps": sheet,
            "map_channels": chosen,
            "map_peaks": peaks,
            "map_tops": tops,
        }

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

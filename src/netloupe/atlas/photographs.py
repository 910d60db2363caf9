"""The images of an atlas: photographs at display size, predictions, and sheets of activation maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch

from netloupe.analysis.display import as_seen
from netloupe.atlas.layout import THUMB
from netloupe.atlas.store import Store
from netloupe.core.network import Network
from netloupe.core.watch import Watch
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, read_batches
from netloupe.render.colors import heat
from netloupe.render.pictures import Picture, decode, encode, resized

MAP_COLUMNS = 8
MAP_SIDE = 64
MAP_LAYERS = 24  # rows of a sheet at most, spread evenly over the network

_BATCH = 25
_BLOCK = 200  # images written together


def write_images(
    store: Store,
    net: Network,
    source: ImageSource,
    layers: Sequence[str],
    predictions: Mapping[int, tuple[list[int], list[float]]],
    watch: Watch,
) -> None:
    """Fill the table `images`, from the first image it lacks; `layers` are the rows of the sheets of maps.

    `predictions`: image id -> (class indices, probabilities), best first; images that are not in it are left out.
    """
    done = max(store.arrow("images", columns=["id"])["id"].to_pylist(), default=-1) + 1 if store.count("images") else 0
    size, channels = net.inputs.size, net.inputs.channels
    rows: list[dict[str, object]] = []
    part = watch.part("photographs", len(source), done)
    with ThreadPoolExecutor(2) as pool:
        for batch in read_batches(source, size, channels, batch_size=_BATCH, start=done):
            ids = [int(i) for i in batch.ids if int(i) in predictions]
            keep = [j for j, i in enumerate(batch.ids) if int(i) in predictions]
            if ids:
                displays = [pool.submit(_display, source, i, size) for i in ids]
                sheets = _sheets(net, layers, to_float(batch.pixels[keep]))
                for i, display, (sheet, chosen, peaks) in zip(ids, displays, sheets, strict=True):
                    jpeg, thumb = display.result()
                    classes, probabilities = predictions[i]
                    rows.append(
                        {
                            "id": i,
                            "name": source.names[i],
                            "label": source.label(i),
                            "classes": classes,
                            "probabilities": probabilities,
                            "jpeg": jpeg,
                            "thumb": thumb,
                            "maps": sheet,
                            "map_channels": chosen,
                            "map_peaks": peaks,
                        }
                    )
            done = min(done + _BATCH, len(source))
            if len(rows) >= _BLOCK or (done == len(source) and rows):
                store.write("images", pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
            part.at(done)


_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("label", pa.int32()),
        ("classes", pa.list_(pa.int32())),
        ("probabilities", pa.list_(pa.float32())),
        ("jpeg", pa.binary()),
        ("thumb", pa.binary()),
        ("maps", pa.binary()),
        ("map_channels", pa.list_(pa.int32())),
        ("map_peaks", pa.list_(pa.float32())),
    ]
)


def _display(source: ImageSource, image_id: int, size: tuple[int, int]) -> tuple[bytes, bytes]:
    picture = as_seen(source.open(image_id), size)
    return encode(picture, "JPEG", 90), resized(picture, (THUMB, THUMB)).tobytes()


def _sheets(net: Network, layers: Sequence[str], images: torch.Tensor) -> list[tuple[bytes, list[int], list[float]]]:
    """For each image: the encoded sheet, the channels row by row (-1 where a layer has fewer), and their peaks."""
    strongest: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def reader_of(layer: str) -> Callable[[torch.Tensor], None]:
        def reader(output: torch.Tensor) -> None:
            peaks = output.float().amax((2, 3))
            best = peaks.sort(dim=1, descending=True, stable=True)
            channels = best.indices[:, :MAP_COLUMNS]
            maps = output.float()[torch.arange(len(output), device=output.device)[:, None], channels]
            values = best.values[:, :MAP_COLUMNS]
            strongest[layer] = channels.cpu().numpy(), values.cpu().numpy(), maps.cpu().numpy()

        return reader

    with torch.no_grad():
        net.run(images, {layer: reader_of(layer) for layer in layers})
    found = []
    for i in range(len(images)):
        sheet = np.zeros((max(1, len(layers)) * MAP_SIDE, MAP_COLUMNS * MAP_SIDE, 3), dtype=np.uint8)
        channels: list[int] = []
        values: list[float] = []
        for row, layer in enumerate(layers):
            chosen, peaks, maps = strongest[layer]
            for column in range(chosen.shape[1]):
                tile = resized(heat(maps[i, column], float(peaks[i, 0])), (MAP_SIDE, MAP_SIDE), smooth=False)
                y, x = row * MAP_SIDE, column * MAP_SIDE
                sheet[y : y + MAP_SIDE, x : x + MAP_SIDE] = tile
            gap = MAP_COLUMNS - chosen.shape[1]
            channels += [*map(int, chosen[i]), *[-1] * gap]
            values += [*map(float, peaks[i]), *[0.0] * gap]
        found.append((encode(sheet, "JPEG", 65), channels, values))
    return found


class Photographs:
    """The display pictures of a store's images, decoded when asked for and the latest kept."""

    def __init__(self, store: Store, keep: int = 1024) -> None:
        self._jpegs: dict[int, bytes] = {}
        for row in store.rows("images", columns=["id", "jpeg"]):
            self._jpegs[row["id"]] = row["jpeg"]
        self._decode = lru_cache(maxsize=keep)(lambda i: decode(self._jpegs[i]))

    def __getitem__(self, image_id: int) -> Picture:
        return self._decode(image_id)

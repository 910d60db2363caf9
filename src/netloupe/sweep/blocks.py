"""A data set cut into blocks of images that depend on nothing but the image ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from netloupe.core.identity import Stamped
from netloupe.core.network import Network
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, PixelBatch, Skipped, data_of, read_batches

_BLOCK = {"cpu": 32, "cuda": 128}  # images, by type of device
_PIXELS = 2**20  # on a CPU a block has at most so many, that is 16 images of 256 x 256 px


@dataclass(frozen=True)
class Block:
    """Images that go through the network together.

    images: (b, C, H, W) float in [0, 1], always b of them, blank where there is none. ids: (n,) int64.
    rows: (n,) where in `images` they are, None for all. skipped: broken ones. end: the id that follows the block.
    pixels: (n, H, W, C) uint8, or float32 in [0, 1], and beside: (n,) what else was made of each as it was opened, of
    images of a source.
    """

    images: Tensor
    ids: np.ndarray
    rows: np.ndarray | None
    skipped: tuple[Skipped, ...]
    end: int
    pixels: np.ndarray | None = None
    beside: Sequence[Mapping[str, bytes]] = ()


class DataSet:
    """An `ImageSource`, or images (N, C, H, W) in [0, 1] with the ids 0 to N - 1, as a network wants them.

    Image `i` is always row `i % block` of its block, and every block has the same size, whatever else is in it.
    Libraries choose the order of additions by the size of a batch, so only this makes results equal to the last bit
    however the data are read, and wherever a sweep was cut.
    """

    def __init__(self, net: Network, images: ImageSource | Tensor) -> None:
        images = data_of(images)
        if isinstance(images, Tensor):
            net.inputs.check(images)
        self._net = net
        self._images = images
        height, width = images.shape[2:] if isinstance(images, Tensor) else net.inputs.size
        largest = _BLOCK.get(net.device.type, _BLOCK["cpu"])
        self.block = largest
        while self.block > 1 and self.block * height * width > _PIXELS * largest // _BLOCK["cpu"]:
            self.block //= 2

    def __len__(self) -> int:
        return len(self._images)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(N,) int64 with -1 for none; None where no image has one."""
        given: Sequence[int | None] | None = None if isinstance(self._images, Tensor) else self._images.labels
        if given is None or all(label is None for label in given):
            return None
        return np.array([-1 if label is None else label for label in given], dtype=np.int64)

    @cached_property
    def photographs(self) -> np.ndarray:
        """(N,) int64, equal for images that are pieces of one photograph."""
        given = None if isinstance(self._images, Tensor) else self._images.photographs
        return np.arange(len(self)) if given is None else np.asarray(given, dtype=np.int64)

    def name(self, image_id: int) -> str:
        return f"image {image_id}" if isinstance(self._images, Tensor) else self._images.names[image_id]

    def stamped(self) -> Stamped:
        """What a saved state is of: equal where ids mean the same images."""
        if isinstance(self._images, ImageSource):
            return self._images.stamped()
        rows = (row.float().cpu().contiguous().numpy().tobytes() for row in self._images.detach())
        shape = tuple(self._images.shape[1:])
        stamps = [f"{shape} {hashlib.sha256(row).hexdigest()}" for row in rows]
        return Stamped([self.name(i) for i in range(len(self))], stamps)

    def blocks(self, start: int, end: int, batch_size: int) -> Iterator[Block]:
        """The blocks of the ids from `start`, a multiple of `block`, to before `end`, another one or the last.

        `batch_size` images are decoded together.
        """
        if isinstance(self._images, Tensor):
            yield from self._from_tensor(self._images.detach()[:end], start)
        else:
            yield from self._from_source(self._images, start, end, batch_size)

    def _from_tensor(self, images: Tensor, start: int) -> Iterator[Block]:
        for first in range(start, len(images), self.block):
            part = images[first : first + self.block]
            self._net.inputs.check_range(part)
            count = len(part)
            if count < self.block:
                part = torch.cat([part, part.new_zeros(self.block - count, *part.shape[1:])])
            rows = None if count == self.block else np.arange(count)
            yield Block(part, np.arange(first, first + count), rows, (), first + count)

    def _from_source(self, source: ImageSource, start: int, end: int, batch_size: int) -> Iterator[Block]:
        together = -(-batch_size // self.block) * self.block
        inputs = self._net.inputs
        for batch in read_batches(
            source.read_for(inputs), inputs.size, inputs.channels, batch_size=together, start=start, end=end
        ):
            stop = min(start + together, end)
            yield from self.cut(batch, start, stop, [source.beside(i) for i in batch.ids.tolist()])
            start = stop

    def cut(self, batch: PixelBatch, start: int, end: int, beside: Sequence[Mapping[str, bytes]]) -> Iterator[Block]:
        """The blocks of the ids from `start` to before `end`, all of which the batch covers."""
        inputs = self._net.inputs
        for first in range(start, end, self.block):
            last = min(first + self.block, end)
            inside = (batch.ids >= first) & (batch.ids < last)
            ids, pixels = batch.ids[inside], batch.pixels[inside]
            rows = None if len(ids) == self.block else ids - first
            images = torch.zeros(self.block, inputs.channels, *inputs.size)
            images[slice(None) if rows is None else torch.from_numpy(rows)] = to_float(pixels)
            skipped = tuple(s for s in batch.skipped if first <= s.id < last)
            yield Block(images, ids, rows, skipped, last, pixels, [beside[i] for i in np.flatnonzero(inside).tolist()])

"""Maps of many images that differ from one clean image only inside a window each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Extent:
    """For each of R windows the positions from `first` to `last` of a map of `length` that it changes.

    first, last: (R,) float64, inclusive, perhaps outside of the map. slack: how far outside of them whole positions
    still count: half a position where the growth of windows is limited, so that the limits are rounded. All windows are
    held as spans of one `size`, the largest, which begin at `start` and lie inside the map; so they may hold some
    positions that did not change.
    """

    first: Tensor
    last: Tensor
    length: int
    slack: float = 0.0

    @cached_property
    def low(self) -> Tensor:
        """(R,) int64: the first position inside the map."""
        return (self.first - self.slack).ceil().long().clamp(0, self.length)

    @cached_property
    def high(self) -> Tensor:
        """(R,) int64: the end of the positions, exclusive."""
        return ((self.last + self.slack).floor().long() + 1).clamp(0, self.length).maximum(self.low)

    @cached_property
    def size(self) -> int:
        return max(1, int((self.high - self.low).max()))

    @cached_property
    def start(self) -> Tensor:
        return self.low.clamp(0, self.length - self.size)

    def positions(self) -> Tensor:
        """(R, size): the positions of each span."""
        return self.reads(1, 0, 1)

    def reads(self, stride: int, padding: int, reach: int) -> Tensor:
        """(R, n): the input positions that a convolution over `reach` positions reads for the spans as outputs."""
        count = (self.size - 1) * stride + reach
        return (self.start * stride - padding)[:, None] + torch.arange(count, device=self.low.device)

    def windows(self, length: int, size: int, stride: int, padding: int, dilation: int, growth: float = 1.0) -> Extent:
        """The outputs, of `length`, of a convolution or pooling that read a changed position.

        growth: the share of its reach to both sides that counts; below 1 it is an approximation.
        """
        middle = dilation * (size - 1) / 2
        first = (self.first + padding - middle - growth * middle) / stride
        last = (self.last + padding - middle + growth * middle) / stride
        return Extent(first, last, length, 0.0 if growth == 1 else 0.5)

    def union(self, other: Extent) -> Extent:
        return Extent(
            self.first.minimum(other.first), self.last.maximum(other.last), self.length, max(self.slack, other.slack)
        )

    def same(self, other: Extent) -> bool:
        """Whether both hold the same spans."""
        return self.size == other.size and self.length == other.length and torch.equal(self.start, other.start)


class Clean:
    """The map of one clean image, (1, C, H, W), as a table of its positions' channels for gathering."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape = tensor.shape
        self._tensor = tensor
        self._tables: dict[float, Tensor] = {}

    def rows(self, ys: Tensor, xs: Tensor, fill: float = 0.0) -> Tensor:
        """(R Q h w, C): the channels at ys (R, h) and xs (Q, w) for every pair of R and Q; `fill` outside the map."""
        height, width = self.shape[2:]
        inside = _pairs((ys >= 0) & (ys < height), (xs >= 0) & (xs < width), torch.logical_and)
        place = torch.where(inside, _pairs(ys * width, xs, torch.add), height * width)
        return self._table(fill).index_select(0, place.flatten())

    def _table(self, fill: float) -> Tensor:
        """(H W + 1, C): positions row by row, and last what stands for all that lie outside."""
        if fill not in self._tables:
            rows = self._tensor[0].flatten(1).T
            self._tables[fill] = torch.cat([rows, rows.new_full((1, rows.shape[1]), fill)])
        return self._tables[fill]


@dataclass(frozen=True)
class Windowed:
    """R x Q images, one window each. pixels: (R Q, C, h, w), channels last, what stands in the spans of `y` and `x`."""

    clean: Clean
    y: Extent
    x: Extent
    pixels: Tensor = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.y.low) * len(self.x.low)

    @classmethod
    def replaced(cls, clean: Clean, cover: Clean, y: Extent, x: Extent) -> Windowed:
        """The clean image with its windows taken from another image."""
        ys, xs = y.positions(), x.positions()
        hidden = _pairs(
            (ys >= y.low[:, None]) & (ys < y.high[:, None]),
            (xs >= x.low[:, None]) & (xs < x.high[:, None]),
            torch.logical_and,
        )
        pixels = torch.where(hidden.flatten()[:, None], cover.rows(ys, xs), clean.rows(ys, xs))
        return cls(clean, y, x, _picture(pixels, len(ys) * len(xs), y.size, x.size))

    def region(self, ys: Tensor, xs: Tensor, fill: float = 0.0) -> Tensor:
        """The images' maps at rows ys (R, h) and columns xs (Q, w): (R Q, C, h, w); `fill` outside the map."""
        found = self.clean.rows(ys, xs, fill)
        self._paste(found, ys, xs)
        return _picture(found, self.count, ys.shape[1], xs.shape[1])

    def _paste(self, found: Tensor, ys: Tensor, xs: Tensor) -> None:
        """Write the changed pixels into `found` (R Q h w, C)."""
        y, x = ys - self.y.start[:, None], xs - self.x.start[:, None]
        hit = _pairs((y >= 0) & (y < self.y.size), (x >= 0) & (x < self.x.size), torch.logical_and)
        target = hit.flatten().nonzero()[:, 0]
        image = torch.arange(self.count, device=found.device).view(len(y), len(x), 1, 1)
        source = image * (self.y.size * self.x.size) + _pairs(y * self.x.size, x, torch.add)
        changed = self.pixels.permute(0, 2, 3, 1).reshape(-1, found.shape[1])
        found.index_copy_(0, target, changed.index_select(0, source.flatten().index_select(0, target)))

    def at(self, y: Extent, x: Extent) -> Windowed:
        """The same with other spans; what they leave out is taken for unchanged."""
        if self.y.same(y) and self.x.same(x):
            return self
        return Windowed(self.clean, y, x, self.region(y.positions(), x.positions()))

    def whole(self) -> Tensor:
        """The full maps, (R Q, C, H, W)."""
        if self.y.size == self.y.length and self.x.size == self.x.length:
            return self.pixels
        ys, xs = (torch.arange(e.length, device=e.low.device).expand(len(e.low), e.length) for e in (self.y, self.x))
        return self.region(ys, xs)


def _pairs(ys: Tensor, xs: Tensor, how: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(R, Q, h, w) of ys (R, h) and xs (Q, w)."""
    return how(ys[:, None, :, None], xs[None, :, None, :])


def _picture(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)

"""Which positions of a map a changed window of the image can reach, along one axis, for a row of windows at once."""

from __future__ import annotations

from dataclasses import dataclass
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

"""Which positions of a map a changed window of the image can reach, along one axis, for a row of windows at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Extent:
    """For each of R windows the positions [low, high) of a map of `length` that it changes. low, high: (R,) int64.

    All are held as spans of one `size`, the largest, which begin at `start` and lie inside the map; so they may
    hold some positions that did not change.
    """

    low: Tensor
    high: Tensor
    length: int

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

    def windows(self, length: int, size: int, stride: int, padding: int, dilation: int) -> Extent:
        """What a convolution or pooling to `length` positions makes of it: those that read a changed one."""
        reach = dilation * (size - 1)
        low = -((reach - padding - self.low) // stride)  # the ceiling of (low + padding - reach) / stride
        high = (self.high - 1 + padding) // stride + 1
        return Extent(low, high, length).clipped()

    def clipped(self) -> Extent:
        low = self.low.clamp(0, self.length)
        return Extent(low, self.high.clamp(0, self.length).maximum(low), self.length)

    def shifted(self, by: int, length: int) -> Extent:
        """After padding by `by` positions before the first, negative for cropping."""
        return Extent(self.low + by, self.high + by, length).clipped()

    def union(self, other: Extent) -> Extent:
        return Extent(self.low.minimum(other.low), self.high.maximum(other.high), self.length)

    def limited(self, size: int) -> Extent:
        """At most `size` positions, the middle ones: an approximation."""
        low = self.low + ((self.high - self.low - size).clamp(min=0) // 2)
        return Extent(low, self.high.minimum(low + size), self.length)

    def same(self, other: Extent) -> bool:
        """Whether both hold the same spans."""
        return self.size == other.size and self.length == other.length and torch.equal(self.start, other.start)

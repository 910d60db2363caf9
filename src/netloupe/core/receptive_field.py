"""Receptive fields: which box of the input a neuron sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels, bottom and right exclusive."""

Span = tuple[int, int]
"""(first, end) in pixels along one axis, end exclusive."""

Line = tuple[int, int, int]
"""(start, size, stride): position i sees `size` px from `start + i * stride`, before clipping."""

NOTHING: Span = (2**31, -(2**31))
"""The span of a position that sees no pixel, such as one in the padding."""


@dataclass(frozen=True)
class ReceptiveField:
    """What the neurons of a layer see of the input, the same box shifted from neuron to neuron.

    size, stride, start: (y, x) in px; neuron (0, 0) sees `size` px from `start` (negative where it hangs over the
    border), each further neuron `stride` px on. Where boxes differ in size (after upsampling, say) these are the
    middle neuron's, with the mean step. exact: derived from the operations that ran; otherwise measured, or a
    bound where a layer picks some channels out of several with different boxes.
    whole: every neuron sees the whole image (`size` is then the image's).
    rows, columns: what each row and column of neurons sees of an image of size `image`, where derived, or where
    measured boxes are not one box shifted, as inside windows of attention.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    exact: bool
    whole: bool = False
    image: tuple[int, int] | None = field(default=None, repr=False)
    rows: Sequence[Span] = field(default=(), repr=False)
    columns: Sequence[Span] = field(default=(), repr=False)

    def document(self) -> dict[str, object]:
        """Size, stride, exact and whole, JSON-able."""
        return {"size": list(self.size), "stride": list(self.stride), "exact": self.exact, "whole": self.whole}

    def box(self, y: int, x: int, image: tuple[int, int]) -> Box:
        """The box that neuron (y, x) sees of an image of size (height, width), clipped to it."""
        if self.whole:
            return (0, 0, *image)
        edges = []
        for axis, (position, spans) in enumerate(zip((y, x), (self.rows, self.columns), strict=True)):
            if image == self.image and position < len(spans) and spans[position] != NOTHING:
                edges.append(spans[position])
                continue
            first, limit = self.start[axis] + position * self.stride[axis], image[axis]
            edges.append((min(max(first, 0), limit - 1), max(min(first + self.size[axis], limit), 1)))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right

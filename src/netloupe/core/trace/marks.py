"""How far a tensor reaches into the image: what each of its positions sees along y and along x.

Kept as one table of spans per axis, so an operation is no more than which positions read which (`Axis.gather`).
Beside the table runs the closed form (start, size, stride) as long as there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from netloupe.core.layout import ChannelsLast, Layout, Tokens
from netloupe.core.receptive_field import NOTHING, Line, ReceptiveField, Span
from netloupe.core.trace.mode import CantTell, Operation


def hull(spans: Iterable[Span]) -> Span:
    """The smallest span that holds all."""
    found = list(spans)
    return (min(first for first, _ in found), max(end for _, end in found)) if found else NOTHING


@dataclass(frozen=True)
class Axis:
    """What a tensor's positions see along one axis of the image.

    dim: the tensor's dimension that walks along this axis; None if all its elements see the same, `spans[0]`.
    spans: by position. line: the closed form, None if there is none. order: where positions don't stand in its order,
    as after flattening, which one of its each is.
    """

    dim: int | None
    spans: tuple[Span, ...]
    line: Line | None
    order: tuple[int, ...] = ()

    def gather(self, sources: Sequence[Iterable[int]], line: Line | None = None) -> Axis:
        """Position i of the result reads the positions `sources[i]`; those outside the map see nothing.

        line: (offset, extent, scale) if the positions read are `extent` ones from `offset + i * scale`.
        """
        if self.dim is None:
            return self
        count = len(self.spans)
        spans = tuple(hull(self.spans[p] for p in positions if 0 <= p < count) for positions in sources)
        if line is None or self.line is None or self.order:
            return Axis(self.dim, spans, None)
        (offset, extent, scale), (start, size, stride) = line, self.line
        return Axis(self.dim, spans, (start + offset * stride, size + (extent - 1) * stride, scale * stride))

    def windows(self, count: int, size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
        """A convolution or pooling with `count` outputs."""
        starts = [i * stride - padding for i in range(count)]
        reads = [range(start, start + (size - 1) * dilation + 1, dilation) for start in starts]
        return self.gather(reads, (-padding, (size - 1) * dilation + 1, stride))

    def collapse(self) -> Axis:
        """Every element reads every position."""
        return Axis(None, (hull(self.spans),), self.line if len(self.spans) == 1 else None)

    def at(self, dim: int | None) -> Axis:
        """The same along another dimension of the tensor."""
        return self if dim == self.dim else replace(self, dim=dim)

    @property
    def places(self) -> Sequence[int]:
        """By position: which one of the closed form's it is."""
        return self.order or range(len(self.spans))

    def straight(self, bordered: bool) -> Axis:
        """In the order of the closed form again if there is one step between all. bordered: or in the middle."""
        steps = {after - before for before, after in pairwise(self.places)}
        middle = len(self.spans) // 2
        step = self.places[middle] - self.places[middle - 1]
        if self.line is None:
            return replace(self, order=())
        if step < 1 or not (bordered or len(steps) == 1):
            return self
        start, size, stride = self.line
        line = start + (self.places[middle] - middle * step) * stride, size, step * stride
        return Axis(self.dim, self.spans, line)

    def parted(self, first: int, grid: tuple[int, int], i: int) -> Axis:
        """Of a grid (h, w) that lies row by row from `first` on: its rows (i 0) or columns (i 1), at dim 2 + i."""
        if self.dim is None:
            return self
        height, width = grid
        count, step, along = (height, width, 1) if i == 0 else (width, 1, width)
        others = (width, height)[i]
        members = [[first + n * step + m * along for m in range(others)] for n in range(count)]
        spans = tuple(hull(self.spans[p] for p in each) for each in members)
        places = [{self.places[p] for p in each} for each in members]
        straight = all(each == {n} for n, each in enumerate(places))
        return Axis(2 + i, spans, self.line if straight else None)

    @property
    def constant(self) -> bool:
        return len(self.spans) == 1


@dataclass(frozen=True)
class Mark:
    """What a tensor sees. even: all its channels see the same. exact: nothing was rounded up to a bound.

    mixed: channels that don't see the same lie along one dimension with positions, which see what any of them sees.
    """

    y: Axis
    x: Axis
    even: bool = True
    exact: bool = True
    mixed: bool = False

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return self.y, self.x

    @property
    def dims(self) -> set[int]:
        """The dimensions that walk along the image."""
        return {axis.dim for axis in self.axes if axis.dim is not None}

    def change(self, y: Axis, x: Axis) -> Mark:
        return replace(self, y=y, x=x)

    def collapse(self, dims: Iterable[int]) -> Mark:
        """Every element reads all of these dimensions."""
        within = set(dims)
        y, x = (axis.collapse() if axis.dim in within else axis for axis in self.axes)
        return self.change(y, x)

    def settled(self) -> Mark:
        """Along axes where every position sees the same, as after attention, nothing walks any more."""
        y, x = (Axis(None, a.spans[:1], None) if not a.constant and len(set(a.spans)) == 1 else a for a in self.axes)
        return self.change(y, x)

    def moved(self, to: dict[int, int | None]) -> Mark:
        """The dimensions renumbered."""
        y, x = (axis if axis.dim is None else axis.at(to[axis.dim]) for axis in self.axes)
        return self.change(y, x)

    def without(self, dims: Iterable[int]) -> Mark:
        """These dimensions, of size one or collapsed, taken out of the numbering."""
        gone = set(dims)
        return self.moved({dim: None if dim in gone else dim - sum(d < dim for d in gone) for dim in self.dims})

    def fitted(self, shape: Sequence[int]) -> Mark:
        """Axes of one position that were broadcast along their dimension are the same everywhere."""
        y, x = (a.at(None) if a.dim is not None and a.constant and shape[a.dim] > 1 else a for a in self.axes)
        return self.change(y, x)

    def viewed(self, layout: Layout) -> Mark | None:
        """The mark of the map of an output that lies so; None where its dimensions walk otherwise."""
        if isinstance(layout, ChannelsLast):
            return self.moved({0: 0, 1: 2, 2: 3, 3: 1})
        if not isinstance(layout, Tokens):
            return self
        within, channels = layout.order.index("t"), layout.order.index("c")
        if any(axis.dim not in (None, within, channels) for axis in self.axes):
            return None
        mark = self.collapse([channels])
        y, x = (axis.parted(layout.prefix, layout.grid, i) for i, axis in enumerate(mark.axes))
        return mark.change(y, x)

    def field(self, shape: Sequence[int], image: tuple[int, int]) -> ReceptiveField | None:
        """The receptive field of a map (1, C, H, W) or (1, C), or None if its dimensions walk otherwise.

        What is flattened into the channels counts as seen by each of them.
        """
        mark = self.collapse([1])
        places = (2, 3) if len(shape) == 4 else (None, None)
        if any(axis.dim not in (None, place) for axis, place in zip(mark.axes, places, strict=True)):
            return None
        rows, columns = (
            a.spans * shape[p] if p is not None and a.constant else a.spans
            for a, p in zip(mark.axes, places, strict=True)
        )
        if all(spans == ((0, limit),) * len(spans) for spans, limit in zip((rows, columns), image, strict=True)):
            return ReceptiveField(image, (0, 0), (0, 0), self.exact, True, image, rows, columns)
        lines = [_line(axis, limit) for axis, limit in zip(mark.axes, image, strict=True)]
        (top, height, down), (left, width, right) = lines
        return ReceptiveField((height, width), (down, right), (top, left), self.exact, False, image, rows, columns)


def _line(axis: Axis, limit: int) -> Line:
    """The closed form; the middle position's span and the mean step where there is none."""
    if all(span == (0, limit) for span in axis.spans):
        return 0, limit, 0
    if axis.line is not None and not axis.order:
        return axis.line
    seeing = [(i, span) for i, span in enumerate(axis.spans) if span != NOTHING]
    if not seeing:
        return 0, 0, 0
    (before, low), (middle, (first, end)), (after, high) = seeing[0], seeing[len(seeing) // 2], seeing[-1]
    step = round((sum(high) - sum(low)) / 2 / (after - before)) if after > before else 0
    return first - middle * step, end - first, step


def union(marks: Sequence[Mark], *, even: bool | None = None) -> Mark:
    """Elements that see what all of these see, dimensions numbered alike; CantTell if they walk differently.

    even: whether the channels of the result see the same, by default if those of all do.
    """
    y, x = (_union([mark.axes[i] for mark in marks]) for i in (0, 1))
    flat = all(mark.even for mark in marks) if even is None else even
    mixed = not flat and any(mark.mixed for mark in marks)
    return Mark(y, x, flat, all(mark.exact for mark in marks), mixed)


def _union(axes: Sequence[Axis]) -> Axis:
    if len(set(axes)) == 1:
        return axes[0]
    walking = [axis for axis in axes if axis.dim is not None and not axis.constant] or [
        axis for axis in axes if axis.dim is not None
    ]
    if len({(axis.dim, len(axis.spans)) for axis in walking}) > 1:
        raise CantTell("operands walk differently along the image")
    dim, count = (walking[0].dim, len(walking[0].spans)) if walking else (None, 1)
    spans = tuple(hull(axis.spans[0 if axis.constant else i] for axis in axes) for i in range(count))
    lines = [axis.line for axis in axes if axis.constant == (count == 1)]
    known = [line for line in lines if line is not None]
    if any(axis.order for axis in axes) or len(known) < len(axes) or len({stride for _, _, stride in known}) > 1:
        return Axis(dim, spans, None)
    first, end = min(start for start, _, _ in known), max(start + size for start, size, _ in known)
    return Axis(dim, spans, (first, end - first, known[0][2]))


@dataclass(frozen=True)
class Call:
    """One operation that ran.

    operands: the tensors that see the image, in the schema's order, and their `marks`.
    """

    operation: Operation
    operands: tuple[Tensor, ...]
    marks: tuple[Mark, ...]
    outputs: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def arguments(self) -> dict[str, Any]:
        return self.operation.arguments

    @property
    def mark(self) -> Mark:
        """Of the one operand that sees the image; CantTell if there are several."""
        if len(self.marks) != 1:
            raise CantTell("several operands see the image")
        return self.marks[0]

    @property
    def shape(self) -> torch.Size:
        return self.operands[0].shape

    @property
    def out(self) -> torch.Size:
        return self.outputs[0].shape

    @property
    def dim(self) -> int:
        """The argument `dim`, counted from the front."""
        return int(self.arguments["dim"]) % max(1, len(self.shape))

    def walking(self, last: int, change: Callable[[Axis, int], Axis]) -> Mark:
        """The mark with `change(axis, dim)` for the axes among the last dimensions of the operand."""
        axes = []
        for axis in self.mark.axes:
            if axis.dim is not None and axis.dim >= len(self.shape) - last:
                if self.mark.mixed:
                    raise CantTell("channels are flattened with positions")
                axis = change(axis, axis.dim)
            axes.append(axis)
        return self.mark.change(*axes)

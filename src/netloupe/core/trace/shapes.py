"""What operations that only move values do to what a tensor sees: padding, views, slices, concatenation.

A rule takes the `Call` and gives the mark of its outputs, one for all or one for each, None where it can't tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from netloupe.core.receptive_field import NOTHING, Line
from netloupe.core.trace.call import Call, Marks, walking
from netloupe.core.trace.marks import Axis, Mark, union


def padding(call: Call) -> Marks:
    """Zeros, or a mirror or repetition of the border; amounts (before, after) from the last dimension on."""
    pad = call.arguments["pad" if "pad" in call.arguments else "padding"]
    last = len(call.shape) - 1

    def change(axis: Axis, dim: int) -> Axis:
        count, before = len(axis.spans), pad[2 * (last - dim)]
        positions: Iterable[int] = range(-before, call.out[dim] - before)
        if "reflection" in call.name:
            positions = [abs(p) if p < count else 2 * (count - 1) - p for p in positions]
        elif "replication" in call.name:
            positions = [min(max(p, 0), count - 1) for p in positions]
        return axis.gather([[p] for p in positions], (-before, 1, 1))

    return walking(call, len(pad) // 2, change)


def pixel_shuffle(call: Call) -> Marks:
    """Channels to positions."""
    factor = call.arguments["upscale_factor"]
    return walking(call, 2, lambda axis, dim: axis.gather([[o // factor] for o in range(call.out[dim])]))


def pixel_unshuffle(call: Call) -> Marks:
    """Positions to channels."""
    factor = call.arguments["downscale_factor"]
    mark = walking(call, 2, lambda axis, dim: axis.windows(call.out[dim], factor, factor))
    return mark and replace(mark, even=False)


def reshaping(call: Call) -> Marks:
    """View, reshape, squeeze, unsqueeze, flatten: dimensions kept whole or merged, those of size 1 anywhere."""
    old = [(dim, size) for dim, size in enumerate(call.shape) if size != 1]
    new = [(dim, size) for dim, size in enumerate(call.out) if size != 1]
    to: dict[int, int | None] = {dim: None for dim, size in enumerate(call.shape) if size == 1}
    while old:
        taken, made = [old.pop(0)], [new.pop(0)]
        have, want = taken[0][1], made[0][1]
        while have != want:
            if have < want:
                taken.append(old.pop(0))
                have *= taken[-1][1]
            else:
                made.append(new.pop(0))
                want *= made[-1][1]
        if len(made) > 1 and any(dim in call.mark.dims for dim, _ in taken):
            return None
        to |= {dim: made[0][0] for dim, _ in taken}
    return call.mark.moved(to)


def permutation(call: Call) -> Marks:
    count = len(call.shape)
    if call.name == "permute":
        order = [dim % count for dim in call.arguments["dims"]]
    else:
        order = list(range(count))
        first, second = (
            (0, count - 1) if call.name == "t" else (call.arguments["dim0"] % count, call.arguments["dim1"] % count)
        )
        order[first], order[second] = order[second], order[first]
    return call.mark.moved({old: new for new, old in enumerate(order)})


def _picked(call: Call, dim: int, positions: Sequence[int], line: Line | None = None) -> Mark | None:
    """Some positions of one dimension. line: as in `Axis.gather`."""
    mark = call.mark
    along = mark.along(dim, call.shape)
    if along is None:
        return None
    if not along:
        return replace(mark, exact=mark.exact and (mark.even or dim == 0))
    y, x = (axis.gather([[p] for p in positions], line) if axis.dim == dim else axis for axis in mark.axes)
    return mark.change(y, x)


def slicing(call: Call) -> Marks:
    a = call.arguments
    positions = range(call.shape[call.dim])[a.get("start") : a.get("end") : a.get("step") or 1]
    return _picked(call, call.dim, positions, (positions.start, 1, positions.step))


def splitting(call: Call) -> Marks:
    marks, start = [], 0
    for output in call.outputs:
        count = output.shape[call.dim]
        marks.append(_picked(call, call.dim, range(start, start + count), (start, 1, 1)))
        start += count
    return marks


def selection(call: Call) -> Marks:
    position = call.arguments["index"] % call.shape[call.dim]
    mark = _picked(call, call.dim, [position])
    return mark and mark.without([call.dim])


def unbinding(call: Call) -> Marks:
    marks = [_picked(call, call.dim, [position]) for position in range(len(call.outputs))]
    return [mark and mark.without([call.dim]) for mark in marks]


def indexing(call: Call) -> Marks:
    """`index_select` and `roll` of channels, not of positions."""
    dims = call.arguments["dims" if "dims" in call.arguments else "dim"]
    numbers = {dim % len(call.shape) for dim in (dims if isinstance(dims, list | tuple) else [dims])}
    if not numbers or numbers & call.mark.dims:
        return None
    return _picked(call, min(numbers, key=lambda dim: dim == 0), [])


def flipping(call: Call) -> Marks:
    mark = call.mark
    for dim in {dim % len(call.shape) for dim in call.arguments["dims"]} & mark.dims:
        if not mark.along(dim, call.shape):
            return None
        backward = [[p] for p in reversed(range(call.shape[dim]))]
        y, x = (axis.gather(backward) if axis.dim == dim else axis for axis in mark.axes)
        mark = mark.change(y, x)
    return mark


def concatenation(call: Call) -> Marks:
    tensors = call.arguments["tensors"]
    dim = int(call.arguments["dim"]) % len(call.out)
    if not any(dim in mark.dims for mark in call.marks):
        return union(call.marks, even=dim == 0 or _alike(call))
    ends: dict[int, Axis] = {}
    for operand, mark in zip(call.operands, call.marks, strict=True):
        if not mark.along(dim, operand.shape):
            return None
        ends[id(operand)] = next(axis for axis in mark.axes if axis.dim == dim)
    if len({axis for mark in call.marks for axis in mark.axes if axis.dim != dim}) > 1:
        return None
    spans = [ends[id(t)].spans if id(t) in ends else (NOTHING,) * t.shape[dim] for t in tensors]
    joined = Axis(dim, tuple(span for part in spans for span in part), None)
    y, x = (joined if axis.dim == dim else axis for axis in call.marks[0].axes)
    return Mark(y, x, all(mark.even for mark in call.marks), all(mark.exact for mark in call.marks))


def stacking(call: Call) -> Marks:
    dim = int(call.arguments["dim"]) % len(call.out)
    moved = [mark.moved({d: d + (d >= dim) for d in mark.dims}) for mark in call.marks]
    return union(moved, even=_alike(call))


def _alike(call: Call) -> bool:
    """Whether tensors that come together see the same in all channels."""
    return len(call.marks) == len(call.arguments["tensors"]) and len(set(call.marks)) == 1 and call.marks[0].even

"""What operations that compute do to what a tensor sees: elementwise, windows, normalization, reductions, products.

A rule takes the `Call` and gives the mark of its outputs, one for all or one for each, None where it can't tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from netloupe.core.trace.call import Call, Marks, walking
from netloupe.core.trace.marks import Axis, union


def same(call: Call) -> Marks:
    return call.mark


def elementwise(call: Call) -> Marks:
    """Any number of operands, broadcast."""
    aligned = []
    for operand, mark in zip(call.operands, call.marks, strict=True):
        shift = len(call.out) - operand.ndim
        aligned.append(mark.moved({dim: dim + shift for dim in mark.dims}).fitted(call.out))
    return union(aligned)


def overwriting(call: Call) -> Marks:
    """`copy_`: what was there is gone."""
    source = call.arguments["src"]
    keep = [i for i, operand in enumerate(call.operands) if operand is source]
    return elementwise(replace(call, operands=(source,), marks=tuple(call.marks[i] for i in keep[-1:])))


def _each(value: Any, count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def convolution(call: Call) -> Marks:
    """Also transposed."""
    weight: Tensor = call.arguments["weight"]
    count = weight.ndim - 2
    first = len(call.shape) - count
    if call.operands[0] is weight or not all(dim >= first for dim in call.mark.dims):
        return None
    options = {"stride": 1, "padding": 0, "dilation": 1}
    stride, padding, dilation = (_each(call.arguments.get(name, usual), count) for name, usual in options.items())

    def forward(axis: Axis, dim: int) -> Axis:
        i = dim - first
        return axis.windows(call.out[dim], weight.shape[2 + i], stride[i], padding[i], dilation[i])

    def transposed(axis: Axis, dim: int) -> Axis:
        i = dim - first
        taps = [k * dilation[i] - padding[i] for k in range(weight.shape[2 + i])]
        return axis.gather(
            [[(o - tap) // stride[i] for tap in taps if (o - tap) % stride[i] == 0] for o in range(call.out[dim])]
        )

    mark = walking(call, count, transposed if call.arguments.get("transposed") else forward)
    return mark and replace(mark, even=mark.even or call.arguments.get("groups", 1) == 1)


def pooling(call: Call) -> Marks:
    count, first = call.spatial, len(call.shape) - call.spatial
    size = _each(call.arguments["kernel_size"], count)
    stride = _each(call.arguments.get("stride") or size, count)
    padding, dilation = _each(call.arguments.get("padding", 0), count), _each(call.arguments.get("dilation", 1), count)

    def change(axis: Axis, dim: int) -> Axis:
        i = dim - first
        return axis.windows(call.out[dim], size[i], stride[i], padding[i], dilation[i])

    return walking(call, count, change)


def adaptive_pooling(call: Call) -> Marks:
    def change(axis: Axis, dim: int) -> Axis:
        count, outputs = len(axis.spans), call.out[dim]
        if count % outputs == 0:
            return axis.windows(outputs, count // outputs, count // outputs)
        return axis.gather([range(o * count // outputs, -(-(o + 1) * count // outputs)) for o in range(outputs)])

    return walking(call, call.spatial, change)


def interpolation(call: Call) -> Marks:
    """Found by running the operation itself on unit vectors along the axis, some at a time in the channels."""

    def change(axis: Axis, dim: int) -> Axis:
        count = len(axis.spans)
        reads: list[list[int]] = [[] for _ in range(call.out[dim])]
        for start in range(0, count, 16):
            basis = torch.eye(count)[start : start + 16].to(call.operands[0].device)
            shape = [1, len(basis), *(count if d == dim else 1 for d in range(2, len(call.shape)))]
            response = call.rerun(basis.view(shape).expand(1, len(basis), *call.shape[2:]).contiguous())
            for vector, output in response.movedim(dim, 2).flatten(3)[0, :, :, 0].nonzero().tolist():
                reads[output].append(start + vector)
        return axis.gather(reads)

    return walking(call, len(call.shape) - 2, change)


def reduction(call: Call) -> Marks:
    """Mean, sum, maximum, ... over some or all dimensions; elementwise where there is a second tensor."""
    a, count = call.arguments, len(call.shape)
    if isinstance(a.get("other"), Tensor):
        return elementwise(call)
    dims = a.get("dim")
    over = [dim % count for dim in _each(range(count) if dims is None or dims == [] else dims, 1)]
    mark = call.mark.collapse(over)
    return mark if a.get("keepdim") else mark.without(over)


def softmax(call: Call) -> Marks:
    return call.mark.collapse([call.dim])


def batch_norm(call: Call) -> Marks:
    """By constants, or by statistics of the whole map where there are no running ones."""
    if not call.arguments.get("training", call.name == "_batch_norm_with_update"):
        return call.mark
    return None if call.mark.dims & {0, 1} else call.mark.collapse(call.mark.dims)


def group_norm(call: Call) -> Marks:
    return call.mark.collapse(call.mark.dims)


def layer_norm(call: Call) -> Marks:
    count = len(call.shape)
    return call.mark.collapse(range(count - len(call.arguments["normalized_shape"]), count))


def product(call: Call) -> Marks:
    """Matrix products: the first factor's last dimension meets the second's last but one; `linear` has one factor."""
    names = {"linear": ("input", "input"), "mm": ("self", "mat2"), "addmm": ("mat1", "mat2"), "bmm": ("self", "mat2")}
    first, second = (call.arguments[name] for name in names.get(call.name, ("batch1", "batch2")))
    moved = []
    for operand, mark in zip(call.operands, call.marks, strict=True):
        if operand is not first and operand is not second:
            return None
        moved.append(mark.collapse([operand.ndim - (1 if operand is first else 2)]))
    return None if first is second and len(moved) > 1 else union(moved, even=True)

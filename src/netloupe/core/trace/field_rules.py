"""What each operation does to what a tensor sees of the image.

A rule takes the `Call` and gives the mark of its outputs, one for all or one for each. It raises CantTell where it
can't tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from netloupe.core.receptive_field import NOTHING
from netloupe.core.trace.geometry import SLIDING, dimensions, sliding
from netloupe.core.trace.marks import Axis, Call, Mark, union
from netloupe.core.trace.mode import CantTell, Operation, repeated

Marks = Mark | Sequence[Mark]
Rule = Callable[[Call], Marks]


# --- what computes


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
    if not keep:
        raise CantTell("what is written does not see the image")
    return elementwise(replace(call, operands=(source,), marks=tuple(call.marks[i] for i in keep[-1:])))


def windows(call: Call) -> Marks:
    """What slides windows over the last dimensions: pooling, padding by a constant, convolution, also transposed."""
    a, reads = call.arguments, sliding(call.name, call.arguments)
    first = len(call.shape) - len(reads)

    def forward(axis: Axis, dim: int) -> Axis:
        return axis.windows(call.out[dim], *reads[dim - first])

    def transposed(axis: Axis, dim: int) -> Axis:
        size, stride, padding, dilation = reads[dim - first]
        taps = [k * dilation - padding for k in range(size)]
        return axis.gather(
            [[(o - tap) // stride for tap in taps if (o - tap) % stride == 0] for o in range(call.out[dim])]
        )

    if "weight" not in a:
        return call.walking(len(reads), forward)
    if call.operands[0] is a["weight"] or not all(dim >= first for dim in call.mark.dims):
        raise CantTell("the image is seen by the weights, or along other dimensions")
    mark = call.walking(len(reads), transposed if a.get("transposed") else forward)
    return replace(mark, even=mark.even or a.get("groups", 1) == 1)


def adaptive_pooling(call: Call) -> Marks:
    def change(axis: Axis, dim: int) -> Axis:
        count, outputs = len(axis.spans), call.out[dim]
        if count % outputs == 0:
            return axis.windows(outputs, count // outputs, count // outputs)
        return axis.gather([range(o * count // outputs, -(-(o + 1) * count // outputs)) for o in range(outputs)])

    return call.walking(dimensions(call.name), change)


def interpolation(call: Call) -> Marks:
    """Found by running the operation itself on unit vectors along the axis, some at a time in the channels."""

    def change(axis: Axis, dim: int) -> Axis:
        count = len(axis.spans)
        reads: list[list[int]] = [[] for _ in range(call.out[dim])]
        for start in range(0, count, 16):
            basis = torch.eye(count)[start : start + 16].to(call.operands[0].device)
            shape = [1, len(basis), *(count if d == dim else 1 for d in range(2, len(call.shape)))]
            vectors = basis.view(shape).expand(1, len(basis), *call.shape[2:]).contiguous()
            response = repeated(call.operation.function, {**call.arguments, next(iter(call.arguments)): vectors})
            for vector, output in response.movedim(dim, 2).flatten(3)[0, :, :, 0].nonzero().tolist():
                reads[output].append(start + vector)
        return axis.gather(reads)

    return call.walking(len(call.shape) - 2, change)


def reduction(call: Call) -> Marks:
    """Mean, sum, maximum, ... over some or all dimensions; elementwise where there is a second tensor."""
    a, count = call.arguments, len(call.shape)
    if isinstance(a.get("other"), Tensor):
        return elementwise(call)
    dims = a.get("dim")
    given = range(count) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    over = [dim % max(1, count) for dim in given]
    mark = call.mark.collapse(over)
    return mark if a.get("keepdim") else mark.without(over)


def softmax(call: Call) -> Marks:
    return call.mark.collapse([call.dim])


def batch_norm(call: Call) -> Marks:
    """By constants, or by statistics of the whole map where there are no running ones."""
    if not call.arguments.get("training", call.name == "_batch_norm_with_update"):
        return call.mark
    if call.mark.dims & {0, 1}:
        raise CantTell("statistics along the image")
    return call.mark.collapse(call.mark.dims)


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
            raise CantTell("what is added sees the image")
        moved.append(mark.collapse([operand.ndim - (1 if operand is first else 2)]))
    if first is second and len(moved) > 1:
        raise CantTell("a product with itself")
    return union(moved, even=True)


# --- what only moves values


def mirroring(call: Call) -> Marks:
    """Padding by a mirror or repetition of the border; amounts (before, after) from the last dimension on."""
    pad = call.arguments["padding"]
    last = len(call.shape) - 1

    def change(axis: Axis, dim: int) -> Axis:
        count, before = len(axis.spans), pad[2 * (last - dim)]
        positions: Iterable[int] = range(-before, call.out[dim] - before)
        if "reflection" in call.name:
            positions = [abs(p) if p < count else 2 * (count - 1) - p for p in positions]
        else:
            positions = [min(max(p, 0), count - 1) for p in positions]
        return axis.gather([[p] for p in positions], (-before, 1, 1))

    return call.walking(len(pad) // 2, change)


def pixel_shuffle(call: Call) -> Marks:
    """Channels to positions."""
    factor = call.arguments["upscale_factor"]
    return call.walking(2, lambda axis, dim: axis.gather([[o // factor] for o in range(call.out[dim])]))


def pixel_unshuffle(call: Call) -> Marks:
    """Positions to channels."""
    factor = call.arguments["downscale_factor"]
    mark = call.walking(2, lambda axis, dim: axis.windows(call.out[dim], factor, factor))
    return replace(mark, even=False)


def reshaping(call: Call) -> Marks:
    """View, reshape, squeeze, unsqueeze, flatten: dimensions kept whole or merged, those of size 1 anywhere."""
    old = [(dim, size) for dim, size in enumerate(call.shape) if size != 1]
    new = [(dim, size) for dim, size in enumerate(call.out) if size != 1]
    to: dict[int, int | None] = {dim: None for dim, size in enumerate(call.shape) if size == 1}
    if call.shape.numel() != call.out.numel() or call.out.numel() == 0:
        raise CantTell("numbers are read as others, or there are none")
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
            raise CantTell("a dimension is split")
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


def slicing(call: Call) -> Marks:
    a = call.arguments
    positions = range(call.shape[call.dim])[a.get("start") : a.get("end") : a.get("step") or 1]
    return call.picked(call.dim, positions, (positions.start, 1, positions.step))


def splitting(call: Call) -> Marks:
    marks, start = [], 0
    for output in call.outputs:
        count = output.shape[call.dim]
        marks.append(call.picked(call.dim, range(start, start + count), (start, 1, 1)))
        start += count
    return marks


def selection(call: Call) -> Marks:
    position = call.arguments["index"] % call.shape[call.dim]
    return call.picked(call.dim, [position]).without([call.dim])


def unbinding(call: Call) -> Marks:
    return [call.picked(call.dim, [position]).without([call.dim]) for position in range(len(call.outputs))]


def indexing(call: Call) -> Marks:
    """`index_select` and `roll` of channels, not of positions."""
    dims = call.arguments["dims" if "dims" in call.arguments else "dim"]
    numbers = {dim % len(call.shape) for dim in (dims if isinstance(dims, list | tuple) else [dims])}
    if not numbers or numbers & call.mark.dims:
        raise CantTell("positions are picked by number")
    return call.picked(min(numbers, key=lambda dim: dim == 0), [])


def flipping(call: Call) -> Marks:
    mark = call.mark
    for dim in {dim % len(call.shape) for dim in call.arguments["dims"]} & mark.dims:
        if not mark.along(dim, call.shape):
            raise CantTell("a dimension is flattened")
        backward = [[p] for p in reversed(range(call.shape[dim]))]
        y, x = (axis.gather(backward) if axis.dim == dim else axis for axis in mark.axes)
        mark = mark.change(y, x)
    return mark


def concatenation(call: Call) -> Marks:
    tensors = call.arguments["tensors"]
    dim = int(call.arguments["dim"]) % len(call.out)
    if not any(dim in mark.dims for mark in call.marks):
        return union(call.marks, even=dim == 0 or _alike(call))
    if any(tensor.ndim != len(call.out) for tensor in tensors):
        raise CantTell("a tensor of no elements comes along")
    ends: dict[int, Axis] = {}
    for operand, mark in zip(call.operands, call.marks, strict=True):
        if not mark.along(dim, operand.shape):
            raise CantTell("maps that walk differently come together")
        ends[id(operand)] = next(axis for axis in mark.axes if axis.dim == dim)
    if len({axis for mark in call.marks for axis in mark.axes if axis.dim != dim}) > 1:
        raise CantTell("maps that walk differently come together")
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


def _table(*rows: tuple[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rows for name in names.split()}


# Names differ between versions of torch and between devices, so similar ones share a rule.
_RULES = _table(
    (same, "_to_copy detach alias lift lift_fresh contiguous resolve_conj channel_shuffle native_channel_shuffle"),
    (elementwise, "hardswish _prelu_kernel prelu log_sigmoid_forward rsub masked_fill expand"),
    (overwriting, "copy"),
    (adaptive_pooling, "adaptive_avg_pool2d _adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d adaptive_max_pool2d"),
    (adaptive_pooling, "adaptive_avg_pool1d adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d"),
    (interpolation, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"),
    (interpolation, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    (reduction, "mean sum nansum amax amin max min var std prod norm linalg_vector_norm logsumexp"),
    (reduction, "argmax argmin any all median var_mean std_mean count_nonzero"),
    (softmax, "_softmax _log_softmax softmax log_softmax _safe_softmax"),
    (batch_norm, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    (batch_norm, "cudnn_batch_norm miopen_batch_norm _batch_norm_with_update _batch_norm_no_update batch_norm"),
    (group_norm, "native_group_norm group_norm"),
    (layer_norm, "native_layer_norm layer_norm _fused_rms_norm"),
    (product, "mm addmm bmm baddbmm linear"),
    (mirroring, "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
    (pixel_shuffle, "pixel_shuffle"),
    (pixel_unshuffle, "pixel_unshuffle"),
    (reshaping, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten"),
    (permutation, "permute transpose t"),
    (slicing, "slice narrow"),
    (splitting, "split split_with_sizes unsafe_split unsafe_split_with_sizes chunk"),
    (selection, "select"),
    (unbinding, "unbind"),
    (indexing, "index_select roll"),
    (flipping, "flip"),
    (concatenation, "cat _cat concat"),
    (stacking, "stack"),
)


def rule_for(operation: Operation) -> Rule:
    """The rule of an operation. Raises CantTell where there is none, and torch does not tag it as elementwise."""
    if operation.name in _RULES:
        return _RULES[operation.name]
    if operation.name in SLIDING:
        return windows
    if torch.Tag.pointwise in operation.function.tags:
        return elementwise
    raise CantTell(f"there is no rule for aten::{operation.name}")

"""What each operation does to what a tensor sees of the image.

A rule takes the `Call` and gives the mark of its outputs, one for all or one for each. It raises CantTell where it
can't tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from netloupe.core.receptive_field import NOTHING, Span
from netloupe.core.trace.geometry import dimensions, rule_among, sliding
from netloupe.core.trace.marks import Axis, Call, Mark, union
from netloupe.core.trace.mode import CantTell, Operation, repeated, tensors

Marks = Mark | Sequence[Mark]
Rule = Callable[[Call], Marks]
Run = Callable[[Callable[[Tensor], Tensor]], list[Tensor]]
"""Runs an operation on numbers in place of tensors."""


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
    if len(moved) > 1 and len({frozenset(mark.dims) for mark in moved if mark.dims}) > 1:
        moved = [mark.collapse(mark.dims) for mark in moved]  # scores of queries and keys: what all of them see
    return union(moved, even=True).settled()


def attention(call: Call) -> Marks:
    """Each query reads all keys and values."""
    query, key, value = (call.arguments[name] for name in ("query", "key", "value"))
    reads = ((query, [query.ndim - 1]), (key, [key.ndim - 2, key.ndim - 1]), (value, [value.ndim - 2]))
    if not all(any(operand is tensor for tensor, _ in reads) for operand in call.operands):
        raise CantTell("what is masked depends on the image")
    marks = list(zip(call.operands, call.marks, strict=True))
    return union(
        [mark.collapse(dims) for tensor, dims in reads for operand, mark in marks if operand is tensor]
    ).settled()


# --- what only moves values


def moving(call: Call) -> Marks:
    """Views, slices, permutations, joins: the operation itself is run on numbers that stand for what is seen.

    Those are drawn up along y and along x, 0 for nothing, and must come out along one dimension at most.
    """
    name, given = next(iter(call.arguments.items()))
    sources = given if isinstance(given, list | tuple) else [given]
    marks = {id(operand): mark for operand, mark in zip(call.operands, call.marks, strict=True)}
    if not all(any(operand is source for source in sources) for operand in call.operands):
        raise CantTell("what is moved depends on the image")
    if "dtype" in call.arguments and call.shape == call.out:
        return call.mark
    if len(sources) == 1 and call.mark.even and not call.mark.dims:
        return [call.mark] * len(call.outputs)
    if "dtype" in call.arguments or not all(output.numel() for output in call.outputs):
        raise CantTell("numbers are read as others, or there are none")

    def run(number: Callable[[Tensor], Tensor]) -> list[Tensor]:
        numbers = [number(source) for source in sources]
        moved = numbers if sources is given else numbers[0]
        return tensors(repeated(call.operation.function, {**call.arguments, name: moved}))

    axes = [_moved(call, run, marks, i) for i in (0, 1)]
    found = [
        Mark(y, x, all(mark.even for mark in call.marks), all(mark.exact for mark in call.marks))
        for y, x in zip(*axes, strict=True)
    ]
    if len(sources) > 1 or call.mark.even:
        return found
    loose = [d for d in range(len(call.shape)) if d not in call.mark.dims]
    count = torch.Size(call.shape[d] for d in loose).numel()
    channels = torch.arange(count, dtype=torch.float64, device=call.operands[0].device)
    channels = channels.view([size if d in loose else 1 for d, size in enumerate(call.shape)]).expand(call.shape)
    return [_told(call, *each, count) for each in zip(found, run(lambda _: channels.contiguous()), strict=True)]


def _told(call: Call, mark: Mark, channels: Tensor, count: int) -> Mark:
    """Of channels that don't see the same: one that is left out may be the one that sees most."""
    if call.mark.mixed and channels.numel() < call.shape.numel():
        raise CantTell("channels are flattened with positions, and some left out")
    left_out = len(channels.unique()) < count
    mixed = call.mark.mixed or any(_varies(channels, dim) for dim in mark.dims)
    return replace(mark, exact=mark.exact and not left_out, mixed=mixed)


def _moved(call: Call, run: Run, marks: dict[int, Mark], i: int) -> list[Axis]:
    """The axes `i` of the outputs. marks: of the operands, by id."""
    before = call.marks[0].axes[i]
    line = before.line if len(call.arguments.get("tensors", "1")) == 1 else None
    numbers: dict[tuple[Span, int], int] = {(NOTHING, 0): 0}

    def number(source: Tensor) -> Tensor:
        axis = marks.get(id(source), call.marks[0]).axes[i]
        if not source.numel() or (id(source) not in marks and axis.dim == call.dim):  # constants see nothing
            return source.new_zeros(source.shape, dtype=torch.float64)
        places = axis.places if line is not None else [0] * len(axis.spans)
        each = [numbers.setdefault(seen, len(numbers)) for seen in zip(axis.spans, places, strict=True)]
        sides = [len(each) if dim == axis.dim else 1 for dim in range(source.ndim)]
        return source.new_tensor(each, dtype=torch.float64).view(sides).expand(source.shape).contiguous()

    found = []
    for moved in run(number):
        over = [dim for dim in range(moved.ndim) if _varies(moved, dim)]
        if len(over) > 1:
            raise CantTell("a dimension is split")
        first = moved[tuple(slice(None) if dim in over else 0 for dim in range(moved.ndim))]
        seen = list(numbers)
        spans, places = zip(*(seen[one] for one in first.flatten().long().tolist()), strict=True)
        if over:
            axis = Axis(over[0], spans, line, places).straight("_pad" in call.name and not before.order)
        else:
            axis = Axis(None, spans, line if len(before.spans) == 1 else None)
        found.append(axis)
    return found


def _varies(numbers: Tensor, dim: int) -> bool:
    return bool((numbers != numbers.narrow(dim, 0, 1)).any())


def pixel_unshuffle(call: Call) -> Marks:
    """Positions to channels."""
    factor = call.arguments["downscale_factor"]
    mark = call.walking(2, lambda axis, dim: axis.windows(call.out[dim], factor, factor))
    return replace(mark, even=False)


def concatenation(call: Call) -> Marks:
    dim = int(call.arguments["dim"]) % len(call.out)
    if any(dim in mark.dims for mark in call.marks):
        return moving(call)
    return union(call.marks, even=dim == 0 or _alike(call))


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
    (attention, "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention"),
    (
        attention,
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention _native_multi_head_attention",
    ),
    (moving, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten permute transpose t"),
    (moving, "slice narrow select split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unbind"),
    (moving, "index index_select roll flip repeat pixel_shuffle"),
    (moving, "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d"),
    (pixel_unshuffle, "pixel_unshuffle"),
    (concatenation, "cat _cat concat"),
    (stacking, "stack"),
)


def rule_for(operation: Operation) -> Rule:
    """The rule of an operation. Raises CantTell where there is none, and torch does not tag it as elementwise."""
    return rule_among(_RULES, operation, windows, elementwise)

"""Where each element of a tensor stands on a map, as a pass computes it; so how each module's output lies.

What an element sees of the image is another question: after attention a token sees all of it, and stands where its
query stood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.layout import CHANNELS_LAST, MAPS, VECTORS, Layout, Order, Tokens
from netloupe.core.trace.geometry import SLIDING, dimensions, rule_among
from netloupe.core.trace.mode import CantTell, Follow, Memory, Operation, repeated, tensors, unfollowed

_ORDERS: dict[int, Order] = {0: "tnc", 1: "ntc", 2: "nct"}
_FAR = -(2**30)  # of padding, which stands nowhere


@dataclass(frozen=True, eq=False)
class Stand:
    """The row and the column of each element: whole numbers, broadcast; None where it has none.

    Those below zero stand nowhere, such as tokens that were joined to a map's: -1 the first of the sequence, -2 the
    second.
    """

    rows: Tensor | None
    columns: Tensor | None

    @property
    def axes(self) -> tuple[Tensor | None, Tensor | None]:
        return self.rows, self.columns

    @property
    def token(self) -> int | None:
        """The number in its sequence of the one token, standing nowhere, that all elements are of."""
        known = [axis for axis in self.axes if axis is not None and axis.numel() == 1]
        return -1 - int(known[0]) if len(known) == 2 and _FAR < int(known[0]) < 0 else None

    def same(self, other: Stand) -> bool:
        return all(_equal(*pair) for pair in zip(self.axes, other.axes, strict=True))

    def each(self, change: Callable[[Tensor], Tensor | None]) -> Stand | None:
        return _stand(*(None if axis is None else change(axis) for axis in self.axes))

    def contracted(self, *dims: int) -> Stand | None:
        """Of elements each computed from all along these dimensions."""
        return self.each(lambda axis: _contracted(axis, dims))


def fresh(shape: Sequence[int]) -> Stand:
    """Of a map (N, C, H, W)."""
    return Stand(torch.arange(shape[2]).view(1, 1, -1, 1), torch.arange(shape[3]).view(1, 1, 1, -1))


def _stand(rows: Tensor | None, columns: Tensor | None) -> Stand | None:
    return None if rows is None and columns is None else Stand(rows, columns)


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _contracted(axis: Tensor, dims: Sequence[int]) -> Tensor | None:
    """Elements made of several places stand where the first of them did, if no two share some; else nowhere."""
    over = [dim for dim in dims if axis.shape[dim] > 1]
    if not over:
        return axis
    first, last = axis.amin(over, keepdim=True), axis.amax(over, keepdim=True)
    spans = torch.stack([first.flatten(), last.flatten()], 1).unique(dim=0)
    return first if len(spans) > 1 and bool((spans[1:, 0] > spans[:-1, 1]).all()) else None


def _ranked(axis: Tensor) -> Tensor:
    """Places counted without gaps."""
    there = axis >= 0
    found = axis.clone()
    found[there] = axis[there].unique(return_inverse=True)[1]
    return found


def _compact(numbers: Tensor) -> Tensor:
    """Without what is the same all along a dimension."""
    for dim in reversed(range(numbers.ndim)):
        first = numbers.narrow(dim, 0, 1)
        if numbers.shape[dim] > 1 and (numbers.stride(dim) == 0 or bool((numbers == first).all())):
            numbers = first
    return numbers.contiguous()


# --- how an output lies


def layout_of(stand: Stand | None, shape: Sequence[int]) -> Layout | None:
    """How an output of that shape lies, for one image; None where that can't be told."""
    if len(shape) == 2 and shape[0] == 1:
        return VECTORS
    if len(shape) == 4 and shape[0] == 1 and 1 == shape[2] == shape[3]:
        return MAPS
    if stand is None or min(shape) < 1:
        return None
    if len(shape) == 4 and shape[0] == 1:
        if _lies(stand, shape, 1, (2, 3)):
            return MAPS
        return CHANNELS_LAST if _lies(stand, shape, 3, (1, 2)) else None
    return _sequence(stand, shape) if len(shape) == 3 else None


def _lies(stand: Stand, shape: Sequence[int], channels: int, places: tuple[int, int]) -> bool:
    """Whether rows and columns go along these two dimensions, in whatever order."""
    for axis, dim in zip(stand.axes, places, strict=True):
        found = None if axis is None else _contracted(axis, (channels,))
        if shape[dim] > 1 and (found is None or found.numel() != shape[dim] or found.shape[dim] != shape[dim]):
            return False
        if found is not None and found.numel() != found.shape[dim]:
            return False
    return True


def _sequence(stand: Stand, shape: Sequence[int]) -> Tokens | None:
    """A grid row by row, with tokens that stand nowhere before and after."""
    for dim, channels in ((1, 2), (2, 1), (0, 2)):
        found = stand.contracted(channels)
        batch = 3 - dim - channels
        if found is None or shape[batch] != 1:
            continue
        count = shape[dim]
        if any(axis is not None and axis.numel() not in (1, axis.shape[dim]) for axis in found.axes):
            continue
        rows, columns = (_along(axis, count) for axis in found.axes)
        there = ((rows >= 0) & (columns >= 0)).nonzero().flatten()
        if not len(there) or (len(there) == 1 and count == 1):
            continue
        start, end = int(there[0]), int(there[-1]) + 1
        y, x = (_ranked(axis[start:end]) for axis in (rows, columns))
        grid = (int(y.max()) + 1, int(x.max()) + 1)
        if end - start == len(there) == grid[0] * grid[1] and _row_by_row(y, x, grid) and _numbered(rows, start, end):
            return Tokens(start, grid, count - end, _ORDERS[dim])
    return None


def _along(axis: Tensor | None, count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.long) if axis is None else axis.flatten().expand(count)


def _row_by_row(y: Tensor, x: Tensor, grid: tuple[int, int]) -> bool:
    return torch.equal(y * grid[1] + x, torch.arange(len(y)).to(y))


def _numbered(places: Tensor, start: int, end: int) -> bool:
    """Whether the tokens around the grid were joined to it, and are no padding."""
    numbers = -1 - torch.arange(len(places)).to(places)
    return torch.equal(places[:start], numbers[:start]) and torch.equal(places[end:], numbers[end:])


# --- following a pass


class Standing:
    """Follows where elements stand, whatever Python code calls the operations.

        standing = Standing()
        with following(standing.start(images)):
            module(images)                      # standing.layout(tensor) inside or after it

    What slides over the last two dimensions makes a map of what it gives, whatever was known of what it reads.
    """

    def __init__(self) -> None:
        self._known: Memory[Stand | None] = Memory()  # None: it stands nowhere, as far as is known

    def start(self, images: Tensor) -> Follow:
        """Begin with `images` (1, C, H, W): what follows the operations of a pass (see `following`)."""
        self._known.put(images, fresh(images.shape))
        return self._follow

    def layout(self, tensor: Tensor) -> Layout | None:
        """How a tensor of one image lies; None where that is not known."""
        with unfollowed():
            return layout_of(self._known.get(tensor), tensor.shape)

    def token(self, tensor: Tensor) -> int | None:
        """The number of the one token, standing nowhere on a map, that a tensor is made of."""
        stand = self._known.get(tensor)
        return None if stand is None else stand.token

    def _follow(self, operation: Operation) -> Callable[[Any], None] | None:
        maps = operation.name in _MAPS or operation.name in SLIDING
        if operation.blind or not (maps or any(tensor in self._known for tensor in operation.tensors)):
            return None

        def finish(result: Any) -> None:
            outputs = tensors(result)
            for output, stand in zip(outputs, self._apply(operation, outputs), strict=True):
                if any(output is target for target in operation.written):
                    self._overwrite(output, stand)
                else:
                    self._known.put(output, stand)
            for target in operation.written:
                if not any(output is target for output in outputs):
                    self._overwrite(target, None)

        return finish

    def _apply(self, operation: Operation, outputs: list[Tensor]) -> list[Stand | None]:
        call = _Call(operation, self._known.get, outputs)
        try:
            found = _rule_for(operation)(call)
        except CantTell:
            found = None
        for tensor in call.maps:
            if self._known.get(tensor) is None:
                self._known.put(tensor, fresh(tensor.shape))
        each = found if isinstance(found, list) else [found] * len(outputs)
        return [
            one if one is not None and _fits(one, output.shape) else None
            for one, output in zip(each, outputs, strict=True)
        ]

    def _overwrite(self, tensor: Tensor, stand: Stand | None) -> None:
        """After an in-place operation; what is known of other views of the memory is lost unless nothing changed."""
        before = self._known.get(tensor)
        if before is not None and stand is not None and before.same(stand):
            return
        self._known.forget(tensor)
        self._known.put(tensor, stand)


def _fits(stand: Stand, shape: Sequence[int]) -> bool:
    axes = [axis for axis in stand.axes if axis is not None]
    return all(
        axis.ndim == len(shape) and all(n in (1, size) for n, size in zip(axis.shape, shape, strict=True))
        for axis in axes
    )


class _Call:
    """One operation that ran. maps: what of its operands can only be a map (N, C, H, W)."""

    def __init__(self, operation: Operation, known: Callable[[Tensor], Stand | None], outputs: list[Tensor]) -> None:
        self.operation = operation
        self.outputs = outputs
        self.maps: list[Tensor] = []
        self.of = known

    @property
    def name(self) -> str:
        return self.operation.name

    @property
    def arguments(self) -> dict[str, Any]:
        return self.operation.arguments

    @property
    def first(self) -> Tensor:
        """The first tensor among the arguments."""
        return self.operation.tensors[0]

    @property
    def out(self) -> torch.Size:
        return self.outputs[0].shape


Found = Stand | None | list[Stand | None]
Rule = Callable[[_Call], Found]


def _same(call: _Call) -> Found:
    return call.of(call.first)


def _elementwise(call: _Call) -> Found:
    return _joined([call.of(one) for one in call.operation.tensors], len(call.out))


def _joined(stands: Sequence[Stand | None], count: int) -> Stand | None:
    """Of elements computed from one of each, broadcast to `count` dimensions."""
    known = [one for one in stands if one is not None]
    if len(known) == 1 and all(axis is None or axis.ndim == count for axis in known[0].axes):
        return known[0]
    return _stand(*(_one([one.axes[i] for one in known], count) for i in (0, 1)))


def _one(axes: Sequence[Tensor | None], count: int) -> Tensor | None:
    """The one that all agree on who walk; None where they don't."""
    aligned = [axis[(None,) * (count - axis.ndim)] for axis in axes if axis is not None and axis.ndim <= count]
    walking = [axis for axis in aligned if axis.numel() > 1] or aligned
    if not walking or all(_equal(walking[0], axis) for axis in walking[1:]):
        return walking[0] if walking else None
    ranked = [_ranked(axis) for axis in walking]
    return ranked[0] if all(_equal(ranked[0], axis) for axis in ranked[1:]) else None


def _overwriting(call: _Call) -> Found:
    source = call.of(call.arguments["src"])
    return None if source is None else _joined([source], len(call.out))


def _mapping(call: _Call) -> Found:
    """What slides over the last dimensions: of two a map, where it does not keep the size of what stands otherwise."""
    operand, count = call.first, dimensions(call.name)
    stand = call.of(operand)
    mixes = "weight" in call.arguments or call.name == "grid_sampler_2d"
    stand = stand.contracted(1) if stand is not None and mixes and operand.ndim > 2 else stand
    if stand is not None and operand.shape[2:] == call.out[2:] and operand.ndim == len(call.out):
        return stand
    two = count == 2 and len(call.out) == 4 and not ("weight" in call.arguments and call.arguments["weight"].ndim != 4)
    if not two:
        return None
    if call.out[0] == 1:
        call.maps += [operand] * (operand.ndim == 4)
        return fresh(call.out)
    return None if stand is None else stand.each(lambda axis: _sampled(axis, call.out))


def _sampled(axis: Tensor, out: Sequence[int]) -> Tensor:
    for dim in (2, 3):
        if axis.shape[dim] > 1:
            places = torch.arange(out[dim]) * axis.shape[dim] // out[dim]
            axis = axis.index_select(dim, places)
    return axis


def _normalizing(call: _Call) -> Found:
    """Batch normalization, whose channels are at 1."""
    stand = call.of(call.first)
    if stand is None and call.first.ndim == 4 and call.first.shape[0] == 1:
        call.maps.append(call.first)
        return fresh(call.out)
    return stand


def _padding(call: _Call) -> Found:
    amounts = call.arguments["pad"]

    def change(axis: Tensor) -> Tensor:
        for i in range(len(amounts) // 2):
            dim = axis.ndim - 1 - i
            before, after = amounts[2 * i : 2 * i + 2]
            if axis.shape[dim] > 1:
                pads = [0, 0] * i + [before, after]
                axis = torch.nn.functional.pad(axis, pads, value=_FAR)
        return axis

    stand = call.of(call.first)
    return None if stand is None else stand.each(change)


def _reduction(call: _Call) -> Found:
    """Over some or all dimensions; elementwise where there is a second tensor."""
    a, count = call.arguments, call.first.ndim
    if isinstance(a.get("other"), Tensor):
        return _elementwise(call)
    dims = a.get("dim")
    given = range(count) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    over = tuple(dim % max(1, count) for dim in given)
    stand = call.of(call.first)
    found = None if stand is None else stand.contracted(*over)
    return found if found is None or a.get("keepdim") else found.each(lambda axis: axis.squeeze(over))


_FACTORS = {"linear": ("input", "weight"), "mm": ("self", "mat2"), "addmm": ("mat1", "mat2"), "bmm": ("self", "mat2")}


def _product(call: _Call) -> Found:
    """Matrix products: rows stand as the first factor's, columns as the second's; where both walk, as the first's.

    So attention gives what stands where the query stood.
    """
    first, second = (call.arguments[name] for name in _FACTORS.get(call.name, ("batch1", "batch2")))
    one, other = call.of(first), call.of(second)
    found = None if one is None else one.contracted(first.ndim - 1)
    if found is None and call.name != "linear":
        found = None if other is None else other.contracted(second.ndim - 2)
    return found


def _attention(call: _Call) -> Found:
    query = call.arguments["query"]
    stand = call.of(query)
    return None if stand is None else stand.contracted(query.ndim - 1)


def _embedding(call: _Call) -> Found:
    stand = call.of(call.arguments["indices"])
    return None if stand is None else stand.each(lambda axis: axis.unsqueeze(-1))


def _unfolding(call: _Call) -> Found:
    """Windows of a map one after the other, (N, C * size, L)."""
    a = call.arguments
    reads = zip(call.first.shape[-2:], a["kernel_size"], a["dilation"], a["padding"], a["stride"], strict=True)
    height, width = (
        (n + 2 * pad - dilation * (size - 1) - 1) // stride + 1 for n, size, dilation, pad, stride in reads
    )
    if height * width != call.out[-1] or len(call.out) != 3 or call.out[0] != 1:
        return None
    places = torch.arange(height * width).view(1, 1, -1)
    return Stand(places // width, places % width)


def _moving(call: _Call) -> Found:
    """Views, slices, permutations, joins: the operation itself is run on the numbers of rows and columns."""
    name, given = next(iter(call.arguments.items()))
    sources = list(given) if isinstance(given, list | tuple) else [given]
    known = [call.of(source) for source in sources]
    others = [tensor for tensor in call.operation.tensors if not any(tensor is source for source in sources)]
    if any(call.of(tensor) is not None for tensor in others):
        return None  # which are moved depends on the image
    if "dtype" in call.arguments:
        return known[0] if call.first.shape == call.out else None
    joins = isinstance(given, list | tuple)
    both = [_moved(call, name, sources, [None if one is None else one.axes[i] for one in known], joins) for i in (0, 1)]
    return [_stand(*pair) for pair in zip(*both, strict=True)]


def _moved(
    call: _Call, name: str, sources: list[Tensor], axes: list[Tensor | None], joins: bool
) -> list[Tensor | None]:
    if all(axis is None for axis in axes):
        return [None] * len(call.outputs)
    dim, device = int(call.arguments.get("dim", 0)) if joins else 0, sources[0].device
    if call.name == "stack":
        dim %= len(call.out)
        return [_one([None if axis is None else axis.unsqueeze(dim) for axis in axes], len(call.out))]
    if joins and not any(axis is not None and axis.shape[dim] > 1 for axis in axes):
        return [_one(axes, len(call.out))]

    def numbers(source: Tensor, axis: Tensor | None) -> Tensor:
        found = torch.full((1,) * source.ndim, _FAR) if axis is None else axis
        return found.to(device).expand(source.shape)

    given: Any = [numbers(*pair) for pair in zip(sources, axes, strict=True)]
    results = tensors(repeated(call.operation.function, {**call.arguments, name: given if joins else given[0]}))
    found = [_compact(one).cpu() if one.numel() else None for one in results]
    return [one if one is None else _renumbered(one, dim % one.ndim) for one in found] if joins else found


def _renumbered(axis: Tensor, dim: int) -> Tensor:
    """What stands nowhere by its number in the sequence that is joined."""
    shape = [-1 if d == dim else 1 for d in range(axis.ndim)]
    return torch.where(axis < 0, -1 - torch.arange(axis.shape[dim]).view(shape), axis)


def _table(*rows: tuple[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rows for name in names.split()}


_MAPS = _table(
    (_mapping, "adaptive_avg_pool2d _adaptive_avg_pool2d mkldnn_adaptive_avg_pool2d adaptive_max_pool2d"),
    (_mapping, "adaptive_avg_pool1d adaptive_max_pool1d adaptive_avg_pool3d _adaptive_avg_pool3d adaptive_max_pool3d"),
    (_mapping, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"),
    (_mapping, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d cudnn_grid_sampler"),
    (_mapping, "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d max_unpool2d col2im"),
    (_mapping, "pixel_shuffle pixel_unshuffle"),
    (_normalizing, "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training batch_norm"),
    (_normalizing, "cudnn_batch_norm miopen_batch_norm _batch_norm_with_update _batch_norm_no_update"),
)

# Names differ between versions of torch and between devices, so similar ones share a rule.
_RULES = _MAPS | _table(
    (_same, "_to_copy clone detach alias lift lift_fresh contiguous resolve_conj cumsum logcumsumexp"),
    (_same, "_softmax _log_softmax softmax log_softmax _safe_softmax native_group_norm group_norm"),
    (_same, "channel_shuffle native_channel_shuffle native_layer_norm layer_norm _fused_rms_norm rms_norm"),
    (_elementwise, "hardswish _prelu_kernel prelu log_sigmoid_forward rsub masked_fill where"),
    (_overwriting, "copy"),
    (_padding, "constant_pad_nd"),
    (_reduction, "mean sum nansum amax amin max min var std prod norm linalg_vector_norm logsumexp"),
    (_reduction, "argmax argmin any all median var_mean std_mean count_nonzero"),
    (_product, "mm addmm bmm baddbmm linear"),
    (_attention, "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention"),
    (_attention, "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"),
    (_attention, "_scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable"),
    (_embedding, "embedding"),
    (_unfolding, "im2col"),
    (_moving, "view _unsafe_view reshape _reshape_alias squeeze unsqueeze flatten unflatten permute transpose t"),
    (_moving, "slice narrow select split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unbind"),
    (_moving, "index index_select roll flip repeat expand unfold as_strided gather movedim cat _cat concat stack"),
)


def _rule_for(operation: Operation) -> Rule:
    """Raises CantTell where there is none, and torch does not tag it as elementwise."""
    return rule_among(_RULES, operation, _mapping, _elementwise)

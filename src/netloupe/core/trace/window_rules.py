"""How operations act on windows: each rule computes the changed part of its output from the changed part of its input.

A rule gives None where it can't, or where the windows would cover most of the map; then the full maps are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from netloupe.core.trace.extents import Extent
from netloupe.core.trace.graph import Step
from netloupe.core.trace.maps import Clean, Windowed
from netloupe.core.trace.winograd import suits, transformed, winograd

MOST = 0.8  # windows that would cover this share of a map are not worth the gathering

Value = Tensor | Windowed


@dataclass(frozen=True)
class Call:
    """One step on windows: `arguments` hold the values, Windowed or whole; `clean`: its output for the clean image.

    growth: see `Extent.windows`; 1 for exact.
    """

    step: Step
    arguments: dict[str, Any]
    clean: Clean
    growth: float

    @cached_property
    def leaves(self) -> list[Any]:
        """All arguments, and what stands in lists."""
        nested = (given if isinstance(given, list) else [given] for given in self.arguments.values())
        return [leaf for some in nested for leaf in some]

    @property
    def windowed(self) -> list[Windowed]:
        return [leaf for leaf in self.leaves if isinstance(leaf, Windowed)]

    def spans(self, y: Extent, x: Extent) -> tuple[Extent, Extent] | None:
        """The spans to compute; None if they cover most of the map."""
        return None if y.size * x.size >= MOST * y.length * x.length else (y, x)

    def wider(self, source: Windowed, **options: Any) -> _Wider | None:
        """For a convolution or pooling: what to gather and where the result goes."""
        size, stride, padding, dilation = (_pair(options[k]) for k in ("size", "stride", "padding", "dilation"))
        height, width = self.clean.shape[2:]
        spans = self.spans(
            source.y.windows(height, size[0], stride[0], padding[0], dilation[0], self.growth),
            source.x.windows(width, size[1], stride[1], padding[1], dilation[1], self.growth),
        )
        return None if spans is None else _Wider(source, *spans, size, stride, padding, dilation)


@dataclass(frozen=True)
class _Wider:
    source: Windowed
    y: Extent
    x: Extent
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def pixels(self, fill: float) -> Tensor:
        """All that the changed outputs read."""
        ys, xs = (
            e.reads(s, p, d * (k - 1) + 1)
            for e, s, p, d, k in zip((self.y, self.x), self.stride, self.padding, self.dilation, self.size, strict=True)
        )
        return self.source.region(ys, xs, fill)


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def convolution(call: Call) -> Windowed | None:
    a = call.arguments
    weight, bias = a["weight"], a["bias"]
    if a["transposed"] or weight.ndim != 4 or not isinstance(a["input"], Windowed) or len(call.windowed) > 1:
        return None
    wider = call.wider(
        a["input"], size=weight.shape[2:], stride=a["stride"], padding=a["padding"], dilation=a["dilation"]
    )
    if wider is None:
        return None
    read = wider.pixels(0.0)
    if suits(read, weight, a["stride"], a["dilation"], a["groups"]):
        if "winograd" not in call.step.memo:
            call.step.memo["winograd"] = transformed(weight)
        pixels = winograd(read, call.step.memo["winograd"], bias)
    else:
        pixels = F.conv2d(read, weight, bias, a["stride"], 0, a["dilation"], a["groups"])
    return Windowed(call.clean, wider.y, wider.x, pixels)


def max_pooling(call: Call) -> Windowed | None:
    a = call.arguments
    stride = a["stride"] or a["kernel_size"]
    wider = call.wider(a["self"], size=a["kernel_size"], stride=stride, padding=a["padding"], dilation=a["dilation"])
    if wider is None:
        return None
    pixels = F.max_pool2d(wider.pixels(-torch.inf), wider.size, wider.stride, 0, wider.dilation)
    return Windowed(call.clean, wider.y, wider.x, pixels)


def average_pooling(call: Call) -> Windowed | None:
    """Sums over the windows, then divided as the operation itself divides at each position."""
    a = call.arguments
    stride = a["stride"] or a["kernel_size"]
    wider = call.wider(a["self"], size=a["kernel_size"], stride=stride, padding=a["padding"], dilation=1)
    if wider is None:
        return None
    sums = F.avg_pool2d(wider.pixels(0.0), wider.size, wider.stride, divisor_override=1)
    factor = _divisions(call, wider)
    ys, xs = wider.y.positions(), wider.x.positions()
    factor = factor[ys[:, None, :, None], xs[None, :, None, :]].reshape(-1, 1, wider.y.size, wider.x.size)
    return Windowed(call.clean, wider.y, wider.x, sums * factor)


def _divisions(call: Call, wider: _Wider) -> Tensor:
    """(H, W): what average pooling multiplies the sum by at each of its outputs."""
    ones = wider.source.pixels.new_ones(1, 1, wider.source.y.length, wider.source.x.length)
    means: Tensor = call.step.function(**{**call.arguments, "self": ones})
    sides = []
    for e, source, s, k, p in zip(
        (wider.x, wider.y),
        ones.shape[:1:-1],
        *(t[::-1] for t in (wider.stride, wider.size, wider.padding)),
        strict=True,
    ):
        sides += [p, max(0, (e.length - 1) * s + k - p - source)]
    counts = F.avg_pool2d(F.pad(ones, sides), wider.size, wider.stride, divisor_override=1)
    return (means / counts[..., : wider.y.length, : wider.x.length])[0, 0]


def padding(call: Call) -> Windowed | None:
    """By a constant, along y and x only."""
    source: Windowed = call.arguments["self"]
    sides = list(call.arguments["pad"])
    if len(sides) > 4 or min(sides) < 0:
        return None
    left, _, top, _ = (*sides, 0, 0)[:4]
    height, width = call.clean.shape[2:]
    spans = call.spans(source.y.shifted(top, height), source.x.shifted(left, width))
    if spans is None:
        return None
    y, x = spans
    ys, xs = y.reads(1, top, 1), x.reads(1, left, 1)
    pixels = source.region(ys, xs, float(call.arguments["value"]))
    return Windowed(call.clean, y, x, pixels)


def concatenation(call: Call) -> Windowed | None:
    """Of channels."""
    tensors = call.arguments["tensors"]
    if call.arguments["dim"] % 4 != 1 or not all(isinstance(t, Windowed) for t in tensors):
        return None
    aligned = _aligned(tensors)
    pixels = torch.cat([t.pixels for t in aligned], 1)
    return Windowed(call.clean, aligned[0].y, aligned[0].x, pixels.contiguous(memory_format=torch.channels_last))


def normalization(call: Call) -> Windowed | None:
    """Batch normalization by its running statistics."""
    a = call.arguments
    if a.get("training", False) or not isinstance(a["input"], Windowed):
        return None
    found = call.step.function(**{**a, "input": a["input"].pixels})
    pixels = found if isinstance(found, Tensor) else found[0]
    return Windowed(call.clean, a["input"].y, a["input"].x, pixels)


def channels(call: Call) -> Windowed | None:
    """A slice of the channels."""
    source: Windowed = call.arguments["self"]
    if call.arguments["dim"] % 4 != 1:
        return None
    pixels = call.step.function(**{**call.arguments, "self": source.pixels})
    return Windowed(call.clean, source.y, source.x, pixels.contiguous(memory_format=torch.channels_last))


def pointwise(call: Call) -> Windowed | None:
    """Any number of maps of one size, with constants that are the same everywhere on the map."""
    windowed = call.windowed
    others = [leaf for leaf in call.leaves if isinstance(leaf, Tensor)]
    if any(set(other.shape[-2:]) - {1} or (other.ndim == 4 and other.shape[0] != 1) for other in others):
        return None
    if len({(source.y.length, source.x.length) for source in windowed}) > 1:
        return None
    aligned = iter(_aligned(windowed))
    arguments = tree_map(lambda leaf: next(aligned).pixels if isinstance(leaf, Windowed) else leaf, call.arguments)
    first = _aligned(windowed)[0]
    return Windowed(call.clean, first.y, first.x, call.step.function(**arguments))


def _aligned(sources: Sequence[Windowed]) -> list[Windowed]:
    """The same maps with common spans."""
    y, x = sources[0].y, sources[0].x
    for source in sources[1:]:
        y, x = y.union(source.y), x.union(source.x)
    return [source.at(y, x) for source in sources]


_RULES: dict[str, Callable[[Call], Windowed | None]] = {
    "convolution": convolution,
    "max_pool2d_with_indices": max_pooling,
    "avg_pool2d": average_pooling,
    "constant_pad_nd": padding,
    "cat": concatenation,
    "native_batch_norm": normalization,
    "_native_batch_norm_legit_no_training": normalization,
    "cudnn_batch_norm": normalization,
    "miopen_batch_norm": normalization,
    "slice": channels,
    "clone": pointwise,
    "detach": pointwise,
    "alias": pointwise,
    "_to_copy": pointwise,
}


def rule_for(step: Step) -> Callable[[Call], Windowed | None] | None:
    """The rule of an operation, if there is one."""
    if step.name in _RULES:
        return _RULES[step.name]
    return pointwise if torch.Tag.pointwise in step.function.tags else None

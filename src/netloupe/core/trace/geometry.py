"""What operations that slide a window read along y and x: one table for whoever follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch

from netloupe.core.trace.mode import CantTell, Operation

Rule = TypeVar("Rule")


class Reads(NamedTuple):
    """Along one axis: output i reads `size` positions, `dilation` apart, from `i * stride - padding` on."""

    size: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1


Geometry = Callable[[str, Mapping[str, Any]], list[Reads]]


def sliding(name: str, arguments: Mapping[str, Any]) -> list[Reads]:
    """What one of the operations `SLIDING` reads along its operand's last dimensions, in order.

    name, arguments: of its ATen schema. Raises CantTell. A transposed convolution has it the other way around: input i
    is read by the outputs that `Reads` names.
    """
    return SLIDING[name](name, arguments)


def dimensions(name: str) -> int:
    """How many of the last dimensions an operation moves along, as its name says."""
    return 1 if "1d" in name else 3 if "3d" in name else 2


def _convolution(_name: str, a: Mapping[str, Any]) -> list[Reads]:
    sizes = list(a["weight"].shape[2:])
    usual = {"stride": 1, "padding": 0, "dilation": 1}
    options = (_each(a.get(name, value), len(sizes)) for name, value in usual.items())
    return [Reads(*axis) for axis in zip(sizes, *options, strict=True)]


def _pooling(name: str, a: Mapping[str, Any]) -> list[Reads]:
    count = dimensions(name)
    sizes = _each(a["kernel_size"], count)
    stride, padding, dilation = a.get("stride") or sizes, a.get("padding", 0), a.get("dilation", 1)
    return [Reads(*axis) for axis in zip(sizes, *(_each(o, count) for o in (stride, padding, dilation)), strict=True)]


def _padding(_name: str, a: Mapping[str, Any]) -> list[Reads]:
    """By a constant; amounts (before, after) from the last dimension on."""
    return [Reads(padding=before) for before in a["pad"][-2::-2]]


def _each(value: int | str | list[int], count: int) -> list[int]:
    if isinstance(value, str):
        raise CantTell(f"an amount is given by a word: {value!r}")
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values


def _table(*rows: tuple[Geometry, str]) -> dict[str, Geometry]:
    return {name: geometry for geometry, names in rows for name in names.split()}


# Names differ between versions of torch and between devices.
SLIDING = _table(
    (_convolution, "convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution"),
    (_convolution, "cudnn_convolution_relu miopen_convolution conv1d conv2d conv3d"),
    (_pooling, "max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices mkldnn_max_pool2d"),
    (_pooling, "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"),
    (_padding, "constant_pad_nd"),
)


def rule_among(rules: Mapping[str, Rule], operation: Operation, sliding: Rule, elementwise: Rule) -> Rule:
    """The rule of an operation, by its name, or by its kind. Raises CantTell where there is none.

    sliding: of windows (`SLIDING`). elementwise: of what torch tags as such.
    """
    if operation.name in rules:
        return rules[operation.name]
    if operation.name in SLIDING:
        return sliding
    if torch.Tag.pointwise in operation.function.tags:
        return elementwise
    raise CantTell(f"there is no rule for aten::{operation.name}")

"""One operation as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.trace.marks import Axis, Mark


@dataclass(frozen=True)
class Call:
    """One operation that ran.

    arguments: by the names of its schema, defaults too. operands: those that see the image, in the schema's order,
    and their `marks`. rerun: the operation on another tensor in the first operand's place.
    """

    name: str
    arguments: dict[str, Any]
    operands: tuple[Tensor, ...]
    marks: tuple[Mark, ...]
    outputs: tuple[Tensor, ...]
    rerun: Callable[[Tensor], Tensor]

    @property
    def mark(self) -> Mark:
        """Of the one operand that sees the image; ValueError if there are several."""
        (mark,) = self.marks
        return mark

    @property
    def shape(self) -> torch.Size:
        return self.operands[0].shape

    @property
    def out(self) -> torch.Size:
        return self.outputs[0].shape

    @property
    def dim(self) -> int:
        """The argument `dim`, counted from the front."""
        return int(self.arguments["dim"]) % len(self.shape)

    @property
    def spatial(self) -> int:
        """How many of the last dimensions a convolution or pooling moves along, as its name says."""
        return 1 if "1d" in self.name else 3 if "3d" in self.name else 2


Marks = Mark | Sequence[Mark | None] | None
Rule = Callable[[Call], Marks]


def walking(call: Call, last: int, change: Callable[[Axis, int], Axis]) -> Mark | None:
    """The mark with `change(axis, dim)` for the axes among the last dimensions of the operand."""
    mark = call.mark
    axes = []
    for axis in mark.axes:
        if axis.dim is not None and axis.dim >= len(call.shape) - last:
            if mark.along(axis.dim, call.shape) is not True:
                return None
            axis = change(axis, axis.dim)
        axes.append(axis)
    return mark.change(*axes)

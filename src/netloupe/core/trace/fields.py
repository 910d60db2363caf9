"""Following what tensors see of the image while a module runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.trace.call import Call
from netloupe.core.trace.field_rules import blind, rule_for
from netloupe.core.trace.marks import Axis, Mark

Key = tuple[int, tuple[int, ...], tuple[int, ...]]


class Tracker:
    """Receptive fields from the operations of one pass, whatever Python code calls them.

        tracker = Tracker()
        with tracker.watching(images):
            module(images)                      # tracker.field(tensor) inside, as tensors are made, or after it

    Below Python, at the dispatcher, every module, function, method and in-place operation looks alike, so nothing
    depends on how the network is written. Tensors that were watched are kept until the tracker goes.
    """

    def __init__(self) -> None:
        self._marks: dict[int, dict[Key, Mark | None]] = {}  # by storage, then by view of it; None: track was lost
        self._kept: list[Tensor] = []  # or else a storage's address could come to stand for another
        self._image = (0, 0)

    @contextmanager
    def watching(self, images: Tensor) -> Iterator[None]:
        """Follow what is computed from `images` (N, C, H, W) inside."""
        height, width = images.shape[2:]
        self._image = (height, width)
        y, x = (Axis(d, tuple((i, i + 1) for i in range(n)), (0, 1, 1)) for d, n in ((2, height), (3, width)))
        self._set(images, Mark(y, x))
        with Watch(self._follow):
            yield

    def field(self, tensor: Tensor) -> ReceptiveField | None:
        """What the neurons of (1, C, H, W) or (1, C) see; None if an operation that is not known stood in between."""
        mark = self._mark(tensor) if self._sees(tensor) else None
        return None if mark is None else mark.field(tensor.shape, self._image)

    def _follow(self, function: torch._ops.OpOverload, arguments: dict[str, Any], result: Any) -> None:
        leaves = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, Tensor)]
        operands = tuple(t for t in leaves if self._sees(t))
        outputs = tuple(leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor))
        name = function._schema.name.partition("::")[2]
        written = [arguments[a.name] for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        name = name.removesuffix("_") if written else name
        if not operands or blind(name):
            return
        found = self._apply(name, function, arguments, operands, outputs)
        targets = [t for t in written if isinstance(t, Tensor)]
        for output, mark in zip(outputs, found, strict=True):
            if any(output is target for target in targets):
                self._overwrite(output, mark)
            else:
                self._set(output, mark)
        for target in targets:
            if not any(output is target for output in outputs):
                self._overwrite(target, None)

    def _apply(
        self,
        name: str,
        function: torch._ops.OpOverload,
        arguments: dict[str, Any],
        operands: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
    ) -> Sequence[Mark | None]:
        """The marks of the outputs; None for all where an operand's track was lost or the rule can't tell."""
        lost = [None] * len(outputs)
        known = [self._mark(operand) for operand in operands]
        marks = tuple(mark for mark in known if mark is not None)
        rule = rule_for(name, function)
        if rule is None or len(marks) < len(known) or not outputs:
            return lost

        def rerun(tensor: Tensor) -> Tensor:
            result: Tensor = function(tensor, **dict(list(arguments.items())[1:]))
            return result

        try:
            found = rule(Call(name, arguments, operands, marks, outputs, rerun))
        except (ValueError, LookupError, TypeError):  # arguments in a form that the rule does not know
            return lost
        if isinstance(found, Sequence):
            return found
        return [found if output.shape == outputs[0].shape else None for output in outputs]

    def _sees(self, tensor: Tensor) -> bool:
        return storage(tensor) in self._marks

    def _mark(self, tensor: Tensor) -> Mark | None:
        return self._marks[storage(tensor)].get(view(tensor))

    def _set(self, tensor: Tensor, mark: Mark | None) -> None:
        self._marks.setdefault(storage(tensor), {})[view(tensor)] = mark
        self._kept.append(tensor)

    def _overwrite(self, tensor: Tensor, mark: Mark | None) -> None:
        """After an in-place operation; other views of the same memory lose track unless nothing changed."""
        if not (self._sees(tensor) and self._mark(tensor) == mark):
            self._marks[storage(tensor)] = {}
            self._set(tensor, mark)


class Watch(TorchDispatchMode):
    """Hands each operation that ran to `follow`, its arguments by name."""

    def __init__(self, follow: Callable[[torch._ops.OpOverload, dict[str, Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.follow = follow

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch asks it; with True the compiler is imported at the first operation, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        schema = func._schema.arguments
        arguments = {a.name: a.default_value for a in schema if a.has_default_value()}
        arguments |= dict(zip((a.name for a in schema), args, strict=False)) | (kwargs or {})
        self.follow(func, {a.name: arguments[a.name] for a in schema if a.name in arguments}, result)
        return result


def storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else id(tensor)


def view(tensor: Tensor) -> Key:
    strided = tensor.layout is torch.strided
    return int(tensor.storage_offset()) if strided else 0, tuple(tensor.shape), tensor.stride() if strided else ()

"""Writing down what one pass computes, operation by operation, so that it can be computed again from other values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from netloupe.core.trace.mode import CantTell, Memory, Operation, repeated, same_memory, tensors

Value = TypeVar("Value")

_DECIDING = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "bincount"}


@dataclass(frozen=True)
class Ref:
    """Stands for a value that depends on the first: its number."""

    value: int


@dataclass(frozen=True)
class Step:
    """One operation: `arguments` by the names of its schema, with `Ref` for what depends on the first value.

    function writes in place, if at all, to what no later step reads. outputs: the numbers of its tensors, in order.
    memo: what its rule keeps for the next windows.
    """

    name: str
    function: torch._ops.OpOverload
    arguments: dict[str, Any]
    outputs: tuple[int, ...]
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def inputs(self) -> list[int]:
        return [leaf.value for leaf in tree_flatten(self.arguments)[0] if isinstance(leaf, Ref)]

    def filled(self, values: Mapping[int, Any]) -> dict[str, Any]:
        """The arguments with values in place of `Ref`."""
        found: dict[str, Any] = tree_map(
            lambda leaf: values[leaf.value] if isinstance(leaf, Ref) else leaf, self.arguments
        )
        return found

    def run(self, values: Mapping[int, Tensor], count: int = 1) -> list[Tensor]:
        """The outputs; for `count` images where one was recorded. Raises CantTell."""
        arguments = self.filled(values)
        if count > 1:
            for name in ("size", "shape"):
                sizes = arguments.get(name)
                if isinstance(sizes, list | tuple) and sizes and sizes[0] == 1:
                    arguments[name] = [count, *sizes[1:]]
            if self.name == "native_group_norm":
                arguments["N"] = count
            if "tensors" in arguments:
                given = arguments["tensors"]
                arguments["tensors"] = [t.expand(count, *t.shape[1:]) if t.shape[:1] == (1,) else t for t in given]
        return tensors(repeated(self.function, arguments))


@dataclass(frozen=True)
class Graph:
    """The steps from value 0 to what was read, in order. outputs: the numbers of what was read, by name.

    clean: the values of the recorded pass, where they were kept.
    """

    steps: Sequence[Step]
    outputs: Mapping[str, int]
    clean: Mapping[int, Tensor]

    @cached_property
    def last(self) -> dict[int, int]:
        """Value -> the last step that reads it."""
        last = {value: i for i, step in enumerate(self.steps) for value in step.inputs}
        return last | dict.fromkeys(self.outputs.values(), len(self.steps))

    def advance(
        self,
        values: dict[int, Value],
        start: int,
        end: int,
        compute: Callable[[Step, dict[int, Value]], Sequence[Value]],
    ) -> None:
        """Take some steps, and drop the values that no later one needs."""
        for i in range(start, end):
            step = self.steps[i]
            values |= dict(zip(step.outputs, compute(step, values), strict=False))
            for number in {*step.inputs, *step.outputs} & values.keys():
                if self.last.get(number, -1) <= i:
                    del values[number]

    def replay(self, value: Tensor) -> dict[str, Tensor]:
        """What would have been read with another tensor for value 0, which may be overwritten. Raises CantTell."""
        values = {0: value}
        self.advance(values, 0, len(self.steps), Step.run)
        return {name: values[number] for name, number in self.outputs.items()}


class Recorder:
    """Records a pass from one of its tensors on.

        recorder = Recorder()
        with following(recorder.follow):
            recorder.start(image)               # or later, as a layer's output is made
            module(image)                       # recorder.read(name, tensor) as the tensors to be known are made
        graph = recorder.graph()

    Tensors that don't depend on the first are kept as they are. CantTell comes out where the pass reads
    values to decide what to do, or a tensor that was written to through another view.

    keep: for one image, to be repeated for several. The values are kept, and what takes no more than a value's shape
    depends on it.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._count = 0
        self._known: Memory[int] = Memory()
        self._constants: Memory[None] = Memory()
        self._steps: list[Step] = []
        self._outputs: dict[str, int] = {}
        self._clean: dict[int, Tensor] = {}

    def start(self, tensor: Tensor) -> Tensor:
        """The same tensor, from now on value 0."""
        assert self._count == 0, "one pass for each recorder"
        self._add(tensor)
        return tensor

    def read(self, name: str, tensor: Tensor) -> None:
        """Make a tensor of the pass, as it is now, an output of the graph."""
        self._outputs[name] = self._value(tensor)

    def graph(self) -> Graph:
        """The steps that what was read depends on."""
        wanted = set(self._outputs.values())
        kept = []
        for step in reversed(self._steps):
            if wanted & set(step.outputs):
                kept.append(step)
                wanted |= set(step.inputs)
        return Graph(kept[::-1], self._outputs, self._clean)

    def follow(self, operation: Operation) -> Callable[[Any], None] | None:
        """Record an operation that depends on the first value; its outputs once it ran."""
        seen = any(tensor in self._known for tensor in operation.tensors) and (self._keep or not operation.blind)
        if seen:
            self._steps.append(self._step(operation))
        for tensor in operation.written:
            self._preserve(tensor)

        def finish(result: Any) -> None:
            for tensor in operation.written:
                self._known.forget(tensor)
            self._steps[-1] = replace(self._steps[-1], outputs=tuple(self._add(tensor) for tensor in tensors(result)))

        return finish if seen else None

    def _step(self, operation: Operation) -> Step:
        """Still without outputs."""
        name, function = operation.name, operation.function
        if name in _DECIDING:
            raise CantTell(f"its path depends on the values of pixels (aten::{name})")
        if len(operation.written) > 1:
            raise CantTell(f"aten::{name} writes to several tensors in place")
        if operation.written and (self._keep or operation.written[0] not in self._known):
            function = _out_of_place(function)
        return Step(name, function, tree_map(self._refer, operation.arguments), ())

    def _add(self, tensor: Tensor) -> int:
        number = self._count
        self._count += 1
        self._known.put(tensor, number)
        if self._keep:
            self._clean[number] = tensor
        return number

    def _value(self, tensor: Tensor) -> int:
        if tensor not in self._known:
            raise CantTell("what is read does not depend on it")
        number = self._known.get(tensor)
        if number is None:
            raise CantTell("it reads a tensor after a part of it was written in place")
        return number

    def _refer(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf in self._known:
            return Ref(self._value(leaf))
        self._constants.put(leaf, None)
        return leaf

    def _preserve(self, tensor: Tensor) -> None:
        """Before a tensor is written to: keep what all that lie in its memory hold now."""
        if self._keep:
            for number in self._known.views(tensor):
                self._clean[number] = self._clean[number].clone()
        if tensor in self._constants:
            self._steps = [
                replace(step, arguments=tree_map(partial(_apart, tensor), step.arguments)) for step in self._steps
            ]


def _apart(written: Tensor, leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) and same_memory(leaf, written) else leaf


def _out_of_place(function: torch._ops.OpOverload) -> torch._ops.OpOverload:
    """relu_ -> relu. Raises CantTell if there is none."""
    space, _, name = function._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, space), name.removesuffix("_"), None)
    overload = function._schema.overload_name or "default"
    found: torch._ops.OpOverload | None = getattr(packet, overload, None) if name.endswith("_") else None
    if found is None:
        raise CantTell(f"aten::{name} writes in place and has no other form")
    return found

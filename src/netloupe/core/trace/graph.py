"""Writing down what one pass computes, operation by operation, so that it can be computed again for other pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class Unrecordable(Exception):
    """A pass that can't be computed again from its record; the text says why."""


@dataclass(frozen=True)
class Ref:
    """Stands for a value that depends on the image: its number in `Graph.clean`."""

    value: int


@dataclass(frozen=True)
class Step:
    """One operation: `arguments` by the names of its schema, with `Ref` for what depends on the image.

    function never writes in place. outputs: the numbers of its tensors, in order. memo: what its rule keeps for the
    next windows.
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
        """The arguments with values in place of `Ref`, which stand in lists at the deepest."""

        def value(given: Any) -> Any:
            return values[given.value] if isinstance(given, Ref) else given

        return {
            name: [value(one) for one in given] if isinstance(given, list | tuple) else value(given)
            for name, given in self.arguments.items()
        }


@dataclass
class Graph:
    """The operations between an image and what was read. Value 0 is the image, `clean` the values of this pass."""

    clean: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)

    def needed(self) -> list[Step]:
        """The steps that the outputs depend on, in order."""
        wanted = set(self.outputs.values())
        kept = []
        for step in reversed(self.steps):
            if wanted & set(step.outputs):
                kept.append(step)
                wanted |= set(step.inputs)
        return kept[::-1]


class Recorder:
    """Records a pass over one image (1, C, H, W), below Python, where modules, functions and methods look alike.

        recorder = Recorder()
        with recorder.recording(image):
            module(image)                       # recorder.read(name, tensor) as the tensors to be known are made

    Where the pass reads pixel values to decide what to do, or writes into parts of a tensor, it runs on and `finish`
    raises Unrecordable.
    """

    def __init__(self) -> None:
        self._graph = Graph()
        self._trouble: Unrecordable | None = None
        self._values: dict[Key, int] = {}
        self._storages: set[int] = set()
        self._kept: list[Tensor] = []  # or else a storage's address could come to stand for another

    @contextmanager
    def recording(self, image: Tensor) -> Iterator[None]:
        self._add(image)
        with _Record(self):
            yield

    def read(self, name: str, tensor: Tensor) -> None:
        """Make a tensor of the pass, as it is now, an output of the graph."""
        try:
            self._graph.outputs[name] = self._value(tensor)
        except Unrecordable as trouble:
            self._trouble = self._trouble or trouble

    def finish(self) -> Graph:
        """The graph. Raises Unrecordable."""
        if self._trouble is not None:
            raise self._trouble
        return self._graph

    def call(self, function: torch._ops.OpOverload, arguments: dict[str, Any]) -> Any:
        """Run one operation, and record it if it sees the image."""
        leaves = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, Tensor)]
        if self._trouble is not None or not any(self._sees(leaf) for leaf in leaves):
            return function(**arguments)
        try:
            finish = self._prepare(function, arguments)
        except Unrecordable as trouble:  # raised here it would be the network's error, which it is not
            self._trouble = trouble
            return function(**arguments)
        result = function(**arguments)
        finish(result)
        return result

    def _prepare(self, function: torch._ops.OpOverload, arguments: dict[str, Any]) -> Callable[[Any], None]:
        """What to do with the operation's result."""
        name = function._schema.name.partition("::")[2]
        if name in _DECIDING:
            raise Unrecordable(f"its path depends on the values of pixels (aten::{name})")
        written = [arguments[a.name] for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        recorded = tree_map(lambda leaf: self._refer(leaf) if isinstance(leaf, Tensor) else leaf, arguments)
        for tensor in written:
            self._preserve(tensor)
        if len(written) > 1:
            raise Unrecordable(f"aten::{name} writes to several tensors in place")
        recorded_function = _out_of_place(function) if written else function

        def finish(result: Any) -> None:
            outputs = [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, Tensor)]
            if written:
                self._forget(written[0])
            numbers = tuple(self._add(output) for output in outputs)
            self._graph.steps.append(Step(name.removesuffix("_"), recorded_function, recorded, numbers))

        return finish

    def _add(self, tensor: Tensor) -> int:
        self._graph.clean.append(tensor)
        self._kept.append(tensor)
        self._storages.add(_storage(tensor))
        self._values[_key(tensor)] = len(self._graph.clean) - 1
        return len(self._graph.clean) - 1

    def _sees(self, tensor: Tensor) -> bool:
        return _storage(tensor) in self._storages

    def _value(self, tensor: Tensor) -> int:
        if _key(tensor) not in self._values:
            raise Unrecordable("it reads a tensor after a part of it was written in place")
        return self._values[_key(tensor)]

    def _refer(self, tensor: Tensor) -> Tensor | Ref:
        return Ref(self._value(tensor)) if self._sees(tensor) else tensor

    def _preserve(self, tensor: Tensor) -> None:
        """Before a tensor is written to: keep what it holds now, for all values in its memory."""
        if not self._sees(tensor):
            raise Unrecordable("it writes pixels into a tensor made beforehand")
        storage, copies = _storage(tensor), {}
        for key, value in self._values.items():
            if key[0] == storage:
                copies[value] = self._graph.clean[value].clone()
        for value, copy in copies.items():
            self._graph.clean[value] = copy

    def _forget(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        self._values = {key: value for key, value in self._values.items() if key[0] != storage}


_DECIDING = {"_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "bincount"}


class _Record(TorchDispatchMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch asks it; with True the compiler is imported at the first operation, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        schema = func._schema.arguments
        named = {a.name: a.default_value for a in schema if a.has_default_value()}
        named |= dict(zip((a.name for a in schema), args, strict=False)) | (kwargs or {})
        return self.recorder.call(func, named)


def _out_of_place(function: torch._ops.OpOverload) -> torch._ops.OpOverload:
    """relu_ -> relu. Raises Unrecordable if there is none."""
    space, _, name = function._schema.name.partition("::")
    packet = getattr(getattr(torch.ops, space), name.removesuffix("_"), None)
    overload = function._schema.overload_name or "default"
    found: torch._ops.OpOverload | None = getattr(packet, overload, None) if name.endswith("_") else None
    if found is None:
        raise Unrecordable(f"aten::{name} writes in place and has no other form")
    return found


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else id(tensor)


def _key(tensor: Tensor) -> Key:
    if tensor.layout is not torch.strided:
        return id(tensor), 0, tuple(tensor.shape), ()
    return _storage(tensor), int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()

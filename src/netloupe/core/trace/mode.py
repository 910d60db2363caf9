"""Following a pass below Python, at the dispatcher, where every module, function and method looks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten

from netloupe.core.errors import first_line

Known = TypeVar("Known")
_BLIND = {"zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "empty_like", "randint_like"}
Follow = Callable[["Operation"], Callable[[Any], None] | None]


class CantTell(Exception):
    """What was asked can't be told from the operations of a pass; the text says why.

    Raised only where a rule knows its bounds. Any other exception of a rule is a fault of the rule, and comes out.
    """


class Operation:
    """One operation: `arguments` by the names of its schema, defaults too.

    name: without the underscore of what writes in place.
    """

    def __init__(self, function: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        schema = function._schema.arguments
        given = {a.name: a.default_value for a in schema if a.has_default_value()}
        given |= dict(zip((a.name for a in schema), args, strict=False)) | kwargs
        self.function = function
        self.arguments = {a.name: given[a.name] for a in schema if a.name in given}

    @cached_property
    def name(self) -> str:
        name = self.function._schema.name.partition("::")[2]
        return name.removesuffix("_") if self.written else name

    @cached_property
    def tensors(self) -> list[Tensor]:
        """Among the arguments, and in their lists."""
        return tensors(self.arguments)

    @property
    def blind(self) -> bool:
        """Whether it reads no more of a tensor than its shape and type."""
        return self.name in _BLIND or self.name.startswith("new_")

    @cached_property
    def written(self) -> list[Tensor]:
        """The arguments that it writes to."""
        schema = self.function._schema.arguments
        marked = (self.arguments.get(a.name) for a in schema if a.alias_info and a.alias_info.is_write)
        return [argument for argument in marked if isinstance(argument, Tensor)]


def tensors(nested: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(nested)[0] if isinstance(leaf, Tensor)]


def repeated(function: torch._ops.OpOverload, arguments: dict[str, Any]) -> Any:
    """The operation on other tensors, however they lie, than in the pass. Raises CantTell where it refuses them."""
    if function in (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default):
        function, arguments = torch.ops.aten.reshape.default, {"self": arguments["self"], "shape": arguments["size"]}
    try:
        return function(**arguments)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CantTell(f"an operation can't be repeated on other values ({first_line(error)})") from error


@contextmanager
def following(*followers: Follow) -> Iterator[None]:
    """Hand every operation inside to each follower before it runs, and its result to what they return, if anything.

    What they compute is not followed.
    After an exception of either the pass goes on unfollowed, so that no `except` of the network takes it for its own;
    it comes out at the end.
    """
    mode = _Mode(followers)
    try:
        with mode:
            yield
    except Exception:
        if mode.fault is None:
            raise
    if mode.fault is not None:
        raise mode.fault


@contextmanager
def unfollowed() -> Iterator[None]:
    """What is computed inside, of a pass that is followed, is handed to nobody."""
    with _disable_current_modes():
        yield


class _Mode(TorchDispatchMode):
    def __init__(self, followers: Sequence[Follow]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.followers = followers
        self.fault: Exception | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch asks it; with True the compiler is imported at the first operation, which takes seconds."""
        return False

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation = Operation(func, args, kwargs or {})
        ends = [self._try(partial(follow, operation)) for follow in self.followers]
        result = func(*args, **(kwargs or {}))
        for finish in ends:
            if finish is not None:
                self._try(partial(finish, result))
        return result

    def _try(self, call: Callable[[], Any]) -> Any:
        if self.fault is None:
            try:
                return call()
            except Exception as fault:
                self.fault = fault
        return None


class Memory(Generic[Known]):
    """What is known of tensors, by the memory they lie in and how they view it.

    Holds no tensor's memory, only its address: it is not given to another as long as something refers to it weakly.
    """

    def __init__(self) -> None:
        self._views: dict[int, dict[tuple[Any, ...], Known]] = {}
        self._addresses: list[object] = []

    def __contains__(self, tensor: Tensor) -> bool:
        """Whether anything was known of this memory, be it of another view."""
        return _address(tensor) in self._views

    def get(self, tensor: Tensor) -> Known | None:
        return self._views.get(_address(tensor), {}).get(_view(tensor))

    def put(self, tensor: Tensor, known: Known) -> None:
        strided = tensor.layout is torch.strided
        self._addresses.append(StorageWeakRef(tensor.untyped_storage()) if strided else tensor)
        self._views.setdefault(_address(tensor), {})[_view(tensor)] = known

    def views(self, tensor: Tensor) -> list[Known]:
        """What is known of all views of this memory."""
        return list(self._views.get(_address(tensor), {}).values())

    def change(self, tensor: Tensor, how: Callable[[Known], Known]) -> None:
        """What is known of all views of this memory."""
        views = self._views.get(_address(tensor), {})
        views.update({view: how(known) for view, known in views.items()})

    def forget(self, tensor: Tensor) -> None:
        """All views of this memory."""
        self._views[_address(tensor)] = {}


def same_memory(one: Tensor, other: Tensor) -> bool:
    return _address(one) == _address(other)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else id(tensor)


def _view(tensor: Tensor) -> tuple[Any, ...]:
    strided = tensor.layout is torch.strided
    return int(tensor.storage_offset()) if strided else 0, tuple(tensor.shape), tensor.stride() if strided else ()

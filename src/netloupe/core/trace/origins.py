"""From which layers a tensor was computed, and which the last weights on its way have read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.trace.mode import Follow, Memory, Operation, tensors

UNNAMED = ""
"""What weights made outside of every module."""

_MOVING = {"cat", "_cat", "concat", "stack", "copy", "slice_scatter", "select_scatter", "index_put", "grid_sampler_2d"}


@dataclass(frozen=True)
class Origin:
    """Where a tensor comes from; names of modules' calls as they were given to `Origins.name`.

    near: the last ones it was computed from with no weights in between. read: those that the last weights before it
    read. by: those that these weights belong to. All empty for the image itself.
    """

    near: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    by: frozenset[str] = frozenset()


class Origins:
    """Follows one pass below Python, as `Tracker` does; an operation that is not known hands on what it reads.

    token: of a tensor that is one token of a sequence, its number; `read` then names it as `name@token0`.
    """

    def __init__(self, token: Callable[[Tensor], int | None] = lambda _: None) -> None:
        self._token = token
        self._tokens: set[str] = set()  # calls that give one token themselves
        self._handed: dict[str, frozenset[str]] = {}  # what a call hands on, without weights of its own
        self._known: Memory[Origin] = Memory()

    def start(self, images: Tensor) -> Follow:
        """Begin with `images`: what follows the operations of a pass (see `following`)."""
        self._known.put(images, Origin())
        return self._follow

    def name(self, name: str, output: Tensor) -> None:
        """A module gives this tensor."""
        if output not in self._known:
            return
        if self._token(output) is not None:
            self._tokens.add(name)
        before = self.of(output)
        made = frozenset({name}) if before.near == {UNNAMED} else before.by
        if UNNAMED not in before.near:
            self._handed[name] = before.near
        self._known.put(output, Origin(frozenset({name}), before.read, made))

    def of(self, tensor: Tensor) -> Origin:
        """The origin of a tensor, as far as it is known."""
        known = self._known.get(tensor)
        return known if known is not None else _union(self._known.views(tensor))

    def listed(self, names: Iterable[str], layers: Container[str]) -> frozenset[str]:
        """The names, but for one that is no layer and bears no weights what it was computed from, if all of that is."""
        found: set[str] = set()
        for name in names:
            call = name.partition("@")[0]
            before = frozenset() if call in layers else self.listed(self._handed.get(call, ()), layers)
            found |= before if before and all(one.partition("@")[0] in layers for one in before) else {name}
        return frozenset(found)

    def read(self, tensor: Tensor) -> frozenset[str]:
        """What is read with a tensor: the last modules' calls, or a token that one gave."""
        near, token = self.of(tensor).near, self._token(tensor)
        whole = {UNNAMED, *self._tokens}
        return near if token is None else frozenset(one if one in whole else f"{one}@token{token}" for one in near)

    def _follow(self, operation: Operation) -> Callable[[Any], None] | None:
        seen = [one for one in operation.tensors if one in self._known]
        if not seen or operation.blind:
            return None
        origin = _union(self.of(one) for one in seen)
        name, tags = operation.name, operation.function.tags
        moves = torch.Tag.pointwise in tags or name in _MOVING or "norm" in name
        fixed = [one for one in operation.tensors if one not in self._known]
        if not moves and any(one.ndim > 1 and one.is_floating_point() for one in fixed):
            read = frozenset().union(*(self.read(one) for one in seen))
            origin = Origin(frozenset({UNNAMED}), read, frozenset({UNNAMED}))

        def finish(result: Any) -> None:
            for target in operation.written:  # other views of its memory may hold some of it from now on
                self._known.change(target, lambda known: _union([known, origin]))
                self._known.put(target, origin)
            for output in tensors(result):
                if not any(output is target for target in operation.written):
                    self._known.put(output, origin)

        return finish


def _union(origins: Iterable[Origin]) -> Origin:
    found = list(origins)
    near, read, by = ([getattr(one, name) for one in found] for name in ("near", "read", "by"))
    return Origin(frozenset().union(*near), frozenset().union(*read), frozenset().union(*by))

"""From which layers a tensor was computed, and which the last weights on its way have read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netloupe.core.trace.mode import Memory, Operation, following, tensors

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
    """Follows one pass below Python, as `Tracker` does; an operation that is not known hands on what it reads."""

    def __init__(self) -> None:
        self._known: Memory[Origin] = Memory()

    @contextmanager
    def watching(self, images: Tensor) -> Iterator[None]:
        """Follow what is computed from `images` inside."""
        self._known.put(images, Origin())
        with following(self._follow):
            yield

    def name(self, name: str, output: Tensor) -> None:
        """A module gives this tensor."""
        if output not in self._known:
            return
        before = self.of(output)
        made = frozenset({name}) if before.near == {UNNAMED} else before.by
        self._known.put(output, Origin(frozenset({name}), before.read, made))

    def of(self, tensor: Tensor) -> Origin:
        """The origin of a tensor, as far as it is known."""
        known = self._known.get(tensor)
        return known if known is not None else _union(self._known.views(tensor))

    def _follow(self, operation: Operation) -> Callable[[Any], None] | None:
        seen = [one for one in operation.tensors if one in self._known]
        if not seen or operation.blind:
            return None
        origin = _union(self.of(one) for one in seen)
        name, tags = operation.name, operation.function.tags
        moves = torch.Tag.pointwise in tags or name in _MOVING or "norm" in name
        fixed = [one for one in operation.tensors if one not in self._known]
        if not moves and any(one.ndim > 1 and one.is_floating_point() for one in fixed):
            origin = Origin(frozenset({UNNAMED}), origin.near, frozenset({UNNAMED}))

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

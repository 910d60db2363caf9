"""From which layers a tensor was computed, and which the last weights on its way have read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from netloupe.core.trace.fields import Key, Watch, storage, view

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
        self._known: dict[int, dict[Key, Origin]] = {}  # by storage, then by view of it
        self._kept: list[Tensor] = []  # or else a storage's address could come to stand for another

    @contextmanager
    def watching(self, images: Tensor) -> Iterator[None]:
        """Follow what is computed from `images` inside."""
        self._set(images, Origin())
        with Watch(self._follow):
            yield

    def name(self, name: str, output: Tensor) -> None:
        """A module gives this tensor."""
        if storage(output) not in self._known:
            return
        before = self.of(output)
        made = frozenset({name}) if before.near == {UNNAMED} else before.by
        self._set(output, Origin(frozenset({name}), before.read, made))

    def of(self, tensor: Tensor) -> Origin:
        """The origin of a tensor, as far as it is known."""
        views = self._known.get(storage(tensor), {})
        return views[view(tensor)] if view(tensor) in views else _union(views.values())

    def _follow(self, function: torch._ops.OpOverload, arguments: dict[str, Any], result: Any) -> None:
        operands = [leaf for leaf in tree_flatten(arguments)[0] if isinstance(leaf, Tensor)]
        seen = [one for one in operands if storage(one) in self._known]
        name = function._schema.name.partition("::")[2].rstrip("_")
        if not seen or name.endswith("_like") or name.startswith("new_"):
            return
        origin = _union(self.of(one) for one in seen)
        moves = torch.Tag.pointwise in function.tags or name in _MOVING or "norm" in name
        fixed = [one for one in operands if storage(one) not in self._known]
        if not moves and any(one.ndim > 1 and one.is_floating_point() for one in fixed):
            origin = Origin(frozenset({UNNAMED}), origin.near, frozenset({UNNAMED}))
        written = [arguments[a.name] for a in function._schema.arguments if a.alias_info and a.alias_info.is_write]
        for target in written:
            if isinstance(target, Tensor):  # other views of its memory may hold some of it from now on
                views = self._known.setdefault(storage(target), {})
                views.update({key: _union([known, origin]) for key, known in views.items()})
                self._set(target, origin)
        for output in tree_flatten(result)[0]:
            if isinstance(output, Tensor) and not any(output is target for target in written):
                self._set(output, origin)

    def _set(self, tensor: Tensor, origin: Origin) -> None:
        self._known.setdefault(storage(tensor), {})[view(tensor)] = origin
        self._kept.append(tensor)


def _union(origins: Iterable[Origin]) -> Origin:
    found = list(origins)
    near, read, by = ([getattr(one, name) for one in found] for name in ("near", "read", "by"))
    return Origin(frozenset().union(*near), frozenset().union(*read), frozenset().union(*by))

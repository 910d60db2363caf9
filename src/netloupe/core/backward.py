"""The way back through a network, and why there may be none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.utils.checkpoint as recomputation
from torch import Tensor, nn

from netloupe.core.errors import LESS, NetworkError, first_line, lacks_memory


class Named(Protocol):
    """A network."""

    @property
    def name(self) -> str: ...

    @property
    def module(self) -> nn.Module: ...


def gradients(
    title: str,
    scores: Sequence[Tensor],
    at: Sequence[Tensor],
    starts: Sequence[Tensor] | None = None,
    *,
    keep: bool = False,
) -> Sequence[Tensor | None]:
    """The gradients of `scores`, weighted by `starts`, by each of `at`; None where they don't depend on it.

    scores: of several elements only with `starts`. title: of the network. keep: the way back is taken again.
    Raises NetworkError where PyTorch can't go back.
    """
    on_the_way = [one for one in at if one.requires_grad]
    if not on_the_way or not all(score.requires_grad for score in scores):
        return [None] * len(at)
    try:
        found = iter(torch.autograd.grad(list(scores), on_the_way, starts, retain_graph=keep, allow_unused=True))
    except RuntimeError as error:
        reason = LESS if lacks_memory(error) else first_line(error)
        raise NetworkError(f"{title} can't be differentiated: {reason}") from error
    return [next(found) if one.requires_grad else None for one in at]


def quantized(net: Named) -> str | None:
    """The name of the first quantized part of a network; None without one."""
    return next((name for name, part in net.module.named_modules() if "quantized" in type(part).__module__), None)


def why_none(net: Named) -> str:
    """What of a network may stop gradients, to follow on the word that something does not depend on the image."""
    name = quantized(net)
    if name is not None:
        return f"; {name!r} is quantized, and has none (give the network before it was quantized)"
    if any(isinstance(part, torch.jit.ScriptModule) for part in net.module.modules()):
        return "; what is TorchScript may have none (give the module before `torch.jit.script`)"
    return " (or a part that runs without gradients hides how)"


class _Kept:
    """Stands for the autograd function of checkpoints: runs what it is given."""

    @staticmethod
    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        del preserve
        return function(*args)


def _kept(*_: Any, **__: Any) -> Iterator[None]:
    yield


@contextmanager
def keeping() -> Iterator[None]:
    """Gradient checkpoints keep what they would compute again on the way back.

    What is computed again would be so outside of the rules and readers of a pass, and the older kind of checkpoint
    gives no gradient for anything inside. Both look these two names up when a module calls them.
    """
    held = recomputation.CheckpointFunction, recomputation._checkpoint_without_reentrant_generator
    recomputation.CheckpointFunction = _Kept  # type: ignore[misc, assignment]
    recomputation._checkpoint_without_reentrant_generator = _kept
    try:
        yield
    finally:
        recomputation.CheckpointFunction, recomputation._checkpoint_without_reentrant_generator = held  # type: ignore[misc]

"""Taps: reading layers' outputs while a module runs, and leaving no trace of having done so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Reader = Callable[[Tensor], Tensor | None]
"""Takes a layer's output as it is produced; what it returns, if anything, goes on in its place."""


class Stop(BaseException):
    """Raised by the last tap to end a pass; no `except Exception` of a module catches it."""


def module_and_call(layer: str) -> tuple[str, int]:
    """'relu' -> ('relu', 1); 'relu~2', its second call in a pass -> ('relu', 2)."""
    name, mark, call = layer.rpartition("~")
    return (name, int(call)) if mark and call.isdigit() else (layer, 1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, with every submodule's own mode and the random state given back at the end."""
    training = [m for m in module.modules() if m.training]
    parameter = next(module.parameters(), None)
    devices = [parameter.device] if parameter is not None and parameter.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for m in training:
            m.training = False
        try:
            yield
        finally:
            for m in training:
                m.training = True


@contextmanager
def tapped(module: nn.Module, readers: Mapping[str, Reader], *, stop: bool) -> Iterator[None]:
    """Hooks that hand the outputs of the named layers to their readers, gone at the end.

    With `stop` the pass ends at the last layer asked for, by `Stop`, which ends here.
    """
    calls: dict[str, dict[int, Reader]] = {}
    for layer, reader in readers.items():
        name, call = module_and_call(layer)
        calls.setdefault(name, {})[call] = reader
    waiting = len(readers)
    handles = []

    def hook_for(wanted: dict[int, Reader]) -> Callable[..., Any]:
        count = 0

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            nonlocal count, waiting
            count += 1
            if count not in wanted:
                return None
            replacement = wanted[count](output)
            waiting -= 1
            if stop and waiting == 0:
                raise Stop
            return replacement

        return hook

    try:
        for name, wanted in calls.items():
            handles.append(module.get_submodule(name).register_forward_hook(hook_for(wanted)))
        yield
    except Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()

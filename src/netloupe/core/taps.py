"""Taps: reading layers' outputs while a module runs, and leaving no trace of having done so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from netloupe.core.backward import keeping
from netloupe.core.precision import fully

LOGITS = ""
"""The name under which the logits are read: the root module has the empty name."""

Reader = Callable[[Tensor], Tensor | None]
"""Takes a layer's output as it is produced; what it returns, if anything, goes on in its place."""

_one_at_a_time = threading.RLock()


class Stop(BaseException):
    """Raised by the last tap to end a pass, or by any to hand on what its reader raised.

    No `except Exception` of a module catches it.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


def module_and_call(layer: str) -> tuple[str, int]:
    """'relu' -> ('relu', 1); 'relu~2', its second call in a pass -> ('relu', 2)."""
    name, mark, call = layer.rpartition("~")
    return (name, int(call)) if mark and call.isdecimal() else (layer, 1)


def given(result: Any) -> Tensor | None:
    """The tensor that a module gives: what it returns, or the first entry of that; None for anything else."""
    first = result[0] if isinstance(result, tuple | list) and result else result
    return first if isinstance(first, Tensor) else None


def _replaced(result: Any, output: Tensor | None) -> Any:
    """What a module returns with another tensor for `given` of it; None for None."""
    if output is None or not isinstance(result, tuple | list):
        return output
    entries = [output, *result[1:]]
    return type(result)(*entries) if hasattr(result, "_fields") else type(result)(entries)


def placement(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a module's weights lie and their floating type; CPU and float32 for a module that has none."""
    device = next((w.device for w in _weights(module)), torch.device("cpu"))
    return device, next((w.dtype for w in _weights(module) if w.is_floating_point()), torch.float32)


def _weights(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, with every submodule's own mode, its buffers and the random state given back at the end.

    Meanwhile gradient checkpoints keep what they would compute again, and attention takes no path that calls no
    submodules. One thread at a time, since modes, hooks and the random state belong to all.
    """
    with _one_at_a_time:
        modules = list(module.modules())
        training = [m for m in modules if getattr(m, "training", False)]
        scripted = torch.jit.ScriptModule
        buffers = [(m, dict(m._buffers)) for m in modules if m._buffers and not isinstance(m, scripted)]
        held = {id(buffer): buffer for m in modules for buffer in m._buffers.values() if buffer is not None}
        values = [(buffer, _version(buffer), buffer.detach().clone()) for buffer in held.values()]
        started = torch.cuda.is_initialized()
        devices = {p.device for p in module.parameters() if p.device.type == "cuda"} if started else set()
        fused = torch.backends.mha.get_fastpath_enabled()
        with torch.random.fork_rng(devices=list(devices)), keeping():
            try:
                torch.backends.mha.set_fastpath_enabled(False)
                for m in training:
                    m.training = False
                yield
            finally:
                torch.backends.mha.set_fastpath_enabled(fused)
                for m in training:
                    m.training = True
                for m, named in buffers:
                    m._buffers.update(named)
                with torch.no_grad():
                    for buffer, version, value in values:
                        if _version(buffer) != version:
                            buffer.copy_(value)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to; inference tensors don't count."""
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def ending(finished: list[Stop], handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Where a pass that raises one of `finished` ends, with the error that it hands on; the hooks go at the end.

    So do those of `finished`: they hold the frames of the pass, thus every output in them, which hold `finished`.
    """
    try:
        yield
    except Stop as signal:
        if signal not in finished:
            raise
        if signal.error is not None:
            raise signal.error from signal.error.__cause__
    finally:
        finished.clear()
        for handle in handles:
            handle.remove()


@contextmanager
def tapped(module: nn.Module, readers: Mapping[str, Reader], *, stop: bool) -> Iterator[set[str]]:
    """Hooks that hand the outputs of the named layers to their readers, gone at the end.

    Gives the names of the layers that have not been reached. With `stop` the pass ends at the last layer asked for,
    by `Stop`, which ends here. What a reader raises comes out as it is, whatever the module catches.
    """
    calls: dict[str, dict[int, str]] = {}
    for layer in readers:
        name, call = module_and_call(layer)
        calls.setdefault(name, {})[call] = layer
    waiting = set(readers)
    finished: list[Stop] = []
    handles: list[RemovableHandle] = []

    def end(error: Exception | None = None) -> Stop:
        finished.append(Stop(error))
        return finished[-1]

    def hook_for(wanted: dict[int, str]) -> Callable[..., Any]:
        count = 0

        def hook(_module: nn.Module, _args: Any, result: Any) -> Any:
            nonlocal count
            count += 1
            output = given(result)
            if count not in wanted or output is None:
                return None
            try:
                with fully(output.device):
                    replacement = readers[wanted[count]](output)
            except Exception as error:
                raise end(error) from error
            waiting.discard(wanted[count])
            if stop and not waiting:
                raise end()
            return _replaced(result, replacement)

        return hook

    with ending(finished, handles):
        for name, wanted in calls.items():
            handles.append(module.get_submodule(name).register_forward_hook(hook_for(wanted)))
        yield waiting

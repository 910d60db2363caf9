"""What layers a module has: found by running it once on a blank image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netloupe.core.errors import NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.layers import Layer, Layers
from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.taps import evaluating, placement
from netloupe.core.trace.fields import Tracker
from netloupe.core.trace.measuring import measure
from netloupe.core.trace.origins import Origin, Origins


@dataclass
class _Seen:
    name: str
    module: nn.Module
    output: Tensor
    version: int
    shape: tuple[int, ...]
    field: ReceptiveField | None


@torch.inference_mode(False)
@torch.no_grad()
def list_layers(
    title: str,
    module: nn.Module,
    inputs: InputSpec,
    forward: Callable[[Tensor], Any],
    pick_logits: Callable[[Any], Tensor],
) -> Layers:
    """The layers in the order in which they finish, the root module left out.

    Every call counts that gives one tensor of two or four dimensions with the batch first. Modules inside
    TorchScript can't be hooked, so they are not among the layers.
    """
    tracker, origins = Tracker(), Origins()
    seen: list[_Seen] = []
    calls: dict[str, int] = {}
    handles = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(called: nn.Module, _args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            address = name if calls[name] == 1 else f"{name}~{calls[name]}"
            if not isinstance(output, Tensor):
                return
            origins.name(address, output)
            if output.ndim in (2, 4) and output.shape[0] == 1:
                shape = tuple(output.shape[1:])
                seen.append(_Seen(address, called, output, output._version, shape, tracker.field(output)))

        return hook

    device, dtype = placement(module)
    blank = inputs.normalize(torch.full((1, inputs.channels, *inputs.size), 0.5, device=device)).to(dtype)
    try:
        for name, submodule in module.named_modules():
            if name and not isinstance(submodule, torch.jit.ScriptModule):
                handles.append(submodule.register_forward_hook(hook_for(name)))
        with evaluating(module), tracker.watching(blank), origins.watching(blank):
            result = forward(blank)
    finally:
        for handle in handles:
            handle.remove()
    missing = {e.name: e.shape for e in seen if e.field is None}
    measured = measure(module, inputs, forward, missing) if missing else {}
    first: dict[tuple[int, int], str] = {}
    layers = []
    for e in seen:
        field = e.field if e.field is not None else measured[e.name]
        parameters = sum(p.numel() for p in e.module.parameters())
        overwritten, same_as = e.output._version != e.version, first.get((id(e.output), e.version))
        first.setdefault((id(e.output), e.version), e.name)
        kind = type(e.module).__name__
        layers.append(Layer(e.name, kind, e.shape, parameters, field, e.module, overwritten, same_as))
    try:
        answer = origins.of(pick_logits(result))
    except (NetworkError, UnknownName):  # no logits: what it gives instead are its features
        given = origins.of(result).near if isinstance(result, Tensor) else frozenset[str]()
        answer = Origin(given, given)
    return Layers.of(title, module, layers, answer)

"""What layers a module has: found by running it once on a blank image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.layers import Layer, Layers
from netloupe.core.layout import ACCEPTED, Layout
from netloupe.core.receptive_field import ReceptiveField
from netloupe.core.taps import evaluating, given, placement
from netloupe.core.trace.fields import Tracker
from netloupe.core.trace.measuring import Measuring
from netloupe.core.trace.mode import following, tensors, unfollowed
from netloupe.core.trace.origins import Origin, Origins
from netloupe.core.trace.standing import Standing


@dataclass
class _Seen:
    name: str
    module: nn.Module
    output: Tensor
    version: int
    layout: Layout | None
    field: ReceptiveField | None


@torch.inference_mode(False)
@torch.no_grad()
def list_layers(
    title: str,
    module: nn.Module,
    inputs: InputSpec,
    forward: Callable[[Tensor], Any],
    pick_logits: Callable[[Any], Tensor],
    layouts: Mapping[str, Layout] = MappingProxyType({}),
) -> Layers:
    """The layers in the order in which they finish, the root module left out.

    Every call counts that gives one tensor, or a tuple that begins with one, of which it is known how it lies: found by
    following the pass, or stated. Modules inside TorchScript can't be hooked, so they are not among the layers.

    layouts: by pattern of names, as in `blocks.*`; of several that match the last. Raises InputError for one that no
    layer has.
    """
    standing, tracker = Standing(), Tracker()
    origins = Origins(standing.token)
    seen: list[_Seen] = []
    others: dict[str, str] = {}
    calls: dict[str, int] = {}
    stated = _Stated(layouts)
    handles = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(called: nn.Module, _args: Any, result: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            address = name if calls[name] == 1 else f"{name}~{calls[name]}"
            output = given(result)
            if output is None or (output is not result and any(standing.layout(one) for one in tensors(result)[1:])):
                others[address] = f"it gives a {type(result).__name__}, no tensor"
                return
            origins.name(address, output)
            with unfollowed():
                layout = stated.of(address, output) or standing.layout(output)
                field = None if layout is None else tracker.field(output, layout)
            seen.append(_Seen(address, called, output, output._version, layout, field))

        return hook

    device, dtype = placement(module)
    blank = inputs.normalize(torch.full((1, inputs.channels, *inputs.size), 0.5, device=device)).to(dtype)
    try:
        for name, submodule in module.named_modules():
            if name and not isinstance(submodule, torch.jit.ScriptModule):
                handles.append(submodule.register_forward_hook(hook_for(name)))
        followers = (standing.start(blank), tracker.start(blank), origins.start(blank))
        with evaluating(module), following(*followers):
            result = forward(blank)
    finally:
        for handle in handles:
            handle.remove()
    stated.check()
    for e in seen:
        if e.layout is None:  # some are known to be maps by what reads them
            e.layout = standing.layout(e.output)
            e.field = None if e.layout is None else tracker.field(e.output, e.layout)
    others |= {e.name: _no_layer(e) for e in seen if e.layout is None}
    layers = _layers([e for e in seen if e.layout is not None], module, inputs, forward)
    listed = {layer.name for layer in layers}
    try:
        found = origins.of(pick_logits(result))
        answer = replace(found, read=origins.listed(found.read, listed))
    except (NetworkError, UnknownName):  # no logits: what it gives instead are its features
        near = origins.listed(origins.read(result) if isinstance(result, Tensor) else (), listed)
        answer = Origin(near, near)
    return Layers.of(title, module, layers, answer, others)


def _layers(
    seen: Sequence[_Seen], module: nn.Module, inputs: InputSpec, forward: Callable[[Tensor], Any]
) -> list[Layer]:
    layouts = {e.name: e.layout for e in seen if e.layout is not None}
    shapes = {e.name: layouts[e.name].shape(e.output.shape) for e in seen}
    missing = [e.name for e in seen if e.field is None]
    measuring = Measuring(module, inputs, forward, {n: shapes[n] for n in missing}, {n: layouts[n] for n in missing})
    first: dict[tuple[int, int], str] = {}
    layers = []
    for e in seen:
        parameters = sum(p.numel() for p in e.module.parameters())
        overwritten, same_as = e.output._version != e.version, first.get((id(e.output), e.version))
        first.setdefault((id(e.output), e.version), e.name)
        sees = partial(measuring.field, e.name) if e.field is None else partial(_known, e.field)
        kind, layout, shape = type(e.module).__name__, layouts[e.name], shapes[e.name]
        layers.append(Layer(e.name, kind, shape, parameters, layout, inputs.size, sees, e.module, overwritten, same_as))
    return layers


def _known(field: ReceptiveField) -> ReceptiveField:
    return field


def _no_layer(e: _Seen) -> str:
    shape = tuple(e.output.shape)
    return (
        f"it gives {shape} for one image, and which dimensions are rows, columns and channels can't be told; state it "
        f"with --layout '{e.name}=LAYOUT' (accepted: {ACCEPTED})"
    )


class _Stated:
    """What the user says of layouts, by pattern of names."""

    def __init__(self, layouts: Mapping[str, Layout]) -> None:
        self._layouts = layouts
        self._fitting: set[str] = set()
        self._misfit: dict[str, str] = {}

    def of(self, name: str, output: Tensor) -> Layout | None:
        """The layout stated for a layer that gives this, if it can lie so."""
        found = None
        for pattern, layout in self._layouts.items():
            if fnmatchcase(name, pattern):
                if _can_lie(layout, output):
                    self._fitting.add(pattern)
                    found = layout
                else:
                    self._misfit.setdefault(pattern, f"{name!r} gives {tuple(output.shape)}")
        return found

    def check(self) -> None:
        """Raise InputError for what was stated of no layer."""
        for pattern, layout in self._layouts.items():
            if pattern not in self._fitting:
                why = self._misfit.get(pattern, "no layer has such a name")
                raise InputError(f"layout {pattern}={layout} fits no layer ({why})")


def _can_lie(layout: Layout, output: Tensor) -> bool:
    if output.ndim != layout.dimensions:
        return False
    try:
        return layout.to_map(torch.empty(output.shape, device="meta")).shape[0] == 1
    except InputError:
        return False

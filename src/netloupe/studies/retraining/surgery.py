"""Removing and resizing layers of a network: the others are made anew where their shapes change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from netloupe.core.errors import NetworkError, UnknownName, first_line, unknown
from netloupe.studies.retraining.task import Change

_NORMS = (_BatchNorm, nn.GroupNorm, nn.LocalResponseNorm)
_THROUGH = (*_NORMS, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)


def changed(module: nn.Module, changes: Sequence[Change], shape: Sequence[int]) -> nn.Module:
    """A copy of `module` with the changes, for inputs of `shape` (C, H, W); what they touch has new random weights.

    Convolutions (2d) and linear layers can be removed, with the normalizations between them and the next such layer,
    and resized. Every layer after one whose channels changed is made anew for what it then gets. The last layer gives
    the logits, so it stays. Works along chains of layers; where a change meets what needs the old number of channels
    (a skip connection, a reshape with numbers in it), NetworkError says so. Raises it also for a module that `torch.fx`
    can't follow, and UnknownName for a layer that can't be changed. Weights are from PyTorch's global generator.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        graph = fx.Tracer().trace(module)
        result = fx.GraphModule(copy.deepcopy(module), graph, type(module).__name__)
    except Exception as error:  # tracing runs the module's code on stand-ins for tensors, which may raise anything
        raise NetworkError(
            f"{type(module).__name__} can't be changed, as its code can't be traced: {first_line(error)}"
        ) from None
    wide: dict[str, int] = {}
    for change in changes:
        for layer in change.layers:
            nodes = _nodes_of(result, layer)
            if change.factor is None:
                for node in nodes:
                    _remove(result, node)
            else:
                wide[layer] = max(1, round(change.factor * wide.get(layer, _width(result.get_submodule(layer)))))
    result.graph.lint()
    result.recompile()
    said = ", ".join(map(str, changes))
    modes = {name: part.training for name, part in result.named_modules()}
    result.eval()
    try:
        with torch.no_grad():
            _Rebuild(result, wide, said).run(torch.zeros(1, *shape, device=device))
    except NetworkError as error:
        raise NetworkError(first_line(error)) from None  # the interpreter adds lines of its own
    for name, part in result.named_modules():
        part.training = modes.get(name, True)
    result.delete_all_unused_submodules()
    return result


def _nodes_of(module: fx.GraphModule, layer: str) -> list[fx.Node]:
    """The calls of a layer that can be changed. Raises UnknownName."""
    calls: dict[str, list[fx.Node]] = {}
    for node in module.graph.nodes:
        if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.Conv2d | nn.Linear):
            calls.setdefault(str(node.target), []).append(node)
    names = list(calls)
    if names and layer == names[-1]:
        raise UnknownName(f"layer {layer!r} gives the logits and can't be changed (accepted: {', '.join(names[:-1])})")
    if layer not in calls:
        raise unknown("convolution or linear layer", layer, names[:-1])
    return calls[layer]


def _remove(module: fx.GraphModule, node: fx.Node) -> None:
    """Take a call out, and the normalizations after it up to the next layer with weights."""
    after = list(node.users)
    while len(after) == 1 and after[0].op == "call_module":
        now = after[0]
        part = module.get_submodule(str(now.target))
        if not isinstance(part, _THROUGH):
            break
        after = list(now.users)
        if isinstance(part, _NORMS):
            now.replace_all_uses_with(now.all_input_nodes[0])
            module.graph.erase_node(now)
    node.replace_all_uses_with(node.all_input_nodes[0])
    module.graph.erase_node(node)


def _width(part: nn.Module) -> int:
    assert isinstance(part, nn.Conv2d | nn.Linear)
    return part.out_channels if isinstance(part, nn.Conv2d) else part.out_features


class _Rebuild(fx.Interpreter):
    """Runs a module and makes anew each layer that does not fit what it gets, or shall give another width."""

    def __init__(self, module: fx.GraphModule, wide: dict[str, int], said: str) -> None:
        super().__init__(module)
        self._wide, self._said = wide, said

    def run_node(self, n: fx.Node) -> Any:
        try:
            return super().run_node(n)
        except (RuntimeError, ValueError, TypeError) as error:
            raise NetworkError(
                f"{self._said!r} leaves shapes that don't fit at {n.name!r}: {first_line(error)}"
            ) from None

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, part = str(target), self.fetch_attr(str(target))
        if args and isinstance(args[0], Tensor):
            fitted = _fitted(part, args[0], self._wide.get(name))
            if fitted is not part:
                parent, _, last = name.rpartition(".")
                setattr(self.module.get_submodule(parent), last, fitted.to(args[0].device).eval())
        return super().call_module(target, args, kwargs)


def _fitted(part: nn.Module, x: Tensor, width: int | None) -> nn.Module:
    """The layer itself if it takes `x` and gives `width`, else one of its kind that does."""
    new: nn.Module
    if isinstance(part, nn.Conv2d):
        inputs, out = x.shape[1], part.out_channels if width is None else width
        if (inputs, out) == (part.in_channels, part.out_channels):
            return part
        groups = part.groups
        if groups == part.in_channels > 1:  # each channel for itself
            groups, out = inputs, out * inputs // part.in_channels if width is None else out
        new = _same_kind(part, inputs, out, groups)
        nn.init.kaiming_normal_(new.weight, nonlinearity="relu")
        if new.bias is not None:
            nn.init.zeros_(new.bias)
    elif isinstance(part, nn.Linear):
        inputs, out = x.shape[-1], part.out_features if width is None else width
        if (inputs, out) == (part.in_features, part.out_features):
            return part
        new = nn.Linear(inputs, out, bias=part.bias is not None)
    elif isinstance(part, _BatchNorm) and x.shape[1] != part.num_features:
        kind: Any = type(part)
        new = kind(x.shape[1], part.eps, part.momentum, part.affine, part.track_running_stats)
    else:
        return part
    for name, value in part.named_parameters(recurse=False):
        getattr(new, name).requires_grad_(value.requires_grad)
    return new


def _same_kind(part: nn.Conv2d, inputs: int, out: int, groups: int) -> nn.Conv2d:
    """A copy with other channels and new, empty weights: subclasses may pad in their own way."""
    new = copy.deepcopy(part)
    new.in_channels, new.out_channels, new.groups = inputs, out, groups
    if inputs % groups or out % groups:
        raise ValueError(f"{inputs} channels in and {out} out don't divide by {groups} groups")
    new.weight = nn.Parameter(torch.empty(out, inputs // groups, *part.kernel_size))
    new.bias = None if part.bias is None else nn.Parameter(torch.empty(out))
    return new

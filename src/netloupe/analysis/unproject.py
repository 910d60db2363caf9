"""Projections: one neuron's response carried back to the pixels (Zeiler & Fergus 2013, section 2.1).

The neuron keeps its value, all others of its layer are zero, and the signal goes down by a backward rule. Under
`deconvnet` that is unpooling with the recorded switches, rectifying and the transposed filters; `guided` lets through
only what also passed on the way up (Springenberg et al. 2014).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.tasks import RULES
from netloupe.core.backward import gradients, why_none
from netloupe.core.errors import InputError, NetworkError, unknown
from netloupe.core.network import Network
from netloupe.core.rules import Rectifiers, Rule, backward_rule
from netloupe.core.units import check_place
from netloupe.data.sources import ReadPixels

_SHARE = 16  # neurons of one image that a forward pass serves


class Place(NamedTuple):
    """A neuron of a layer; of a layer without positions, y and x are 0."""

    layer: str
    channel: int
    y: int
    x: int


class Neuron(NamedTuple):
    """The neuron behind the patch of some rank of a channel: where it is, and in which image."""

    layer: str
    channel: int
    rank: int
    image: int
    y: int
    x: int

    @property
    def place(self) -> Place:
        return Place(self.layer, self.channel, max(self.y, 0), max(self.x, 0))


def project(
    net: Network,
    images: Tensor,
    layer: str,
    channels: Sequence[int] | Tensor,
    positions: Sequence[Sequence[int]] | Tensor | None = None,
    rule: Rule = "deconvnet",
) -> Tensor:
    """The projection of each image's own neuron to its pixels: signed and raw, in the shape of `images` (N, C, H, W).

    For image i that is the neuron of channel `channels[i]` at (y, x) = `positions[i]`; layers without positions need
    none. Before the first ReLU all rules give the same. Raises UnknownName for a rule, layer, channel or position that
    is not there, InputError for a wrong number of them, NetworkError if the network has no ReLU at all, the layer does
    not depend on the image, or the projection is not finite.
    """
    if not net.layer(layer).spatial:
        positions = [(0, 0)] * len(channels)
    if positions is None:
        raise InputError(f"no positions for layer {layer!r} of shape {net.layer(layer).shape} (accepted: (N, 2))")
    if not len(channels) == len(positions) == len(images):
        raise InputError(f"{len(channels)} channels and {len(positions)} positions for {len(images)} images")
    places = [Place(layer, int(c), int(y), int(x)) for c, (y, x) in zip(channels, positions, strict=True)]
    return Pass(net, images, [layer], rule).project(places)


class Pass:
    """A forward pass of images (N, C, H, W) under a rule, kept to project any neurons of `layers` from.

    It goes no deeper than those. dtype: bfloat16 is faster where the hardware has it, and takes some other switches.
    Raises as `project` does.
    """

    def __init__(
        self, net: Network, images: Tensor, layers: Iterable[str], rule: Rule, dtype: torch.dtype = torch.float32
    ) -> None:
        net.inputs.check(images)
        net.inputs.check_range(images)
        self.net = net
        with torch.inference_mode(False), torch.enable_grad():
            self._pixels = images.detach().to(net.device).clone().requires_grad_()
            rounded = torch.autocast(net.device.type, dtype, enabled=dtype != torch.float32)
            with backward_rule(rule) as rectifiers, rounded:
                self.outputs = net.reading(self._pixels, layers).outputs
            if rectifiers is not None and rectifiers.count == 0 and not rectifies(net, self._pixels[:1]):
                raise no_rectifier(net, rule)
            if rectifiers is not None:
                rectifiers.warn(net.name)

    def project(self, places: Sequence[Place | None], *, ones: bool = False) -> Tensor:
        """(N, C, H, W): for each image the projection of one neuron, zeros for None.

        The neuron starts with its own value, or with 1 if `ones`, for comparing places where it is silent.
        """
        starts: dict[str, Tensor] = {}
        for i, place in enumerate(places):
            if place is not None:
                output = self.outputs[place.layer]
                at = _index(i, place, output)
                if place.layer not in starts:
                    starts[place.layer] = torch.zeros_like(output)
                starts[place.layer][at] = 1.0 if ones else output.detach()[at]
        outputs = [self.outputs[layer] for layer in starts]
        (found,) = gradients(self.net.name, outputs, [self._pixels], list(starts.values()), keep=True)
        layers = ", ".join(map(repr, starts))
        if found is None:
            reason = f"layer {layers} of {self.net.name} does not depend on the image: nothing to project"
            raise NetworkError(f"{reason}{why_none(self.net)}")
        if not bool(found.isfinite().all()):
            raise NetworkError(f"a projection of layer {layers} of {self.net.name} is not finite")
        return found

    def origin(self, image: int, place: Place) -> Place:
        """The neuron of the earliest layer of this pass that has the same value and the same projection.

        A ReLU hands a positive value on as it is, max pooling that at its switch.
        """
        while place.layer in self._sources:
            source, switches = self._sources[place.layer]
            y, x = place.y, place.x
            if switches is not None:
                y, x = divmod(int(switches[_index(image, place, switches)]), self.outputs[source].shape[3])
            before = Place(source, place.channel, y, x)
            if self._value(image, before) != self._value(image, place):
                break
            place = before
        return place

    def _value(self, image: int, place: Place) -> float:
        values = self._values[place.layer]
        return float(values[_index(image, place, values)])

    @cached_property
    def _values(self) -> dict[str, np.ndarray]:
        return {layer: output.detach().cpu().numpy() for layer, output in self.outputs.items()}

    @cached_property
    def _sources(self) -> Mapping[str, tuple[str, np.ndarray | None]]:
        return handed_on(self.outputs)


def handed_on(outputs: Mapping[str, Tensor]) -> dict[str, tuple[str, np.ndarray | None]]:
    """{layer: (earlier layer, switches)} for the layers that only hand on values of an earlier one.

    Such are ReLU, which clears what is negative, and max pooling; switches are its choices, (N, C, h, w) flat indices
    into the earlier map. Read off the graph of a pass that kept gradients, so functional calls count too.
    """
    made: dict[Any, str] = {}
    found: dict[str, tuple[str, np.ndarray | None]] = {}
    for layer, output in outputs.items():
        node = _past_copies(output.grad_fn)
        before, kind = node, type(node).__name__
        if node not in made and kind in _HANDING_ON:
            before = _past_copies(node.next_functions[0][0])
        if before is not None and before in made:
            pooled = kind == _POOLING and before is not node
            found[layer] = made[before], node._saved_result1.cpu().numpy() if pooled else None
        if node is not None:
            made.setdefault(node, layer)
    return found


_POOLING = "MaxPool2DWithIndicesBackward0"
_HANDING_ON = ("_RectifyBackward", "ReluBackward0", _POOLING)


def _past_copies(node: Any) -> Any:
    """The step of the graph that made a tensor, past the copies that taps hand on."""
    while type(node).__name__ in ("CloneBackward0", "ToCopyBackward0"):
        node = node.next_functions[0][0]
    return node


def _index(image: int, place: Place, maps: Tensor | np.ndarray) -> tuple[int, ...]:
    """Where in maps (N, C, H, W) or (N, C) a neuron is. Raises UnknownName if it is not there."""
    index = (image, place.channel, place.y, place.x)[: maps.ndim]
    for what, value, limit in zip(("channel", "row", "column"), index[1:], maps.shape[1:], strict=False):
        check_place(place.layer, what, value, range(limit))
    return index


def rectifies(net: Network, images: Tensor | None = None, layer: str | None = None) -> bool:
    """Whether a rule finds a ReLU before a layer, by default the last; on a gray image for None."""
    return _met(net, images, layer or list(net.layers)[-1]).count > 0


def _met(net: Network, images: Tensor | None, layer: str) -> Rectifiers:
    """What a rule acts on before a layer and what not, on a gray image for None: the same whatever the rule."""
    images = _gray(net) if images is None else images
    rectifiers = Rectifiers("guided")
    with torch.inference_mode(False), torch.enable_grad(), rectifiers:
        net.reading(images.detach().to(net.device).clone().requires_grad_(), [layer])
    return rectifiers


def mixed(net: Network, layers: Sequence[str]) -> tuple[Sequence[str], str]:
    """Those of `layers` before which a rule leaves some nonlinearity its derivative, and which the first do, in words.

    Tried on a gray image, in the order in which the network makes its layers: from the first such layer on, all are.
    """
    layers = [name for name in net.layers if name in layers]
    after = layers[bisect_left(layers, True, key=lambda name: bool(_met(net, None, name).others)) :]
    return after, ", ".join(sorted(_met(net, None, after[0]).others)) if after else ""


def no_rectifier(net: Network, rule: Rule) -> NetworkError:
    """The error for a rule that has nothing to act on."""
    hidden = any(isinstance(module, torch.jit.ScriptModule) for module in net.module.modules())
    return NetworkError(f"rule {rule!r} finds no ReLU in {net.name}{' (inside TorchScript none is seen)' * hidden}")


def named_rule(name: str, *others: str) -> Rule:
    """The rule of that name. Raises UnknownName if it is none of RULES; `others` are accepted elsewhere."""
    for rule in RULES:
        if rule == name:
            return rule
    raise unknown("rule", name, [*RULES, *others])


def _gray(net: Network) -> Tensor:
    return torch.full((1, net.inputs.channels, *net.inputs.size), 0.5)


def chains(net: Network, layers: Sequence[str], rule: Rule) -> list[list[str]]:
    """The layers, each with those after it that only hand its values on, as in conv, ReLU and max pooling."""
    sources = handed_on(Pass(net, _gray(net), layers, rule).outputs)
    found: dict[str, list[str]] = {}
    for layer in [name for name in net.layers if name in layers]:
        root = layer
        while root in sources:
            root = sources[root][0]
        found.setdefault(root, []).append(layer)
    return list(found.values())


def projections(
    net: Network,
    neurons: Iterable[Neuron],
    read: ReadPixels,
    rule: Rule,
    *,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[list[Neuron], np.ndarray]]:
    """Every neuron's projection, (C, H, W) float, in no particular order; neurons that share one come together.

    They share one where layers hand values on (see `chains`). Images run in batches, a forward pass for up to
    16 neurons of an image, no deeper than the deepest layer among the neurons. dtype: see `Pass`.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} (accepted: 1 or more)")
    ordered = sorted(neurons, key=lambda n: (n.image, n.channel, n.rank))
    layers = [name for name in net.layers if name in {n.layer for n in ordered}]
    shares = sorted(_shares(ordered, _SHARE * len(layers)), key=len, reverse=True)
    for first in range(0, len(shares), batch_size):
        batch = shares[first : first + batch_size]
        done = Pass(net, torch.stack([read(share[0].image) for share in batch]), layers, rule, dtype)
        waiting = [_by_origin(done, i, share) for i, share in enumerate(batch)]
        while any(waiting):
            chosen = [jobs.pop() if jobs else None for jobs in waiting]
            found = done.project([job and job[0] for job in chosen]).cpu().numpy()
            yield from ((job[1], pixels) for job, pixels in zip(chosen, found, strict=True) if job is not None)


def _shares(ordered: Sequence[Neuron], most: int) -> Iterator[list[Neuron]]:
    """The neurons by image, at most `most` together."""
    share: list[Neuron] = []
    for neuron in ordered:
        if share and (neuron.image != share[0].image or len(share) == most):
            yield share
            share = []
        share.append(neuron)
    if share:
        yield share


def _by_origin(done: Pass, image: int, share: Iterable[Neuron]) -> list[tuple[Place, list[Neuron]]]:
    found: dict[Place, list[Neuron]] = {}
    for neuron in share:
        found.setdefault(done.origin(image, neuron.place), []).append(neuron)
    return list(found.items())

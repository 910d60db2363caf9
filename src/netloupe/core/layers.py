"""The layers of a network, and every choice among them: what a map is, the convolutions, the features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from netloupe.core.errors import InputError, UnknownName, unknown
from netloupe.core.layout import MAPS, Layout, Maps, Tokens
from netloupe.core.numbers import evenly
from netloupe.core.receptive_field import Box, ReceptiveField
from netloupe.core.taps import LOGITS, evaluating, module_and_call
from netloupe.core.trace.origins import UNNAMED, Origin

_RECTIFIERS = ("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish")
STAGES = 8  # at most, of those that a network is looked at by


@dataclass(frozen=True)
class Layer:
    """One addressable layer: a module whose output is a map (N, C, h, w) or (N, C), however it lies in memory.

    name: as in `named_modules()`; `name~2` for the second call of a reused module, `name@cls` for a token of one that
    stands nowhere on its map. kind: the module's class. shape: (C, h, w) or (C,), without the batch.
    parameters: count, submodules included, shared ones once. layout: how the module's own tensor lies.
    overwritten: an operation that follows writes into the output, so whoever keeps it must clone.
    same_as: an earlier layer that hands on the very same tensor (a container and its last part), or None.
    image: the size (height, width) of the input in px. sees: finds the receptive field.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    layout: Layout
    image: tuple[int, int] = field(repr=False)
    sees: Callable[[], ReceptiveField] = field(repr=False, compare=False)
    module: nn.Module = field(repr=False, compare=False)
    overwritten: bool = False
    same_as: str | None = None

    @cached_property
    def receptive_field(self) -> ReceptiveField:
        """What its neurons see of the input; where that could not be followed, measured when it is asked for."""
        return self.sees()

    def place(self, y: int, x: int, around: int = 0) -> Box:
        """Where neuron (y, x) stands: the box (top, left, bottom, right) of its cell in the input, in px.

        What it sees is the receptive field; after attention that is the whole image. Without positions both are.
        around: cells on each side that are taken in too; at a border more on the other one.
        """
        edges = []
        for position, count, side in zip((y, x), self.size, self.image, strict=True):
            wide = min(2 * around + 1, count)
            first = min(max(position - around, 0), count - wide)
            edges.append((first * side // count, -(-(first + wide) * side // count)))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right

    @property
    def sees_all(self) -> bool:
        """Whether it is a map of which every neuron sees the whole image, so that patches show where one stands."""
        return self.is_map and self.receptive_field.whole

    def patch(self, y: int, x: int, image: tuple[int, int]) -> Box:
        """What is shown of an image (height, width) for neuron (y, x), in px: what it sees; its place if that is all.

        The place with one cell around, so that there is something to be recognized, but of a map of so few that this
        is all again.
        """
        if not self.sees_all:
            return self.receptive_field.box(y, x, image)
        top, left, bottom, right = self.place(y, x, around=int(max(self.size) > 3))
        (height, width), (down, across) = image, self.image
        return top * height // down, left * width // across, -(-bottom * height // down), -(-right * width // across)

    def token(self, name: str) -> Layer:
        """One of its tokens that stand nowhere on the map, as `cls` or `reg0`, as a layer. Raises UnknownName."""
        if not isinstance(self.layout, Tokens):
            raise UnknownName(f"layer {self.name!r} has no tokens, so no {name!r} (it is {self.layout})")
        try:
            layout = self.layout.token(name)
        except InputError as error:
            raise UnknownName(f"layer {self.name!r}: {error}") from error
        sees = partial(ReceptiveField, self.image, (0, 0), (0, 0), False, True)
        same = None if self.same_as is None else f"{self.same_as}@{layout.name}"
        whole = f"{self.name}@{layout.name}"
        return replace(self, name=whole, shape=self.shape[:1], layout=layout, sees=sees, same_as=same)

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def spatial(self) -> bool:
        """Whether the output has positions, if only one: (C, H, W)."""
        return len(self.shape) == 3

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the output; (1, 1) without positions."""
        return (self.shape[1], self.shape[2]) if self.spatial else (1, 1)

    @property
    def is_map(self) -> bool:
        """Whether the output is a map over the image: (C, H, W) of more than one position."""
        return max(self.size) > 1

    @property
    def is_block(self) -> bool:
        """Whether it is a map of tokens, or with its channels last, made by a module of several others."""
        return self.is_map and not isinstance(self.layout, Maps) and any(True for _ in self.module.children())

    @property
    def is_shell(self) -> bool:
        """Whether the module makes nothing itself: it holds others in a row, or hands on what it is given."""
        alone = self.same_as is not None and not any(True for _ in self.module.children())
        return isinstance(self.module, nn.Sequential) or alone

    @property
    def is_convolution(self) -> bool:
        """Whether the module is a two-dimensional convolution, and no container of one."""
        return isinstance(self.module, nn.Conv2d)

    @property
    def is_linear(self) -> bool:
        return isinstance(self.module, nn.Linear)

    @property
    def is_weighted(self) -> bool:
        """Whether the module bears, itself, weights of two dimensions or more: a kernel or a matrix."""
        own: list[Tensor | None] = [*self.module.parameters(recurse=False)]
        made = getattr(self.module, "parametrizations", {})  # reading what they make may change their buffers
        own += [one for each in (made.values() if is_parametrized(self.module) else ()) for one in each.parameters()]
        own += [self.weight()] if callable(getattr(type(self.module), "weight", None)) else []  # quantized
        return any(isinstance(weight, Tensor) and weight.ndim > 1 for weight in own)

    def weight(self) -> Tensor | None:
        """The module's weight as it is in use, without gradient: normalized, or unpacked. None where it has none."""
        with torch.no_grad(), evaluating(self.module):
            found = getattr(self.module, "weight", None)
            found = found() if callable(found) and not isinstance(found, Tensor) else found  # of quantized modules
        if not isinstance(found, Tensor):
            return None
        return found.dequantize() if found.is_quantized else found.detach().clone()

    @property
    def path(self) -> str:
        """The module's name."""
        return module_and_call(self.call_of)[0]

    @property
    def call_of(self) -> str:
        """The module's name with the call, whatever token is meant."""
        return self.name.partition("@")[0]

    @property
    def call(self) -> int:
        """Which call of the module in a pass this is, from 1."""
        return module_and_call(self.call_of)[1]


class Reads(Protocol):
    """What reads layers, such as an objective; `LOGITS` among them is the end of the network."""

    @property
    def layers(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class _Whole:
    """The network that layers belong to. answer: where its logits come from.

    others: what calls gave that are no layers, in words, by their names.
    """

    title: str
    module: nn.Module
    layers: tuple[Layer, ...]
    answer: Origin
    others: Mapping[str, str]

    @cached_property
    def order(self) -> dict[str, int]:
        return {layer.name: i for i, layer in enumerate(self.layers)}


class Layers(Mapping[str, Layer]):
    """Name -> Layer in the order in which the layers of a network finish.

    `net.layers` are all of them. What asks for several gives `Layers` again, so questions chain:
    `net.layers.before(objective).maps().evenly(8)`. What asks for one gives the `Layer`.
    """

    def __init__(self, whole: _Whole, chosen: Iterable[Layer]) -> None:
        self._whole = whole
        self._chosen = {layer.name: layer for layer in chosen}

    @classmethod
    def of(
        cls, title: str, module: nn.Module, layers: Sequence[Layer], answer: Origin, others: Mapping[str, str]
    ) -> Layers:
        """All layers of a network called `title`. answer: the origin of its logits. others: what is none, in words."""
        return cls(_Whole(title, module, tuple(layers), answer, others), layers)

    def moved(self, title: str, module: nn.Module) -> Layers:
        """The same layers of another module of the same structure, such as a copy."""
        found = [replace(one, module=module.get_submodule(one.path)) for one in self.values()]
        return Layers.of(title, module, found, self._whole.answer, self._whole.others)

    def __getitem__(self, name: str) -> Layer:
        """Of that name; also a token of one, which is not listed. Raises KeyError, or UnknownName for such a token."""
        call, at, token = name.partition("@")
        return self._chosen[call].token(token) if at and name not in self._chosen else self._chosen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def __repr__(self) -> str:
        return f"Layers({', '.join(self)})"

    def named(self, name: str) -> Layer:
        """The layer of that name, or UnknownName with the nearest match."""
        try:
            return self[name]
        except KeyError:
            raise self._unknown(name.partition("@")[0]) from None

    @property
    def last(self) -> Layer:
        """The last of one or more."""
        return list(self.values())[-1]

    def each(self, names: Iterable[str]) -> list[str]:
        """The names, each once, as they are given. Raises UnknownName for one that is not there."""
        return list(dict.fromkeys(self.named(name).name for name in names))

    # Several of them

    def where(self, wanted: Callable[[Layer], bool]) -> Layers:
        return Layers(self._whole, filter(wanted, self.values()))

    def only(self, names: Iterable[str]) -> Layers:
        """Those of these names, in the order of execution. Raises UnknownName for one that is not there."""
        wanted = [self.named(name) for name in self.each(names)]
        return Layers(self._whole, sorted(wanted, key=lambda layer: self._whole.order[layer.call_of]))

    def maps(self) -> Layers:
        """Maps over the image: (C, H, W) of more than one position."""
        return self.where(lambda layer: layer.is_map)

    def convolutions(self) -> Layers:
        """Two-dimensional convolutions, whatever is left of the image after them."""
        return self.where(lambda layer: layer.is_convolution)

    def weighted(self) -> Layers:
        """Modules that bear, themselves, a kernel or a matrix of weights."""
        return self.where(lambda layer: layer.is_weighted)

    def rectifiers(self) -> Layers:
        return self.where(lambda layer: layer.kind in _RECTIFIERS)

    def once(self) -> Layers:
        """The first calls of modules."""
        return self.where(lambda layer: layer.call == 1)

    def distinct(self) -> Layers:
        """Those that hand on a tensor of their own, not one that an earlier layer gave."""
        return self.where(lambda layer: layer.same_as is None)

    def before(self, *reads: str | Reads) -> Layers:
        """Those that finish before any that is read, by name or by objectives: before the end all, as for the logits.

        Raises UnknownName for a layer that is not there.
        """
        return self._from_to(0, min(self._places(reads), default=len(self._whole.layers)))

    def through(self, *reads: str | Reads) -> Layers:
        """Those up to the deepest that is read, itself included; all for the logits, none where nothing is read."""
        return self._from_to(0, max(self._places(reads), default=-1) + 1)

    def after(self, name: str) -> Layers:
        """Those that finish after a layer."""
        return self._from_to(self._places([name])[0] + 1, len(self._whole.layers))

    def evenly(self, most: int) -> Layers:
        """At most `most`, evenly apart, the first and the last among them."""
        return Layers(self._whole, evenly(list(self.values()), most))

    def by_size(self) -> list[Layers]:
        """Those of the same (height, width) together."""
        sizes = dict.fromkeys(layer.size for layer in self.values())
        return [self.where(lambda layer, size=size: layer.size == size) for size in sizes]  # type: ignore[misc]

    def stage_ends(self, most: int = STAGES) -> Layers:
        """At most `most`, evenly spread: for each layer with weights, the last before the next that has some.

        Of lenslet `pool1`, `pool2`, `relu3`, `pool4`, `relu5`, `pool6`, `relu7`: convolved, rectified and pooled.
        Of a transformer whole blocks, which hand on a sum that no layer inside them gives, stand for what is in them.
        Layers with positions are preferred to those without; the logits and what gives them are none of them.
        """
        ends: list[Layer] = []
        opened = False
        logits = [name for name in sorted(self._whole.answer.by | self._whole.answer.near) if name in self._all]
        for layer in self.before(*logits).distinct().values():
            if layer.is_weighted or not opened:
                ends.append(layer)
                opened = opened or layer.is_weighted
            elif layer.is_map or (layer.spatial and not ends[-1].is_map):
                ends[-1] = layer
        blocks = [layer for layer in self.before(*logits).distinct().values() if layer.is_block]
        if len(blocks) > 1:
            ends = [layer for layer in ends if isinstance(layer.layout, Maps)]
            ends = [layer for layer in self.values() if layer in ends or layer in blocks]
        return Layers(self._whole, evenly(ends, most))

    # One of them

    def features(self) -> Layer:
        """What the classifier reads: the layer from which the last weights before the logits compute.

        Pooling and the like may stand between, other weights may not. Followed through the operations of a pass, so
        neither names nor the number of classes matter. Of a network without logits what it gives itself; of one whose
        only weights make a map, as a convolution that is averaged, that map. Raises InputError, which asks for a layer,
        where that is no layer, where there are several, and where there are none.
        """
        read = sorted(self._whole.answer.read)
        if len(read) == 1 and read[0] in self._all:
            return self._all[read[0]]  # or a token of it
        only = None if read else self.classifier()
        if only is not None and only.is_map:
            return only
        if not read:
            what = "has no layer before its logits, so no feature space"
        elif len(read) > 1:
            named = [name or "an unnamed one" for name in read[:4]] + ["..."] * (len(read) > 4)
            what = f"computes its answer from several layers ({', '.join(named)})"
        elif read[0] == UNNAMED:
            what = "computes its answer from what no module gives"
        else:
            what = f"computes its answer from {read[0]!r}, which is no layer"
        raise InputError(f"{self._whole.title} {what}; name a layer (--layer NAME)")

    def classifier(self) -> Layer | None:
        """The layer whose weights give the logits; None where there is not one that does."""
        (name, *others) = sorted(self._whole.answer.by) or [UNNAMED]
        return None if others else self._all.get(name)

    def answers(self) -> Layers:
        """Those whose channels are the logits: what gives these, and what follows it with as many channels."""
        giver = self.classifier()
        if giver is None:
            return self.where(lambda layer: False)
        ends = self._from_to(self._places([giver.name])[0], len(self._whole.layers))
        return ends.where(lambda layer: layer.channels == giver.channels)

    def last_map(self) -> Layer:
        """The last map before the features; where these are one, what the last layer with weights before them reads.

        Of lenslet `relu7`, of AlexNet its last pooling, of ResNet-18 `layer4.1`; of a detector, whose answers are
        computed from several layers, the last before any of these. Of tokens, and of maps with their channels last, the
        last whole block: a last normalization behind it says the same at one length everywhere, so it does not show
        which tokens are long (Darcet et al. 2024). Raises InputError without one.
        """
        end = self._end()
        before = self if end is None else self.before(end.name)
        if end is not None and end.is_map:
            before = self.before([*list(self.values())[:1], *before.weighted().values()][-1].name)
        maps = before.maps().where(lambda layer: not layer.is_shell)
        if not maps:
            raise InputError(f"{self._whole.title} has no map over the image before its last features; name the layers")
        blocks = maps.where(lambda layer: layer.is_block).distinct()
        return blocks.last if blocks and not isinstance(maps.last.layout, Maps) else maps.last

    def first_features(self) -> Layer:
        """The last layer before the second one with weights: what that reads.

        Of lenslet `pool1`: convolved, rectified and pooled, like layer 1 of Zeiler & Fergus. The only one with weights
        where there is no second, the first layer of all without any.
        """
        weighted = list(self.weighted().values())
        if len(weighted) < 2:
            return weighted[0] if weighted else next(iter(self.values()))
        return self.before(weighted[1].name).last

    def convolved(self) -> Layer:
        """The last convolution that gives a map, with the normalization and rectifier that follow it.

        That is the last layer whose map is as large as that convolution's; the last map where none is a convolution.
        Weights over channels of tokens or with the channels last count as such too. There must be a map.
        """
        maps = self.maps()
        weighted = maps.where(lambda layer: layer.is_convolution or (layer.layout != MAPS and layer.is_weighted))
        size = (weighted or maps).last.size
        return maps.where(lambda layer: layer.size == size).last

    # Within

    def _end(self) -> Layer | None:
        """The features, or where these are several the first of them; None where none are layers."""
        try:
            return self.features()
        except InputError:
            read = [self._all[name] for name in self._whole.answer.read if name.partition("@")[0] in self._all]
            return min(read, key=lambda layer: self._whole.order[layer.call_of], default=None)

    @cached_property
    def _all(self) -> Layers:
        return Layers(self._whole, self._whole.layers)

    def _places(self, reads: Iterable[str | Reads]) -> list[int]:
        names = [name for one in reads for name in ([one] if isinstance(one, str) else one.layers)]
        end = len(self._whole.layers)
        return [end if name == LOGITS else self._whole.order[self._all.named(name).call_of] for name in names]

    def _from_to(self, first: int, end: int) -> Layers:
        return self.where(lambda layer: first <= self._whole.order[layer.name] < end)

    def _unknown(self, name: str) -> UnknownName:
        modules = dict(self._whole.module.named_modules())
        if name not in modules or not name:
            return unknown("layer", name, self)
        parents = [modules[name[:i]] for i, c in enumerate(name) if c == "."]
        if any(isinstance(module, torch.jit.ScriptModule) for module in [*parents, modules[name]]):
            return UnknownName(
                f"{name!r} is TorchScript, which can't be read; give the module before `torch.jit.script`"
            )
        return UnknownName(f"{name!r} is no layer: {self._whole.others.get(name, 'it is not called')}")

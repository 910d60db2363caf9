"""A network to look at: any module, what it wants as input, and what it answers."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from netloupe.core.attention import AttentionReader, Queries, attending
from netloupe.core.errors import (
    LESS,
    InputError,
    NetloupeError,
    NetworkError,
    UnknownName,
    failure,
    first_line,
    lacks_memory,
    unknown,
)
from netloupe.core.head import Head, NoHead, Prediction, Said, Size, Vector
from netloupe.core.inputs import InputSpec
from netloupe.core.layers import Layer, Layers
from netloupe.core.layout import Layout, parse, viewed
from netloupe.core.numbers import whole
from netloupe.core.objectives import Objective, Reading, as_objective
from netloupe.core.precision import checked, computing
from netloupe.core.probe import list_layers
from netloupe.core.returned import Output, called
from netloupe.core.settings import FULL
from netloupe.core.sizes import USUAL, Sizes
from netloupe.core.taps import LOGITS, Reader, evaluating, placement, tapped


class Network:
    """Any `nn.Module` plus its `InputSpec` plus its head, which says what it answers.

    Takes images (N, C, H, W), float in [0, 1]; normalization lives inside. The module is never changed: it runs in
    eval mode and gets back its modes, hooks, gradients and the random state, after an exception too.

    module: maps normalized images to what its head says, to a dict, dataclass or tuple that holds that, or to anything
    else; then all works but what needs an answer.
    output: where the answer is in what the module returns: a key, an index, or a function that takes it out.
    labels: class names by index. head: what the network answers, as one of `HEADS` or a head; by default found in what
    it returns (see `Said.find`). layouts: by pattern of layers' names how their outputs lie, where following a pass
    does not tell, as {"blocks.*": "tokens:prefix=5,grid=16x16"}. name: for provenance and titles. origin: how
    `zoo.load` can make it again; None for a module made in Python. call: how the module is called with normalized
    images where it wants more than those, as in `lambda module, x: module(x, extra)`; by default `module(x)`.
    precision: what it computes in, "float32" (the type of its weights) or "bfloat16"; see `core.precision`.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: InputSpec | None = None,
        labels: Sequence[str] | None = None,
        *,
        output: Output | None = None,
        head: Head | str | None = None,
        layouts: Mapping[str, Layout | str] | None = None,
        name: str | None = None,
        call: Callable[[nn.Module, Tensor], Any] | None = None,
        precision: str = FULL,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"the network is a {type(module).__name__} (accepted: an nn.Module)")
        if any(is_lazy(p) for p in module.parameters()):
            raise InputError(f"{type(module).__name__} has parameters without a shape yet; run it once on an image")
        self.module, self.call = _unwrapped(module), call
        self.precision = checked(precision, self.dtype)
        self.inputs = inputs if inputs is not None else InputSpec()
        self._said = Said.of(head, labels, output)
        self._head: Head | None = None
        self.output = self._said.output
        self.layouts = {key: parse(one) if isinstance(one, str) else one for key, one in (layouts or {}).items()}
        self.name = name if name is not None else type(self.module).__name__
        self._sizes: dict[tuple[str, ...], Sizes] = {}
        self.origin: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        height, width = self.inputs.size
        return f"Network({self.name}, {self.inputs.channels}x{height}x{width})"

    @property
    def device(self) -> torch.device:
        """Where the module's weights lie; images are moved there."""
        return placement(self.module)[0]

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights; images are cast to it."""
        return placement(self.module)[1]

    def run(self, images: Tensor, readers: Mapping[str, Reader]) -> None:
        """One pass that hands each named layer's output to its reader, and goes no deeper than needed.

        The reader gets the output as a map (N, C, h, w) or as (N, C), however it lies: a view of the very tensor in the
        weights' type, valid until it returns unless it clones. `LOGITS` (the empty string) reads the answer, as the
        head picks it. Gradients as the caller set them.

        Raises UnknownName for a layer that is not there, NetworkError if the module fails or does not reach a layer,
        InputError for images of a size that it does not take, with the nearest that it does.
        """
        self.inputs.check(images)
        with self._sized(images, tuple(readers)):
            self._run(images, readers)

    def _run(self, images: Tensor, readers: Mapping[str, Reader]) -> None:
        hooked: dict[str, Reader] = {}
        for name, reader in readers.items():
            if name != LOGITS:
                layer = self.layer(name)
                layout = layer.layout.resized(layer.image, (images.shape[2], images.shape[3]))
                hooked[layer.call_of] = _both(hooked.get(layer.call_of), viewed(layout, _of_each(len(images), reader)))
        x = self._taken(images)
        with evaluating(self.module), tapped(self.module, hooked, stop=LOGITS not in readers) as waiting:
            result = self._forward(x)
            if LOGITS in readers:
                size = int(x.shape[2]), int(x.shape[3])
                readers[LOGITS](self._learn(result, size).pick(result, size))
        if waiting:
            missed = ", ".join(repr(layer) for layer in hooked if layer in waiting)
            raise NetworkError(f"{self.name} did not reach layer {missed} on input of shape {tuple(x.shape)}")

    def entered(self, images: Tensor, part: str, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The answer where `change` is made to the first thing that a module is given, by name; see `run`.

        Whatever number of images it makes of that goes on. Raises NetworkError if the module fails.
        """

        def hook(_module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any]:
            if args:
                return (change(args[0]), *args[1:]), options
            name = next(iter(options))
            return args, {**options, name: change(options[name])}

        self.inputs.check(images)
        x = self._taken(images)
        handle = self.module.get_submodule(part).register_forward_pre_hook(hook, with_kwargs=True)
        try:
            with self._sized(images), evaluating(self.module):
                result = self._forward(x)
                size = int(x.shape[2]), int(x.shape[3])
                return readable(self._learn(result, size).pick(result, size))
        finally:
            handle.remove()

    def attend(
        self,
        images: Tensor,
        reader: AttentionReader,
        layers: Iterable[str] | None = None,
        *,
        queries: Queries = None,
    ) -> None:
        """One pass that hands each attention's name and weights to the reader as they are produced; see `attending`.

        layers: by name, which the pass goes no deeper than; by default all. Gradients as the caller set them.
        Raises UnknownName for an attention that is not there, NetworkError where none is or the module fails.
        """
        self.inputs.check(images)
        wanted = None if layers is None else self.attention_layers(layers)
        x = self._taken(images)
        stop = wanted is not None
        with (
            self._sized(images),
            evaluating(self.module),
            attending(self.module, reader, len(x), wanted, queries, stop=stop) as waiting,
        ):
            self._forward(x)
        if waiting:
            missed = ", ".join(repr(name) for name in wanted or () if name in waiting)
            raise NetworkError(f"{self.name} did not reach attention {missed} on input of shape {tuple(x.shape)}")

    @cached_property
    def attentions(self) -> Mapping[str, tuple[int, ...]]:
        """Every attention in the order of execution, by name, with its weights' shape: (heads, queries, keys).

        Of windows (windows, heads, queries, keys). Empty for a network that has none, or none that can be seen.
        """
        found: dict[str, tuple[int, ...]] = {}
        blank = torch.full((1, self.inputs.channels, *self.inputs.size), 0.5)

        def note(name: str, weights: Tensor) -> None:
            found[name] = tuple(weights.shape[1:])

        with torch.no_grad():
            self.attend(blank, note)
        return found

    def attention_layers(self, names: Iterable[str] | None = None) -> list[str]:
        """The names, each once, of all attentions for None.

        Raises UnknownName for one that is not there, NetworkError where there is none at all.
        """
        if not self.attentions:
            raise NetworkError(
                f"{self.name} has no attention that can be seen (accepted: a softmax over the keys, or PyTorch's own)"
            )
        wanted = list(self.attentions) if names is None else list(dict.fromkeys(names))
        for name in wanted:
            if name not in self.attentions:
                raise unknown("attention", name, self.attentions)
        return wanted

    def _taken(self, images: Tensor) -> Tensor:
        """Images as the module takes them; for bfloat16 with channels last in memory where it works on those."""
        x = self._normalized(images)
        if self.precision == FULL:
            return x
        _ = self.head  # which is told by numbers of full precision
        return x.contiguous(memory_format=torch.channels_last) if self.runs_channels_last else x

    def _normalized(self, images: Tensor) -> Tensor:
        return self.inputs.normalize(images.to(self.device)).to(self.dtype)

    def _forward(self, x: Tensor) -> Any:
        with computing(self.precision, x.device):
            return self._called(x)

    def _called(self, x: Tensor) -> Any:
        """What the module returns, in the precision of its weights."""
        try:
            return self.module(x) if self.call is None else self.call(self.module, x)
        except NetloupeError:
            raise
        except (Exception, SystemExit) as error:
            reason = LESS if lacks_memory(error) else failure(error)
            raise NetworkError(f"{self.name} failed on input of shape {tuple(x.shape)}: {reason}") from error

    def sizes(self, layers: Iterable[str] = ()) -> Sizes:
        """The sizes of images that passes as deep as these layers take; by default, and of `LOGITS`, whole passes."""
        names = tuple(dict.fromkeys(layers))
        if names not in self._sizes:
            self._sizes[names] = Sizes(self.name, self.inputs.size, partial(self._takes, names))
        return self._sizes[names]

    def _takes(self, layers: tuple[str, ...], size: Size) -> bool:
        """Whether a plain image of (height, width) goes through, and its layers lie as they should."""
        image = self.inputs.mean_color().view(1, -1, 1, 1).expand(1, -1, *size)
        read = {name: _unread for name in layers if name != LOGITS}
        try:
            with torch.no_grad():
                if read:
                    self._run(image, read)
                if len(read) < max(1, len(layers)):
                    with evaluating(self.module):
                        self._called(self._normalized(image))
        except NetloupeError:
            return False
        return True

    @contextmanager
    def _sized(self, images: Tensor, layers: tuple[str, ...] = ()) -> Iterator[None]:
        """Where a pass fails because of the images' size, the error says which are taken."""
        try:
            yield
        except NetloupeError as error:
            size = int(images.shape[2]), int(images.shape[3])
            if LESS in str(error) or isinstance(error, UnknownName) or self._takes(layers, size):
                raise
            if size != self.inputs.size and self._takes(layers, self.inputs.size):
                raise self.sizes(layers).refused(size) from error
            other = next((side for side in USUAL if self._takes(layers, (side, side))), None)
            if other is None:
                raise
            raise Sizes(self.name, (other, other), partial(self._takes, layers)).refused(size) from error

    @property
    def labels(self) -> Sequence[str] | None:
        """The names of the classes by index, where they were given."""
        return self._said.labels if self._head is None else self._head.names

    def _learn(self, result: Any, size: Size | None = None) -> Head:
        """The head, found in what the module returned for images of that (height, width) if it was not known."""
        if self._head is None:
            self._head = self._said.find(result, self.inputs.size if size is None else size)
        return self._head

    def _answer(self, layout: torch.memory_format = torch.contiguous_format) -> Any:
        """What the module returns in float32 for two blank images that lie in memory so."""
        blank = torch.zeros(2, self.inputs.channels, *self.inputs.size).contiguous(memory_format=layout)
        with self._sized(blank), torch.no_grad(), evaluating(self.module):
            return self._called(self._normalized(blank))

    @property
    def head(self) -> Head:
        """What the network answers; found by a pass unless it is known."""
        return self._learn(self._answer()) if self._head is None else self._head

    def __call__(self, images: Tensor) -> Tensor:
        """The answer to images (N, C, H, W) in [0, 1], as the head picks it: of classes logits (N, classes).

        Differentiable. In float32, like all that is read; in float64 if the weights are.
        """
        self.inputs.check(images)
        self.inputs.check_range(images)
        found: list[Tensor] = []
        self.run(images, {LOGITS: found.append})
        return readable(found[0])

    def activations(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """{layer: output (N, C, H, W) or (N, C)} for each named layer, as it left the layer; without gradients."""
        self.inputs.check(images)
        self.inputs.check_range(images)
        found: dict[str, Tensor] = {}

        def keep(layer: str) -> Reader:
            def reader(output: Tensor) -> None:
                overwritten = layer != LOGITS and self.layers[layer].overwritten
                found[layer] = readable(output.clone() if overwritten else output)

            return reader

        names = [layers] if isinstance(layers, str) else list(layers)
        with torch.no_grad():
            self.run(images, {name: keep(name) for name in names})
        return {name: found[name] for name in names}

    def reading(self, images: Tensor, layers: Iterable[str]) -> Reading:
        """The outputs of the named layers, as an objective sees them; differentiable with respect to `images`."""
        self.inputs.check(images)
        images = images.to(self.device)
        found: dict[str, Tensor] = {}

        def keep(layer: str) -> Reader:
            def reader(output: Tensor) -> Tensor:
                found[layer] = readable(output)
                return found[layer].clone() if found[layer] is output else found[layer].to(output.dtype)

            return reader

        readers = {layer: keep(layer) for layer in layers}
        if readers:
            self.run(images, readers)
        return self.reading_of(lambda: images, found)

    def reading_of(self, images: Callable[[], Tensor], outputs: Mapping[str, Tensor]) -> Reading:
        """The outputs of layers, found in whatever way, as an objective sees them."""
        return Reading(self.head if LOGITS in outputs else None, images, outputs)

    def read(self, images: Tensor, objective: Objective | str) -> Tensor:
        """The objective's score of each image, (N,); differentiable with respect to `images`."""
        objective = as_objective(objective)
        return objective.score(self.reading(images, objective.layers))

    def fixed(self, objective: Objective | str, images: Tensor | None = None) -> Objective:
        """The objective, held against the clean images (N, C, H, W) where it is `loose`; without a pass where it isn't.

        Raises InputError for None where it needs them.
        """
        objective = as_objective(objective)
        return objective.fixed(self.reading, images) if objective.loose else objective

    @torch.no_grad()
    def probabilities(self, images: Tensor, batch_size: int | None = None) -> Tensor:
        """(N, classes) the probabilities of every class, on the CPU; at most `batch_size` images in a pass.

        Raises NetworkError for a network without classes, or whose logits are not finite.
        """
        parts = images.split(batch_size) if batch_size else (images,)
        return torch.cat([self.likely(self(part)) for part in parts])

    def likely(self, logits: Tensor) -> Tensor:
        """`probabilities` of logits (N, classes) that are known."""
        classes = self.head.classes("a probability")
        found = classes.probabilities(logits).cpu()
        if not bool(found.isfinite().all()):
            given = classes.kind == "probabilities"
            wrong = "probabilities outside of [0, 1]" if given else "logits that are not finite"
            raise NetworkError(f"{self.name} returns {wrong}")
        return found

    def predict(self, images: Tensor, top: int = 5) -> list[list[tuple[str, float]]]:
        """What the network says of each image, best first: [[(label, probability), ...], ...].

        The `top` most probable classes; of classes by pixel with their shares of the area, of boxes with their scores;
        of one number ("value", the number). Raises NetworkError for a network whose answer can't be told so.
        """
        return [[(one.label, one.number) for one in row] for row in self.predictions(images, top)]

    @torch.no_grad()
    def predictions(self, images: Tensor, top: int = 5) -> list[list[Prediction]]:
        """`predict`, with the class's index, what each number is, and boxes."""
        top = whole("top", top, 1)
        if isinstance(self.head, Vector | NoHead):
            self.head.classes("a prediction")
        return self.said(self(images), top)

    def said(self, answer: Tensor, top: int = 5) -> list[list[Prediction]]:
        """`predictions` of an answer that is known; none of a network whose answer can't be told so."""
        found = self.head.says(answer, top)
        if not all(math.isfinite(one.number) for row in found for one in row):
            raise NetworkError(f"{self.name} returns numbers that are not finite")
        return found

    @cached_property
    def layers(self) -> Layers:
        """Every addressable layer in the order of execution, at the input size of `inputs`."""

        def forward(x: Tensor) -> Any:
            """The answer, picked while the pass is followed, or what the module returns where it is not there."""
            result = self._called(x)
            try:
                return self._learn(result).pick(result, self.inputs.size)
            except (NetworkError, UnknownName):
                return result

        def pick(answer: Any) -> Tensor:
            if isinstance(self._head, Vector | NoHead) or not isinstance(answer, Tensor):
                raise NetworkError("nothing but features")
            return answer

        with self._sized(torch.empty(1, 0, *self.inputs.size)):
            return list_layers(self.name, self.module, self.inputs, forward, pick, self.layouts)

    def layer(self, name: str) -> Layer:
        """The layer of that name, or UnknownName with the nearest match."""
        return self.layers.named(name)

    def copied(self) -> nn.Module:
        """A copy of the module. Raises NetworkError for one that can't be copied."""
        try:
            return copy.deepcopy(self.module)
        except Exception as error:  # whatever a module that can't be copied raises
            raise NetworkError(f"{self.name} can't be copied ({first_line(error)})") from error

    def with_module(self, module: nn.Module, name: str) -> Network:
        """This network with another module of the same structure, such as a copy with other weights."""
        found = copy.copy(self)
        found.module, found.name = module, name
        if "layers" in vars(self):  # found already
            vars(found)["layers"] = self.layers.moved(name, module)
        return found

    def computing(self, precision: str) -> Network:
        """This network with its module, computing in another precision."""
        found = copy.copy(self)
        found.precision = checked(precision, self.dtype)
        return found

    @cached_property
    def runs_channels_last(self) -> bool:
        """Whether a whole pass works on images that lie in memory with their channels last; found by one pass.

        Convolutions are faster then; `view` on what lies in that order fails.
        """
        try:
            self._answer(torch.channels_last)
        except NetworkError:
            self._answer()  # what fails in any order has another reason, which is raised
            return False
        return True

    def fingerprint(self) -> str:
        """A hash of structure, weights, input spec and output choice, for provenance and resuming.

        Networks of different function differ in it, unless only in code that the module's `repr` does not show.
        """
        stated = [] if self._said.word is None else [self._said.word]
        output = called(self.output) if callable(self.output) else self.output
        layouts = [{name: str(layout) for name, layout in self.layouts.items()}] if self.layouts else []
        call = [] if self.call is None else [getattr(self.call, "__qualname__", type(self.call).__name__)]
        precision = [] if self.precision == FULL else [self.precision]
        return fingerprint(self.module, self.inputs, output, *stated, *layouts, *call, *precision)


def fingerprint(module: nn.Module, *more: Any) -> str:
    """A hash of a module's structure and weights, and of what else decides what it gives."""
    structure = re.sub(r"0x[0-9a-f]+", "", repr(module))
    digest = hashlib.sha256(repr((*more, structure)).encode())
    for name, value in {**module.state_dict(), **dict(module.named_buffers())}.items():
        if not isinstance(value, Tensor):  # a module's extra state
            digest.update(f"{name}{value!r}".encode())
            continue
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        raw = value.detach().cpu().contiguous().view(-1)
        if raw.numel():
            digest.update(raw.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _unwrapped(module: nn.Module) -> nn.Module:
    """The module within what `torch.compile` and data parallelism put around one: its layers bear its own names."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(module, parallel) or type(module).__name__ == "OptimizedModule":
        module = module.module if isinstance(module, parallel) else module.get_submodule("_orig_mod")
    return module


def _unread(_: Tensor) -> None:
    """A reader of nothing: what matters is that the layer is reached."""


def _of_each(count: int, reader: Reader) -> Reader:
    """A reader that gets a row for each of so many images, also where a module gives one for all, such as positions."""

    def read(output: Tensor) -> Tensor | None:
        return reader(output.expand(count, *output.shape[1:]) if len(output) == 1 < count else output)

    return read


def _both(first: Reader | None, second: Reader) -> Reader:
    """One reader after the other, of the same output."""
    if first is None:
        return second

    def read(output: Tensor) -> Tensor | None:
        changed = first(output)
        again = second(output if changed is None else changed)
        return changed if again is None else again

    return read


def readable(output: Tensor) -> Tensor:
    """What is read, in float32 at least."""
    return output if output.dtype == torch.float64 else output.float()

"""What every accumulator is, and how those that look at all layers lay them side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError
from netloupe.sweep.blocks import Block
from netloupe.sweep.maps import Maps

if TYPE_CHECKING:
    import pyarrow as pa

State = dict[str, Tensor]
Arrays = dict[str, np.ndarray]


class Listener(ABC):
    """Takes in layers' outputs batch by batch. An image is given once.

    Its methods are called in the order `reads`, then for each batch `begin_batch`, `update` for each layer read, in the
    order of execution, and `end_batch`.
    """

    @abstractmethod
    def reads(self, layers: Sequence[str], labeled: bool) -> Sequence[str]:
        """The layers that it wants in a sweep over `layers`, or `LOGITS`; labeled: the images have labels."""

    def begin_batch(self, block: Block) -> None:  # noqa: B027 many need not know
        """The network is about to be shown these images, of which there is one at least."""

    @abstractmethod
    def update(self, layer: str, maps: Maps) -> None:
        """Take in one layer's output for one batch."""

    def end_batch(self) -> None:  # noqa: B027 many need not know
        """All layers of the batch have been given."""


class Scribe(Listener):
    """Makes rows of what it is given, image by image. One that holds none may be copied into another process."""

    @abstractmethod
    def take(self) -> Mapping[str, pa.Table]:
        """The rows of all that it was given since the last call, by table; each has the image's `id`."""


class Sink(ABC):
    """Where the rows of scribes go, in the order of ids; a sweep that goes on gives those of some images again."""

    @property
    @abstractmethod
    def scribes(self) -> Sequence[Scribe]:
        """Who makes its rows, or, as copies, makes them elsewhere."""

    @abstractmethod
    def put(self, rows: Mapping[str, pa.Table]) -> None:
        """Take in the rows of the next images."""

    @abstractmethod
    def flush(self) -> None:
        """Write down all that was given so far, for the sweep is about to save itself."""


def written_by(scribes: Sequence[Scribe]) -> dict[str, pa.Table]:
    """The rows that they made since the last call, by table."""
    return {table: rows for scribe in scribes for table, rows in scribe.take().items()}


class Accumulator(Listener):
    """Finds something that can be merged, saved and resumed.

    It is made again from its `spec`; a saved state is only taken up by an accumulator of equal spec.
    """

    def settings(self) -> dict[str, Any]:
        """What it was made with, by name, as plain JSON."""
        return {}

    def spec(self) -> dict[str, Any]:
        """What `make` makes one like it from, as plain JSON."""
        return {"class": f"{type(self).__module__}:{type(self).__name__}", **self.settings()}

    def fresh(self) -> Self:
        """One like it that has taken in nothing."""
        kind: Any = type(self)
        found: Self = kind(**self.settings())
        return found

    def sequel(self) -> Self:
        """One that has taken in nothing, for images of higher ids than any here, after which it is merged into this.

        It may pass over what this one makes needless: after the merge both hold what a `fresh` one would have led to.
        """
        return self.fresh()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings().items())})"

    def check_same(self, other: Self) -> None:
        """Raise InputError unless both have the same settings."""
        if self.spec() != other.spec():
            raise InputError(f"{self!r} can't be merged with {other!r}")

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what another of the same settings found on other images. Raises InputError if the layers differ."""

    @abstractmethod
    def state(self) -> State:
        """All that it holds between batches, as tensors by name."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Become what gave this `state()`."""


def make(spec: Mapping[str, Any]) -> Accumulator:
    """The accumulator that a `spec` describes, having taken in nothing."""
    settings = dict(spec)
    module, name = settings.pop("class").split(":")
    found: Accumulator = getattr(import_module(module), name)(**settings)
    return found


class Columns:
    """The channels of all layers side by side: each layer has a span of columns, in the order of first sight.

    Statistics of all layers are then one array, and one operation updates them all.
    """

    def __init__(self) -> None:
        self.spans: dict[str, slice] = {}
        self._batch: dict[str, np.ndarray] = {}

    @property
    def width(self) -> int:
        return max((span.stop for span in self.spans.values()), default=0)

    def span(self, layer: str, channels: int) -> slice:
        """The columns of a layer. Raises NetworkError if it had another number of channels before."""
        if layer not in self.spans:
            self.spans[layer] = slice(self.width, self.width + channels)
        span: slice = self.spans[layer]
        if span.stop - span.start != channels:
            raise NetworkError(f"layer {layer!r} has {channels} channels now and had {span.stop - span.start} before")
        return span

    def put(self, layer: str, values: np.ndarray) -> None:
        """Keep a layer's (n, C) until the batch ends."""
        self.span(layer, values.shape[1])
        self._batch[layer] = values

    def take(self) -> np.ndarray:
        """What was put since the last call: (n, width)."""
        joined = np.concatenate([self._batch[layer] for layer in self.spans], axis=1)
        self._batch.clear()
        return joined

    def join(self, other: Columns) -> None:
        """Become those of both. Raises InputError unless they are the same, or one has none."""
        self.spans = self.spans or dict(other.spans)
        if other.spans and self.spans != other.spans:
            raise InputError(f"layers {list(self.spans)} can't be merged with {list(other.spans)}")

    def state(self) -> Arrays:
        return {f"columns/{name}": np.array([span.start, span.stop]) for name, span in self.spans.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        found = {k.removeprefix("columns/"): v.tolist() for k, v in arrays.items() if k.startswith("columns/")}
        self.spans = {name: slice(*ends) for name, ends in sorted(found.items(), key=lambda item: item[1])}
        self._batch.clear()


def to_state(arrays: Mapping[str, np.ndarray]) -> State:
    """Copies as tensors; no two share memory, which safetensors refuses."""
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}


def to_arrays(state: Mapping[str, Tensor]) -> Arrays:
    """Copies as arrays."""
    return {name: tensor.numpy().copy() for name, tensor in state.items()}

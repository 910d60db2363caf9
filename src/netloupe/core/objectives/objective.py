"""What an objective is: a score of one pass that adds, subtracts, scales, compares, and tells itself in words."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.head import Classes, H, Head
from netloupe.core.taps import LOGITS
from netloupe.core.units import check_place

WHOLE = re.compile(r"-?[0-9]{1,18}")
SHOWN = 16  # numbers of a tensor that stand in a text


@dataclass(frozen=True)
class Reading:
    """What an objective sees: the outputs of the layers it named, and the images (N, C, H, W) if it asks for them.

    head: what the network answers, where the answer is among the outputs.
    """

    head: Head | None
    make_images: Callable[[], Tensor]
    outputs: Mapping[str, Tensor]

    @cached_property
    def images(self) -> Tensor:
        return self.make_images()

    def layer(self, name: str) -> Tensor:
        return self.outputs[name]

    @property
    def logits(self) -> Tensor:
        """The answer, of a network of classes."""
        return self.outputs[LOGITS]

    @property
    def classes(self) -> Classes:
        return self._head.classes("the score of a class")

    def answer(self, kind: type[H], what: str) -> tuple[H, Tensor]:
        """The head and the answer of a network whose head is of a kind. Raises NetworkError, as `what` needs it."""
        return self._head.of(kind, what), self.outputs[LOGITS]

    @property
    def _head(self) -> Head:
        assert self.head is not None, "the answer was not read"
        return self.head

    def channel(self, layer: str, channel: int) -> Tensor:
        """One channel's output: (N, H, W) or (N,). Raises UnknownName if the layer has fewer channels."""
        maps = self.outputs[layer]
        check_place(layer, "channel", channel, range(maps.shape[1]))
        return maps[:, channel]


Read = Callable[[Tensor, Sequence[str]], Reading]
"""Reads the layers of those names for images (N, C, H, W), as `Network.reading` does."""


class Objective(ABC):
    """A score of one forward pass. Each kind is a frozen dataclass of its settings, equal where they are equal.

    The text of an objective, such as `logit(koala) - 0.5 * logit(lynx)`, is complete, because results are keyed by it;
    `parse` reads it back, unless it holds more numbers than a text can: then a digest of them stands there.
    """

    def __post_init__(self) -> None:
        keep(self, **{one.name: _kept(getattr(self, one.name), str(one.type)) for one in _fields(self)})

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The layers that it reads, or `LOGITS`."""

    @abstractmethod
    def score(self, reading: Reading) -> Tensor:
        """(N,), differentiable."""

    @property
    def loose(self) -> bool:
        """Whether it is held against a clean image, on which it has to be `fixed` before it has a score."""
        return False

    def fixed(self, read: Read, images: Tensor | None) -> Objective:
        """The same, held against the clean images (N, C, H, W). Raises InputError for None where it needs them."""
        return self

    @property
    def highest(self) -> float | None:
        """The score that no image exceeds, and at which the gradient is zero; None where there is no such."""
        return None

    def __str__(self) -> str:
        """The kind, with its settings up to the last that is not as usual."""
        settings = _fields(self)
        while settings and _comparable(settings[-1].default) == _comparable(getattr(self, settings[-1].name)):
            settings.pop()
        return f"{word(type(self))}({', '.join(_written(getattr(self, one.name), one.type) for one in settings)})"

    def __repr__(self) -> str:
        return str(self)

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return type(self), *(_comparable(getattr(self, one.name)) for one in _fields(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objective) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __add__(self, other: Objective) -> Objective:
        return Sum((self, other)) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other: object) -> Objective:
        """`sum` begins with 0."""
        return self if other == 0 else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        return Scaled(factor, self) if isinstance(factor, int | float) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Objective):
    """Objectives added up from the left."""

    terms: tuple[Objective, ...]

    def __post_init__(self) -> None:
        first, *rest = self.terms
        keep(self, terms=(*(first.terms if isinstance(first, Sum) else (first,)), *rest))

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.terms for name in one.layers))

    @property
    def loose(self) -> bool:
        return any(one.loose for one in self.terms)

    def fixed(self, read: Read, images: Tensor | None) -> Objective:
        return Sum(tuple(one.fixed(read, images) for one in self.terms)) if self.loose else self

    def score(self, reading: Reading) -> Tensor:
        total = self.terms[0].score(reading)
        for one in self.terms[1:]:
            total = total + one.score(reading)
        return total

    def __str__(self) -> str:
        text = str(self.terms[0])
        for one in self.terms[1:]:
            less = isinstance(one, Scaled) and one.negates
            text += f" - {_inside(one.objective)}" if isinstance(one, Scaled) and less else f" + {_inside(one)}"
        return text


@dataclass(frozen=True, eq=False, repr=False)
class Scaled(Objective):
    """An objective times a number."""

    factor: float
    objective: Objective

    def __post_init__(self) -> None:
        keep(self, factor=float(self.factor) if isinstance(self.factor, float) else whole(self.factor))

    @property
    def layers(self) -> tuple[str, ...]:
        return self.objective.layers

    @property
    def loose(self) -> bool:
        return self.objective.loose

    def fixed(self, read: Read, images: Tensor | None) -> Objective:
        return Scaled(self.factor, self.objective.fixed(read, images)) if self.loose else self

    @property
    def negates(self) -> bool:
        return repr(self.factor) == "-1"

    def score(self, reading: Reading) -> Tensor:
        return self.objective.score(reading) * self.factor

    def __str__(self) -> str:
        if self.negates:
            return f"-({self.objective})" if isinstance(self.objective, Sum | Scaled) else f"-{self.objective}"
        return f"{self.factor!r} * {_inside(self.objective)}"


@dataclass(frozen=True, eq=False, repr=False)
class OfLayer(Objective):
    """What reads one layer."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)


def keep(made: object, **settings: Any) -> None:
    """Set fields of a frozen dataclass, while it is made."""
    for name, value in settings.items():
        object.__setattr__(made, name, value)


def _kept(value: Any, kind: str) -> Any:
    """A setting as its annotation says: numbers of that type, and tensors that nobody else changes."""
    if value is None or isinstance(value, str):
        return value
    if kind.startswith("Tensor"):
        return value.detach().clone()
    return whole(value) if "int" in kind else float(value) if kind == "float" else value


def whole(number: Any) -> int:
    """An int of at most 18 digits. Raises InputError for a larger one."""
    found = int(number)
    if abs(found) >= 10**18:
        raise InputError("a number of more than 18 digits in an objective (accepted: fewer)")
    return found


def word(kind: type[Objective]) -> str:
    """How a kind is called in texts: match_gram for MatchGram."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", kind.__name__).lower()


def bare(text: str) -> bool:
    """Whether a name can stand in a text without quotes."""
    return bool(text) and text.isprintable() and text == text.strip() and not re.search(r"^[\"'\[]|[(),=]", text)


def _fields(made: Objective) -> list[Field[Any]]:
    return list(fields(made))  # type: ignore[arg-type]  # every kind is a dataclass


def _inside(one: Objective) -> str:
    return f"({one})" if isinstance(one, Sum) else str(one)


def _written(value: Any, kind: Any) -> str:
    if isinstance(value, str):
        ambiguous = "int" in kind and WHOLE.fullmatch(value)
        return value if bare(value) and not ambiguous else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Tensor):
        return (
            _written(value.tolist(), kind)
            if value.ndim == 1 and len(value) <= SHOWN
            else f"sha256:{_digest(value)[:16]}"
        )
    if isinstance(value, Sequence):
        return f"[{', '.join(map(repr, value))}]"
    return str(value) if isinstance(value, Objective) else repr(value)


def _comparable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _digest(value)
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    return repr(value) if isinstance(value, float) else value  # 2 is written otherwise than 2.0


def _digest(tensor: Tensor) -> str:
    """Of shape and values, whatever their type."""
    raw = tensor.detach().to("cpu", torch.float64).contiguous()
    return hashlib.sha256(repr(tuple(raw.shape)).encode() + raw.numpy().tobytes()).hexdigest()

"""What a network answers: classes, or nothing that is known of. Whoever needs classes asks the head for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError, UnknownName, unknown


@dataclass(frozen=True)
class Classes:
    """Class logits (N, count), of which a softmax makes probabilities.

    names: by index, or None; count: from the names where those are given. output: the key or index of the logits where
    the module does not return a tensor. assumed: nobody said that these are classes, only the output's shape.
    """

    names: Sequence[str] | None = None
    count: int = 0
    output: str | int | None = None
    assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        names = None if self.names is None else tuple(str(name) for name in self.names)
        count = len(names) if names is not None and not self.count else int(self.count)
        if count < 1 or (names is not None and len(names) != count):
            given = "no names" if names is None else f"{len(names)} names"
            raise InputError(f"a head of {count} classes with {given} (accepted: 1 or more, a name for each or none)")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "count", count)

    def __str__(self) -> str:
        many = f"{self.count} classes" if self.count > 1 else "one class"
        told = f", as the output's shape (N, {self.count}) suggests; say head='none' if it is no class logits"
        return f"{many}{told * self.assumed}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all classes by index; their numbers where they have none."""
        return tuple(self.names) if self.names is not None else tuple(map(str, range(self.count)))

    def classes(self, what: str, least: int = 1) -> Classes:
        """Itself, for `what` needs classes. Raises NetworkError where it needs more."""
        if self.count < least:
            raise NetworkError(
                f"{what} needs {least} classes or more, but the network gives one number an image, whose softmax is 1 "
                "whatever it is (logit(0) is the number itself)"
            )
        return self

    def pick(self, result: Any) -> Tensor:
        """The logits (N, count) in what the module returned. Raises NetworkError or UnknownName where they are not."""
        logits = _entry(result, self.output)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise NetworkError(
                f"the network gives {_described(logits)}, no logits (accepted: (N, classes)){_fix(logits)}"
            )
        if logits.shape[1] != self.count:
            given = f"{self.count} classes" if self.names is None else f"{self.count} labels"
            raise NetworkError(f"the network has {logits.shape[1]} classes, but {given} were given")
        return logits

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, count), of one image adding up to 1. Raises NetworkError where there is no choice of classes."""
        self.classes("a probability", 2)
        return logits.softmax(1)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """(N, count), the natural logarithms of the probabilities."""
        self.classes("a probability", 2)
        return logits.log_softmax(1)

    def log_odds(self, logits: Tensor, index: int) -> Tensor:
        """(N,), log p / (1 - p) of a class of probability p."""
        return logits[:, index] - torch.cat([logits[:, :index], logits[:, index + 1 :]], 1).logsumexp(1)

    def label(self, index: int) -> str:
        """The name of a class; its number where it has none."""
        return str(index) if self.names is None else self.names[index]

    def index(self, name: str | int) -> int:
        """The index of a class given by index or by name (case does not matter).

        A name of digits is an index unless a class bears it.
        Raises UnknownName if it is not there, InputError if several classes bear the name.
        """
        if isinstance(name, str):
            matches = [i for i, label in enumerate(self.names or ()) if label.lower() == name.lower()]
            if len(matches) > 1:
                among = ", ".join(map(str, matches))
                raise InputError(f"{len(matches)} classes are named {name!r}; give the index: {among}")
            if matches:
                return matches[0]
            if not name.removeprefix("-").isdecimal() or len(name) > 18:
                raise unknown("class", name, self.names or ())
        index = int(name)
        if not 0 <= index < self.count:
            raise UnknownName(f"no class {index} (accepted: 0 to {self.count - 1})")
        return index


@dataclass(frozen=True)
class NoHead:
    """No classes. gives: what the network returns instead, as far as it is known; fix: what would help."""

    gives: str = "what is stated to be no classes (head='none')"
    fix: str = ""

    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    count: int = field(default=0, init=False, repr=False)

    def __str__(self) -> str:
        return f"no classes: it gives {self.gives}"

    def classes(self, what: str, least: int = 1) -> NoReturn:
        """Raises NetworkError: `what` needs classes."""
        raise NetworkError(f"{what} needs classes, but the network gives {self.gives}, no logits{self.fix}")

    def pick(self, result: Any) -> NoReturn:
        """Raises NetworkError: there are no logits in what the module returned."""
        raise NetworkError(f"the network gives {self.gives}, no logits (accepted: (N, classes)){self.fix}")


Head = Classes | NoHead


def find_head(result: Any, output: str | int | None) -> Head:
    """The head of a network that returned `result`, of which nobody said what it answers.

    Numbers (N, count) are taken for class logits, which an embedding can't be told from.
    Raises UnknownName for an output that is not there.
    """
    answer = _entry(result, output)
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        return NoHead(_described(answer), _fix(answer))
    return Classes(count=answer.shape[1], output=output, assumed=True)


def _entry(result: Any, output: str | int | None) -> Any:
    if output is None:
        return result
    holds = _entries(result)
    if output not in holds:
        raise unknown("output", output, [str(key) for key in holds])
    return holds[output]


def _entries(result: Any) -> dict[str | int, Any]:
    """What a module's output holds, by key or index."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, tuple | list):
        named = result._asdict() if hasattr(result, "_asdict") else {}
        return {**named, **dict(enumerate(result))}
    if is_dataclass(result):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    return {} if isinstance(result, Tensor) else dict(getattr(result, "__dict__", {}))


def _described(answer: Any) -> str:
    if isinstance(answer, Tensor):
        return f"({', '.join(['N', *map(str, answer.shape[1:])])}{',' * (answer.ndim < 2)})"
    holds = [f"{key!r}: {_described(one)}" for key, one in _entries(answer).items() if isinstance(one, Tensor)]
    return f"a {type(answer).__name__}" + (f" of {', '.join(holds[:4])}{', ...' * (len(holds) > 4)}" if holds else "")


def _fix(answer: Any) -> str:
    names = ", ".join(repr(key) for key in _entries(answer))
    return f"; name the entry: output=... ({names})" if names else ""

"""What a network answers: classes, one number, a vector, classes by pixel or boxes; or nothing that is known of.

Whoever needs one of them asks the head, which says in one line why it is not there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError, UnknownName, unknown
from netloupe.core.receptive_field import Box
from netloupe.core.returned import (
    EMBEDDINGS,
    Output,
    boxes_of,
    boxes_of_queries,
    described,
    entries_named,
    entry,
    holds_boxes,
    holds_queries,
    main_entry,
)
from netloupe.core.settings import HEADS, NAMELESS

Size = tuple[int, int]
Kind = Literal["softmax", "sigmoid", "probabilities", "binary"]


@dataclass(frozen=True)
class Prediction:
    """One thing that a network says of an image.

    what: "probability" of a class, "share" of the area of a class, "score" of a box, or "value"; number: of that.
    box: (top, left, bottom, right) in px of the input.
    """

    label: str
    index: int | None
    number: float
    what: str = "probability"
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.label} {self.number:.4g}" if self.what == "value" else f"{self.label} {self.number:.1%}"

    @property
    def probability(self) -> float:
        """The number, of a class."""
        return self.number

    def document(self) -> dict[str, Any]:
        found = {"label": self.label, "index": self.index, self.what: self.number}
        return found if self.box is None else found | {"box": list(self.box)}


class Head(ABC):
    """What a network answers. `pick` makes one tensor of what the module returned: the answer, which `says` reads."""

    wanted: ClassVar[str]
    """What whoever needs this kind of head needs, as in "boxes"."""

    output: Output | None
    names: Sequence[str] | None
    """Of the classes by index, where there are any."""

    count: int
    """How many classes there are; 0 where there are none or it is not known."""

    @property
    @abstractmethod
    def word(self) -> str:
        """As `head=` and `--head` take it."""

    @property
    @abstractmethod
    def gives(self) -> str:
        """What the network gives, in words."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to do without what is not there, to follow an error; empty for nothing."""

    @abstractmethod
    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        """The answer to N images of (height, width) `size`. Raises NetworkError and UnknownName where it lacks."""

    @abstractmethod
    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        """Of each image up to `top` things that the answer says, foremost first; none of what no words can tell."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all classes by index; their numbers where they have none."""
        return tuple(self.names) if self.names is not None else tuple(map(str, range(self.count)))

    @property
    def choices(self) -> tuple[str, ...]:
        """`labels` where the answer is about the image as a whole, so that its own label can be one; else none."""
        return self.labels if isinstance(self, Classes) else ()

    def label(self, index: int) -> str:
        """The name of a class; its number where it has none."""
        return self.names[index] if self.names is not None and index < len(self.names) else str(index)

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
        if index < 0 or (self.count and index >= self.count):
            raise UnknownName(f"no class {index} (accepted: {f'0 to {self.count - 1}' if self.count else '0 or more'})")
        return index

    def classes(self, what: str, least: int = 1) -> Classes:
        """Itself, for `what` needs classes. Raises NetworkError where it has none, or fewer than that."""
        found = self.of(Classes, what)
        if found.kind == "softmax" and found.count < least:
            raise NetworkError(
                f"{what} needs {least} classes or more, but the network gives one number an image, whose softmax is 1 "
                "whatever it is (logit(0) is the number itself; say head='value' or head='binary')"
            )
        return found

    def of(self, kind: type[H], what: str) -> H:
        """Itself, for `what` needs a head of that kind. Raises NetworkError where it is none."""
        if not isinstance(self, kind):
            lacks = ", no logits" if kind is Classes else ""
            raise NetworkError(f"{what} needs {kind.wanted}, but the network gives {self.gives}{lacks}{self.advice}")
        return self


H = TypeVar("H", bound=Head)


@dataclass(frozen=True)
class Classes(Head):
    """Scores of classes (N, count), called logits.

    names: by index, or None; count: from the names where those are given. kind: "softmax", one class of all; "sigmoid",
    each class for itself; "probabilities", which the network gives itself (their logarithms stand for logits);
    "binary", one logit z for the second of two classes, so that their logits are -z and z, their log odds.
    output: where the module's output holds them, if it is no tensor. assumed: nobody said that these are classes, only
    the output's shape.
    """

    wanted: ClassVar = "classes"

    names: Sequence[str] | None = None
    count: int = 0
    output: Output | None = None
    assumed: bool = field(default=False, compare=False)
    kind: Kind = "softmax"

    def __post_init__(self) -> None:
        names = None if self.names is None else tuple(str(name) for name in self.names)
        if self.kind == "binary" and names is not None and len(names) == 1:
            names = (f"not {names[0]}", names[0])
        count = len(names) if names is not None and not self.count else int(self.count)
        count = 2 if self.kind == "binary" and not count else count
        if count < 1 or (names is not None and len(names) != count):
            given = "no names" if names is None else f"{len(names)} names"
            raise InputError(f"a head of {count} classes with {given} (accepted: 1 or more, a name for each or none)")
        if self.kind == "binary" and count != 2:
            raise InputError(f"a binary head of {count} classes (accepted: 2, or the name of the second)")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "count", count)

    def __str__(self) -> str:
        many = f"{self.count} classes" if self.count > 1 else "one class"
        told = f", as the output's shape (N, {self.count}) suggests; say head='none' if it is no class logits"
        how = {"softmax": "", "sigmoid": ", each for itself", "probabilities": ", as probabilities"}
        return f"{many}{how.get(self.kind, ', by one logit')}{told * self.assumed}"

    @property
    def word(self) -> str:
        return "classes" if self.kind == "softmax" else self.kind

    @property
    def gives(self) -> str:
        return f"class logits, {self}"

    @property
    def advice(self) -> str:
        return ""

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        """The logits (N, count)."""
        found = _flat(entry(result, self.output))
        if self.kind == "binary":
            return _of_two(found)
        if not isinstance(found, Tensor) or found.ndim != 2:
            raise NetworkError(
                f"the network gives {described(found)}, no logits (accepted: (N, classes)){entries_named(found)}"
            )
        if found.shape[1] != self.count:
            given = f"{self.count} classes" if self.names is None else f"{self.count} labels"
            raise NetworkError(f"the network has {found.shape[1]} classes, but {given} were given")
        return _logarithms(found) if self.kind == "probabilities" else found

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, count); of one image adding up to 1, but for independent ones.

        Raises NetworkError where there is no choice of classes.
        """
        return self.log_probabilities(logits).exp() if self.kind == "probabilities" else self._probabilities(logits)

    def _probabilities(self, logits: Tensor) -> Tensor:
        self.classes("a probability", 2)
        return logits.softmax(1) if self.kind == "softmax" else logits.sigmoid()

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """(N, count), the natural logarithms of the probabilities."""
        self.classes("a probability", 2)
        if self.kind == "probabilities":
            return logits
        return logits.log_softmax(1) if self.kind == "softmax" else F.logsigmoid(logits)

    def log_odds(self, logits: Tensor, index: int) -> Tensor:
        """(N,), log p / (1 - p) of a class of probability p."""
        own = logits[:, index]
        if self.kind == "probabilities":
            return own - (-torch.expm1(own)).clamp(min=torch.finfo(own.dtype).tiny).log()
        if self.kind != "softmax":
            return own
        return own - torch.cat([logits[:, :index], logits[:, index + 1 :]], 1).logsumexp(1)

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        """The most probable classes; of independent ones each with its own probability."""
        best = self.probabilities(answer).topk(min(top, self.count), dim=1)
        return [
            [Prediction(self.label(i), i, p) for i, p in zip(indices, numbers, strict=True)]
            for indices, numbers in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class _Nameless(Head):
    """What knows of no classes."""

    names: None = field(default=None, init=False, repr=False)
    count: int = field(default=0, init=False, repr=False)

    def __str__(self) -> str:
        return self.gives


@dataclass(frozen=True)
class Value(_Nameless):
    """One number an image: (N, 1), of (N,) or (N, 1)."""

    wanted: ClassVar = "one number an image"
    word = "value"
    gives = "one number an image"
    advice = " (value() is the number)"

    output: Output | None = None

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        found = _flat(entry(result, self.output))
        if not isinstance(found, Tensor) or found.shape[1:] not in ((), (1,)):
            raise NetworkError(f"the network gives {described(found)}, no number (accepted: (N,) or (N, 1))")
        return found.reshape(-1, 1)

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        return [[Prediction("value", None, number, "value")] for number in answer[:, 0].tolist()]


@dataclass(frozen=True)
class Vector(_Nameless):
    """A vector an image, an embedding: (N, length)."""

    wanted: ClassVar = "a vector an image"
    word = "vector"
    gives = "a vector an image"
    advice = " (similarity(...) reads it)"

    output: Output | None = None

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        found = _flat(entry(result, self.output))
        if not isinstance(found, Tensor) or found.ndim != 2:
            raise NetworkError(f"the network gives {described(found)}, no vector (accepted: (N, length))")
        return found

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        return [[] for _ in answer]


@dataclass(frozen=True)
class Maps(Head):
    """Scores of classes by pixel (N, count, height, width), at the size of the images.

    A smaller or larger map is brought to that size by bilinear interpolation. Of a network that gives one map z of
    logits, (N, height, width) too, there are two classes, whose scores are -z and z.
    names, count, output, assumed: as in `Classes`; the count may be left to what the network gives.
    """

    wanted: ClassVar = "classes by pixel"
    word = "maps"
    advice = " (pixel_class(...) and region_class(...) read them)"

    names: Sequence[str] | None = None
    count: int = 0
    output: Output | None = None
    assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        names = None if self.names is None else tuple(str(name) for name in self.names)
        if names is not None and len(names) == 1:
            names = (f"not {names[0]}", names[0])
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "count", self.count or len(names or ()))

    def __str__(self) -> str:
        told = ", as the output's shape (N, {}, height, width) suggests; say head='none' if it is something else"
        return f"{self.gives}{told.format(self.count) * self.assumed}"

    @property
    def gives(self) -> str:
        return f"{self.count or 'any number of'} classes by pixel"

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        found = _one_map(entry(result, self.output))
        if not isinstance(found, Tensor) or found.ndim != 4:
            accepted = "(accepted: (N, classes, height, width))"
            raise NetworkError(f"the network gives {described(found)}, no classes by pixel {accepted}")
        if found.shape[1] == 1:
            found = _of_two(found)
        if self.count and found.shape[1] != self.count:
            given = f"{self.count} classes" if self.names is None else f"{self.count} labels"
            raise NetworkError(f"the network has {found.shape[1]} classes by pixel, but {given} were given")
        if size is None or found.shape[2:] == size:
            return found
        return F.interpolate(found, size, mode="bilinear", align_corners=False)

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        """The classes by their share of the area, as far as they have any."""
        found = []
        for chosen in answer.argmax(1):
            shares = torch.bincount(chosen.flatten().cpu(), minlength=answer.shape[1]).double() / chosen.numel()
            order = sorted((-share, i) for i, share in enumerate(shares.tolist()) if share > 0)[:top]
            found.append([Prediction(self.label(i), i, -share, "share") for share, i in order])
        return found


@dataclass(frozen=True)
class Detections(Head):
    """Boxes: (N, D, 6), of each top, left, bottom, right in px of the images, score and label.

    Where an image has fewer than D, label -1 fills up. Of what torchvision's detectors return, one dict of `boxes`,
    `scores` and `labels` an image; and of DETR's kind `logits` and `pred_boxes`, whose last class is no object.
    names: of the classes by label.
    """

    wanted: ClassVar = "boxes"
    word = "detections"
    gives = "boxes"
    advice = " (box_score(...) reads them)"

    names: Sequence[str] | None = None
    output: Output | None = None
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        names = None if self.names is None else tuple(str(name) for name in self.names)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "count", len(names or ()))

    def __str__(self) -> str:
        return f"boxes of {self.count} classes" if self.count else "boxes"

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        found = entry(result, self.output)
        if holds_boxes(found):
            return boxes_of(found)
        if holds_queries(found):
            if size is None:
                raise NetworkError("boxes as shares of an image whose size is not known")
            return boxes_of_queries(found, size)
        accepted = "one dict of boxes, scores and labels an image, or logits and pred_boxes"
        raise NetworkError(f"the network gives {described(found)}, no boxes (accepted: {accepted})")

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        """The boxes of the highest scores."""
        found = []
        for rows in answer.detach().cpu():
            kept = [row for row in rows.tolist() if row[5] >= 0]
            best = sorted(kept, key=lambda row: -row[4])[:top]
            found.append([self._prediction(row) for row in best])
        return found

    def _prediction(self, row: list[float]) -> Prediction:
        top, left, bottom, right = (round(side) for side in row[:4])
        return Prediction(self.label(int(row[5])), int(row[5]), row[4], "score", (top, left, bottom, right))


@dataclass(frozen=True)
class NoHead(_Nameless):
    """Nothing that is known of. gives: what the network returns, as far as it is known; fix: what would help."""

    wanted: ClassVar = "nothing"
    word = "none"

    gives: str = "what is stated to be no answer (head='none')"
    fix: str = ""
    output: Output | None = None

    def __str__(self) -> str:
        return f"no classes: it gives {self.gives}{self.fix}"

    @property
    def advice(self) -> str:
        return self.fix

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        """Raises NetworkError: there is no answer in what the module returned."""
        raise NetworkError(f"the network gives {self.gives}, no logits (accepted: (N, classes)){self.fix}")

    def says(self, answer: Tensor, top: int) -> list[list[Prediction]]:
        return [[] for _ in answer]


@dataclass(frozen=True)
class Unsaid(NoHead):
    """One number an image, (N, 1), of which nobody said whether it is a value or a logit: it can be read, no more."""

    def pick(self, result: Any, size: Size | None = None) -> Tensor:
        answer = _flat(entry(result, self.output))
        if not isinstance(answer, Tensor) or answer.ndim != 2 or answer.shape[1] != 1:
            raise NetworkError(f"the network gives {described(answer)}, where it gave (N, 1) before")
        return answer


@dataclass(frozen=True)
class Said:
    """What is known of a network's head before it ran: the word for it or the head itself, class names, the output."""

    head: Head | str | None = None
    names: tuple[str, ...] | None = None
    output: Output | None = None

    @classmethod
    def of(cls, head: Head | str | None, labels: Sequence[str] | None, output: Output | None) -> Said:
        """Raises UnknownName and InputError for what is no head, and for what contradicts itself."""
        names = None if labels is None else tuple(str(name) for name in labels)
        if isinstance(head, str) and head not in HEADS:
            raise unknown("head", head, HEADS, shown=len(HEADS))
        if head is not None and not isinstance(head, str | Head):
            raise InputError(f"the head is a {type(head).__name__} (accepted: {', '.join(HEADS)}, or a head)")
        if names is not None and (isinstance(head, Head) or head in NAMELESS):
            told = f"head={head!r}" if isinstance(head, str) else "a head"
            raise InputError(f"labels and {told} were given (accepted: one of them; Classes(names) is a head)")
        if isinstance(head, Head) and output is not None:
            head = replace(head, output=output)  # type: ignore[type-var]  # every head is a dataclass
        return cls(head, names, head.output if isinstance(head, Head) else output)

    @property
    def labels(self) -> Sequence[str] | None:
        return self.head.names if isinstance(self.head, Head) else self.names

    @property
    def word(self) -> str | None:
        return self.head.word if isinstance(self.head, Head) else self.head

    def find(self, result: Any, size: Size | None = None) -> Head:
        """The head of a network that returned `result` for images of that (height, width).

        What nobody said is found where it can be told. Numbers (N, classes) are taken for class logits, which an
        embedding can't be told from unless a library names it so (`EMBEDDINGS`), and (N, classes, height, width) for
        classes by pixel, and both say so; (N, 1) may be a value or a logit, so it has to be said.
        Raises UnknownName for an output that is not there, NetworkError for a head that does not fit.
        """
        if isinstance(self.head, Head):
            return self.head
        output = self.output
        if output is None and not holds_boxes(result) and not holds_queries(result):
            output = main_entry(result)
        answer = _flat(entry(result, output))
        found = self._found(answer, output) if self.head is None else self._stated(answer, output)
        if not isinstance(found, NoHead):
            found.pick(result, size)  # the error of one that does not fit
        return found

    def _found(self, answer: Any, output: Output | None) -> Head:
        names, assumed = self.names, self.names is None
        if holds_boxes(answer) or holds_queries(answer):
            return Detections(names, output)
        if not isinstance(answer, Tensor):
            return NoHead(described(answer), entries_named(answer))
        if output in EMBEDDINGS and answer.ndim == 2 and names is None:
            return Vector(output)
        if answer.ndim == 2 and answer.shape[1] > 1:
            return Classes(names, 0 if names else answer.shape[1], output, assumed)
        if answer.ndim == 4 and answer.shape[1] > 1:
            return Maps(names, answer.shape[1], output, assumed) if names is None else Maps(names, output=output)
        if answer.ndim == 1 and names is None:
            return Value(output)
        if answer.ndim == 2 and answer.shape[1] == 1 and names is None:
            return Unsaid(described(answer), _asked(answer), output)
        return NoHead(described(answer), _asked(answer))

    def _stated(self, answer: Any, output: Output | None) -> Head:
        match self.head:
            case "none":
                return NoHead()
            case "value":
                return Value(output)
            case "vector":
                return Vector(output)
            case "maps":
                answer = _one_map(answer)
                count = answer.shape[1] if isinstance(answer, Tensor) and answer.ndim == 4 else 0
                return Maps(self.names, 0 if self.names else max(2, count) if count else 0, output)
            case "detections":
                return Detections(self.names, output)
            case "binary":
                return Classes(self.names, output=output, kind="binary")
            case word:
                count = answer.shape[1] if isinstance(answer, Tensor) and answer.ndim == 2 else 1
                kind: Kind = "softmax" if word == "classes" else word  # type: ignore[assignment]
                return Classes(self.names, 0 if self.names else count, output, kind=kind)


def _asked(answer: Tensor) -> str:
    """The question what an answer is that can't be told from its shape; nothing where no head is of that shape."""
    match answer.shape[1:]:
        case () | (1,):
            return "; say head='value' or head='binary' (--head), whichever it is"
        case (1, _, _):
            return "; say head='maps' (--head) if it is one logit a pixel"
        case (_, _):
            made = "in Python make one number or a vector of it (output=a function)"
            return f"; say head='maps' (--head) if it is one logit a pixel, or {made}"
        case _:
            return ""


def _flat(answer: Any) -> Any:
    """(N, C) of (N, C, 1, 1); anything else as it is."""
    single = isinstance(answer, Tensor) and answer.ndim == 4 and answer.shape[2:] == (1, 1)
    return answer.flatten(1) if single else answer


def _one_map(answer: Any) -> Any:
    """(N, 1, height, width) of (N, height, width); anything else as it is."""
    return answer[:, None] if isinstance(answer, Tensor) and answer.ndim == 3 else answer


def _of_two(found: Any) -> Tensor:
    """Scores of two classes, -z and z, of one logit z an image or pixel."""
    if not isinstance(found, Tensor) or found.ndim not in (1, 2, 4) or (found.ndim > 1 and found.shape[1] != 1):
        raise NetworkError(f"the network gives {described(found)}, not one logit (accepted: (N,) or (N, 1))")
    z = found[:, None] if found.ndim == 1 else found
    return torch.cat([-z, z], 1)


def _logarithms(probabilities: Tensor) -> Tensor:
    """Of numbers in [0, 1], 0 as the smallest above it; NaN for any other."""
    outside = (probabilities < 0) | (probabilities > 1.001)
    tiny = torch.finfo(probabilities.dtype).tiny
    return torch.where(outside, torch.nan, probabilities.clamp(min=tiny)).log()

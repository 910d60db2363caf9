"""Settings of techniques: a name, what it accepts, its help and its default, written once.

Nothing here imports PyTorch, so that the command line can show its help at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, replace
from numbers import Real
from typing import Any

from netloupe.core.errors import InputError, short, unknown
from netloupe.core.numbers import SEEDS, as_number, as_whole

OBJECT = "object"
"""Key of what stands in a manifest for a value made in Python, which text can't hold."""

HEADS = ("classes", "sigmoid", "probabilities", "value", "binary", "vector", "maps", "detections", "none")
"""What can be said of what a network answers (`head=`, `--head`), see `core.head`."""

FULL = "float32"
PRECISIONS = (FULL, "bfloat16")
"""What a network computes in; float32 stands for the type of its weights."""

SHOWN = 8  # names of layers in a line, at most

NAMELESS = ("value", "vector", "none")
"""Those of them that know of no classes."""


@dataclass(frozen=True, eq=False)
class Kind:
    """How values of a setting are written. read: text or a plain value -> the value; ValueError for what is none.

    what: for errors, as in "a whole number". schema: of JSON.
    """

    what: str
    metavar: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, str) else as_whole(value)


def _number(value: Any) -> float:
    """A number; of text also one over another, as 8/255."""
    if isinstance(value, str):
        over, slash, under = value.partition("/")
        value = float(over) / float(under) if slash else float(over)
    return as_number(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _truth(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value


def _sides(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,5})(?:[xX×,](\d{1,5}))?", value.replace(" ", ""), re.ASCII)
        if match is None:
            raise ValueError
        return int(match[1]), int(match[2] if match[2] is not None else match[1])
    sides = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(sides) != 2:
        raise ValueError
    return _whole(sides[0]), _whole(sides[1])


def _class(value: Any) -> str | int:
    return value if isinstance(value, str) else _whole(value)


def _free(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        raise ValueError
    return value


WHOLE = Kind("a whole number", "N", _whole, {"type": "integer"})
NUMBER = Kind("a number, as 0.03 or 8/255", "X", _number, {"type": "number"})
TEXT = Kind("text", "NAME", _text, {"type": "string"})
TRUTH = Kind("true or false", "", _truth, {"type": "boolean"})
SIDES = Kind(
    "SIDE or HEIGHTxWIDTH in px, for example 224 or 224x160",
    "HxW",
    _sides,
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
)
CLASS = Kind("a class, by name or index", "CLASS", _class, {"type": ["string", "integer"]})
OBJECTIVE = Kind("a unit or an objective", "OBJECTIVE", _free, {"type": "string", "format": "objective"})
"""What is read, ranked or climbed: text of a unit or an objective, or either as an object."""
NAMED = Kind("a name", "NAME", _free, {"type": "string"})
"""A name for what may also be handed over as an object in Python, such as an optimizer."""

_BY_TYPE = {"int": WHOLE, "float": NUMBER, "str": TEXT, "bool": TRUTH}


@dataclass(frozen=True)
class Setting:
    """One setting of a task.

    flags: on the command line, by default the name with dashes; () of an argument. many: a tuple of values, given
    several times. weights: a mapping NAME -> number, given as NAME or NAME=NUMBER several times. commas: of many, the
    command line takes several at once. low, high: bounds, `inside` when they are not accepted themselves.
    """

    name: str
    kind: Kind
    help: str
    default: Any = MISSING
    optional: bool = False
    many: bool = False
    weights: bool = False
    commas: bool = False
    flags: tuple[str, ...] = ()
    argument: bool = False
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def target(self) -> bool:
        """Whether the command line takes it by --class, --unit or --objective."""
        return self.kind is OBJECTIVE and not (self.argument or self.many or self.metavar)

    @property
    def sweepable(self) -> bool:
        """Whether a contact sheet can go through values of it."""
        return not (self.many or self.weights or self.argument or self.target or self.kind in (TRUTH, SIDES))

    @property
    def usual(self) -> str:
        """The default for people; empty where it is none, an empty choice or a switch that is off."""
        if self.required or self.default is None or self.default is False or self.default == ():
            return ""
        value = self.json(self.default)
        if isinstance(value, list):
            return ",".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    def accepted(self) -> str:
        """What is accepted, for errors and help."""
        if self.choices:
            return ", ".join(self.choices)
        limits = self.limits()
        return f"{self.kind.what}, {limits}" if limits else self.kind.what

    def limits(self) -> str:
        """The bounds in words; empty where there are none."""
        low = None if self.low is None else f"{_figure(self.low)} or more"
        low = low if self.above is None else f"above {self.above:g}"
        high = None if self.high is None else f"up to {_figure(self.high)}"
        high = high if self.below is None else "finite" if self.below == math.inf else f"below {self.below:g}"
        return " and ".join(part for part in (low, high) if part)

    def read(self, given: Any) -> Any:
        """The value of what was given in Python, on the command line or in a manifest. Raises InputError."""
        if given is None:
            if self.optional:
                return None
            raise InputError(f"no {self.name} (accepted: {self.accepted()})")
        if isinstance(given, Mapping) and OBJECT in given:
            raise InputError(f"{self.name} was an object made in Python ({given[OBJECT]}), which can't be read back")
        if self.weights:
            return self._weights(given)
        if not self.many:
            return self._one(given)
        several = list(given) if isinstance(given, list | tuple) else [given]
        if self.commas:
            parted = [one.split(",") if isinstance(one, str) else [one] for one in several]
            several = [part.strip() if isinstance(part, str) else part for parts in parted for part in parts]
        return tuple(self._one(one) for one in several)

    def _one(self, given: Any) -> Any:
        try:
            value = self.kind.read(given)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError, RuntimeError):  # the last of tensors
            raise self._refused(given) from None
        if self.choices and isinstance(value, str) and value not in self.choices:
            what = self.name.replace("_", " ")
            raise unknown(what.removesuffix("s") if self.many else what, value, self.choices, shown=len(self.choices))
        for number in value if isinstance(value, tuple) else [value]:
            if isinstance(number, Real) and not self._inside(float(number)):
                raise InputError(f"{self.name} {given} (accepted: {self.limits()})")
        return value

    def _refused(self, given: Any) -> InputError:
        """In one line, whatever was given."""
        return InputError(f"{self.name} {short(given)} (accepted: {self.accepted()})")

    def _inside(self, number: float) -> bool:
        return (
            (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _weights(self, given: Any) -> dict[str, float]:
        if isinstance(given, Mapping):
            return {str(name): self._one(weight) for name, weight in given.items()}
        found: dict[str, float] = {}
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise self._refused(given)
        for text in texts:
            name, mark, number = text.rpartition("=")
            try:
                name, weight = (name, _number(number)) if mark and name else (text, 1.0)
            except ValueError:
                name, weight = text, 1.0
            if name in found:
                raise InputError(f"{self.name} {name!r} was given twice (accepted: once each)")
            found[name] = self._one(weight)
        return found

    @property
    def of_layers(self) -> bool:
        """Whether it names layers that are chosen where it is left out."""
        return self.optional and self.name.endswith(("layer", "layers"))

    def told(self, names: Any) -> str:
        """The layers that it names, in words."""
        several = [names] if isinstance(names, str) else list(names)
        more = f", ... ({len(several)} in all)" if len(several) > SHOWN else ""
        kind = self.name.replace("_", " ").removesuffix("s") + "s" * (len(several) > 1)
        return f"{kind} {', '.join(several[:SHOWN])}{more}"

    def json(self, value: Any) -> Any:
        """The value as a manifest holds it."""
        if isinstance(value, tuple | list):
            return [self.json(one) for one in value]
        if isinstance(value, Mapping):
            return dict(value)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(value) if self.kind is OBJECTIVE else {OBJECT: repr(value)}

    def schema(self) -> dict[str, Any]:
        """Of one setting in the JSON schema of a task."""
        one: dict[str, Any] = dict(self.kind.schema)
        if self.choices:
            one["enum"] = list(self.choices)
        bounds = {"minimum": self.low, "maximum": self.high}
        bounds |= {"exclusiveMinimum": self.above, "exclusiveMaximum": self.below}
        one |= {key: bound for key, bound in bounds.items() if bound not in (None, math.inf)}
        if self.weights:
            one = {"type": "object", "additionalProperties": one}
        elif self.many:
            one = {"type": "array", "items": one}
        if self.optional:
            one = {"anyOf": [one, {"type": "null"}]}
        one["description"] = self.help
        return one if self.required else one | {"default": self.json(self.default)}


def _figure(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    kind: Kind | None = None,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    flags: tuple[str, ...] = (),
    argument: bool = False,
    metavar: str | None = None,
    commas: bool = False,
) -> Any:
    """A field of a task; what its annotation says (int, float | None, tuple[str, ...], ...) need not be said again."""
    given = Setting(
        "", kind if kind is not None else TEXT, help, default, flags=flags, argument=argument, metavar=metavar,
        choices=choices, low=low, high=high, above=above, below=below, commas=commas,
    )  # fmt: skip
    about = {"setting": given, "kind": kind}
    return field(metadata=about) if default is MISSING else field(default=default, metadata=about)


def setting_of(one: Field[Any]) -> Setting:
    """The setting of a dataclass's field made by `setting`."""
    said: Setting = one.metadata["setting"]
    text = str(one.type)
    optional = text.endswith(" | None")
    text = text.removesuffix(" | None")
    weights = text.startswith(("dict[", "Mapping["))
    many = text.startswith("tuple[") and text.endswith(", ...]")
    text = text.removeprefix("tuple[").removesuffix(", ...]") if many else text
    kind = one.metadata["kind"] or (NUMBER if weights else _BY_TYPE[text])
    flags = said.flags if said.flags or said.argument else (f"--{one.name.replace('_', '-')}",)
    return replace(said, name=one.name, kind=kind, optional=optional, many=many, weights=weights, flags=flags)


def random_seed() -> Any:
    """The field `seed` of a task that draws at random."""
    return setting(0, "Seed of all that is drawn at random.", low=0, high=SEEDS)


def first_images(usual: int | None = None) -> Any:
    """The field `first` of a task that can take the first images of a source alone."""
    return setting(usual, "Only the first N images.", low=1)


def one_layer(help: str = "The layer; see netloupe layers.") -> Any:
    """The field of a layer that may be left out."""
    return setting(None, help, flags=("--layer", "-l"), metavar="NAME")


def some_layers(otherwise: str) -> Any:
    """The field of one or several layers; `otherwise`: which are taken without, as in "up to eight convolutions"."""
    return setting(None, f"A layer, or several; else {otherwise}.", flags=("--layer", "-l"), metavar="NAME")

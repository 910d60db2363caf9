"""Objectives from their text: `logit(tabby cat) - 0.5 * channel(conv3, 17)`. Nothing of it is ever evaluated.

    sum      product, then any of  + product  - product
    product  - product,  NUMBER * product,  atom,  atom * NUMBER
    atom     ( sum ),  word(setting, ...)  with settings as they are, in quotes, or named

A name in quotes may hold parentheses and commas. `unit(conv3:17)` is the objective of an address.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from inspect import isabstract
from typing import Any

import torch

from netloupe.core.errors import InputError, unknown
from netloupe.core.objectives import answers, image, matching, units
from netloupe.core.objectives.objective import WHOLE, Objective, Scaled, Sum, word
from netloupe.core.units import Unit

_WORDS: dict[str, type[Objective]] = {
    word(kind): kind
    for module in (units, answers, matching, image)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and not isabstract(kind)
}
_HOLDERS = {name for name, kind in _WORDS.items() if name.startswith("match_")}
_NUMBER = re.compile(r"-?(?:inf|nan|(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,4})?)")
_FACTOR = re.compile(rf"({_NUMBER.pattern})\s*\*")
_SCALE = re.compile(rf"\*\s*({_NUMBER.pattern})")
_WORD = re.compile(r"(\w+)\s*\(")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_ADDRESS = re.compile(r"[^()]+")
_LIST = re.compile(r"\[[^\]\[()]*\]")
_BARE = re.compile(r"[^(),=\"'\[][^(),=]*")
_NAMED = re.compile(r"([a-z]\w*)\s*=\s*")
_DEEPEST = 50
_USUAL = "logit(tabby cat) - 0.5 * logit(lynx), channel(conv3, 17), neuron(conv3, 17, 4, 5), unit(conv3:17)"


def parse(text: str) -> Objective:
    """The objective that a text names, as `str` of one gives it; equal to that one.

    Raises UnknownName for a kind that is not there, InputError for any other text that is none.
    """
    return _Parser(text).parse()


def is_text(given: object) -> bool:
    """Whether it is the text of an objective, not the address of a unit."""
    return isinstance(given, str) and "(" in given and not given.lstrip().startswith("class:")


def as_objective(given: Objective | str | Unit) -> Objective:
    """The objective itself, or the one of a text or the address of a unit. Raises InputError for anything else."""
    if isinstance(given, Objective):
        return given
    if isinstance(given, str) and is_text(given):
        return parse(given)
    if isinstance(given, str | Unit):
        return units.unit(given)
    raise InputError(f"the objective is a {type(given).__name__} (accepted: an Objective, its text, or conv3:17)")


@dataclass(frozen=True)
class _Setting:
    """A setting as it stands: its text without quotes, and whether there were any."""

    text: str
    quoted: bool


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def parse(self) -> Objective:
        found = self._sum()
        if self._at < len(self._text):
            raise self._wrong(f"{self._rest()} follows where it ends")
        return found

    def _wrong(self, why: str) -> InputError:
        shown = self._text if len(self._text) <= 60 else f"{self._text[:60]}..."
        return InputError(f"{shown!r} is no objective: {why} (accepted: {_USUAL})")

    def _rest(self) -> str:
        rest = self._text[self._at :]
        return repr(rest if len(rest) <= 20 else f"{rest[:20]}...") if rest else "the end"

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match that begins here, past it and the blanks that follow."""
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
            self._blanks()
        return found

    def _blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _sign(self, signs: str) -> str:
        """Which of these characters stands here, past it; nothing for none."""
        found = self._text[self._at : self._at + 1]
        if not found or found not in signs:
            return ""
        self._at += 1
        self._blanks()
        return found

    def _sum(self) -> Objective:
        self._blanks()
        terms = [self._product()]
        while sign := self._sign("+-"):
            terms.append(-self._product() if sign == "-" else self._product())
        return Sum(tuple(terms)) if len(terms) > 1 else terms[0]

    def _product(self) -> Objective:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"it is nested more than {_DEEPEST} deep")
        if found := self._take(_FACTOR):
            made: Objective = Scaled(self._number(found[1]), self._product())
        elif self._sign("-"):
            made = -self._product()
        else:
            made = self._atom()
            while found := self._take(_SCALE):
                made = Scaled(self._number(found[1]), made)
        self._depth -= 1
        return made

    def _atom(self) -> Objective:
        if self._sign("("):
            made = self._sum()
            if not self._sign(")"):
                raise self._wrong(f"a ) should stand where {self._rest()} is")
            return made
        found = self._take(_WORD)
        if found is None:
            raise self._wrong(f"a kind and its settings should stand where {self._rest()} is")
        if found[1] in _HOLDERS:
            raise self._wrong(f"{found[1]} holds numbers that no text tells; make it in Python")
        if found[1] not in (accepted := [*(name for name in _WORDS if name not in _HOLDERS), "unit", "l2"]):
            raise unknown("objective", found[1][:40], accepted, shown=20)
        if found[1] == "unit":
            return units.unit(self._address())
        settings = self._settings()
        if found[1] == "l2":
            self._bound(found[1], [], settings)
            return image.l2()
        return self._made(_WORDS[found[1]], settings)

    def _address(self) -> str:
        """The address of a unit, up to the parenthesis that closes; its commas are part of it."""
        found = self._take(_QUOTED) or self._take(_ADDRESS)
        if found is None or not self._sign(")"):
            raise self._wrong(f"an address and ) should stand where {self._rest()} is")
        return self._unquoted(found[0]) if found[0][0] in "\"'" else found[0].strip()

    def _settings(self) -> list[tuple[str | None, _Setting]]:
        """All up to the parenthesis that closes, each with its name if it has one."""
        found: list[tuple[str | None, _Setting]] = []
        while not self._sign(")"):
            if found and not self._sign(","):
                raise self._wrong(f"a comma or ) should stand where {self._rest()} is")
            named = self._take(_NAMED)
            found.append((named[1] if named else None, self._setting()))
        return found

    def _setting(self) -> _Setting:
        if quoted := self._take(_QUOTED):
            return _Setting(self._unquoted(quoted[0]), True)
        if found := self._take(_LIST) or self._take(_BARE):
            return _Setting(found[0].strip(), False)
        raise self._wrong(f"a setting should stand where {self._rest()} is")

    def _unquoted(self, text: str) -> str:
        body = text[1:-1]
        if text[0] == "'":
            body = re.sub(r"\\.|\"", lambda m: {"\\'": "'", '"': '\\"'}.get(m[0], m[0]), body, flags=re.DOTALL)
        try:
            return str(json.loads(f'"{body}"', strict=False))
        except ValueError:
            raise self._wrong("a name in quotes has a wrong backslash") from None

    def _bound(self, kind: str, names: Sequence[str], given: list[tuple[str | None, _Setting]]) -> dict[str, _Setting]:
        """The settings by name."""
        accepted = ", ".join(names) or "nothing"
        if len(given) > len(names):
            raise self._wrong(f"{kind} takes {accepted}, not {len(given)} settings")
        found: dict[str, _Setting] = {}
        for place, (name, setting) in enumerate(given):
            name = names[place] if name is None else name
            if name not in names or name in found:
                raise self._wrong(f"{kind} takes {accepted}, each once")
            found[name] = setting
        return found

    def _made(self, kind: type[Objective], given: list[tuple[str | None, _Setting]]) -> Objective:
        settings = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]  # every kind is a dataclass
        bound = self._bound(word(kind), list(settings), given)
        values = {name: self._value(word(kind), settings[name], one) for name, one in bound.items()}
        try:
            return kind(**values)
        except TypeError:
            raise self._wrong(f"{word(kind)} takes {', '.join(settings)}") from None

    def _value(self, kind: str, field: Any, given: _Setting) -> Any:
        text, accepted = given.text, str(field.type)
        if accepted == "str" or (accepted == "str | int" and (given.quoted or not WHOLE.fullmatch(text))):
            return text
        if not given.quoted:
            if text == "None" and "None" in accepted:
                return None
            if "int" in accepted and WHOLE.fullmatch(text):
                return int(text)
            if "float" in accepted and _NUMBER.fullmatch(text):
                return self._number(text)
            holds = accepted.startswith("Tensor")
            if text.startswith("[") and ("Sequence" in accepted or holds):
                numbers = [self._list_number(part) for part in text[1:-1].split(",")]
                return torch.tensor(numbers, dtype=torch.float64) if holds else numbers
        if text.startswith("sha256:"):
            raise self._wrong(f"{kind} holds numbers that its text does not tell; make it in Python")
        raise self._wrong(f"{kind} can't have {text[:40]!r} for its {field.name}")

    def _list_number(self, text: str) -> float:
        if not _NUMBER.fullmatch(text.strip()):
            raise self._wrong(f"{text.strip()[:40]!r} is no number")
        return float(self._number(text.strip()))

    def _number(self, text: str) -> float:
        if WHOLE.fullmatch(text):
            return int(text)
        number = float(text)
        if math.isinf(number) and "inf" not in text:
            raise self._wrong(f"{text} is too large a number")
        return number

"""What a saved state is of: the facts that must be the same for it to be taken up again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from netloupe.core.errors import StoreError

_DIGITS = 8


class Difference(NamedTuple):
    """A fact that is not the same: its key ("recipe.rate" lies in "recipe") and both values, None for one not there."""

    key: str
    was: Any
    now: Any


@dataclass(frozen=True)
class Stamped:
    """A fact of many things by name, such as images: of each a text that is another once the thing is."""

    names: Sequence[str]
    stamps: Sequence[str]

    def fact(self) -> dict[str, Any]:
        """As it is saved: how many, a hash of the names, and eight digits of each stamp, which tell what changed."""
        names = hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]
        each = "".join(hashlib.sha256(stamp.encode()).hexdigest()[:_DIGITS] for stamp in self.stamps)
        return {"count": len(self.names), "names": names, "each": each}


class Identity(dict[str, Any]):
    """Facts by name as they come back from JSON: tuples are lists, keys are strings."""

    def __init__(self, **facts: Any) -> None:
        self._names = {name: fact.names for name, fact in facts.items() if isinstance(fact, Stamped)}
        plain = {name: fact.fact() if isinstance(fact, Stamped) else fact for name, fact in facts.items()}
        super().__init__(json.loads(json.dumps(plain)))

    def differs(self, saved: Mapping[str, Any]) -> Difference | None:
        """The first fact in which this is not the same as a saved identity."""
        return _difference(saved, self, "")

    def check(self, saved: Mapping[str, Any], path: Path, what: str) -> None:
        """Raise StoreError if `path` holds the state of another `what` (a noun), naming the fact that differs.

        Of things that were stamped, it names the first that changed.
        """
        found = self.differs(saved)
        if found is not None:
            raise StoreError(f"{path} is of another {what}, {self._told(found)}; delete it to start anew")

    def _told(self, found: Difference) -> str:
        key, was, now = found
        fact, _, part = key.rpartition(".")
        if fact not in self._names or part == "count":
            return f"its {key}: {_short(was)}, now: {_short(now)}"
        if part == "names":
            return f"the names of its {fact} are others now"
        changed = [name for i, name in enumerate(self._names[fact]) if _digits(was, i) != _digits(now, i)]
        return f"{changed[0]}{f' and {len(changed) - 1} more' if changed[1:] else ''} changed since"


def _digits(each: str, i: int) -> str:
    return each[_DIGITS * i : _DIGITS * (i + 1)]


def _difference(was: Any, now: Any, key: str) -> Difference | None:
    if not (isinstance(was, Mapping) and isinstance(now, Mapping)):
        return None if was == now else Difference(key, was, now)
    inner = (
        _difference(was.get(name), now.get(name), f"{key}.{name}" if key else name)
        for name in dict.fromkeys([*now, *was])
    )
    return next((found for found in inner if found is not None), None)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."

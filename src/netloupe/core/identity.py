"""What a saved state is of: the facts that must be the same for it to be taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from netloupe.core.errors import StoreError


class Difference(NamedTuple):
    """A fact that is not the same: its key ("recipe.rate" lies in "recipe") and both values, None for one not there."""

    key: str
    was: Any
    now: Any


class Identity(dict[str, Any]):
    """Facts by name as they come back from JSON: tuples are lists, keys are strings."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(json.loads(json.dumps(facts)))

    def differs(self, saved: Mapping[str, Any]) -> Difference | None:
        """The first fact in which this is not the same as a saved identity."""
        return _difference(saved, self, "")

    def check(self, saved: Mapping[str, Any], path: Path, what: str) -> None:
        """Raise StoreError if `path` holds the state of another `what` (a noun), naming the fact that differs."""
        found = self.differs(saved)
        if found is not None:
            key, was, now = found
            raise StoreError(
                f"{path} is of another {what}, its {key}: {_short(was)}, now: {_short(now)}; delete it to start anew"
            )


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

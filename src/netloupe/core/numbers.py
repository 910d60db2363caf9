"""Numbers as they are given, evenly apart, and as JSON knows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, SupportsFloat, TypeVar

from netloupe.core.errors import InputError

T = TypeVar("T")

SEEDS = 2**32 - 1
"""The highest seed."""


def as_whole(value: Any) -> int:
    """A whole number of Python, NumPy or PyTorch. Raises ValueError for anything else, a truth value too."""
    value = _alone(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError
    return int(value)


def as_number(value: Any) -> float:
    """A real number of Python, NumPy or PyTorch. Raises ValueError for anything else, a truth value and NaN too."""
    value = _alone(value)
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value):
        raise ValueError
    return float(value)


def _alone(value: Any) -> Any:
    """What an array or tensor without dimensions holds."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def whole(what: str, value: Any, low: int, high: int | None = None) -> int:
    """An argument that has to be a whole number from `low` to `high`. Raises InputError, which says `what` it is."""
    bounds = f"{low} or more" if high is None else f"{low} to {high}"
    try:
        number = as_whole(value)
    except ValueError:
        raise InputError(f"{what} {value!r} (accepted: a whole number, {bounds})") from None
    if number < low or (high is not None and number > high):
        raise InputError(f"{what} {number} (accepted: {bounds})")
    return number


def spread(first: int, last: int, most: int, *, down: bool = False) -> list[int]:
    """At most `most` whole numbers from `first` to `last`, upwards or downwards, both among them; of one, `first`.

    Those between are rounded to the nearest, halves to the even one; with `down` toward zero.
    """
    count = min(most, abs(last - first) + 1)
    if count < 2:
        return [first][:count]
    if down:
        step = (last - first) / (count - 1)
        return [*(int(first + i * step) for i in range(count - 1)), last]
    return [round(first + i * (last - first) / (count - 1)) for i in range(count)]


def evenly(items: Sequence[T], most: int, *, down: bool = False) -> list[T]:
    """At most `most` of the items in their order, the first and the last among them. down: see `spread`."""
    return [items[i] for i in spread(0, len(items) - 1, most, down=down)] if items else []


def finite(value: SupportsFloat) -> float | None:
    """The number; None for NaN and the infinite, which JSON has no spelling for."""
    number = float(value)
    return number if math.isfinite(number) else None


def spelled(value: Any) -> Any:
    """A document for JSON, with numbers that it has no spelling for as None."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {key: spelled(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [spelled(one) for one in value]
    return value

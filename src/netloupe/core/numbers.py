"""Numbers as JSON knows them."""

from __future__ import annotations

import math
from typing import SupportsFloat


def finite(value: SupportsFloat) -> float | None:
    """The number; None for NaN and the infinite, which JSON has no spelling for."""
    number = float(value)
    return number if math.isfinite(number) else None

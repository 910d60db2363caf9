"""Which sizes of images a network takes, found by trial passes when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from math import ceil, gcd

from netloupe.core.errors import InputError

Size = tuple[int, int]

USUAL = (224, 32, 64, 256, 384, 128, 96, 112, 192, 288, 299, 336, 448, 512, 518)
"""Sides, px, that networks are made for, the likeliest first: tried where its input size is not taken."""


class Sizes:
    """(height, width) of the images that a pass goes through with, to the layers that it is as deep as.

    A convolutional network takes any from a least side on, one of patches their multiples, one whose positions or
    weights are counted `base` alone. title: of the network. base: a size that it takes. tried: whether a plain image
    of a size goes through; asked for sizes near `base` and below it, and only as far as an answer needs it.
    """

    def __init__(self, title: str, base: Size, tried: Callable[[Size], bool]) -> None:
        self.title, self.base, self._try = title, base, tried
        self._known: dict[Size, bool] = {base: True}

    @cached_property
    def step(self) -> int | None:
        """Of what the sides are multiples; None where `base` is the only size.

        The least divisor of both sides by which both may grow, and one of them by about half: what cuts off the rest of
        a division takes a few px more than it has positions for, but no more positions.
        """
        height, width = self.base
        common = gcd(height, width)
        for step in (d for d in range(1, common + 1) if common % d == 0):
            wider = height + step * ceil(height / (2 * step)), width
            if self.tried((height + step, width + step)) and self.tried(wider):
                return step
        return None

    @cached_property
    def least(self) -> int:
        """The shortest side of a square that is taken, px."""
        step = self.step
        if step is None:
            return min(self.base)
        low, high = 0, ceil(max(self.base) / step)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.tried((middle * step, middle * step)) else (middle, high)
        return high * step

    def tried(self, size: Size) -> bool:
        """Whether a plain image of this size goes through, by a pass."""
        if size not in self._known:
            self._known[size] = self._try(size)
        return self._known[size]

    def takes(self, size: Size) -> bool:
        """Whether images of (height, width) are taken; at `base` or below it that is tried."""
        if size == self.base:
            return True
        if self.step is None or any(side % self.step for side in size):
            return False
        return all(a >= b for a, b in zip(size, self.base, strict=True)) or self.tried(size)

    def within(self, size: Size) -> Size:
        """The largest that is taken and nowhere larger than (height, width); the least one where there is none."""
        return self._brought(size, lambda side, step: side // step * step)

    def largest(self, size: Size, what: str = "images") -> Size:
        """`within`. Raises InputError where nothing is taken that is no larger."""
        found = self.within(size)
        if any(a > b for a, b in zip(found, size, strict=True)):
            raise self.refused(size, what)
        return found

    def nearest(self, size: Size) -> Size:
        """The one that is taken whose sides are nearest to (height, width)."""
        return self._brought(size, lambda side, step: int(side / step + 0.5) * step)

    def _brought(self, size: Size, by: Callable[[int, int], int]) -> Size:
        if self.takes(size):
            return size
        step = self.step
        if step is None:
            return self.base
        height, width = (max(by(side, step), self.least) for side in size)
        return height, width

    def __str__(self) -> str:
        if self.step is None:
            return "{}x{} px".format(*self.base)
        return (
            f"{self.least} px a side or more" if self.step == 1 else f"multiples of {self.step} px from {self.least} on"
        )

    def refused(self, size: Size, what: str = "images") -> InputError:
        """The error for (height, width), with what is taken and the nearest of it."""
        near = [self.within(size), self._brought(size, lambda side, step: ceil(side / step) * step)]
        named = " and ".join("{}x{}".format(*one) for one in dict.fromkeys(near))
        nearest = f"; nearest {named}" if self.step not in (None, 1) else ""
        return InputError(f"{what} of {size[0]}x{size[1]} px don't fit {self.title} (accepted: {self}{nearest})")

    def check(self, size: Size, what: str = "images") -> None:
        """Raise InputError for a size that is not taken."""
        if not self.takes(size):
            raise self.refused(size, what)

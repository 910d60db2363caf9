"""Objectives on the image itself, positive where there is much of what they measure: subtract them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from netloupe.core.objectives.objective import Objective, Reading, keep


@dataclass(frozen=True, eq=False, repr=False)
class TotalVariation(Objective):
    """Sum over pixels and colors of (dx^2 + dy^2)^(beta/2) (Mahendran & Vedaldi 2015, eq. 5).

    dx and dy step to the right and lower neighbors; pixels that lack one are left out. For beta below 2, 1e-12 is
    added to the squares, or the gradient of an even area would not be finite.
    """

    beta: float = 2.0

    layers = ()

    def score(self, reading: Reading) -> Tensor:
        images = reading.images
        dx = images[..., :-1, 1:] - images[..., :-1, :-1]
        dy = images[..., 1:, :-1] - images[..., :-1, :-1]
        squares = dx.square() + dy.square()
        return (squares if self.beta == 2.0 else (squares + 1e-12) ** (self.beta / 2)).flatten(1).sum(1)


@dataclass(frozen=True, eq=False, repr=False)
class Norm(Objective):
    """Sum of |x - around|^power over pixels and colors (Mahendran & Vedaldi 2015, eq. 3); a color (C,), or gray."""

    power: float
    around: float | Sequence[float] = 0.0

    layers = ()

    def __post_init__(self) -> None:
        if isinstance(self.around, int | float):
            keep(self, around=float(self.around))
        else:
            keep(self, around=tuple(map(float, self.around)))

    def __str__(self) -> str:
        return "l2()" if repr((self.power, self.around)) == "(2, 0.0)" else super().__str__()

    def score(self, reading: Reading) -> Tensor:
        color = [self.around] if isinstance(self.around, float) else list(self.around)
        away = reading.images - reading.images.new_tensor(color).view(1, -1, 1, 1)
        return (away.square() if self.power == 2 else away.abs() ** self.power).flatten(1).sum(1)


def l2() -> Objective:
    """The squared norm of the image (Simonyan et al. 2013, eq. 1)."""
    return Norm(2)

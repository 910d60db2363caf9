"""How images are climbed, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netloupe.core.objectives import Objective
from netloupe.synthesis.constraints import Constraint
from netloupe.synthesis.optimizers import Adam, Optimizer
from netloupe.synthesis.parameterizations import Parameterization, Pixels
from netloupe.synthesis.transforms import Transform


@dataclass(frozen=True)
class Recipe:
    """What is climbed and by what steps.

    start: see `start_images`. transforms: of what the network sees before each step, drawn from the seed and the step.
    constraints: of the pixels, after each step. penalty: taken off every objective, of the images alone. redirected:
    for so many steps, units that are off pass on what would raise them (rule "redirected").
    """

    parameterization: Parameterization = field(default_factory=Pixels)
    optimizer: Optimizer = field(default_factory=Adam)
    steps: int = 256
    start: str = "noise"
    transforms: tuple[Transform, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    penalty: Objective | None = None
    redirected: int = 0

    @property
    def bounded(self) -> bool:
        """Whether its colors cannot leave [0, 1]; if they can, pictures show them cut off."""
        return not (isinstance(self.parameterization, Pixels) and self.parameterization.limit == "free")

    def summary(self) -> dict[str, Any]:
        """What it is, JSON-able."""
        return {
            "parameterization": repr(self.parameterization),
            "optimizer": repr(self.optimizer),
            "steps": self.steps,
            "transforms": [repr(one) for one in self.transforms],
            "constraints": [repr(one) for one in self.constraints],
            "penalty": None if self.penalty is None else str(self.penalty),
        }

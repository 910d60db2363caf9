"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.core.settings import CLASS, setting
from netloupe.core.task import IMAGES, Task


@dataclass(frozen=True, kw_only=True)
class Fool(Task):
    """Change images until the network takes them for another class.

    Shows each image before and after, and the change. The files saved with --out fool the network as well.
    """

    verb: ClassVar = "fool"
    runs: ClassVar = "synthesis.fool:run"
    inputs: ClassVar = (IMAGES,)
    sweeps: ClassVar = True
    head: ClassVar = ("before", "after", "target", "its probability", "largest change", "PSNR", "steps")

    target: tuple[str | int, ...] = setting(
        help="What they shall be taken for; one class, or one for each image.", kind=CLASS, flags=("--target", "-t")
    )
    method: str = setting("ascent", "How.", choices=("ascent", "fgsm", "iterated", "pgd"))
    norm: str = setting("linf", "Of the change.", choices=("linf", "l2"))
    epsilon: float | None = setting(
        None, "How large the change may be, pixels in [0, 1]; also as 8/255.", above=0, metavar="SIZE"
    )
    sure: float = setting(0.9, "Stop at this probability.", above=0, below=1, metavar="P")
    steps: int | None = setting(None, "Steps at most.", low=0)
    lr: float | None = setting(None, "How far a number goes in a step.", metavar="SIZE")
    seed: int = setting(0, "Seed of all that is drawn at random.", low=0)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (
                one["before"],
                one["predicted"],
                one["target"],
                one["probability"],
                f"{one['largest_change']:.0f}/255",
                "none" if one["psnr"] is None else f"{one['psnr']:.1f} dB",
                one["steps"],
            )
            for one in found["images"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        return [f"{found['fooled']} of {found['of']} fooled"]

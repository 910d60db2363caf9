"""The settings of `study invariance`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.settings import first_images, setting, some_layers
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Task

MOTIONS = ("shift", "scale", "rotation")


@dataclass(frozen=True, kw_only=True)
class InvarianceTask(Task):
    """Shift, scale and turn images; compare features and answer with the original's."""

    verb: ClassVar = "study invariance"
    runs: ClassVar = "studies.invariance.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"),)

    first: int = first_images(32)
    layers: tuple[str, ...] | None = some_layers("what the second convolution reads, and what the classifier reads")
    examples: tuple[int, ...] | None = setting(
        None, "The images shown by themselves; else the first five.", flags=("--images",), commas=True,
        metavar="N,N,...", low=0,
    )  # fmt: skip
    shift: float = setting(
        60 / 224, "The largest shift up and down, as a share of the height.", metavar="SHARE", above=0, high=1
    )
    scale: float = setting(1.8, "The largest scale.", metavar="RATIO", above=1, high=8)
    steps: int = setting(8, "Steps up, down and in scale; three times as many rotations.", low=2)
    window: float = setting(
        1.0, "The share of the image's middle that the untouched image shows.", metavar="SHARE", above=0, high=1
    )
    fill: str = setting("reflection", "What stands beyond the edges.", choices=("reflection", "mean"))

    def words(self, found: Mapping[str, Any]) -> str:
        features, answers = [], []
        for motion, row in found["motions"].items():
            for layer, one in row["layers"].items():
                amounts = amount(motion, row["smallest"]), amount(motion, one["half"])
                features.append((motion, layer, amounts[0], one["small"], amounts[1], one["highest"], one["linearity"]))
            if (p := row["probability"]) is None:
                continue
            shares = (f"{share:.0%}" for share in (p["kept"], p["stable"], row["filled"]))
            answers.append((motion, amount(motion, p["half"]), *shares))
        heads = (
            ("motion", "layer", "smallest", "distance", "half of highest at", "highest", "explained by a line"),
            ("motion", "probability half at", "kept", "images that keep half", "beyond the edges"),
        )
        verbs = {True: "holds", False: "does not hold"}
        claims = [f"{verbs[one['holds']]}: {one['claim']} ({one['evidence']})" for one in found["claims"]]
        head = f"{found['images']} images"
        if answers:
            head += f", probability of {found['class']}: {found['probability']:.3f}"
        shown = [table(heads[0], features), *([table(heads[1], answers)] if answers else [])]
        return "\n\n".join([head, *shown, "\n".join(claims)])


def amount(motion: str, value: float | None) -> str:
    """An amount in words, as in "11% of the height"; "never" for None."""
    if value is None:
        return "never"
    texts = {
        "shift": f"{value:.1%} of the height",
        "scale": f"{1 + value:.2f} times",
        "rotation": f"{value:.0f} degrees",
    }
    return texts[motion]

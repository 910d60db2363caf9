"""Looking where the tokens of a network look, as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.analysis.tasks import PLACE
from netloupe.core.settings import setting, some_layers
from netloupe.core.task import IMAGE, PHOTOS, Task


@dataclass(frozen=True, kw_only=True)
class AttentionTask(Task):
    """Show where the tokens of a network look.

    By layer and attention head, from the token of the class or from any place; and over a data set how far each head
    looks, how many places it looks at, and which heads of a layer look alike.
    """

    verb: ClassVar = "attention"
    runs: ClassVar = "analysis.attention.measure:run"
    inputs: ClassVar = (IMAGE, replace(PHOTOS, first="first"))
    head: ClassVar = ("layer", "heads", "tokens", "distance, px", "entropy, bits", "alike")

    layers: tuple[str, ...] | None = some_layers("every attention over the whole image")
    attention_head: int | None = setting(None, "One attention head alone, from 0.", low=0)
    origin: tuple[int, int] | None = setting(
        None, "Look from this position; else from the first token before the patches, or all patches.", kind=PLACE,
        flags=("--from",),
    )  # fmt: skip
    first: int = setting(64, "Images over which distance, entropy and likeness are measured; 0 for the one.", low=0)

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (
                name,
                one["heads"],
                one["keys"],
                _range(one["distance"], ".0f"),
                _range(one["entropy"], ".1f"),
                " ".join(f"{a}-{b}" for a, b in one["alike"]) or "-",
            )
            for name, one in found["layers"].items()
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        left_out = [f"left out: {name}: {reason}" for name, reason in found["skipped"].items()]
        images = f"{found['images']} image{'s' * (found['images'] != 1)}"
        return [f"seen from {found['from']}; measured over {images}", *left_out]


def _range(values: list[float] | None, form: str) -> str:
    """The lowest and the highest of the heads."""
    return "-" if values is None else f"{min(values):{form}} to {max(values):{form}}"

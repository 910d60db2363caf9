"""The techniques of this package as tasks: their settings, and how the terminal tells what they found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from netloupe.core.settings import setting
from netloupe.core.task import Task


@dataclass(frozen=True, kw_only=True)
class FiltersTask(Task):
    """Show the filters of a convolution, by default the first."""

    verb: ClassVar = "filters"
    runs: ClassVar = "analysis.filters:run"

    layer: str | None = setting(None, "The layer; see netloupe layers.", flags=("--layer", "-l"))
    scale: str = setting(
        "filter", "Map weights to gray values over each filter, or over the layer.", choices=("filter", "layer")
    )

    def words(self, found: Mapping[str, Any]) -> str:
        counts = f"{found['filters']} filters of {found['channels']} channels"
        height, width = found["size"]
        return f"{found['layer']}: {counts}, {height}x{width}, weights {found['low']:.3g} to {found['high']:.3g}"

"""An atlas as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.analysis.layout.task import METHODS
from netloupe.analysis.tasks import RULES
from netloupe.core.errors import InputError
from netloupe.core.settings import first_images, setting, some_layers
from netloupe.core.task import PHOTOS, Task
from netloupe.synthesis.tasks import PRESETS

NONE, ALL, SHOWN = "none", "all", "shown"


@dataclass(frozen=True, kw_only=True)
class AtlasTask(Task):
    """Build an atlas of a network over images.

    A build that was cut short goes on where it was.
    """

    verb: ClassVar = "atlas build"
    runs: ClassVar = "atlas.build:run"
    spreads: ClassVar = True
    folder: ClassVar = "atlas"
    inputs: ClassVar = (replace(PHOTOS, first="first"),)

    layers: tuple[str, ...] | None = some_layers("every one that is not another's output handed on")
    k: int = setting(9, "Patches of each channel.", low=1, flags=("-k", "--top"))
    project: str = setting("deconvnet", "Lay the projection of each patch's neuron beside it.", choices=(*RULES, NONE))
    map_by: str = setting("tsne", "Lay the images out on a map.", choices=(*METHODS, NONE), flags=("--map",))
    map_layers: tuple[str, ...] = setting(
        (), "With --map: by the features of this layer too; several times.", metavar="LAYER", flags=("--map-layer",)
    )
    images: str = setting(
        ALL,
        "Keep pictures of all images, of those shown large (of others a thumbnail), or none.",
        choices=(ALL, SHOWN, NONE),
    )
    synthesize: tuple[str, ...] = setting(
        (), "Make an image for each channel of this layer; several times, or all.", metavar="LAYER"
    )
    facets: int = setting(0, "With --synthesize: up to N facets of each channel too.", low=0)
    preset: str = setting("lucid", "With --synthesize: as in netloupe visualize.", choices=PRESETS)
    steps: int | None = setting(None, "With --synthesize: steps of ascent, else the preset's.", low=1)
    batch_size: int = setting(32, "Images run at once.", low=1)
    first: int | None = first_images()

    def check(self) -> None:
        if self.map_layers and self.map_by == NONE:
            raise InputError("--map-layer without a map (accepted: with --map METHOD)")
        if not self.synthesize and (self.facets, self.preset, self.steps) != (0, "lucid", None):
            raise InputError("--facets, --preset or --steps without --synthesize (accepted: with --synthesize LAYER)")

    def words(self, found: Mapping[str, Any]) -> str:
        done = f"in {found['seconds']:.1f} s" if found["fresh"] else "(built before)"
        counts = f"{found['units']:,} units in {found['layers']} layers over {found['images']:,} images"
        return f"{found['path']}: {counts} {done}\nlook at it: netloupe atlas serve {found['path']}"

"""The settings of `study filters`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.settings import first_images, random_seed, setting
from netloupe.core.task import PHOTOS, Task


@dataclass(frozen=True, kw_only=True)
class DiagnosisTask(Task):
    """Diagnose a network's filters and strides.

    Dead and duplicate channels, missing frequencies, aliasing.
    """

    verb: ClassVar = "study filters"
    spreads: ClassVar = True
    runs: ClassVar = "studies.diagnosis.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"),)
    head: ClassVar = ("layer", "channels", "dead", "alike in weights", "alike in responses", "stride", "folded")

    first: int | None = first_images()
    threshold: float = setting(0.95, "Size of the cosine from which two channels are alike.", above=0, high=1)
    batch_size: int = setting(32, "Images read at once.", low=1)
    seed: int = random_seed()

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        rows = []
        for name in dict.fromkeys([*found["layers"], *found["aliasing"]]):
            layer, folded = found["layers"].get(name), found["aliasing"].get(name)
            own = (None,) * 4 if layer is None else (layer["channels"], layer["dead"], *_spare(layer))
            stride = "" if folded is None else "x".join(str(s) for s in dict.fromkeys(folded["stride"]))
            rows.append((name, *own, stride, None if folded is None else folded["share"]))
        return rows

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        return ["", *(one["sentence"] for one in found["findings"]), "", found["verdict"]]


def _spare(layer: Mapping[str, Any]) -> list[int | None]:
    groups = layer["alike_in_weights"], layer["alike_in_responses"]
    return [None if each is None else sum(len(group) - 1 for group in each) for each in groups]

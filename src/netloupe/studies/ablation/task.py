"""The settings of `study ablation`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.settings import first_images, some_layers
from netloupe.core.task import PHOTOS, Task

_RETRAINING = "netloupe study retraining CHANGES"


@dataclass(frozen=True, kw_only=True)
class AblationTask(Task):
    """Rank channels by what the network loses without them.

    A channel is replaced by its mean over the images. For networks trained anew without layers see study retraining.
    """

    verb: ClassVar = "study ablation"
    runs: ClassVar = "studies.ablation.measure:run"
    inputs: ClassVar = (replace(PHOTOS, first="first"),)
    moved: ClassVar = dict.fromkeys(("--retrain", "--val", "--budget", "--epochs"), _RETRAINING)
    head: ClassVar = (
        "layer", "channels", "whole layer", "worst channel", "its loss", "+-", "harmful", "rank corr. with mean",
    )  # fmt: skip

    layers: tuple[str, ...] | None = some_layers("up to eight, each the last of a stage")
    first: int | None = first_images(32)

    def words(self, found: Mapping[str, Any]) -> str:
        clean = found["clean"]
        right = "" if clean["accuracy"] is None else f", accuracy {clean['accuracy']:.1%}"
        judged = f"{found['images']} images, {found['judged_by']}; loss {clean['loss']:.4f}{right}"
        return f"{judged}; below, by how much it rises\n{super().words(found)}"

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (name, one["channels"], one["whole"]["loss"], one["worst"][0]["channel"], one["worst"][0]["loss"],
             one["worst"][0]["error"], one["helps"], one["activity"])
            for name, one in found["layers"].items()
        ]  # fmt: skip

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        return list(found["notes"])

"""The settings of `study generalization`, and how the terminal tells what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import random_seed, setting, some_layers
from netloupe.core.table import table
from netloupe.core.task import PHOTOS, Input, Task

KINDS = ("logistic", "svm")


@dataclass(frozen=True, kw_only=True)
class GeneralizationTask(Task):
    """Test what each layer's features are worth on other classes, with few images of each.

    By linear probes, beside the same network trained from scratch on the same images.
    """

    verb: ClassVar = "study generalization"
    spreads: ClassVar = True
    runs: ClassVar = "studies.generalization.measure:run"
    inputs: ClassVar = (
        replace(PHOTOS, help="Labeled images: a folder, Parquet or digits.", default="digits"),
        Input("test", "source", "Other labeled images of the same classes to test on.", ("--test",)),
    )

    layers: tuple[str, ...] | None = some_layers("up to eight, each the last of a stage")
    per_class: tuple[int, ...] = setting(
        (5, 15), "Training images of each class; may be given several times.", low=1, flags=("--per-class", "-n")
    )
    folds: int = setting(5, "Random draws of training images.", low=1)
    kinds: tuple[str, ...] = setting(
        KINDS, "Linear classifiers; may be given several times.", choices=KINDS, flags=("--probe",), metavar="KIND"
    )
    dimensions: int = setting(2048, "The most numbers of a layer's vector.", low=1)
    scratch: int = setting(1, "Folds in which the network is trained from scratch; 0 for none.", low=0)
    epochs: int | None = setting(None, "Epochs of training from scratch, by default at least 24.", low=1)
    seed: int = random_seed()

    def check(self) -> None:
        if not self.per_class:
            raise InputError("no number of images per class (accepted: 1 or more)")
        if not self.kinds:
            raise InputError(f"no kind of probe (accepted: {', '.join(KINDS)})")

    def words(self, found: Mapping[str, Any]) -> str:
        counts = found["per_class"]
        kinds = list(next(iter(next(iter(counts.values()))["probes"].values())))
        head = ("layer", *(f"{kind}, {count} per class" for count in counts for kind in kinds))
        rows = [
            (layer, *(percent(counts[count]["probes"][layer][kind]) for count in counts for kind in kinds))
            for layer in found["layers"]
        ]
        lines = [table(head, rows), ""]
        for count, one in counts.items():
            best = one["best"]
            lead = "" if one["ahead"] is None else f", {100 * one['ahead']:.1f} points ahead of training from scratch"
            lines.append(
                f"{count} per class: best {best['layer']} ({best['kind']}) {percent(best)}{lead}; "
                f"from scratch {percent(one['scratch'])}, chance {100 * one['chance']:.1f}"
            )
        return "\n".join([*lines, *(f"left out: {what}: {reason}" for what, reason in found["left_out"].items())])


def percent(found: Mapping[str, Any] | None) -> str:
    """As in "71.4 ± 0.6", in percent; without a deviation where there is one fold."""
    if found is None or found["mean"] is None:
        return "-"
    deviation = "" if found["deviation"] is None else f" ± {100 * found['deviation']:.1f}"
    return f"{100 * found['mean']:.1f}{deviation}"

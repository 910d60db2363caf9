"""The settings of `study retraining`, how changes are written, and how the terminal tells what they led to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from netloupe.core.errors import InputError
from netloupe.core.settings import first_images, random_seed, setting
from netloupe.core.task import PHOTOS, Input, Task

FORMS = "remove LAYER..., or resize LAYER... FACTOR, several with commas between"
LARGEST = 32  # factor


@dataclass(frozen=True)
class Change:
    """Layers to be removed (factor None), or to have `factor` times as many channels."""

    layers: tuple[str, ...]
    factor: float | None

    def __str__(self) -> str:
        names = " ".join(self.layers)
        return f"remove {names}" if self.factor is None else f"resize {names} {self.factor:g}"


def parse_changes(text: str) -> tuple[Change, ...]:
    """The changes of "remove conv3 conv4, resize conv5 0.5". Raises InputError."""
    found = []
    for part in text.split(","):
        words = part.split()
        verb, names = (words[0], words[1:]) if words else ("", [])
        factor = None
        if verb == "resize" and names:
            try:
                factor = float(names.pop())
            except ValueError:
                names = []
            if factor is not None and not 0 < factor <= LARGEST:
                raise InputError(f"changes {text!r}: factor {factor:g} (accepted: above 0, up to {LARGEST})")
        if verb not in ("remove", "resize") or not names:
            raise InputError(f"changes {text!r} (accepted: {FORMS})")
        found.append(Change(tuple(names), factor))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class RetrainingTask(Task):
    """Train the network anew without layers, or with others as wide.

    The changed networks and the unchanged one are trained alike, from random weights, and their errors compared.
    """

    verb: ClassVar = "study retraining"
    runs: ClassVar = "studies.retraining.measure:run"
    inputs: ClassVar = (
        replace(PHOTOS, help="Labeled images: a folder, Parquet or digits.", default="digits", first="first"),
        Input("val", "source", "Images to validate on; without, a fifth of each class.", ("--val",)),
    )
    head: ClassVar = ("network", "parameters", "train error", "val error", "val top-5 error")

    changes: tuple[str, ...] = setting(
        help="What is changed, as in 'remove conv3, resize conv4 0.5'; a network each.",
        argument=True,
        metavar="CHANGES",
    )
    first: int | None = first_images()
    minutes: float | None = setting(
        None, "For all trainings together, 2 if nothing is given; sets the epochs.", above=0, flags=("--budget",),
        metavar="MINUTES",
    )  # fmt: skip
    epochs: int | None = setting(None, "Epochs of each training, instead of a budget.", low=1)
    seed: int = random_seed()

    def check(self) -> None:
        if not self.changes:
            raise InputError("no changes (accepted: one or more, such as 'remove conv3')")
        if self.minutes is not None and self.epochs is not None:
            raise InputError("a budget of minutes and a number of epochs were given (accepted: one of them)")
        for text in self.changes:
            parse_changes(text)

    def words(self, found: Mapping[str, Any]) -> str:
        images = f"{found['images']} images to train, {found['val_images']} to validate"
        return f"{images}, {found['epochs']} epochs each\n{super().words(found)}"

    def rows(self, found: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (one["title"], one["parameters"], *(f"{100 * one[key]:.1f} %" for key in ("train", "val", "val_top5")))
            for one in found["networks"]
        ]

    def notes(self, found: Mapping[str, Any]) -> list[str]:
        return list(found["notes"])

"""The errors of networks trained alike, with and without changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.render.result import Record


@dataclass(frozen=True)
class Retraining(Record):
    """Networks trained alike, the first without changes.

    titles, parameters: of each. errors: (networks, 3) shares in [0, 1]: top-1 on the images trained on, top-1 and
    top-5 on the others. seconds: of training each. images: how many to train and to validate on.
    """

    titles: tuple[str, ...]
    parameters: tuple[int, ...]
    errors: np.ndarray
    seconds: tuple[float, ...]
    images: tuple[int, int]
    epochs: int
    classes: int
    notes: tuple[str, ...]

    def remarks(self) -> Sequence[str]:
        times = ", ".join(f"{title} {each:.1f} s" for title, each in zip(self.titles, self.seconds, strict=True))
        return [f"{self.epochs} epochs of each training: {times}"]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"errors": self.errors}

    def summary(self) -> dict[str, Any]:
        return {
            "images": self.images[0],
            "val_images": self.images[1],
            "classes": self.classes,
            "epochs": self.epochs,
            "networks": [
                {
                    "title": title,
                    "parameters": count,
                    "train": float(errors[0]),
                    "val": float(errors[1]),
                    "val_top5": float(errors[2]),
                }
                for title, count, errors in zip(self.titles, self.parameters, self.errors, strict=True)
            ],
            "notes": list(self.notes),
        }

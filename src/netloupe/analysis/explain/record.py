"""What an explanation found: every method's map of one image, with how far to trust each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netloupe.analysis.explain.evidence import Curves, ExplainedBy
from netloupe.analysis.explain.target import Target
from netloupe.analysis.objects import LocatedObject
from netloupe.core.errors import unknown
from netloupe.core.head import Prediction
from netloupe.render.pictures import Picture
from netloupe.render.result import Record


@dataclass(frozen=True)
class Explanation(Record):
    """Every method's map of one image, of one objective.

    image: (C, H, W) in [0, 1]. photo: the same part of the photograph, for showing. predictions: the top five, if the
    network's answer can be told so; regions: (H, W) the class of each pixel, if it gives these. maps: by method.
    skipped: method -> why it can't explain this network. object: by the gradient's saliency, in the photo's pixels;
    None with the reason in `no_object`. by_chance: the curves of pixels in a random order.
    """

    image: np.ndarray
    photo: Picture
    target: Target
    predictions: tuple[Prediction, ...]
    regions: np.ndarray | None
    maps: Mapping[str, ExplainedBy]
    skipped: Mapping[str, str]
    object: LocatedObject | None
    no_object: str
    by_chance: Curves

    @property
    def shares(self) -> list[tuple[str, float]]:
        """The predictions as labels with probabilities, shares of the area or scores; none of one number."""
        return [(one.label, one.number) for one in self.predictions if one.what != "value"]

    @property
    def answered(self) -> str:
        """What the predictions are, in words."""
        kinds = {
            "probability": "Top predictions",
            "share": "Classes by share of the area",
            "score": "Boxes by score",
        }
        first = self.predictions[0] if self.predictions else None
        if first is None:
            return "The network has no choice of classes"
        return kinds.get(first.what, f"The network gives {first.number:.4g}")

    @property
    def said(self) -> list[str]:
        """What one has to know of methods, a sentence each."""
        return [f"{one.method.title} {one.note}." for one in self.maps.values() if one.note]

    def __getitem__(self, method: str) -> ExplainedBy:
        """One method's map. Raises UnknownName for a method that is not among them."""
        if method not in self.maps:
            raise unknown("method", method, self.maps)
        return self.maps[method]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {name: one.attribution for name, one in self.maps.items()} | {"image": self.image}
        return found if self.object is None else found | {"object-mask": self.object.mask}

    def summary(self) -> dict[str, Any]:
        found = self.object
        return {
            "objective": repr(self.target.objective),
            "target": self.target.title,
            "rival": self.target.rival_title or None,
            "predictions": [one.document() for one in self.predictions],
            "head": self.provenance["network"]["head"],
            "object": None if found is None else {"box": list(found.box), "of": list(found.mask.shape)},
            "by_chance": dict(zip(("deletion", "insertion"), self.by_chance.areas, strict=True)),
            "methods": {name: _figures(one) for name, one in self.maps.items()},
            "skipped": dict(self.skipped),
        }


def _figures(one: ExplainedBy) -> dict[str, Any]:
    gone, back = (None, None) if one.curves is None else one.curves.areas
    return {
        "zero": one.zero,
        "strength": one.strength,
        "peak": None if one.peak is None else list(one.peak),
        "class_likeness": one.class_likeness,
        "random_likeness": one.random_likeness,
        "deletion": gone,
        "insertion": back,
        "note": one.note,
    }

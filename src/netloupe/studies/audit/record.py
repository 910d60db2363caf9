"""What an audit found: the classes, the places and backgrounds tested, their groups, and the images that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from netloupe.render.result import Record
from netloupe.studies.audit.places import Proposal

LEAST_EFFECT = 0.2  # of probability, below which nothing is a suspect


class Change(NamedTuple):
    """Of an image and a box: by how much the probability of its class falls when the box is hidden, by how much it
    rises in an image of another class that gets the box's content, and whether that image is then taken for it."""

    falls: float
    rises: float
    turned: float


@dataclass(frozen=True)
class Contrast:
    """A change of probability that a place causes.

    own: the mean over the class's tested images; elsewhere: the same for other boxes of that size in them; others: what
    the box does in images of other classes, to their own class, beyond other boxes. effect = own - elsewhere - max(0,
    others), low: its lower bound at 95 % confidence, one-sided; p: of no effect. beyond: the lower bound of own -
    elsewhere alone.
    """

    own: float
    elsewhere: float
    others: float
    effect: float
    low: float
    p: float
    beyond: float


@dataclass(frozen=True)
class Place:
    """A class and a place (box in cells, with its excess of attribution) whose effect was tested on `images` of it.

    hiding: of the fall of the class's probability when the place is hidden. carrying: of its rise in images of other
    classes that get the place's content. turned, turned_elsewhere: the share of these that are then taken for the
    class, by the place and by other places of the same size. p: of no effect in either, adjusted for both and for all
    classes. effect, low: of the contrast with the larger lower bound. rows: the tested images, that with the largest
    change first; changes: theirs.
    """

    label: int
    proposal: Proposal
    images: int
    hiding: Contrast
    carrying: Contrast
    turned: float
    turned_elsewhere: float
    p: float
    suspect: bool
    rows: tuple[int, ...]
    changes: tuple[Change, ...]

    @property
    def by_hiding(self) -> bool:
        """Whether hiding shows more than carrying: the larger lower bound."""
        return self.hiding.low >= self.carrying.low

    @property
    def effect(self) -> float:
        return (self.hiding if self.by_hiding else self.carrying).effect

    @property
    def low(self) -> float:
        return (self.hiding if self.by_hiding else self.carrying).low


@dataclass(frozen=True)
class Background:
    """A class by its objects' boxes, over `images` of them.

    inside: mean share of the attribution in the box, area: mean share of the image that it covers; NaN without maps.
    plain, object_only, background_only: the mean probability of the class for whole images, with all but the object in
    the mean color of the data, and with the object in it. effect = background_only - object_only, low its lower bound
    at 95 %, p: of no such effect, adjusted for all classes tested. rows: the images, that with most of it first.
    """

    label: int
    images: int
    inside: float
    area: float
    plain: float
    object_only: float
    background_only: float
    effect: float
    low: float
    p: float
    suspect: bool
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Groups:
    """The images of a class that were looked at, in groups.

    rows: (n,) of the pool. maps, features: (n,) the group of each image by its map and by its features, the largest
    group 0; features is None where the network has none. apart: mean silhouettes of both, NaN where all is one group.
    agree: the adjusted Rand index of the two, NaN unless both have groups. right: the share of rightly classified
    images in each group of the maps.
    """

    label: int
    rows: np.ndarray
    maps: np.ndarray
    features: np.ndarray | None
    apart: tuple[float, float]
    agree: float
    right: tuple[float, ...]


@dataclass(frozen=True)
class Example:
    """An image (C, H, W) and the same changed, with the class's probability before and after.

    importance: (H, W), its map for the class, None where there is none. truth: its own class.
    taken: what the network takes each for.
    """

    name: str
    truth: str
    image: np.ndarray
    changed: np.ndarray
    importance: np.ndarray | None
    before: float
    after: float
    taken: tuple[str, str]


@dataclass(frozen=True)
class Shown:
    """A suspect's images.

    examples: those that lose most by the change. counterexamples: those of the class that lose least, the wrongly
    classified first. carried: images of other classes that got the place's content; empty for a background.
    """

    suspect: Place | Background
    examples: tuple[Example, ...]
    counterexamples: tuple[Example, ...]
    carried: tuple[Example, ...]


@dataclass(frozen=True)
class Audit(Record):
    """What was found about the C classes that have enough images, `labels` (C,) by name.

    places: the classes whose places were tested, suspects first, each by the lower bound of its effect.
    backgrounds: the same by the objects' boxes, None without boxes.
    maps: (C, 8, 8) the mean share of the attribution in each cell; excess: (C, 8, 8), how far that is above the other
    classes', in standard errors. groups: by class, the groups of its maps and of its features.
    shown: suspects with pictures, or the foremost class where there is no suspect.
    images: audited; counts: of what was left out, and why. source, method:
    their names.
    """

    labels: tuple[str, ...]
    images: int
    places: tuple[Place, ...]
    backgrounds: tuple[Background, ...] | None
    maps: np.ndarray
    excess: np.ndarray
    groups: tuple[Groups, ...]
    shown: tuple[Shown, ...]
    names: Mapping[int, str]
    counts: Mapping[str, Any]
    size: tuple[int, int]
    source: str
    method: str

    @property
    def suspects(self) -> list[Place | Background]:
        """All suspects, the surest and largest effect first."""
        found: list[Place | Background] = [*self.places, *(self.backgrounds or ())]
        return sorted((one for one in found if one.suspect), key=lambda one: -one.low)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"maps": self.maps, "excess": self.excess}

    def summary(self) -> dict[str, Any]:
        return {**self.tell(self), "images": self.images, "classes": len(self.labels), **self.counts}

    def remarks(self) -> list[str]:
        return list(self.tell(self)["left_out"])

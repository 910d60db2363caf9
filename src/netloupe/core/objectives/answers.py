"""Objectives that read what a network answers where it gives no classes: a number, a vector, maps of classes, boxes.

Some are loose: they are held against an image that they don't name, until `fixed` on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.head import Detections, Head, Maps, Vector
from netloupe.core.head import Value as OneNumber
from netloupe.core.objectives.objective import Objective, Read, Reading, keep
from netloupe.core.objectives.units import Logit
from netloupe.core.taps import LOGITS


@dataclass(frozen=True, eq=False, repr=False)
class Value(Objective):
    """The one number that the network gives."""

    layers = (LOGITS,)

    def score(self, reading: Reading) -> Tensor:
        return reading.answer(OneNumber, "value()")[1][:, 0]


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Objective):
    """The cosine, in [-1, 1], of the network's vector with that of `other`: a vector, or an image (C, H, W) in [0, 1].

    Loose without a vector: of an image its own vector is taken, and without `other` that of each clean image itself.
    There the cosine is 1, its highest, and its gradient zero.
    """

    other: Tensor | None = None

    layers = (LOGITS,)

    @property
    def loose(self) -> bool:
        return self.other is None or self.other.ndim > 2

    @property
    def highest(self) -> float:
        return 1.0

    def fixed(self, read: Read, images: Tensor | None) -> Objective:
        if not self.loose:
            return self
        if self.other is not None:
            images = self.other if self.other.ndim == 4 else self.other[None]
        if images is None:
            raise InputError(f"{self} needs the image that it is held against (accepted: similarity(image or vector))")
        with torch.no_grad():
            return replace(self, other=read(images, self.layers).answer(Vector, str(self))[1])

    def score(self, reading: Reading) -> Tensor:
        _, vectors = reading.answer(Vector, "similarity")
        if self.other is None or self.loose:
            raise InputError(f"{self} was not fixed on an image (accepted: similarity(vector))")
        other = self.other.to(vectors).view(-1, self.other.shape[-1])
        if other.shape[1] != vectors.shape[1] or len(other) not in (1, len(vectors)):
            given = f"{len(other)} vectors of {other.shape[1]} numbers"
            raise InputError(f"similarity to {given} (accepted: one of {vectors.shape[1]}, or one for each image)")
        return F.cosine_similarity(vectors, other, dim=1, eps=1e-12)


@dataclass(frozen=True, eq=False, repr=False)
class OfPixels(Objective):
    """What reads one class, by name or index, of a network that gives classes by pixel."""

    name: str | int

    layers = (LOGITS,)

    def scores(self, reading: Reading) -> Tensor:
        """(N, height, width) of the class."""
        maps, answer = reading.answer(Maps, str(self))
        index = maps.index(self.name)
        if index >= answer.shape[1]:
            raise UnknownName(f"no class {index} (accepted: 0 to {answer.shape[1] - 1})")
        return answer[:, index]


@dataclass(frozen=True, eq=False, repr=False)
class PixelClass(OfPixels):
    """The score of a class at one pixel (y, x) of the image, before a softmax."""

    y: int
    x: int

    def score(self, reading: Reading) -> Tensor:
        maps = self.scores(reading)
        height, width = maps.shape[1:]
        if not (0 <= self.y < height and 0 <= self.x < width):
            raise UnknownName(f"no pixel ({self.y}, {self.x}) (accepted: (0, 0) to ({height - 1}, {width - 1}))")
        return maps[:, self.y, self.x]


@dataclass(frozen=True, eq=False, repr=False)
class RegionClass(OfPixels):
    """The mean score of a class over a region, before a softmax (Vinogradova et al. 2020 add it up).

    mask: (H, W), how much each pixel counts; or four numbers, the box (top, left, bottom, right) in px. Loose without:
    it is where the clean image is of that class, and stays so whatever becomes of the image.
    """

    mask: Tensor | None = None

    @property
    def loose(self) -> bool:
        return self.mask is None

    def fixed(self, read: Read, images: Tensor | None) -> Objective:
        if self.mask is not None:
            return self
        if images is None:
            raise InputError(f"{self} needs the image whose region it is (accepted: a mask or box)")
        with torch.no_grad():
            reading = read(images, self.layers)
            own = self.scores(reading)
            where = (own == reading.answer(Maps, str(self))[1].amax(1)).float()
        if not bool(where.flatten(1).any(1).all()):
            raise InputError(
                f"no pixel of the image is taken for the class of {self} (accepted: a class that is there)"
            )
        return replace(self, mask=where)

    def score(self, reading: Reading) -> Tensor:
        maps = self.scores(reading)
        mask = self._weights(maps)
        return (maps * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)

    def _weights(self, maps: Tensor) -> Tensor:
        """(1 or N, H, W)."""
        if self.mask is None:
            raise InputError(f"{self} was not fixed on an image (accepted: a mask or box)")
        mask = self.mask.to(maps)
        if mask.ndim == 1 and len(mask) == 4:
            top, left, bottom, right = (int(side) for side in mask.tolist())
            mask = torch.zeros_like(maps[0])
            mask[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
        mask = mask if mask.ndim == 3 else mask[None]
        if mask.shape[1:] != maps.shape[1:] or len(mask) not in (1, len(maps)):
            given, size = tuple(self.mask.shape), tuple(maps.shape[1:])
            raise InputError(f"a mask of shape {given} (accepted: {size}, or a box top, left, bottom, right)")
        if not bool((mask.flatten(1).sum(1) > 0).all()):
            raise InputError(f"no pixel of the image lies in the region of {self} (accepted: one or more)")
        return mask


@dataclass(frozen=True, eq=False, repr=False)
class BoxScore(Objective):
    """How well the best box of a class, by name or index, finds `box`, (top, left, bottom, right) in px.

    The largest product over all boxes of intersection over union and score, in [0, 1]; 0 without a box of that class.
    Differentiable through scores, and through boxes where these are (the measure of D-RISE, Petsiuk et al. 2021,
    without its likeness of all classes).
    """

    box: Sequence[float]
    name: str | int

    layers = (LOGITS,)

    def __post_init__(self) -> None:
        keep(self, box=tuple(map(float, self.box)))
        if len(self.box) != 4 or self.box[0] >= self.box[2] or self.box[1] >= self.box[3]:
            raise InputError(f"the box {list(self.box)} (accepted: top, left, bottom, right in px, with an area)")

    def score(self, reading: Reading) -> Tensor:
        head, answer = reading.answer(Detections, "box_score")
        if answer.shape[1] == 0:
            return answer.new_zeros(len(answer))
        same = answer[:, :, 5] == head.index(self.name)
        found = overlap(answer[:, :, :4], answer.new_tensor(self.box)) * answer[:, :, 4] * same
        return found.amax(1)


def overlap(boxes: Tensor, box: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) with one box (4,)."""
    shared = (torch.minimum(boxes[..., 2:], box[2:]) - torch.maximum(boxes[..., :2], box[:2])).clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
    return shared / (areas + (box[2:] - box[:2]).prod() - shared)


def usual(head: Head, answer: Tensor, what: str) -> Objective:
    """What is asked of one image where nobody said: of classes the logit of the most probable, the one number, of a
    vector its likeness to itself, the region of the largest class, the best box.

    answer: (1, ...). Raises NetworkError without an answer that can be asked, and where no box was found.
    """
    match head:
        case OneNumber():
            return Value()
        case Vector():
            return Similarity()
        case Maps():
            return RegionClass(head.says(answer, 1)[0][0].index or 0)
        case Detections():
            if not (best := head.says(answer, 1)[0]):
                raise NetworkError(f"{what}: the network finds no box in the image (accepted: box_score(box, class))")
            assert best[0].box is not None
            return BoxScore(best[0].box, best[0].index or 0)
        case _:
            head.classes(what)
            return Logit(int(answer[0].argmax()))

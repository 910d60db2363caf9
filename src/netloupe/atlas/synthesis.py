"""The synthesized images of an atlas: one for each channel of chosen layers, its facets, and whether to trust them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.paths import Likeness, layers_before, likeness, profiles
from netloupe.atlas.sheets import DARK, TILE_SIDE
from netloupe.core.errors import DeadUnit
from netloupe.core.network import Network
from netloupe.core.units import Unit
from netloupe.data.sources import ReadPixels
from netloupe.render.pictures import Picture, cropped, fitted, from_pixels, resized
from netloupe.sweep.top import Top
from netloupe.synthesis.facets import Group, Ranked, excited, grouped, highest, judged
from netloupe.synthesis.presets import recipe
from netloupe.synthesis.visualize import visualize

RANKED = 60  # photographs of a channel that are grouped into facets

_BEST = 9  # photographs of a channel that its image is compared with
_SHOWN = 6  # photographs of a facet
_SIDE = 256  # px of an image, at most


@dataclass(frozen=True)
class Synthesis:
    """What to make for an atlas: an image for each channel of `layers`, and up to so many facets of each."""

    layers: tuple[str, ...] = ()
    facets: int = 0
    preset: str = "lucid"
    steps: int | None = None

    def checked(self, net: Network) -> Synthesis:
        """The same with steps filled in; without layers, nothing. Raises UnknownName for a layer."""
        if not self.layers:
            return Synthesis()
        steps = recipe(net, self.preset, net.inputs.size).steps if self.steps is None else self.steps
        return Synthesis(tuple(dict.fromkeys(net.layer(n).name for n in self.layers)), self.facets, self.preset, steps)

    @property
    def ranked(self) -> int:
        """How many photographs of each channel it needs to know."""
        return 0 if not self.layers else RANKED if self.facets else _BEST


@dataclass(frozen=True)
class Made:
    """What was made for a channel: image and facets (F, C, H, W) in [0, 1], and what `data/units` tells of them."""

    image: np.ndarray | None = None
    facets: Sequence[np.ndarray] = ()
    document: dict[str, Any] | None = None

    def tile(self) -> Picture | None:
        """The image as a square tile."""
        if self.image is None:
            return None
        return cropped(from_pixels(self.image), (0, 0, *self.image.shape[1:]), TILE_SIDE, background=DARK)

    def mosaic(self) -> Picture:
        """The image and its facets in one row."""
        pictures = [_small(image) for image in (self.image, *self.facets) if image is not None]
        return np.concatenate(pictures, axis=1)


@dataclass(frozen=True)
class Block:
    """Some channels of a layer."""

    net: Network
    how: Synthesis
    layer: str
    channels: range
    top: Top
    read: ReadPixels

    def make(self, listed: Sequence[str], rest: Sequence[int]) -> list[Made]:
        """One for each channel; of a dead one it holds nothing. rest: ids of any photographs."""
        units = [Unit(self.layer, channel) for channel in self.channels]
        ranked = {channel: self._ranked(channel) for channel in self.channels}
        images = self._climb(units)
        groups = {
            c: self._groups(c, ranked[c]) for c, image in zip(self.channels, images, strict=True) if image is not None
        }
        facets = self._climb_facets(groups)
        compare = self._comparison(listed, ranked, rest)
        made = []
        for channel, unit, image in zip(self.channels, units, images, strict=True):
            if image is None:
                made.append(Made())
                continue
            pixels, best = torch.from_numpy(image)[None], ranked[channel]
            document = {
                "value": float(highest(self.net, pixels, unit)[0]),
                "best": float(best.responses[0]) if len(best.ids) else None,
                "facets": self._facet_documents(unit, *facets[channel]),
                "path": compare(pixels, best.ids[:_BEST].tolist()),
            }
            made.append(Made(image, facets[channel][0], document))
        return made

    def _ranked(self, channel: int) -> Ranked:
        values, ids, positions = (part[channel, : self.how.ranked].numpy() for part in self.top)
        return excited(self.net, self.layer, Ranked(ids, values, positions))

    def _groups(self, channel: int, ranked: Ranked) -> list[Group]:
        if self.how.facets == 0 or len(ranked.ids) < 2:
            return []
        return grouped(self.net, Unit(self.layer, channel), ranked, self.read, self.how.facets)

    def _climb(self, units: Sequence[Unit]) -> list[np.ndarray | None]:
        try:
            found = visualize(self.net, units, preset=self.how.preset, steps=self.how.steps)
        except DeadUnit:
            return [None] * len(units)
        return [None if dead else image for dead, image in zip(found.dead, found.images, strict=True)]

    def _climb_facets(self, groups: Mapping[int, list[Group]]) -> dict[int, tuple[list[np.ndarray], list[Group]]]:
        """For each channel the images of its groups, and those of its groups that came to one."""
        flat = [(channel, group) for channel, some in groups.items() for group in some]
        found: dict[int, tuple[list[np.ndarray], list[Group]]] = {channel: ([], []) for channel in groups}
        if not flat:
            return found
        objectives = [group.objective for _, group in flat]
        starts = torch.stack([group.start for _, group in flat])
        try:
            made = visualize(self.net, objectives, preset=self.how.preset, steps=self.how.steps, start=starts)
        except DeadUnit:
            return found
        for (channel, group), image, dead in zip(flat, made.images, made.dead, strict=True):
            if not dead:
                found[channel][0].append(image)
                found[channel][1].append(group)
        return found

    def _facet_documents(
        self, unit: Unit, images: Sequence[np.ndarray], groups: Sequence[Group]
    ) -> list[dict[str, Any]]:
        if not groups:
            return []
        values, own = judged(self.net, torch.from_numpy(np.stack(images)), unit, groups)
        return [
            {
                "value": float(value),
                "best": group.best,
                "count": len(group.ids),
                "own": bool(stayed),
                "patches": [
                    {"image": int(i), "box": list(box)}
                    for i, box in list(zip(group.ids, group.boxes, strict=True))[:_SHOWN]
                ],
            }
            for value, stayed, group in zip(values, own, groups, strict=True)
        ]

    def _comparison(
        self, listed: Sequence[str], ranked: Mapping[int, Ranked], rest: Sequence[int]
    ) -> Callable[[Tensor, Sequence[int]], dict[str, Any] | None]:
        """Gives the likeness of an image to the photographs of the given ids, layer by layer."""
        layers = layers_before(self.net, self.layer, listed)
        ids = sorted({*rest, *(int(i) for one in ranked.values() for i in one.ids[:_BEST])})
        place = {image_id: row for row, image_id in enumerate(ids)}
        parts = [
            profiles(self.net, torch.stack([self.read(i) for i in ids[first : first + 64]]), layers)
            for first in range(0, len(ids), 64)
        ]
        known = {name: np.concatenate([part[name] for part in parts]) for name in layers}
        others = [place[i] for i in rest]

        def compare(image: Tensor, best: Sequence[int]) -> dict[str, Any] | None:
            if len(best) < 2:
                return None
            return _path(likeness(profiles(self.net, image, layers), known, [place[i] for i in best], others))

        return compare


def _path(found: Likeness) -> dict[str, Any]:
    columns = {name: getattr(found, name).round(4).tolist() for name in ("synthesized", "same", "other")}
    return {"layers": list(found.layers), "aside": found.aside, **columns}


def _small(image: np.ndarray) -> Picture:
    picture = from_pixels(image)
    return resized(picture, fitted(picture.shape[:2], min(_SIDE, max(picture.shape[:2]))))

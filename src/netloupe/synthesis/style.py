"""Neural style: an image with the content of one and the look of others (Gatys et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import InputError, unknown
from netloupe.core.moments import relative_distance
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, match_features, total_variation
from netloupe.core.precision import fast_dtype
from netloupe.core.provenance import provenance
from netloupe.core.units import Unit
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, from_pixels
from netloupe.render.pictures import resized as at_size
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.colors import COLORS, light_matched, luminance, matched, with_colors_of
from netloupe.synthesis.dream import response
from netloupe.synthesis.looks import Look, Weights, as_weights, look
from netloupe.synthesis.octaves import Size, covering, doubling, resized, scaled
from netloupe.synthesis.optimizers import Adam, Optimizer
from netloupe.synthesis.parameterizations import Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import STARTS, start_images
from netloupe.synthesis.statistics import Statistics, preset_layers
from netloupe.synthesis.tiles import read

CONTENT = 0.05
TILE = 1536  # px
LR = 0.05


@dataclass(frozen=True)
class Styled(Result):
    """images, contents: (N, C, H, W) in [0, 1]. styles: (C, h, w) in [0, 1] each. layers: of style, weighted.

    style_distances, style_before: by layer, how far the statistics of the images, and of what they started from at the
    last size, are from those wanted: relative squared distances (N,). content_distances: of features, relative and
    squared, (N,). history: (steps, N) scores at the last size. frames: (F, N, C, H, W) as it formed.
    """

    images: np.ndarray
    contents: np.ndarray
    styles: tuple[np.ndarray, ...]
    layers: Mapping[str, float]
    style_distances: Mapping[str, np.ndarray]
    style_before: Mapping[str, np.ndarray]
    content_distances: np.ndarray
    history: np.ndarray
    frames: np.ndarray
    provenance: Mapping[str, Any]

    def pictures(self) -> dict[str, Picture]:
        shown = {f"style-{i}": from_pixels(image) for i, image in enumerate(self.images)}
        shown = {"style": shown["style-0"]} if len(shown) == 1 else shown
        return shown | {f"figure-{i}": self._figure(i) for i in range(len(self.images))}

    def _figure(self, i: int) -> Picture:
        high = int(self.images.shape[2])
        parts = [captioned(from_pixels(self.contents[i]), "content")]
        for style in self.styles:
            size = high, max(1, round(style.shape[2] * high / style.shape[1]))
            parts.append(captioned(at_size(from_pixels(style), size), "style"))
        return beside([*parts, captioned(from_pixels(self.images[i]), "result")])

    def animations(self) -> dict[str, list[Picture]]:
        return {"forming": [from_pixels(frame[0]) for frame in self.frames]} if len(self.frames) else {}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "history": self.history}

    def summary(self) -> dict[str, Any]:
        def total(distances: Mapping[str, np.ndarray], i: int) -> float:
            return sum(weight * float(distances[name][i]) for name, weight in self.layers.items())

        return {
            "size": list(self.images.shape[2:]),
            "images": [
                {
                    "content": float(self.content_distances[i]),
                    "style": total(self.style_distances, i),
                    "before": total(self.style_before, i),
                    "layers": {name: float(each[i]) for name, each in self.style_distances.items()},
                }
                for i in range(len(self.images))
            ],
        }


def style(
    net: Network,
    contents: Tensor,
    styles: Tensor | Sequence[Tensor],
    *,
    shares: Sequence[float] | None = None,
    masks: Sequence[Tensor] | None = None,
    content_weight: float = CONTENT,
    style_weight: float = 1.0,
    layers: Weights | None = None,
    content_layers: Weights | None = None,
    statistic: str = "gram",
    style_scale: float = 1.0,
    colors: str = "style",
    start: str | Tensor = "content",
    smoothness: float = 0.0,
    dream: str | Unit | Objective | None = None,
    dream_weight: float = 0.05,
    sizes: int | None = None,
    steps: int = 150,
    lr: float = LR,
    optimizer: Optimizer | None = None,
    tile: int | None = TILE,
    every: int = 0,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Styled:
    """Images with what is seen in `contents` (N, C, H, W), painted as `styles` are; all in [0, 1].

    styles: images (C, h, w) of any sizes, or one tensor (C, h, w) or (S, C, h, w). Their shorter side is brought to
    `style_scale` times that of the contents, so the scale sets the size of the strokes. shares: how much each counts,
    in averages of their statistics; with masks, (h, w) each, every style has its own region instead.
    Minimizes `content_weight` times the relative squared distance of features at `content_layers`, plus `style_weight`
    times that of the `statistic` ("gram" or "covariance") at `layers` (eq. 1 to 7, each term divided by its target's
    squared norm, so that the same weights suit any network), plus `smoothness` times the mean total variation.
    layers, content_layers: names, or weights by name; by default see `preset_layers`. colors: see `colors.COLORS`.
    start: "content", "style", another name of `STARTS`, or images. dream: a layer or unit whose response is raised as
    well, in terms of what it is in the content, times `dream_weight`.
    sizes: goes through so many, each twice the one before, with `steps` at each; by default from about 128 px on.
    optimizer: by default Adam, whose steps fall from `lr` to zero. tile: px, see `climb`. every: keep a frame each
    so many steps, brought to the last size.
    Raises InputError for what does not fit, UnknownName for a name that is not there, NetworkError if it diverges.
    """
    originals = _checked(net, contents)
    numbers = (content_weight, style_weight, smoothness, dream_weight)
    if colors not in COLORS:
        raise unknown("colors", colors, COLORS)
    if not all(0 <= number < float("inf") for number in numbers) or not 0 < style_scale <= 16 or steps < 0:
        raise InputError(
            f"weights {', '.join(f'{n:g}' for n in numbers)}, style scale {style_scale:g}, {steps} steps (accepted: "
            "weights of 0 or more, above 0 up to 16, 0 or more)"
        )
    size = int(originals.shape[2]), int(originals.shape[3])
    gray = colors == "luminance"
    subject = luminance(originals).expand_as(originals).contiguous() if gray else originals
    given = list(styles[None] if isinstance(styles, Tensor) and styles.ndim == 3 else styles)
    shown = [_prepared(net, image, originals, colors, min(size) * style_scale) for image in given]
    goal = _Goal(
        look(net, shown, shares=shares, layers=layers, statistic=statistic, masks=masks, tile=tile),
        content_weight,
        as_weights(net, preset_layers(net)[1] if content_layers is None else content_layers),
        style_weight,
        None if dream is None else (response(dream), dream_weight),
    )
    stages = doubling(size, sizes)
    how = Adam(lr, over=steps) if optimizer is None else optimizer
    images = _start(net, start, subject, shown[0], stages[0], seed)
    frames = []
    part = watch.part("steps", len(stages) * steps * len(images))
    for stage in stages:
        images, small = (resized(each, stage).clamp(0, 1) for each in (images, subject))
        targets = goal.look.targets(stage[0] / size[0])
        before = goal.look.distances(images, targets)
        found = climb(
            net,
            goal.objectives(small, targets),
            images,
            Recipe(
                parameterization=Pixels(),
                optimizer=how,
                steps=steps,
                penalty=smoothness / small[0].numel() * total_variation() if smoothness else None,
            ),
            every=every,
            seed=seed,
            tile=tile,
            dtype=fast_dtype(net.device),
            steady=False,
            watch=part.share(steps * len(images)),
        )
        images = found.images
        frames += [resized(frame, size).clamp(0, 1) for frame in found.frames]
    distances, away = goal.look.distances(images, targets), goal.away(images, subject)
    if gray:
        images, frames = with_colors_of(images, originals), [with_colors_of(f, originals.cpu()) for f in frames]
    return Styled(
        images.cpu().numpy(),
        originals.cpu().numpy(),
        tuple(image.detach().cpu().numpy() for image in given),
        goal.look.layers,
        {name: each.cpu().numpy() for name, each in distances.items()},
        {name: each.cpu().numpy() for name, each in before.items()},
        away.cpu().numpy(),
        found.history.cpu().numpy(),
        np.stack([f.numpy() for f in frames]) if frames else np.zeros((0, *images.shape), np.float32),
        provenance(
            net,
            "style",
            layers=dict(goal.look.layers),
            shares=list(goal.look.shares),
            masks=masks is not None,
            content_layers=dict(goal.content),
            content_weight=content_weight,
            style_weight=style_weight,
            statistic=statistic,
            style_scale=style_scale,
            colors=colors,
            start=start if isinstance(start, str) else "images",
            smoothness=smoothness,
            dream=None if goal.dream is None else [repr(goal.dream[0]), dream_weight],
            sizes=[list(stage) for stage in stages],
            steps=steps,
            optimizer=repr(how),
            tile=tile,
            seed=seed,
        ),
    )


@dataclass(frozen=True)
class _Goal:
    """What is climbed. content: layers with weights. dream: an objective and its weight."""

    look: Look
    content_weight: float
    content: Mapping[str, float]
    style_weight: float
    dream: tuple[Objective, float] | None

    def objectives(self, contents: Tensor, targets: Sequence[Statistics]) -> list[Objective]:
        """One for each content (N, C, H, W)."""
        net, painted = self.look.net, self.style_weight * self.look.objective(targets)
        features = self._features(contents)
        own = None if self.dream is None else _read(net, contents, self.dream[0], self.look.tile)
        found = []
        for i in range(len(contents)):
            total = painted
            if self.content_weight:
                for name, weight in self.content.items():
                    total = total + self.content_weight * weight * match_features(name, features[name][i])
            if self.dream is not None and own is not None:
                total = total + self.dream[1] / max(abs(float(own[i])), 1e-6) * self.dream[0]
            found.append(total)
        return found

    def away(self, images: Tensor, contents: Tensor) -> Tensor:
        """The relative squared distance (N,) of features from those of the contents, weighted by layer."""
        pairs = self._features(images), self._features(contents)
        each = [weight * relative_distance(pairs[0][name], pairs[1][name]) for name, weight in self.content.items()]
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Mapping[str, Tensor]:
        return read(self.look.net, images, list(self.content), self.look.tile).outputs


def _checked(net: Network, contents: Tensor) -> Tensor:
    net.inputs.check(contents)
    net.inputs.check_range(contents)
    if not len(contents):
        raise InputError("no content image (accepted: 1 or more)")
    return contents.detach().to(net.device)


def _prepared(net: Network, image: Tensor, contents: Tensor, colors: str, short: float) -> Tensor:
    """A style image, its shorter side at `short` px, in the colors that it is to be taken in."""
    net.inputs.check(image[None])
    net.inputs.check_range(image)
    one = image.detach().to(net.device)[None]
    one = scaled(one, short / min(one.shape[2:]))
    if colors != "style":
        one = (light_matched if colors == "luminance" else matched)(one, contents[:1])
    return one[0]


def _start(net: Network, start: str | Tensor, subject: Tensor, style_image: Tensor, size: Size, seed: int) -> Tensor:
    """(N, C, H, W) of the first size."""
    if isinstance(start, str) and start == "content":
        return resized(subject, size).clamp(0, 1)
    if isinstance(start, str) and start == "style":
        return covering(style_image[None], size).expand(len(subject), -1, -1, -1)
    if isinstance(start, str) and start not in STARTS:
        raise unknown("start", start, ("content", "style", *STARTS))
    given = start if isinstance(start, str) else resized(start[None] if start.ndim == 3 else start, size).clamp(0, 1)
    return start_images(net, given, len(subject), size, seed)


@torch.no_grad()
def _read(net: Network, images: Tensor, objective: Objective, tile: int | None) -> Tensor:
    return objective.score(read(net, images, objective.layers, tile))

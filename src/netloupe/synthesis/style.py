"""Neural style: an image with the content of one and the look of others (Gatys et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.device import fast_dtype
from netloupe.core.errors import InputError, unknown
from netloupe.core.moments import relative_distance
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, match_features, total_variation
from netloupe.core.perform import Images, decided, function_of, perform
from netloupe.core.sizes import Sizes
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, from_pixels
from netloupe.render.pictures import resized as at_size
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.colors import light_matched, luminance, matched, with_colors_of
from netloupe.synthesis.dream import response
from netloupe.synthesis.looks import Look, as_weights, look
from netloupe.synthesis.octaves import Size, covering, doubling, resized, scaled
from netloupe.synthesis.optimizers import chosen
from netloupe.synthesis.parameterizations import Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import Start, begun
from netloupe.synthesis.statistics import PIXELS, Statistics, preset_layers
from netloupe.synthesis.tasks import STARTS, Style
from netloupe.synthesis.tiles import read

_LR = 0.05  # of adam


@dataclass(frozen=True)
class Styled(Result):
    """images, contents: (N, C, H, W) in [0, 1]. styles: (C, h, w) in [0, 1] each, with their shares.

    layers, content_layers: with their weights. sizes: (height, width) that it went through.

    style_distances, style_before: by layer, how far the statistics of the images, and of what they started from at the
    last size, are from those wanted: relative squared distances (N,). content_distances: of features, relative and
    squared, (N,). history: (steps, N) scores at the last size. frames: (F, N, C, H, W) as it formed.
    """

    images: np.ndarray
    contents: np.ndarray
    styles: tuple[np.ndarray, ...]
    shares: tuple[float, ...]
    layers: Mapping[str, float]
    content_layers: Mapping[str, float]
    sizes: tuple[Size, ...]
    style_distances: Mapping[str, np.ndarray]
    style_before: Mapping[str, np.ndarray]
    content_distances: np.ndarray
    history: np.ndarray
    frames: np.ndarray

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
            "sizes": [list(size) for size in self.sizes],
            "shares": list(self.shares),
            "weights": dict(self.layers),
            "content_weights": dict(self.content_layers),
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


@function_of(Style)
def style(
    net: Network,
    contents: Tensor,
    styles: Tensor | Sequence[Tensor],
    *,
    masks: Sequence[Tensor] | None = None,
    start: Start = "content",
    watch: Watch = SILENT,
    **settings: Any,
) -> Styled:
    """Images with what is seen in `contents` (N, C, H, W), painted as `styles` are; all in [0, 1].

    styles: images (C, h, w) of any sizes, or one tensor (C, h, w) or (S, C, h, w). Their shorter side is brought to
    `style_scale` times that of the contents, so the scale sets the size of the strokes. shares: how much each counts,
    in averages of their statistics; with masks, (h, w) each, every style has its own region instead.
    Minimizes `content_weight` times the relative squared distance of features at `content_layers`, plus `style_weight`
    times that of the `statistic` at `layers` (eq. 1 to 7, each term divided by its target's squared norm, so that the
    same weights suit any network), plus `smoothness` times the mean total variation.
    layers, content_layers: names, or weights by name; by default those of the preset, see `preset_layers`.
    start: "content", "style", another name of `STARTS`, or images. dream: a layer, unit or objective whose response is
    raised as well, in terms of what it is in the content, times `dream_weight`.
    optimizer: a name, or one of `optimizers`; of "adam" the steps fall from `lr` to zero. tile: px, see `climb`.
    every: frames are brought to the last size.
    Raises InputError for what does not fit, UnknownName for a name that is not there, NetworkError if it diverges.
    """
    given = list(styles[None] if isinstance(styles, Tensor) and styles.ndim == 3 else styles)
    inputs = {"contents": contents, "styles": given, "masks": None if masks is None else list(masks), "start": start}
    found: Styled = perform(Style.of(settings), net, inputs, watch)
    return found


def run(task: Style, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Styled:
    task = _chosen(task, net)
    layers, content = as_weights(net, task.layers or {}, also=(PIXELS,)), as_weights(net, task.content_layers or {})
    sizes = taken(task, net)
    originals = _checked(net, inputs["contents"].shaped(net, task.side, sizes))
    given = inputs["styles"].shaped(net) if inputs["styles"] else []
    size = int(originals.shape[2]), int(originals.shape[3])
    gray = task.colors == "luminance"
    subject = luminance(originals).expand_as(originals).contiguous() if gray else originals
    short = min(size) * task.style_scale
    shown = [_prepared(net, image, originals, task.colors, short, sizes) for image in given]
    goal = _goal(task, net, (layers, content), shown, inputs["masks"].masks(size) if "masks" in inputs else None)
    stages = doubling(size, task.sizes, sizes)
    images = _start(net, inputs["start"], subject, shown[0], stages[0], task.seed)
    frames: list[Tensor] = []
    optimizer = chosen(task.optimizer, task.lr, _LR, task.steps)
    part = watch.part("steps", len(stages) * task.steps * len(images))
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
                optimizer=optimizer,
                steps=task.steps,
                penalty=task.smoothness / small[0].numel() * total_variation() if task.smoothness else None,
            ),
            every=task.every,
            seed=task.seed,
            tile=task.tile,
            dtype=fast_dtype(net.device),
            steady=False,
            watch=part.share(task.steps * len(images)),
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
        goal.look.shares,
        goal.look.layers,
        goal.content,
        tuple(stages),
        {name: each.cpu().numpy() for name, each in distances.items()},
        {name: each.cpu().numpy() for name, each in before.items()},
        away.cpu().numpy(),
        found.history.cpu().numpy(),
        np.stack([f.numpy() for f in frames]) if frames else np.zeros((0, *images.shape), np.float32),
        provenance=decided(task),
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


def taken(task: Style, net: Network) -> Sizes:
    """The sizes of images that the layers which are read take."""
    task = _chosen(task, net)
    dreamed = () if task.dream is None else response(task.dream).layers
    return net.sizes(
        [name for name in (*(task.layers or {}), *(task.content_layers or {}), *dreamed) if name != PIXELS]
    )


def _chosen(task: Style, net: Network) -> Style:
    """The task that says where the style and where the content are read."""
    if task.layers is not None and task.content_layers is not None:
        return task
    layers, content = preset_layers(net, task.preset)
    return replace(
        task,
        layers=layers if task.layers is None else task.layers,
        content_layers=content if task.content_layers is None else task.content_layers,
    )


def _goal(
    task: Style,
    net: Network,
    layers: tuple[Mapping[str, float], Mapping[str, float]],
    shown: Sequence[Tensor],
    masks: Sequence[Tensor] | None,
) -> _Goal:
    return _Goal(
        look(net, shown, shares=task.shares, layers=layers[0], statistic=task.statistic, masks=masks, tile=task.tile),
        task.content_weight,
        layers[1],
        task.style_weight,
        None if task.dream is None else (response(task.dream), task.dream_weight),
    )


def _checked(net: Network, images: Sequence[Tensor]) -> Tensor:
    """(N, C, H, W) of contents."""
    if not images:
        raise InputError("no content image (accepted: 1 or more)")
    if len({image.shape for image in images}) > 1:
        raise InputError("contents of several sizes (accepted: of one)")
    contents = torch.stack(list(images))
    net.inputs.check(contents)
    net.inputs.check_range(contents)
    return contents.detach().to(net.device)


def _prepared(net: Network, image: Tensor, contents: Tensor, colors: str, short: float, sizes: Sizes) -> Tensor:
    """A style image, its shorter side at `short` px, in the colors that it is to be taken in; cut to one of `sizes`."""
    net.inputs.check(image[None])
    net.inputs.check_range(image)
    one = image.detach().to(net.device)[None]
    one = scaled(one, short / min(one.shape[2:]), sizes)
    if colors != "style":
        one = (light_matched if colors == "luminance" else matched)(one, contents[:1])
    return one[0]


def _start(net: Network, start: Start | Images, subject: Tensor, style_image: Tensor, size: Size, seed: int) -> Tensor:
    """(N, C, H, W) of the first size."""
    if start == "content":
        return resized(subject, size).clamp(0, 1)
    if start == "style":
        return covering(style_image[None], size).expand(len(subject), -1, -1, -1)
    if isinstance(start, str) and start not in STARTS:
        raise unknown("start", start, ("content", "style", *STARTS))
    return begun(net, start, len(subject), size, seed)


@torch.no_grad()
def _read(net: Network, images: Tensor, objective: Objective, tile: int | None) -> Tensor:
    return objective.score(read(net, images, objective.layers, tile))

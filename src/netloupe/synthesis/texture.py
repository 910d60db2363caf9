"""Texture: more of what a sample shows, by the statistics of a network's features or by the sample's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.core.errors import InputError, unknown
from netloupe.core.network import Network
from netloupe.core.precision import fast_dtype
from netloupe.core.provenance import provenance
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, from_pixels
from netloupe.render.pictures import resized as at_size
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.looks import Look, Weights, as_weights, look
from netloupe.synthesis.octaves import Size, doubling, resized
from netloupe.synthesis.optimizers import Adam, Optimizer
from netloupe.synthesis.parameterizations import Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.sampling import grown, quilted, swept
from netloupe.synthesis.starts import Start, start_images
from netloupe.synthesis.statistics import KINDS, PIXELS, preset_layers
from netloupe.synthesis.style import TILE
from netloupe.synthesis.transforms import Jitter

SAMPLED: Mapping[str, Callable[..., Tensor]] = {"efros-leung": grown, "wei-levoy": swept, "quilting": quilted}
"""Methods that put together the sample's own pixels, see `sampling`."""

OPTIONS = {"efros-leung": ("window", "tolerance"), "wei-levoy": ("window",), "quilting": ("block", "tolerance")}
METHODS = (*KINDS, *SAMPLED)
TILEABLE = (*KINDS, "wei-levoy", "quilting")

LR = 0.06

_CELL = 128  # px of a picture's shorter side, at least


@dataclass(frozen=True)
class Texture(Result):
    """images: (N, C, H, W) in [0, 1]; more than one where it was made layer by layer. sample: (C, h, w).

    layers: where the statistics were read, with weights. read: for each image, the layers that it was made by; empty
    for methods without a network. distances, before: by layer, how far each image, and what it started from, are from
    the sample: relative squared distances of the statistics, (N,). history: (steps, N) scores at the last size.
    """

    images: np.ndarray
    sample: np.ndarray
    method: str
    layers: Mapping[str, float]
    read: tuple[tuple[str, ...], ...]
    distances: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    history: np.ndarray
    tileable: bool
    provenance: Mapping[str, Any]

    def pictures(self) -> dict[str, Picture]:
        shown = {f"texture-{i}": from_pixels(image) for i, image in enumerate(self.images)}
        shown = {"texture": shown["texture-0"]} if len(shown) == 1 else shown
        cells = [captioned(_large(from_pixels(self.sample)), "sample")]
        for i, image in enumerate(self.images):
            text = f"to {self.read[i][-1]}" if len(self.images) > 1 else self.method
            cells.append(captioned(_large(from_pixels(image)), f"{text}  {self._total(self.distances, i):.2%}"))
        shown["figure"] = beside(cells)
        if self.tileable:
            shown["tiled"] = np.tile(from_pixels(self.images[-1]), (2, 2, 1))
        return shown

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "size": list(self.images.shape[2:]),
            "images": [
                {
                    "to": self.read[i][-1] if self.read[i] else None,
                    "distance": self._total(self.distances, i),
                    "before": self._total(self.before, i) if self.before else None,
                    "layers": {name: float(each[i]) for name, each in self.distances.items()},
                }
                for i in range(len(self.images))
            ],
        }

    def _total(self, distances: Mapping[str, np.ndarray], i: int) -> float:
        return sum(weight * float(distances[name][i]) for name, weight in self.layers.items())


def texture(
    net: Network,
    image: Tensor,
    *,
    size: Size | None = None,
    method: str = "gram",
    layers: Weights | None = None,
    by_layer: bool = False,
    tileable: bool = False,
    start: Start = "noise",
    sizes: int | None = None,
    steps: int = 150,
    lr: float = LR,
    optimizer: Optimizer | None = None,
    tile: int | None = TILE,
    window: int | None = None,
    block: int | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    watch: Watch = SILENT,
) -> Texture:
    """An image (height, width) = `size`, by default that of the sample, that looks like the sample (C, h, w) in [0, 1].

    method: "gram" (Gatys et al. 2015) or "covariance" climb until the statistics of the features at `layers`, by
    default those of `preset_layers`, are the sample's; each term is a squared distance over its target's squared norm.
    "efros-leung", "wei-levoy" and "quilting" put the sample's pixels together, with `window`, `block` and `tolerance`
    as `sampling` says; the network only measures then. by_layer: an image for each layer, by that and those before it.
    tileable: the right side fits the left one, the lower the upper. sizes: goes through so many, each twice the one
    before, with `steps` at each; by default from about 128 px on. lr: of Adam, whose steps fall to zero.
    tile: px, see `climb`.
    Raises InputError for what does not fit, UnknownName for a name that is not there, NetworkError if it diverges.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    net.inputs.check(image[None])
    net.inputs.check_range(image)
    sample = image.detach().to(net.device)
    wanted_size = (int(sample.shape[1]), int(sample.shape[2])) if size is None else size
    own = {"window": window, "block": block, "tolerance": tolerance}
    given = {name: value for name, value in own.items() if value is not None}
    _check(method, given, by_layer=by_layer, tileable=tileable)
    weights = as_weights(net, preset_layers(net)[0] if layers is None else layers, also=(PIXELS,))
    wanted = look(net, [sample], layers=weights, statistic=method if method in KINDS else "gram", tile=tile)
    if method in SAMPLED:
        wrap = {"tileable": tileable} if method == "quilting" else {}
        pixels = SAMPLED[method](sample.cpu(), wanted_size, seed=seed, watch=watch, **given, **wrap)
        made = _Made(pixels[None].to(net.device), ((),), {}, np.zeros((0, 1), np.float32))
        how: dict[str, Any] = given
    else:
        names = tuple(weights)
        read = tuple(names[: i + 1] for i in range(len(names))) if by_layer else (names,)
        optimizer = Adam(lr, over=steps) if optimizer is None else optimizer
        stages = doubling(wanted_size, sizes)
        how = {"start": start if isinstance(start, str) else "images", "steps": steps, "optimizer": repr(optimizer)}
        how |= {"sizes": stages}
        started = start_images(net, start, len(read), stages[0], seed)
        made = _climbed(wanted, read, started, stages, steps, optimizer, tileable, seed, watch)
    distances = wanted.distances(made.images, wanted.targets())
    return Texture(
        made.images.cpu().numpy(),
        sample.cpu().numpy(),
        method,
        weights,
        made.read,
        {name: each.cpu().numpy() for name, each in distances.items()},
        {name: each.cpu().numpy() for name, each in made.before.items()},
        made.history,
        tileable or method == "wei-levoy",
        provenance(
            net,
            "texture",
            method=method,
            size=list(wanted_size),
            layers=dict(weights),
            by_layer=by_layer,
            tileable=tileable,
            tile=tile,
            seed=seed,
            **how,
        ),
    )


@dataclass(frozen=True)
class _Made:
    """Images with the layers that each was made by, and how far they were from the sample before, by layer."""

    images: Tensor
    read: tuple[tuple[str, ...], ...]
    before: Mapping[str, Tensor]
    history: np.ndarray


def _climbed(
    wanted: Look,
    read: tuple[tuple[str, ...], ...],
    images: Tensor,
    stages: Sequence[Size],
    steps: int,
    optimizer: Optimizer,
    tileable: bool,
    seed: int,
    watch: Watch,
) -> _Made:
    """`images` (N, C, H, W) of the first of the sizes, climbed at each of them."""
    before, net = wanted.distances(images, wanted.targets()), wanted.net
    part = watch.part("steps", len(stages) * steps * len(images))
    for number, stage in enumerate(stages):
        (target,) = wanted.targets(stage[0] / stages[-1][0])
        found = climb(
            net,
            [target.objective({name: wanted.layers[name] for name in each}) for each in read],
            resized(images, stage).clamp(0, 1),
            Recipe(
                parameterization=Pixels(),
                optimizer=optimizer,
                steps=steps,
                transforms=(Jitter(max(stage)),) if tileable else (),
            ),
            seed=seed * 1009 + number,
            tile=wanted.tile,
            dtype=fast_dtype(net.device),
            steady=False,
            watch=part.share(steps * len(images)),
        )
        images = found.images
    return _Made(images, read, before, found.history.cpu().numpy())


def _check(method: str, given: Mapping[str, float], *, by_layer: bool, tileable: bool) -> None:
    if tileable and method not in TILEABLE:
        raise InputError(f"a tileable texture by {method} (accepted: {', '.join(TILEABLE)})")
    if by_layer and method in SAMPLED:
        raise InputError(f"{method} layer by layer (accepted: {' or '.join(KINDS)})")
    accepted = OPTIONS.get(method, ())
    for name in given:
        if name not in accepted:
            raise InputError(
                f"{name} for {method} (accepted: {', '.join(accepted) or 'none of window, block, tolerance'})"
            )


def _large(picture: Picture) -> Picture:
    factor = max(1, -(-_CELL // min(picture.shape[:2])))
    return at_size(picture, (picture.shape[0] * factor, picture.shape[1] * factor), smooth=False)

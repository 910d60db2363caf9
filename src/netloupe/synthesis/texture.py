"""Texture: more of what a sample shows, by the statistics of a network's features or by the sample's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.core.device import fast_dtype
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.perform import Images, decided, function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, from_pixels
from netloupe.render.pictures import resized as at_size
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.looks import Look, as_weights, look
from netloupe.synthesis.octaves import Size, doubling, resized
from netloupe.synthesis.optimizers import chosen
from netloupe.synthesis.parameterizations import Pixels
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.sampling import grown, quilted, swept
from netloupe.synthesis.starts import Start, begun
from netloupe.synthesis.statistics import PIXELS, preset_layers
from netloupe.synthesis.tasks import SAMPLED, TextureTask
from netloupe.synthesis.transforms import Jitter

_SAMPLING: Mapping[str, Callable[..., Tensor]] = {"efros-leung": grown, "wei-levoy": swept, "quilting": quilted}

_LR = 0.06  # of adam

_CELL = 128  # px of a picture's shorter side, at least


@dataclass(frozen=True)
class Texture(Result):
    """images: (N, C, H, W) in [0, 1]; more than one where it was made layer by layer. sample: (C, h, w).

    layers: where the statistics were read, with weights. read: for each image, the layers that it was made by; empty
    for methods without a network. distances, before: by layer, how far each image, and what it started from, are from
    the sample: relative squared distances of the statistics, (N,). history: (steps, N) scores at the last size. sizes:
    (height, width) that it went through.
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
    sizes: tuple[Size, ...]

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
            "sizes": [list(size) for size in self.sizes],
            "weights": dict(self.layers),
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


@function_of(TextureTask)
def texture(net: Network, image: Tensor, *, start: Start = "noise", watch: Watch = SILENT, **settings: Any) -> Texture:
    """An image (height, width) = `size`, by default that of the sample, that looks like the sample (C, h, w) in [0, 1].

    method: "gram" (Gatys et al. 2015) or "covariance" climb until the statistics of the features at `layers`, by
    default those of `preset_layers`, are the sample's; each term is a squared distance over its target's squared norm.
    "efros-leung", "wei-levoy" and "quilting" put the sample's pixels together, with `window`, `block` and `tolerance`
    as `sampling` says; the network only measures then. by_layer: an image for each layer, by that and those before it.
    tileable: the right side fits the left one, the lower the upper. layers: names, or weights by name.
    optimizer: a name, or one of `optimizers`; of "adam" the steps fall from `lr` to zero. tile: px, see `climb`.
    Raises InputError for what does not fit, UnknownName for a name that is not there, NetworkError if it diverges.
    """
    found: Texture = perform(TextureTask.of(settings), net, {"image": image, "start": start}, watch)
    return found


def run(task: TextureTask, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Texture:
    layers = preset_layers(net, task.preset)[0] if task.layers is None else task.layers
    weights = as_weights(net, layers, also=(PIXELS,))
    read = [name for name in weights if name != PIXELS]
    taken = net.sizes(read) if read else None
    images = inputs["image"].shaped(net, task.side, taken)
    if len(images) != 1:
        raise InputError(f"{len(images)} samples (accepted: one)")
    net.inputs.check(images[0][None])
    net.inputs.check_range(images[0])
    sample = images[0].detach().to(net.device)
    size = (int(sample.shape[1]), int(sample.shape[2])) if task.size is None else task.size
    if taken is not None:
        taken.check(size, "textures")
    sampled = task.method in SAMPLED
    wanted = look(net, [sample], layers=weights, statistic="gram" if sampled else task.method, tile=task.tile)
    made = _sampled(task, sample, size, watch) if sampled else _climbed(task, wanted, inputs["start"], size, watch)
    distances = wanted.distances(made.images, wanted.targets())
    return Texture(
        made.images.cpu().numpy(),
        sample.cpu().numpy(),
        task.method,
        weights,
        made.read,
        {name: each.cpu().numpy() for name, each in distances.items()},
        {name: each.cpu().numpy() for name, each in made.before.items()},
        made.history,
        task.tileable or task.method == "wei-levoy",
        made.sizes,
        provenance=decided(replace(task, layers=layers)),
    )


@dataclass(frozen=True)
class _Made:
    """Images with the layers that each was made by, how far they were from the sample before, by layer, and sizes."""

    images: Tensor
    read: tuple[tuple[str, ...], ...]
    before: Mapping[str, Tensor]
    history: np.ndarray
    sizes: tuple[Size, ...]


def _sampled(task: TextureTask, sample: Tensor, size: Size, watch: Watch) -> _Made:
    wrap = {"tileable": task.tileable} if task.method == "quilting" else {}
    pixels = _SAMPLING[task.method](sample.cpu(), size, seed=task.seed, watch=watch, **task.own, **wrap)
    return _Made(pixels[None].to(sample.device), ((),), {}, np.zeros((0, 1), np.float32), (size,))


def _climbed(task: TextureTask, wanted: Look, start: Start | Images, size: Size, watch: Watch) -> _Made:
    """An image climbed at each size, or one for each layer and those before it."""
    net, names, stages = wanted.net, tuple(wanted.layers), doubling(size, task.sizes, wanted.taken)
    read = tuple(names[: i + 1] for i in range(len(names))) if task.by_layer else (names,)
    optimizer = chosen(task.optimizer, task.lr, _LR, task.steps)
    images = begun(net, start, len(read), stages[0], task.seed)
    before = wanted.distances(images, wanted.targets())
    part = watch.part("steps", len(stages) * task.steps * len(images))
    for number, stage in enumerate(stages):
        (target,) = wanted.targets(stage[0] / stages[-1][0])
        found = climb(
            net,
            [target.objective({name: wanted.layers[name] for name in each}) for each in read],
            resized(images, stage).clamp(0, 1),
            Recipe(
                parameterization=Pixels(),
                optimizer=optimizer,
                steps=task.steps,
                transforms=(Jitter(max(stage)),) if task.tileable else (),
            ),
            seed=task.seed * 1009 + number,
            tile=task.tile,
            dtype=fast_dtype(net.device),
            steady=False,
            watch=part.share(task.steps * len(images)),
        )
        images = found.images
    return _Made(images, read, before, found.history.cpu().numpy(), tuple(stages))


def _large(picture: Picture) -> Picture:
    factor = max(1, -(-_CELL // min(picture.shape[:2])))
    return at_size(picture, (picture.shape[0] * factor, picture.shape[1] * factor), smooth=False)

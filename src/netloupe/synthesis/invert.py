"""Feature inversion: the images that a layer cannot tell from the given ones (Mahendran & Vedaldi 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from netloupe.core.layers import Layers
from netloupe.core.network import Network
from netloupe.core.objectives import match_features, norm, total_variation
from netloupe.core.perform import function_of, perform
from netloupe.core.watch import SILENT, Watch
from netloupe.render.pictures import Picture, beside, captioned, fitted, from_pixels, resized, stacked
from netloupe.render.result import Result
from netloupe.synthesis.climb import climb
from netloupe.synthesis.optimizers import optimizer_of
from netloupe.synthesis.parameterizations import parameterization_of
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import Start, start_images
from netloupe.synthesis.tasks import Invert

ALPHA, BETA = 6.0, 2.0  # powers of the norm and of the total variation, as in the paper
EXPECTED, SMOOTH = 0.35, 6.5  # how far pixels lie from gray, and how many times less from one pixel to the next

_CELL = 160  # px of a picture's longer side


@dataclass(frozen=True)
class Inversion(Result):
    """What each layer keeps of each image.

    images: (L N, C, H, W) in [0, 1], layer by layer. originals: (N, C, H, W). layers: (L,). errors: (L, N), the squared
    distance of the features over their squared norm. psnr: (L, N) in dB, of the image to its original.
    """

    images: np.ndarray
    originals: np.ndarray
    layers: tuple[str, ...]
    errors: np.ndarray
    psnr: np.ndarray
    history: np.ndarray

    def of(self, layer: str) -> np.ndarray:
        """(N, C, H, W): the inversions of one layer."""
        n, at = len(self.originals), self.layers.index(layer)
        return self.images[at * n : (at + 1) * n]

    def pictures(self) -> dict[str, Picture]:
        return {"inversion": stacked([self._row(i) for i in range(len(self.originals))])}

    def _row(self, i: int) -> Picture:
        shape = self.images.shape[2:]
        size = fitted(shape, max(_CELL, *shape))
        cells = [captioned(resized(from_pixels(self.originals[i]), size), "original")]
        for at, layer in enumerate(self.layers):
            text = f"{layer}  {self.errors[at, i]:.1%}  {self.psnr[at, i]:.1f} dB"
            cells.append(captioned(resized(from_pixels(self.of(layer)[i]), size), text))
        wide = max(2, min(len(cells), 8))
        return stacked([beside(cells[start : start + wide]) for start in range(0, len(cells), wide)])

    def arrays(self) -> dict[str, np.ndarray]:
        return {"images": self.images, "originals": self.originals, "history": self.history}

    def summary(self) -> dict[str, Any]:
        return {
            "layers": [
                {"layer": layer, "feature_error": [float(e) for e in errors], "psnr": [float(p) for p in psnr]}
                for layer, errors, psnr in zip(self.layers, self.errors, self.psnr, strict=True)
            ]
        }


@function_of(Invert)
def invert(
    net: Network,
    images: Tensor,
    layer: str | Sequence[str] | None = None,
    *,
    start: Start | None = None,
    watch: Watch = SILENT,
    **settings: Any,
) -> Inversion:
    """Images that have at a layer, or at each of several, nearly the features of `images` (N, C, H, W) in [0, 1].

    Minimizes ||f(x) - f(x0)||^2 / ||f(x0)||^2 plus `size_penalty` times the norm of x - gray to the power 6 and
    `smoothness` times the total variation, both divided by what they come to in a photograph (eq. 2 to 5), and by 100.
    The network sees x only; the original is known by its features. start: see `start_images`, by default "noise".
    Raises UnknownName for a layer that is not there, InputError for weights below 0.
    """
    found: Inversion = perform(Invert.of({"layer": layer, **settings}), net, {"images": images, "start": start}, watch)
    return found


def inverted(net: Network) -> Layers:
    """The layers that are inverted where none is named: every convolution and linear layer."""
    return net.layers.where(lambda one: one.is_convolution or one.is_linear)


def run(task: Invert, net: Network, inputs: Mapping[str, Any], watch: Watch) -> Inversion:
    images = inputs["images"].fitted(net)
    net.inputs.check(images)
    net.inputs.check_range(images)
    chosen = inverted(net) if task.layer is None else task.layer
    layers = list(chosen)
    originals = images.detach().to(net.device)
    numbers = originals[0].numel()
    natural_size = numbers * EXPECTED**ALPHA
    natural_variation = numbers * 2 * (EXPECTED / SMOOTH) ** BETA
    penalty = (0.01 * task.size_penalty / natural_size) * norm(ALPHA, 0.5)
    penalty = penalty + (0.01 * task.smoothness / natural_variation) * total_variation(BETA)
    features = net.activations(originals, layers)
    matches = [match_features(name, target) for name in layers for target in features[name]]
    sides = int(originals.shape[2]), int(originals.shape[3])
    how = Recipe(
        parameterization=parameterization_of(task.parameterization),
        optimizer=optimizer_of(task.optimizer, 0.02 if task.lr is None and task.optimizer == "adam" else task.lr),
        steps=task.steps,
        penalty=penalty,
    )
    found = climb(
        net,
        matches,
        start_images(net, inputs.get("start", how.start), len(matches), sides, task.seed),
        how,
        seed=task.seed,
        batch_size=task.batch_size,
        steady=not task.quick,
        watch=watch,
    )
    shape = len(layers), len(originals)
    distance = (found.images.view(*shape, -1) - originals.flatten(1)).square().mean(2)
    return Inversion(
        found.images.cpu().numpy(),
        originals.cpu().numpy(),
        tuple(layers),
        -found.scores.cpu().numpy().reshape(shape),
        (-10 * distance.clamp(min=1e-12).log10()).cpu().numpy(),
        found.history.cpu().numpy(),
    )

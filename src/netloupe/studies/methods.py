"""The attribution methods at settings that many images and networks can bear."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from netloupe.analysis.gradients import integrated_gradients, smooth_grad
from netloupe.analysis.methods import METHODS, Method, pick_methods
from netloupe.analysis.occlusion import occlusion
from netloupe.core.network import Network
from netloupe.core.objectives import Objective

SAMPLES = 8  # of SmoothGrad
STEPS = 8  # of integrated gradients
WINDOW = 4  # the image's shorter side in windows of occlusion, which move by half a window


def quick_methods(
    names: Iterable[str | Method] | None = None, *, samples: int = SAMPLES, steps: int = STEPS
) -> list[Method]:
    """The methods of those names, all for None, the three costly ones at fewer passes; a Method stays as it is.

    Raises UnknownName for one that is not there.
    """
    cheaper: dict[str, Callable[[Network, Tensor, Objective], Tensor]] = {
        "smooth_grad": partial(smooth_grad, samples=samples),
        "integrated_gradients": partial(integrated_gradients, steps=steps),
        "occlusion": _occlusion,
    }

    def quick(name: str) -> Method:
        (method,) = pick_methods([name])
        return replace(method, attribution=cheaper.get(name, method.attribution))

    return [one if isinstance(one, Method) else quick(one) for one in (METHODS if names is None else names)]


def _occlusion(net: Network, images: Tensor, objective: Objective) -> Tensor:
    window = max(2, min(images.shape[2:]) // WINDOW)
    return torch.from_numpy(occlusion(net, images, objective, window, max(1, window // 2)).heat())


def center_map(count: int, height: int, width: int) -> Tensor:
    """(N, H, W): a Gaussian around the middle, a guess that looks at no image."""
    y, x = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in (height, width))
    squares = (y / height).square()[:, None] + (x / width).square()[None]
    return torch.exp(-8 * squares).expand(count, height, width)


def random_map(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(N, H, W): noise, another for each image."""
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed))

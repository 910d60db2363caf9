"""Every attribution method by its name, so that they can be shown, compared and tested side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from netloupe.analysis.attention.relevance import last_attention, legrad, relevance, rollout
from netloupe.analysis.gradients import grad_cam, gradient, guided_grad_cam, integrated_gradients, smooth_grad
from netloupe.analysis.occlusion import occlusion
from netloupe.core.errors import unknown
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.core.rules import Rule

SAMPLES = 8  # of SmoothGrad, for many images
STEPS = 8  # of integrated gradients


@dataclass(frozen=True)
class Method:
    """A way to say which pixels matter to an objective.

    attribution: (net, images (N, C, H, W), objective) -> raw attribution, (N, C, H, W) or (N, H, W).
    signed: whether `importance` may be negative, where a pixel speaks against the objective. passes: about how many
    passes through the network it takes; where time counts, those of few come first. rule: by which it goes back.
    """

    name: str
    title: str
    paper: str
    signed: bool
    attribution: Callable[[Network, Tensor, Objective], Tensor]
    passes: int = 1
    rule: Rule = "plain"

    def importance(self, attribution: Tensor) -> Tensor:
        """(N, H, W) of each pixel: colors added up where the method is signed, else the largest size among them."""
        if attribution.ndim == 3:
            return attribution
        return attribution.sum(1) if self.signed else attribution.abs().amax(1)


def _occlusion(net: Network, images: Tensor, objective: Objective) -> Tensor:
    """Of an eighth of the image's shorter side, at half its size."""
    return _hidden(net, images, objective, max(2, round(min(images.shape[2:]) / 8)))


def _quick_occlusion(net: Network, images: Tensor, objective: Objective) -> Tensor:
    """Of a quarter."""
    return _hidden(net, images, objective, max(2, min(images.shape[2:]) // 4))


def _hidden(net: Network, images: Tensor, objective: Objective, window: int) -> Tensor:
    return torch.from_numpy(occlusion(net, images, objective, window, max(1, window // 2)).heat())


METHODS = {
    method.name: method
    for method in (
        Method("gradient", "Gradient", "Simonyan et al. 2013", False, gradient),
        Method("smooth_grad", "SmoothGrad", "Smilkov et al. 2017", False, smooth_grad, 50),
        Method(
            "integrated_gradients", "Integrated gradients", "Sundararajan et al. 2017", True, integrated_gradients, 100
        ),
        Method(
            "guided_backprop",
            "Guided backprop",
            "Springenberg et al. 2014",
            False,
            lambda net, images, objective: gradient(net, images, objective, "guided"),
            rule="guided",
        ),
        Method(
            "deconvnet",
            "Deconvnet",
            "Zeiler & Fergus 2013",
            False,
            lambda net, images, objective: gradient(net, images, objective, "deconvnet"),
            rule="deconvnet",
        ),
        Method("grad_cam", "Grad-CAM", "Selvaraju et al. 2017", False, grad_cam),
        Method("guided_grad_cam", "Guided Grad-CAM", "Selvaraju et al. 2017", False, guided_grad_cam, rule="guided"),
        Method("occlusion", "Occlusion", "Zeiler & Fergus 2013", True, _occlusion, 200),
        Method("last_attention", "Attention of the last block", "Caron et al. 2021", False, last_attention),
        Method("rollout", "Attention rollout", "Abnar & Zuidema 2020", False, rollout),
        Method("relevance", "Gradient-weighted relevance", "Chefer et al. 2021", False, relevance),
        Method("legrad", "LeGrad", "Bousselham et al. 2024", False, legrad, 12),
    )
}


def pick_methods(names: Iterable[str] | None) -> list[Method]:
    """The methods of those names in their order, all for None. Raises UnknownName for one that is not there."""
    names = list(METHODS) if names is None else list(names)
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS, shown=len(METHODS))
    return [METHODS[name] for name in names]


def quick_methods(
    names: Iterable[str | Method] | None = None, *, samples: int = SAMPLES, steps: int = STEPS
) -> list[Method]:
    """The methods of those names, all for None, the three costly ones at fewer passes; a Method stays as it is.

    Raises UnknownName for one that is not there.
    """
    cheaper: dict[str, Callable[[Network, Tensor, Objective], Tensor]] = {
        "smooth_grad": partial(smooth_grad, samples=samples),
        "integrated_gradients": partial(integrated_gradients, steps=steps),
        "occlusion": _quick_occlusion,
    }

    def quick(name: str) -> Method:
        (method,) = pick_methods([name])
        return replace(method, attribution=cheaper.get(name, method.attribution))

    return [one if isinstance(one, Method) else quick(one) for one in (METHODS if names is None else names)]

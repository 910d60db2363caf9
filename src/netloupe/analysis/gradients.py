"""Gradients of an objective with respect to the pixels, by a backward rule, and their averages.

An objective may also be given as the address of a unit, as in "class:koala" or "conv3:17".
All give attributions (N, C, H, W): signed and raw, one number per pixel and color, in units of the objective per
unit of the pixel range [0, 1]; but Grad-CAM gives positions of a layer, (N, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.baselines import Baseline, baseline_images
from netloupe.core.backward import gradients, quantized, why_none
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.given import checked
from netloupe.core.head import Maps
from netloupe.core.layers import Layer, Layers
from netloupe.core.layout import Tokens
from netloupe.core.network import Network
from netloupe.core.numbers import SEEDS, whole
from netloupe.core.objectives import Objective, as_objective
from netloupe.core.objectives.objective import word
from netloupe.core.rules import Rectifiers, Rule, backward_rule
from netloupe.core.taps import LOGITS

_NEAR = 1e-6  # to the highest score: what is left of a gradient there are rounding errors


@dataclass(frozen=True)
class Differentiated:
    """One pass forward and back: `scores` (N,) and their `gradient` with respect to `at`, of the same shape.

    at: the images (N, C, H, W), or the output of the layer asked for.
    """

    scores: Tensor
    at: Tensor
    gradient: Tensor


def differentiate(
    net: Network, images: Tensor, objective: Objective | str, rule: Rule = "plain", layer: str | None = None
) -> Differentiated:
    """The gradient of each image's score with respect to its pixels, or to the output of a layer if one is named.

    Raises NetworkError if a score or gradient is not finite, if no path leads from there to the score, or if the
    rule finds no rectifier. Pixels may leave [0, 1].
    """
    net.inputs.check(images)
    given, objective = as_objective(objective), net.fixed(objective, images)
    pixels = images.detach().to(net.device).requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        with backward_rule(rule) as rectifiers:
            reading = net.reading(pixels, dict.fromkeys([*objective.layers, *([] if layer is None else [layer])]))
        scores = objective.score(reading)
        check_scores(net, objective, scores)
        if given.loose:
            _check_highest(net, objective, scores)
        if rectifiers is not None:
            _check_share(net, objective, rectifiers)
        at = pixels if layer is None else reading.outputs[layer]
        (found,) = gradients(net.name, [scores.sum()], [at])
    if found is None or (not bool(found.any()) and quantized(net) is not None):
        what = "the image" if layer is None else f"layer {layer!r}"
        reason = f"{objective!r} does not depend on {what} in {net.name}, so there is no gradient"
        raise NetworkError(f"{reason}{why_none(net)}")
    if not bool(found.isfinite().all()):
        raise NetworkError(f"the gradient of {objective!r} in {net.name} is not finite")
    return Differentiated(scores.detach(), at.detach(), found)


def check_scores(net: Network, objective: Objective, scores: Tensor) -> None:
    """Raise NetworkError unless all scores (N,) are finite."""
    bad = (~scores.detach().isfinite()).nonzero().flatten().tolist()
    if bad:
        value = float(scores.detach()[bad[0]])
        raise NetworkError(f"{objective!r} of image {bad[0]} is {value} in {net.name} (accepted: finite scores)")


def _check_share(net: Network, objective: Objective, rectifiers: Rectifiers) -> None:
    """Raise NetworkError where the rule acted on nothing; warn where it acted on some nonlinearities alone."""
    rule = rectifiers.rule
    if rectifiers.count == 0:
        raise NetworkError(
            f"rule {rule!r} finds no ReLU between the image and {objective!r} in {net.name}, and acts on "
            f"{rectifiers.share}; use rule 'plain' (inside TorchScript none is seen: give the module before "
            "`torch.jit.script`)"
        )
    rectifiers.warn(net.name)


def acted_on(net: Network, images: Tensor, objective: Objective | str, rule: Rule) -> str:
    """On what a rule acts on the way back from an objective, in words; empty where that is every nonlinearity.

    By a pass of its own. Raises as `gradient`.
    """
    if rule == "plain":
        return ""
    with torch.inference_mode(False), torch.enable_grad(), backward_rule(rule) as found:
        net.read(images.detach().to(net.device).requires_grad_(), net.fixed(objective, images))
    return "" if found is None or not found.others else f"acts on {found.share}"


def _check_highest(net: Network, objective: Objective, scores: Tensor) -> None:
    """Raise NetworkError where the clean image has the highest score that there is."""
    top = objective.highest
    if top is not None and bool((scores.detach() > top - _NEAR).any()):
        raise NetworkError(
            f"{word(type(objective))} is at its highest at the image itself, so its gradient there is zero in "
            f"{net.name} (occlusion, integrated gradients and SmoothGrad go away from there)"
        )


@checked
def gradient(net: Network, images: Tensor, objective: Objective | str, rule: Rule = "plain") -> Tensor:
    """The gradient of the objective with respect to images (N, C, H, W) in [0, 1]: the same shape, signed and raw.

    rule: `plain`, `guided` (guided backpropagation, Springenberg et al. 2014) or `deconvnet` (Zeiler & Fergus 2013;
    to start from activations with their own values, as they do, take the objective `energy`).
    Raises UnknownName for a rule, class or layer that is not there; NetworkError as `differentiate` says.
    """
    net.inputs.check(images)
    net.inputs.check_range(images)
    return differentiate(net, images, objective, rule).gradient


@checked
def saliency(net: Network, images: Tensor, objective: Objective | str) -> Tensor:
    """(N, H, W), at least 0: the largest |gradient| over the colors (Simonyan et al. 2013, section 3.1)."""
    return gradient(net, images, objective).abs().amax(1)


@checked
def smooth_grad(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    *,
    samples: int = 25,
    noise: float = 0.15,
    rule: Rule = "plain",
    seed: int = 0,
    batch_size: int = 32,
) -> Tensor:
    """The mean gradient over noisy copies of each image, (N, C, H, W) (Smilkov et al. 2017).

    noise: standard deviation of the Gaussian noise as a share of the image's range, max - min. An image's noise
    does not depend on what other images there are.
    """
    samples, seed = whole("samples", samples, 1), whole("seed", seed, 0, SEEDS)
    if not 0 <= noise < math.inf:
        raise InputError(f"noise {noise} (accepted: 0 or more)")
    net.inputs.check(images)
    net.inputs.check_range(images)

    def copies(image: Tensor) -> Tensor:
        drawn = torch.randn(samples, *image.shape, generator=torch.Generator().manual_seed(seed))
        return image + drawn.to(image) * noise * (image.max() - image.min())

    means = []
    for image in images:
        own = net.fixed(objective, image[None])
        parts = _batches(copies(image), batch_size)
        sums = [differentiate(net, part, own, rule).gradient.sum(0) for part in parts]
        means.append(torch.stack(sums).sum(0) / samples)
    return torch.stack(means)


@checked
def integrated_gradients(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    baseline: Baseline = 0.0,
    steps: int = 50,
    *,
    batch_size: int = 32,
) -> Tensor:
    """(x - x') times the mean gradient on the straight way from x' to x, (N, C, H, W).

    Sundararajan et al. (2017), eq. 1. The integral is taken at `steps` Gauss-Legendre points. Summed over
    pixels the result comes to the difference of the scores of image and baseline (completeness), as near as the points
    allow.
    baseline: see `baseline_images`; 0.0 is black.
    """
    steps = whole("steps", steps, 1)
    net.inputs.check(images)
    net.inputs.check_range(images)
    starts = baseline_images(net, images, baseline)
    places, weights = np.polynomial.legendre.leggauss(steps)
    points = torch.from_numpy((places + 1) / 2).to(images).view(-1, 1, 1, 1)
    shares = torch.from_numpy(weights / 2).to(images).view(-1, 1, 1, 1)
    found = []
    for image, start in zip(images, starts, strict=True):
        own = net.fixed(objective, image[None])
        total = torch.zeros_like(image, device=net.device)
        for at, share in zip(_batches(points, batch_size), _batches(shares, batch_size), strict=True):
            slopes = gradient(net, start + at * (image - start), own)
            total += (slopes * share.to(slopes)).sum(0)
        found.append(total * (image - start).to(total))
    return torch.stack(found)


def _batches(tensor: Tensor, size: int) -> Iterator[Tensor]:
    if size < 1:
        raise InputError(f"batch size {size} (accepted: 1 or more)")
    yield from tensor.split(size)


@checked
def grad_cam(
    net: Network, images: Tensor, objective: Objective | str, layer: str | None = None, *, upsample: bool = True
) -> Tensor:
    """max(0, sum over channels of (mean gradient of the channel) times its map) (Selvaraju et al. 2017, eq. 1 and 2).

    (N, H, W) at the images' size, bilinear; with upsample=False (N, h, w) at the layer's. At least 0. layer: by
    default `cam_layer`. Raises UnknownName for a layer that is not there, InputError for one that is no map, and
    NetworkError if the objective does not depend on it.
    """
    net.inputs.check(images)
    layer = cam_layer(net, objective) if layer is None else layer
    if not net.layer(layer).spatial:
        raise InputError(f"layer {layer!r} of shape {net.layer(layer).shape} has no positions (accepted: (C, H, W))")
    net.inputs.check_range(images)
    found = differentiate(net, images, objective, layer=layer)
    weights = found.gradient.mean((2, 3), keepdim=True)
    maps = (weights * found.at).sum(1, keepdim=True).clamp(min=0)
    if upsample:
        maps = torch.nn.functional.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
    return maps[:, 0]


@checked
def guided_grad_cam(net: Network, images: Tensor, objective: Objective | str, layer: str | None = None) -> Tensor:
    """Guided backpropagation times Grad-CAM, (N, C, H, W), signed (Selvaraju et al. 2017, section 3.2)."""
    return gradient(net, images, objective, "guided") * grad_cam(net, images, objective, layer)[:, None]


def cam_layer(net: Network, objective: Objective | str) -> str:
    """`Layers.convolved` before what the objective reads. Raises InputError if there is no map.

    Of tokens the last that the objective depends on by more than its class token: in a vision transformer whose head
    reads that alone, what the last attention reads.
    """
    objective = as_objective(objective)
    before = net.layers.before(objective)
    end = net.layers.classifier() if LOGITS in objective.layers else None
    if end is not None and end.is_map and isinstance(net.head, Maps):  # whose last map is the answer itself
        before = before.before(end.name)
    if not before.maps():
        raise InputError(f"{net.name} has no layer with positions before {objective!r}; Grad-CAM needs one")
    found = before.convolved()
    return found.name if not isinstance(found.layout, Tokens) else _last_reached(net, objective, before, found)


def _last_reached(net: Network, objective: Objective, before: Layers, last: Layer) -> str:
    """The last map like `last`, and not weights' own, with a gradient of the objective; `last` where none has one."""
    like = before.maps().where(
        lambda layer: layer.shape == last.shape and (layer.is_convolution or not layer.is_weighted)
    )
    names = [layer.name for layer in like.through(last.name).distinct().values()]
    image = torch.rand(1, net.inputs.channels, *net.inputs.size, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():
        reading = net.reading(image.requires_grad_(), dict.fromkeys([*names, *objective.layers]))
        score = net.fixed(objective, image.detach()).score(reading).sum()
        slopes = gradients(net.name, [score], [reading.layer(name) for name in names])
    reached = [name for name, slope in zip(names, slopes, strict=True) if slope is not None and bool(slope.any())]
    return (reached or [last.name])[-1]

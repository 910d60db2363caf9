"""Baselines: the image that stands for absence, where pixels are hidden or a path begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from netloupe.core.blur import blurred
from netloupe.core.errors import InputError, UnknownName, short
from netloupe.core.network import Network

Baseline = float | Sequence[float] | Tensor | Literal["mean", "blur"]
"""A gray value, a color (C,), an image (C, H, W) or (N, C, H, W), "mean" (the data set's mean pixel) or "blur"."""

BLUR = 1 / 16  # standard deviation of the Gaussian, as a share of the image's shorter side


def baseline_images(net: Network, images: Tensor, baseline: Baseline) -> Tensor:
    """The baseline of each of `images` (N, C, H, W): the same shape, in [0, 1].

    "mean" is the mean that the network's input spec subtracts; "blur" the image itself under a Gaussian of
    standard deviation 1/16 of its shorter side. Raises UnknownName for another word, InputError for a color or
    image that does not fit.
    """
    if isinstance(baseline, str):
        if baseline == "blur":
            return blurred(images, BLUR * min(images.shape[2:]))
        if baseline != "mean":
            raise UnknownName(f"no baseline {baseline!r} (accepted: mean, blur, a gray value, a color or an image)")
        baseline = net.inputs.mean_color()
    try:
        value = torch.as_tensor(baseline, dtype=images.dtype, device=images.device).detach()
    except (TypeError, ValueError, RuntimeError):
        words = "mean, blur, a gray value, a color or an image"
        raise InputError(f"baseline {short(baseline)} (accepted: {words})") from None
    if value.ndim == 1:
        value = value.view(-1, 1, 1)
    try:
        fitted = value.expand(images.shape)
    except RuntimeError:
        accepted = f"a number, ({images.shape[1]},), {tuple(images.shape[1:])} or {tuple(images.shape)}"
        raise InputError(f"a baseline of shape {tuple(value.squeeze().shape)} (accepted: {accepted})") from None
    if not bool(fitted.isfinite().all()) or float(fitted.min()) < -0.5 or float(fitted.max()) > 1.5:
        raise InputError(f"a baseline from {float(fitted.min()):.3g} to {float(fitted.max()):.3g} (accepted: [0, 1])")
    return fitted

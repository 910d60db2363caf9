"""Whose colors a styled image has (Gatys et al. 2016, "Preserving color in neural artistic style transfer")."""

from __future__ import annotations

import torch
from torch import Tensor

from netloupe.core.moments import covariance

_LUMA = (0.299, 0.587, 0.114)  # of Rec. 601


def luminance(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 1, H, W): of three colors their luma, of one itself."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def matched(styles: Tensor, content: Tensor) -> Tensor:
    """Style images (N, C, H, W) with the mean color and the covariance of colors of `content` (1, C, H, W).

    x -> A (x - mean_s) + mean_c with A = cov_c^(1/2) cov_s^(-1/2); cut off to [0, 1].
    """
    (mean_s, cov_s), (mean_c, cov_c) = covariance(styles.double()), covariance(content.double())
    by = _power(cov_c, 0.5) @ _power(cov_s, -0.5)
    flat = by @ (styles.double().flatten(2) - mean_s[:, :, None]) + mean_c[:, :, None]
    return flat.view_as(styles).to(styles).clamp(0, 1)


def light_matched(styles: Tensor, content: Tensor) -> Tensor:
    """Style images as gray ones (N, C, H, W), with the mean and deviation of the content's luminance."""
    return matched(luminance(styles), luminance(content)).expand_as(styles)


def with_colors_of(images: Tensor, contents: Tensor) -> Tensor:
    """Images (N, C, H, W) whose luminance is their own and whose colors are those of `contents`."""
    return (contents + luminance(images) - luminance(contents)).clamp(0, 1)


def _power(matrices: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrices)
    found: Tensor = (vectors * values.clamp(min=1e-6)[:, None, :] ** power) @ vectors.transpose(1, 2)
    return found

"""What of a feature map is the same wherever it is seen: products of channels, averaged over positions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError

TINY = 1e-12


def means(features: Tensor) -> Tensor:
    """(N, C, ...) -> (N, C): the mean over positions; vectors stay as they are."""
    return features if features.ndim == 2 else features.flatten(2).mean(2)


def gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """(N, C, H, W) -> (N, C, C): F F^T / (H W) with F = features as C x HW (Gatys et al. 2015).

    mask: (h, w), how much each position counts, 0 or more; averaged down to (H, W). By default all alike.
    """
    flat = features.flatten(2)
    if mask is None:
        return flat @ flat.transpose(1, 2) / flat.shape[2]
    return (flat * _shares(mask, features)) @ flat.transpose(1, 2)


def covariance(features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> the channels' means (N, C) and their covariances (N, C, C), over the positions."""
    mean = means(features) if mask is None else features.flatten(2) @ _shares(mask, features)
    return mean, gram(features, mask) - mean[:, :, None] * mean[:, None, :]


def neighborhoods(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) -> (N, C side^2, H - side + 1, W - side + 1): the pixels around each position, as channels.

    Their covariance is the autocorrelation of pixels and colors up to `side` - 1 px (Portilla & Simoncelli 2000).
    Raises InputError for images that are smaller than `side`.
    """
    height, width = (int(length) - side + 1 for length in images.shape[2:])
    if min(height, width) < 1:
        raise InputError(f"images of {tuple(images.shape[2:])} px (accepted: {side} px or more)")
    around: Tensor = F.unfold(images, side)
    return around.reshape(*around.shape[:2], height, width)


def relative_distance(found: Tensor, target: Tensor) -> Tensor:
    """||found - target||^2 / ||target||^2 of each of (N, ...), for targets (N, ...) or (1, ...): (N,)."""
    size: Tensor = target.flatten(1).square().sum(1).clamp(min=TINY)
    return (found - target).flatten(1).square().sum(1) / size


def _shares(mask: Tensor, features: Tensor) -> Tensor:
    """(H W,): the mask at the size of the features, adding up to 1. Raises InputError if nothing is left of it."""
    size = (int(features.shape[2]), int(features.shape[3]))
    weights = F.interpolate(mask.to(features)[None, None], size, mode="area").flatten()
    total = weights.sum()
    if not bool(weights.min() >= 0) or not float(total) > 0:
        raise InputError("a mask that is empty or negative (accepted: 0 or more, somewhere above 0)")
    return weights / total

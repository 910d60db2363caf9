"""How alike two series of numbers or two maps are: Pearson's correlation, of ranks Spearman's, and by structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from netloupe.core.errors import InputError

WINDOW = 11  # px of structural similarity's Gaussian window, whose standard deviation is 1.5 px
_SHARE = 0.99  # of a map's values lie within its scale, as in the figures of Adebayo et al. (2018)


def ranked(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Ranks along an axis from 0, equal values sharing their mean rank; float64."""
    return np.asarray(rankdata(values, axis=axis) - 1, dtype=np.float64)


def normed(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Values less their mean along an axis, there of length 1, in float64; NaN where all are equal.

    The dot product of two is Pearson's correlation; of two of ranks, Spearman's.
    """
    away = values.astype(np.float64) - values.mean(axis, dtype=np.float64, keepdims=True)
    length = np.sqrt((away * away).sum(axis, keepdims=True))
    constant = np.ptp(values, axis=axis, keepdims=True) == 0
    return np.asarray(away / np.where(constant | (length == 0), np.nan, length))


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of (N, ...), pair by pair: (N,) in [-1, 1], float64; equal values share a mean rank.

    NaN where one is constant and has no order. For "the same map but for the sign" give the maps' sizes.
    """
    if a.shape != b.shape or a.ndim < 2:
        raise InputError(f"maps of shape {tuple(a.shape)} and {tuple(b.shape)} (accepted: (N, H, W) twice)")
    one, other = (normed(ranked(each.flatten(1).cpu().numpy(), 1), 1) for each in (a, b))
    return torch.from_numpy((one * other).sum(1)).to(a.device)


def likeness(maps: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Rank correlation and structural similarity of the sizes of maps (N, H, W), pair by pair: (N,) each.

    NaN where the first map is constant and shows nothing; 0 where only the other is.
    """
    sizes, other_sizes = maps.abs(), others.abs()
    blank, other_blank = (_constant(m) for m in (sizes, other_sizes))
    ranks, structures = rank_correlation(sizes, other_sizes), structural_similarity(sizes, other_sizes)
    for found in (ranks, structures):
        found[other_blank] = 0.0
        found[blank] = torch.nan
    return ranks.cpu().numpy(), structures.numpy()


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """Wang et al. (2004), of maps (N, H, W) at least 0, each scaled to [0, 1]: (N,).

    0 is a map's lowest value, 1 its 99th percentile. Raises InputError for maps smaller than the window.
    """
    from skimage import metrics

    similarity: Any = metrics.structural_similarity
    if min(maps.shape[1:]) < WINDOW:
        raise InputError(f"maps of {tuple(maps.shape[1:])} px (accepted: {WINDOW} px a side or more)")
    pairs = zip(_scaled(maps), _scaled(others), strict=True)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return torch.tensor([float(similarity(a, b, data_range=1.0, **options)) for a, b in pairs], dtype=torch.float64)


def _scaled(maps: Tensor) -> list[np.ndarray]:
    found = []
    for one in maps.detach().cpu().double().numpy():
        low, high = one.min(), np.quantile(one, _SHARE)
        found.append(np.clip((one - low) / (high - low), 0, 1) if high > low else np.zeros_like(one))
    return found


def _constant(maps: Tensor) -> Tensor:
    flat = maps.flatten(1).cpu()
    return (flat == flat[:, :1]).all(1)

"""How alike two series of numbers are: Pearson's correlation and, of ranks, Spearman's."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from netloupe.core.errors import InputError


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

"""Cascading randomization: weights drawn anew, from the score down to the image (Adebayo et al. 2018, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.correlation import rank_correlation
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.numbers import spread
from netloupe.core.objectives import Objective

WINDOW = 11  # px of structural similarity's Gaussian window, whose standard deviation is 1.5 px
_SHARE = 0.99  # of a map's values lie within its scale, as in the figures of Adebayo et al.


def stages(net: Network, objectives: Sequence[Objective], count: int) -> list[tuple[str, ...]]:
    """Which layers are drawn anew together, stage by stage: up to `count` evenly spread, each holding the one before.

    Layers with parameters of their own, from the deepest that the objectives read up to the image; the first stage
    is the deepest alone, the last is all (of one stage: all). Raises InputError if there are none.
    """
    if count < 1:
        raise InputError(f"{count} stages (accepted: 1 or more)")
    parts = {name: layer.module for name, layer in net.layers.through(*objectives).items()}
    owners = {module: name for name, module in parts.items() if any(True for _ in module.parameters(recurse=False))}
    found = list(owners.values())[::-1]
    if not found:
        raise InputError(f"{net.name} has no layer with parameters to draw anew")
    return [tuple(found[:depth]) for depth in reversed(spread(len(found), 1, count))]


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

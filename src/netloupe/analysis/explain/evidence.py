"""One method's map of one image, with the figures that say how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.correlation import rank_correlation
from netloupe.analysis.explain.target import Target
from netloupe.analysis.fidelity import area, deletion, insertion, points
from netloupe.analysis.gradients import acted_on, cam_layer
from netloupe.analysis.methods import Method
from netloupe.core.errors import NetworkError
from netloupe.core.network import Network
from netloupe.core.numbers import finite
from netloupe.core.objectives import Objective
from netloupe.core.receptive_field import Box
from netloupe.render.colors import strength


@dataclass(frozen=True)
class Curves:
    """What is left of the score while pixels are hidden, and while they come back: (steps + 1,) each."""

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def areas(self) -> tuple[float, float]:
        """Under deletion (low is good) and insertion (high is good)."""
        found = area(torch.from_numpy(np.stack([self.deletion, self.insertion])))
        return float(found[0]), float(found[1])


@dataclass(frozen=True)
class ExplainedBy:
    """What one method says of an image.

    attribution: (C, H, W) or (H, W), raw. importance: (H, W).
    class_likeness, random_likeness: rank correlation of the sizes, over what the objective sees, with those of the
    rival's map and with those of the same network's map with random weights; None where one of the two is constant or
    there is no rival. curves: None if the map is constant. note: what one has to know of it, empty for nothing.
    """

    method: Method
    attribution: np.ndarray
    importance: np.ndarray
    class_likeness: float | None
    random_likeness: float | None
    curves: Curves | None
    note: str = ""

    @property
    def zero(self) -> bool:
        return not self.importance.any()

    @property
    def strength(self) -> float:
        """What stands for 1 where maps are compared, in units of the method."""
        return strength(self.importance)

    @property
    def peak(self) -> tuple[int, int] | None:
        """(y, x) of the highest importance; None for a constant map."""
        y, x = points(torch.from_numpy(self.importance)[None])[0].tolist()
        return (y, x) if y >= 0 else None


def mapped_by(method: Method, attribution: Tensor) -> ExplainedBy:
    """One method's map of one image, without figures."""
    importance = method.importance(attribution)
    return ExplainedBy(method, attribution[0].cpu().numpy(), importance[0].cpu().numpy(), None, None, None)


def explained_by(
    method: Method, attribution: Tensor, net: Network, random: Network, image: Tensor, target: Target, steps: int
) -> ExplainedBy:
    """One method's map of an image (1, C, H, W), with its figures. random: the network with its weights drawn anew."""
    importance = method.importance(attribution)
    constant = bool((importance == importance.flatten()[0]).all())
    rival = None if target.rival is None else _likeness(method, net, image, target.rival, importance, target.sees)
    return ExplainedBy(
        method,
        attribution[0].cpu().numpy(),
        importance[0].cpu().numpy(),
        rival,
        _likeness(method, random, image, target.objective, importance, target.sees),
        None if constant else curves_of(net, image, target, importance, steps),
        _note(net, image, target.objective, method),
    )


def _note(net: Network, image: Tensor, objective: Objective, method: Method) -> str:
    """What one has to know of a method: the layer that it chose, or on how much its rule acted."""
    acted = acted_on(net, image, objective, method.rule)
    layer = f"reads layer {cam_layer(net, objective)}" if "grad_cam" in method.name else ""
    return ", and ".join(filter(None, (layer, acted)))


def curves_of(net: Network, image: Tensor, target: Target, importance: Tensor, steps: int) -> Curves:
    """Deletion and insertion by a map (1, H, W); for one of zeros in a random order."""
    gone, back = (
        curve(net, image, target.curve, importance, steps=steps)[0].cpu().numpy() for curve in (deletion, insertion)
    )
    return Curves(gone, back)


def _likeness(
    method: Method, net: Network, image: Tensor, objective: Objective, importance: Tensor, sees: Box | None
) -> float | None:
    """With the map of another network or objective, over the pixels that the objective sees."""
    try:
        other = method.importance(method.attribution(net, image, objective))
    except NetworkError:  # the network with random weights need not let anything through
        return None
    top, left, bottom, right = (0, 0, *importance.shape[1:]) if sees is None else sees
    one, other = (map_[:, top:bottom, left:right].abs() for map_ in (importance, other.to(importance)))
    return finite(rank_correlation(one, other))

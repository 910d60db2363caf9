"""Class activation: which positions of a layer argue for an objective."""

from __future__ import annotations

import torch
from torch import Tensor

from netloupe.analysis.gradients import differentiate, gradient
from netloupe.core.errors import InputError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective


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


def guided_grad_cam(net: Network, images: Tensor, objective: Objective | str, layer: str | None = None) -> Tensor:
    """Guided backpropagation times Grad-CAM, (N, C, H, W), signed (Selvaraju et al. 2017, section 3.2)."""
    return gradient(net, images, objective, "guided") * grad_cam(net, images, objective, layer)[:, None]


def cam_layer(net: Network, objective: Objective | str) -> str:
    """`Layers.convolved` before what the objective reads. Raises InputError if there is no map."""
    objective = as_objective(objective)
    before = net.layers.before(objective)
    if not before.maps():
        raise InputError(f"{net.name} has no layer with positions before {objective!r}; Grad-CAM needs one")
    return before.convolved().name

"""How far a map of importance can be trusted: plain functions on maps (N, H, W) and networks.

A map that stays the same when the network's weights are drawn anew does not show what was learned (Adebayo et al.
2018); one that is faithful names first the pixels whose absence costs the score most (Petsiuk et al. 2018); one that
localizes has its peak on the object (Zhang et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from netloupe.analysis.baselines import Baseline, baseline_images
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, as_objective

STEPS = 32  # of the deletion and insertion curves

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # weight[0] is what one output reads
_ORDER_OF_TIES = 0  # seed of the order in which pixels of equal importance go


def randomized(net: Network, layers: Iterable[str] | None = None, seed: int = 0) -> Network:
    """A copy of the network whose named layers (all for None) have weights drawn anew; `net` stays as it is.

    Convolutions and linear layers get normal weights of variance 2 / fan-in and no bias (He et al. 2015), because with
    what their `reset_parameters` draws the signal dies out in a deep network without normalization, and its maps show
    rounding errors. What else has `reset_parameters` is initialized again by it, running statistics included; every
    other parameter has its elements shuffled. What is drawn for a layer depends on nothing but the seed, so a cascade
    goes on from its stage before. For the model parameter randomization test of Adebayo et al. (2018), section 3.
    Raises UnknownName for a layer that is not there, InputError if nothing in the layers can be drawn.
    """
    names = None if layers is None else [layers] if isinstance(layers, str) else list(layers)
    found = net.with_module(net.copied(), f"{net.name} with random weights")
    if names is None:
        roots = [found.module]
    else:
        roots = [found.layer(name).module for name in names]
    parts = {part for root in roots for part in root.modules()}
    if not any(parameter.numel() > 1 for part in parts for parameter in part.parameters(recurse=False)):
        where = net.name if names is None else f"layer {', '.join(map(repr, names)) or 'list of length 0'}"
        raise InputError(f"{where} has no parameters to draw anew")
    with torch.random.fork_rng(devices=[net.device] if net.device.type == "cuda" else []), torch.no_grad():
        for i, part in enumerate(found.module.modules()):
            if part in parts:
                torch.manual_seed(1_000_003 * seed + i)
                _redraw(part)
    return found


def _redraw(module: nn.Module) -> None:
    """Draw the module's own parameters; those that its `reset_parameters` left as they were are shuffled."""
    if isinstance(module, _WEIGHTED):
        module.weight.normal_(std=(2 / module.weight[0].numel()) ** 0.5)
        if module.bias is not None:
            module.bias.zero_()
        return
    own = list(module.parameters(recurse=False))
    before = [parameter.clone() for parameter in own]
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
    for parameter, old in zip(own, before, strict=True):
        if torch.equal(parameter, old):
            shuffled = torch.randperm(parameter.numel(), device=parameter.device)
            parameter.copy_(old.flatten()[shuffled].view_as(old))


def deletion(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    importance: Tensor,
    *,
    steps: int = STEPS,
    baseline: Baseline = "mean",
    batch_size: int = 32,
) -> Tensor:
    """The objective while the pixels give way to the baseline, most important first: (N, steps + 1), raw scores.

    Petsiuk et al. (2018), section 3.3, over images (N, C, H, W) in [0, 1] and importance (N, H, W), signed. The curve
    begins at the clean score and ends at that of the baseline; a good map makes it fall early. Pixels of equal
    importance go in a fixed random order.
    """
    gone = baseline_images(net, images, baseline)
    return _exchange(net, images, images, gone, as_objective(objective), importance, steps, batch_size)


def insertion(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    importance: Tensor,
    *,
    steps: int = STEPS,
    baseline: Baseline = "blur",
    batch_size: int = 32,
) -> Tensor:
    """The objective while the pixels come back over the baseline, most important first: (N, steps + 1), raw scores.

    Petsiuk et al. (2018), as `deletion`; a good map makes the curve rise early.
    """
    gone = baseline_images(net, images, baseline)
    return _exchange(net, images, gone, images, as_objective(objective), importance, steps, batch_size)


def area(curves: Tensor) -> Tensor:
    """(N,) area under curves (N, steps + 1) over the share of pixels from 0 to 1, by trapezoids."""
    if curves.ndim != 2 or curves.shape[1] < 2:
        raise InputError(f"curves of shape {tuple(curves.shape)} (accepted: (N, steps + 1), at least one step)")
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


@torch.no_grad()
def _exchange(
    net: Network,
    clean: Tensor,
    start: Tensor,
    end: Tensor,
    objective: Objective,
    importance: Tensor,
    steps: int,
    batch_size: int,
) -> Tensor:
    """The scores on the way from the images `start` to `end`, the pixels changed in the order of importance."""
    for images in (start, end):
        net.inputs.check(images)
        net.inputs.check_range(images)
    n, _, height, width = start.shape
    _check_maps(importance, (n, height, width))
    if steps < 1 or batch_size < 1:
        raise InputError(f"{steps} steps in batches of {batch_size} (accepted: both 1 or more)")
    if objective.loose:
        if n > 1:
            rows = zip(*(each.split(1) for each in (clean, start, end, importance)), strict=True)
            return torch.cat([_exchange(net, a, b, c, objective, map_, steps, batch_size) for a, b, c, map_ in rows])
        objective = net.fixed(objective, clean)
    place = _places(importance).to(start.device)
    counts = torch.linspace(0, height * width, steps + 1, dtype=torch.float64, device=start.device).round()
    scores = []
    for some in torch.arange(n * (steps + 1), device=start.device).split(batch_size):
        which, step = some // (steps + 1), some % (steps + 1)
        changed = place[which] < counts[step].view(-1, 1, 1)
        scores.append(net.read(torch.where(changed[:, None], end[which], start[which]), objective))
    curves = torch.cat(scores).view(n, steps + 1)
    if not bool(curves.isfinite().all()):
        raise NetworkError(f"{objective!r} of an image with pixels hidden is not finite in {net.name}")
    return curves


def _places(importance: Tensor) -> Tensor:
    """(N, H, W): 0 for the most important pixel, 1 for the next, ... ; ties in a fixed random order."""
    flat = importance.detach().flatten(1).cpu()
    mixed = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(_ORDER_OF_TIES))
    order = mixed[flat[:, mixed].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view(importance.shape)


def points(importance: Tensor) -> Tensor:
    """(N, 2): position (y, x) of the highest importance (N, H, W); among equals the one nearest to their middle.

    A constant map points nowhere: (-1, -1).
    """
    _check_maps(importance)
    found = torch.full((len(importance), 2), -1)
    for i, one in enumerate(importance.detach().cpu()):
        if bool((one != one.flatten()[0]).any()):
            highest = (one == one.max()).nonzero()
            middle = highest.double().mean(0)
            found[i] = highest[(highest - middle).square().sum(1).argmin()]
    return found


def pointing_hit(points: Tensor, boxes: Tensor, tolerance: float = 0.0) -> Tensor:
    """(N,) bool: whether each point (N, 2) lies in its box or at most `tolerance` px from one of the box's pixels.

    The pointing game of Zhang et al. (2018), who allow 15 px on VOC. boxes: (N, 4) top, left, bottom, right in px,
    bottom and right excluded. A point at (-1, -1) misses.
    """
    if points.ndim != 2 or points.shape[1] != 2 or boxes.shape != (len(points), 4):
        raise InputError(f"points {tuple(points.shape)}, boxes {tuple(boxes.shape)} (accepted: (N, 2) and (N, 4))")
    if tolerance < 0:
        raise InputError(f"tolerance {tolerance} px (accepted: 0 or more)")
    at, limits = points.double().cpu(), boxes.double().cpu()
    away = torch.maximum((limits[:, :2] - at).clamp(min=0), at - (limits[:, 2:] - 1))
    near: Tensor = away.norm(dim=1) <= tolerance
    return near & (at >= 0).all(1)


def _check_maps(importance: Tensor, shape: tuple[int, int, int] | None = None) -> None:
    if importance.ndim != 3 or (shape is not None and importance.shape != shape):
        accepted = "(N, H, W)" if shape is None else str(shape)
        raise InputError(f"importance of shape {tuple(importance.shape)} (accepted: {accepted})")
    if not bool(importance.isfinite().all()):
        raise InputError("importance that is not finite (accepted: finite maps)")


def center_map(count: int, height: int, width: int) -> Tensor:
    """(N, H, W): a Gaussian around the middle, a guess that looks at no image."""
    y, x = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in (height, width))
    squares = (y / height).square()[:, None] + (x / width).square()[None]
    return torch.exp(-8 * squares).expand(count, height, width)


def random_map(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(N, H, W): noise, another for each image."""
    return torch.rand(count, height, width, generator=torch.Generator().manual_seed(seed))

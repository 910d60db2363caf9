"""Two networks, or two moments of one training, that look at the same photo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.analysis.correlation import rank_correlation
from netloupe.analysis.explain.evidence import mapped_by
from netloupe.analysis.explain.figure import overlay_picture
from netloupe.analysis.methods import METHODS
from netloupe.analysis.occlusion import occlusion
from netloupe.core.errors import NetloupeError, UnknownName
from netloupe.core.head import Prediction
from netloupe.core.network import Network
from netloupe.core.objectives import logit, probability
from netloupe.core.watch import Watch
from netloupe.render.colors import overlay
from netloupe.render.pictures import from_pixels
from netloupe.studio.desk import Job, uri
from netloupe.studio.photos import Seen
from netloupe.studio.refusal import Refused
from netloupe.studio.section import Settings

SHOWN = ("gradient", "grad_cam")
"""Methods whose maps are laid side by side, each on a scale of its own, for their numbers have no common unit."""

_TOP = 5
_GRID = 14  # positions a side, on which two maps are held against each other


@dataclass(frozen=True, eq=False)
class _Side:
    """What one network makes of the photo. cost: (H, W), what hiding each pixel costs in probability."""

    seen: Seen
    top: Sequence[Prediction]
    label: str
    clean: float
    cost: np.ndarray
    pictures: Mapping[str, str]
    maps: Mapping[str, np.ndarray]


def compare(nets: Mapping[str, Network], seen: Mapping[str, Seen], settings: Settings, job: Job) -> dict[str, Any]:
    """What two networks, by name, make of one photo: predictions, what hiding costs, maps, and how alike they are."""
    for name, net in nets.items():
        net.head.classes(f"comparing {name}")
    wanted = settings.get("class")
    if not (wanted is None or isinstance(wanted, str)):
        raise Refused("class is no text (accepted: the name of one)")
    part = job.part("networks", 100 * len(nets))
    sides: dict[str, _Side] = {}
    for name, net in nets.items():
        sides[name] = _side(net, seen[name], wanted, part.share(100))
        wanted = sides[name].label if wanted is None else wanted
        part.at(100 * len(sides))
    high = max(float(np.abs(one.cost).max()) for one in sides.values())
    one, other = sides.values()
    both = [name for name in SHOWN if name in one.maps and name in other.maps]
    return {
        "class": wanted,
        "high": high,
        "sides": [{"name": name, **_document(side, high)} for name, side in sides.items()],
        "alike": {
            "hide": _alike(one.cost, other.cost),
            **{name: _alike(one.maps[name], other.maps[name]) for name in both},
        },
    }


def _side(net: Network, seen: Seen, wanted: str | None, watch: Watch) -> _Side:
    with torch.no_grad():
        (top,) = net.said(net(seen.pixels), _TOP)
    index = _index(net, wanted, top)
    side = min(net.inputs.size)
    window = max(2, round(side / 7))
    found = occlusion(net, seen.pixels, probability(index), window, max(1, window // 2), watch=watch)
    maps, pictures = {}, {}
    for name in SHOWN:
        method = METHODS[name]
        try:
            made = mapped_by(method, method.attribution(net, seen.pixels, logit(index)))
        except NetloupeError:  # one that can't explain this network
            continue
        maps[name], pictures[name] = made.importance, uri(overlay_picture(made, seen.shown))
    return _Side(seen, top, net.head.label(index), float(found.clean[0]), found.heat()[0], pictures, maps)


def _index(net: Network, wanted: str | None, top: Sequence[Prediction]) -> int:
    """The class of that name, or where the network knows none the one that it finds most probable."""
    classes = net.head.classes("comparing")
    try:
        return classes.index(wanted if wanted is not None else top[0].label)
    except UnknownName:
        return int(top[0].index or 0)


def _document(one: _Side, high: float) -> dict[str, Any]:
    return {
        "label": one.label,
        "clean": one.clean,
        "top": [each.document() | {"said": str(each)} for each in one.top],
        "seen": uri(from_pixels(one.seen.pixels[0].numpy())),
        "pictures": {"hide": uri(overlay(one.seen.shown, one.cost, high or 1.0, signed=True)), **one.pictures},
    }


def _alike(a: np.ndarray, b: np.ndarray) -> float | None:
    """The rank correlation of two maps, brought to one grid; None where one is the same everywhere."""
    found = float(rank_correlation(_gridded(a), _gridded(b))[0])
    return None if math.isnan(found) else found


def _gridded(values: np.ndarray) -> Tensor:
    """(1, h, w)."""
    return F.adaptive_avg_pool2d(torch.from_numpy(np.asarray(values, np.float32))[None], _GRID)

"""The robust twin that ships: held against lenslet by what it is for."""

from __future__ import annotations

from itertools import pairwise

import torch

import netloupe
from netloupe.core.network import Network
from netloupe.data.sources import read_all
from netloupe.zoo.load import WEIGHTS
from netloupe.zoo.state import read_state


def pictures(count: int) -> torch.Tensor:
    """(count, 3, 64, 64) of the embedded photographs, evenly apart."""
    source = netloupe.open_source("photos")
    return read_all(source.subset([i * len(source) // count for i in range(count)]), (64, 64))[1]


def fooled(net: Network, images: torch.Tensor, epsilon: float) -> float:
    """The share of images whose first class changes within a Euclidean ball, by 10 steps away from it."""
    first = net(images).argmax(1)
    now = images.clone()
    for _ in range(10):
        step = torch.cat([
            netloupe.gradient(net, image[None], netloupe.objectives.logit(int(label)))
            for image, label in zip(now, first, strict=True)
        ])  # fmt: skip
        now = now - epsilon / 4 * step / step.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        change = now - images
        length = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        now = (images + change * (epsilon / length).clamp(max=1)).clamp(0, 1)
    with torch.no_grad():
        return float((net(now).argmax(1) != first).float().mean())


def test_small_changes_fool_it_seldom() -> None:
    images = pictures(16)
    plain, robust = (fooled(netloupe.load(name), images, 0.25) for name in ("lenslet", "lenslet-robust"))
    assert plain > 0.7
    assert robust < 0.5


def test_its_gradients_are_smoother() -> None:
    """Neighboring pixels of a gradient agree more, in the correlation of each with the one to its right."""
    images = pictures(8)
    found = []
    for name in ("lenslet", "lenslet-robust"):
        net = netloupe.load(name)
        gradients = torch.cat([netloupe.gradient(net, one[None], netloupe.objectives.logit(3)) for one in images])
        left, right = gradients[..., :-1].flatten(), gradients[..., 1:].flatten()
        found.append(float(torch.corrcoef(torch.stack([left, right]))[0, 1]))
    assert found[1] > found[0] + 0.1


def test_its_card_tells_what_was_measured() -> None:
    path = WEIGHTS / "lenslet-robust.safetensors"
    card = read_state(path).card
    assert path.stat().st_size <= 8e6
    assert card["top1"] >= 0.4
    assert card["robustness"]["shares"]["0.5"] >= 0.2
    ladder = card["robustness"]["ladder"]
    assert all(strong <= weak for weak, strong in pairwise(ladder))
    assert len(card["by_class"]) == 200

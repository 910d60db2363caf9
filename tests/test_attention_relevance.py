"""Attribution by attention: every method as its paper writes it, in plain loops, and what it can't be told of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from attention_helpers import (
    PATCH,
    SIDE,
    SPELLINGS,
    Spelling,
    ViT,
    fresh,
    images,
    legrad_by_hand,
    pass_by_hand,
    read_by_hand,
    relevance_by_hand,
    rollout_by_hand,
    vit,
    weights_by_hand,
)
from core_helpers import Fn
from netloupe.analysis.attention.relevance import last_attention, legrad, relevance, rollout
from netloupe.analysis.methods import METHODS
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.studies.trust.measure import trust

GRID = SIDE // PATCH
INDEX = 1
OBJECTIVE = f"class:{INDEX}"


def last_by_hand(module: ViT, image: Tensor, _: int) -> list[float]:
    mean = weights_by_hand(module, image)[-1].mean(0)
    return [float(v) for v in mean[read_by_hand(module)].mean(0)[module.prefix.shape[1] :]]


WAYS: dict[str, tuple[Callable[..., Tensor], Callable[[ViT, Tensor, int], list[float]]]] = {
    "last": (last_attention, last_by_hand),
    "rollout": (rollout, lambda module, image, _: rollout_by_hand(module, image)),
    "relevance": (relevance, relevance_by_hand),
    "legrad": (legrad, legrad_by_hand),
}


def upsampled(patches: list[float]) -> Tensor:
    grid = torch.tensor(patches, dtype=torch.float64).view(1, 1, GRID, GRID)
    return F.interpolate(grid, (SIDE, SIDE), mode="bilinear", align_corners=False)[0, 0]


def test_the_pass_by_hand_is_the_networks() -> None:
    for prefix in (0, 1, 3):
        net, x = vit(prefix=prefix), images(1)
        assert isinstance(net.module, ViT)
        weights, _, logits = pass_by_hand(net.module, x[0])
        assert torch.allclose(logits, net(x)[0], atol=1e-12)
        for one, other in zip(weights, weights_by_hand(net.module, x[0]), strict=True):
            assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", [1, 3, 0])
def test_each_is_as_its_paper_writes_it(way: str, prefix: int) -> None:
    method, by_hand = WAYS[way]
    net, x = vit(prefix=prefix), images()
    assert isinstance(net.module, ViT)
    found = method(net, x, OBJECTIVE)
    assert found.shape == (2, SIDE, SIDE)
    for one, image in zip(found, x, strict=True):
        expected = by_hand(net.module, image, INDEX)
        assert max(expected) > 1.2 * min(expected) >= 0, "a flat map would prove nothing"
        assert torch.allclose(one, upsampled(expected), atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same(way: str, spelling: Spelling) -> None:
    method, _ = WAYS[way]
    assert torch.allclose(method(vit(spelling), images(), OBJECTIVE), method(vit(), images(), OBJECTIVE), atol=1e-10)


def test_little_relevance_is_not_lost_in_rounding() -> None:
    """Where all patches are read, each begins at a ninth, which float32 tells from nothing smaller than 1e-8."""
    net = fresh(prefix=0)
    usual = relevance(net, images(), OBJECTIVE)
    net.module.float()
    net.module.head.weight.data *= 1e-10  # type: ignore[union-attr, operator]
    least = relevance(net, images().float(), OBJECTIVE)
    assert float(least.min()) > 0
    assert float(least.max()) < 1e-8
    assert torch.corrcoef(torch.stack([least.double().flatten(), usual.flatten()]))[0, 1] > 0.8


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_is_its_images(way: str) -> None:
    method, _ = WAYS[way]
    net, x = vit(), images(3)
    alone = torch.cat([method(net, image[None], OBJECTIVE) for image in x])
    assert torch.allclose(method(net, x, OBJECTIVE), alone, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_the_network_and_its_gradients_stay(way: str) -> None:
    net, x = vit(), images()
    WAYS[way][0](net, x, OBJECTIVE)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.module.modules())
    assert all(parameter.grad is None for parameter in net.module.parameters())
    with torch.inference_mode():
        assert torch.isfinite(WAYS[way][0](net, x, OBJECTIVE)).all()


def test_only_what_lies_before_the_objective_counts() -> None:
    """Of the first two blocks: as of the same network that ends there."""
    short, net = fresh(depth=2), fresh(depth=3)
    net.module.load_state_dict(short.module.state_dict(), strict=False)

    def ends(network: Network) -> Network:
        """Token 4's first channel after block 1, read by a layer of its own."""
        body = network.module
        assert isinstance(body, ViT)
        body.blocks[1].register_module("read", nn.Identity())
        block = body.blocks[1]
        inner = block.forward
        block.forward = lambda x: (lambda y: (block.read(y[:, 4]), y)[1])(inner(x))  # type: ignore[method-assign, operator]
        return network

    for method in (rollout, relevance, last_attention):
        one, other = (method(ends(each), images(), "blocks.1.read:0") for each in (short, net))
        assert float(one.std()) > 1e-3
        assert torch.allclose(one, other, atol=1e-12)


def convolutional() -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    return Network(body, InputSpec(size=(SIDE, SIDE)))


@pytest.mark.parametrize("way", WAYS)
def test_networks_without_attention_and_bad_images(way: str) -> None:
    with pytest.raises(NetworkError, match="Sequential has no attention that can be seen"):
        WAYS[way][0](convolutional(), images().float(), "class:1")
    with pytest.raises(InputError, match="pixels from"):
        WAYS[way][0](vit(), images() * 300, OBJECTIVE)


class Shapes(nn.Module):
    """Patches of 4 x 4, then whatever attention."""

    def __init__(self, attend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.patch, self.body = nn.Conv2d(3, 4, 2, 2), Fn(attend)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.patch(x).flatten(2).transpose(1, 2)).mean(1)
        return out


def attend(x: Tensor, y: Tensor | None = None) -> Tensor:
    y = x if y is None else y
    return x + F.scaled_dot_product_attention(x, y, y, scale=3.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: attend(x.reshape(-1, 1, 4, 4)).reshape(x.shape), "'body' looks inside windows"),
        (lambda x: attend(attend(x)[:, ::2]), "'body~2' has 8 tokens, the one before 16"),
        (lambda x: attend(attend(x)) * 0, "does not depend on attention 'body~2'"),
    ],
)
@pytest.mark.parametrize("method", [rollout, relevance])
def test_what_can_t_be_told_is_one_line(
    method: Callable[..., Tensor], function: Callable[[Tensor], Tensor], message: str
) -> None:
    torch.manual_seed(0)
    net = Network(Shapes(function), InputSpec(size=(8, 8)))
    with pytest.raises(NetworkError, match=message):
        method(net, torch.rand(2, 3, 8, 8), "class:1")


def test_attention_that_pools() -> None:
    """The last attention's one query, without a residual path: its weights times what was before."""
    torch.manual_seed(0)
    probe = torch.randn(1, 1, 4)

    def pooled(x: Tensor) -> Tensor:
        x = attend(x)
        return F.scaled_dot_product_attention(probe.expand(len(x), 1, 4), x, x, scale=2.0)

    net, x = Network(Shapes(pooled), InputSpec(size=(8, 8))), torch.rand(1, 3, 8, 8)
    weights = dict(netloupe.attention(net, x))
    first, last = (one[0, 0] for one in weights.values())
    expected = last @ (first + torch.eye(16)) / 2
    grid = F.interpolate(expected.view(1, 1, 4, 4), (8, 8), mode="bilinear")[0]
    assert torch.allclose(rollout(net, x, "class:1"), grid, atol=1e-6)
    with pytest.raises(NetworkError, match="LeGrad needs"):
        legrad(net, x, "class:1")


def test_they_stand_beside_the_others() -> None:
    names = ["last_attention", "rollout", "relevance", "legrad"]
    net = fresh()
    net.module.float()
    x = images().float()
    found = netloupe.explain(net, x[0], steps=4)
    assert set(names) < set(found.maps)
    for name in names:
        expected = METHODS[name].attribution(net, x[:1], found.target.objective)[0]
        assert torch.equal(torch.from_numpy(found[name].attribution), expected.detach())
    tested = trust(net, x, methods=["gradient", *names], count=2, steps=2)
    assert [method.name for method in tested.methods] == ["gradient", *names]
    seen = netloupe.explain(convolutional(), x[0], steps=2)
    assert set(seen.skipped) == set(names)
    assert seen.task is not None
    told = seen.task.words(seen.summary())
    assert "left out: last_attention, rollout, relevance, legrad. Sequential has no attention" in told
    with pytest.raises(NetworkError, match="Sequential has no attention that can be seen"):
        netloupe.explain(convolutional(), x[0], methods=["rollout"])

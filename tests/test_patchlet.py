"""Patchlet: what it computes beside plain loops, the sizes that it takes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import netloupe
from netloupe.core.errors import InputError
from netloupe.data.sources import read_all
from netloupe.zoo.load import WEIGHTS, load
from netloupe.zoo.patchlet import HEADS, REGISTERS, WIDTH, Attention, Patchlet
from netloupe.zoo.state import read_state


def test_its_size() -> None:
    assert 2.5e6 <= sum(p.numel() for p in Patchlet().parameters()) <= 5e6


def test_attention_is_a_softmax_of_products_head_by_head() -> None:
    torch.manual_seed(0)
    module = Attention(12, 3).double()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    weight, bias = module.qkv.weight.detach(), module.qkv.bias.detach()
    out = torch.zeros(2, 5, 12, dtype=torch.float64)
    for n in range(2):
        for head in range(3):
            rows = [slice(12 * part + 4 * head, 12 * part + 4 * head + 4) for part in range(3)]
            q, k, v = (x[n] @ weight[one].T + bias[one] for one in rows)
            for t in range(5):
                shares = torch.tensor([float(q[t] @ k[s]) / 2 for s in range(5)], dtype=torch.float64).exp()
                out[n, t, 4 * head : 4 * head + 4] = (shares[:, None] * v).sum(0) / shares.sum()
    wanted = out @ module.proj.weight.T + module.proj.bias
    torch.testing.assert_close(module(x), wanted)


def test_tokens_are_the_class_token_registers_and_patches_row_by_row() -> None:
    torch.manual_seed(0)
    net = Patchlet(7).eval()
    seen: list[Tensor] = []
    net.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        assert net(x).shape == (1, 7)
        plain = net.stem(x) + net.positions
    tokens = seen[0][0]
    assert tokens.shape == (1 + REGISTERS + 64, WIDTH)
    assert torch.equal(tokens[0], net.cls_token)
    assert torch.equal(tokens[1 : 1 + REGISTERS], net.registers)
    for y, x_ in ((0, 0), (2, 5), (7, 7)):
        assert torch.equal(tokens[1 + REGISTERS + 8 * y + x_], plain[0, :, y, x_])
    assert WIDTH % HEADS == 0


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (96, 40)])
def test_other_sizes_interpolate_positions(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = Patchlet(5).eval()
    seen: list[Tensor] = []
    net.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        net.positions.copy_(torch.linspace(-1, 1, 8).view(1, 1, 1, 8).expand(1, WIDTH, 8, 8))
        x = torch.randn(1, 3, *size)
        net(x)
        added = seen[0][0, 1 + REGISTERS :].T.view(1, WIDTH, size[0] // 8, size[1] // 8) - net.stem(x)
    wanted = F.interpolate(net.positions, added.shape[2:], mode="bicubic", align_corners=False)
    torch.testing.assert_close(added, wanted, atol=1e-5, rtol=1e-5)
    middle = added[0, 0, 0, 1:-1]
    assert bool((middle.diff() > 0).all())


@pytest.mark.parametrize("size", [(64, 60), (24, 64), (65, 64)])
def test_sizes_that_are_no_patches_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"accepted: multiples of 8 px from 32 on"):
        Patchlet(5)(torch.zeros(1, 3, *size))


def test_it_loads_with_random_weights_and_other_classes() -> None:
    net = load("patchlet", weights="random", classes=9, seed=0)
    assert net.inputs.size == (64, 64)
    with torch.no_grad():
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 9)


def test_stages_are_its_blocks() -> None:
    ends = list(load("patchlet", weights="random", seed=0).layers.stage_ends(9))
    assert ends == ["stem.relu1", "stem.relu2", "stem.relu3", *(f"blocks.{i}" for i in range(6))]


def test_its_card_tells_what_was_measured() -> None:
    path = WEIGHTS / "patchlet.safetensors"
    card = read_state(path).card
    assert path.stat().st_size <= 10e6
    assert card["top1"] >= 0.42
    assert card["top5"] >= 0.68
    assert card["data"]["teacher"] == "lenslet"
    assert len(card["by_class"]) == 200


def test_it_knows_the_photographs_as_lenslet_does() -> None:
    """Its classes are in lenslet's order, and its pictures are normalized as it learned them."""
    source = netloupe.open_source("photos")
    images = read_all(source.subset(range(0, len(source), len(source) // 40)), (64, 64))[1]
    with torch.no_grad():
        first = [load(name)(images).argmax(1) for name in ("lenslet", "patchlet")]
    assert float((first[0] == first[1]).float().mean()) > 0.25
    assert load("patchlet").labels == load().labels

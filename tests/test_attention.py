"""Attention however it is spelled: its weights, its names, and a network that stays as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from attention_helpers import HEADS, SPELLINGS, Attention, Spelling, ViT, fresh, images, vit, weights_by_hand
from core_helpers import Fn
from netloupe.core.attention import attending, weights_of
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

NAMES = ["blocks.0.attn", "blocks.1.attn", "blocks.2.attn"]


def of(function: Callable[..., Any], **parts: nn.Module) -> Network:
    """A network of one function from (N, 16, 3), the pixels as tokens, to anything."""
    body = Fn(lambda x, *rest: function(x.flatten(2).transpose(1, 2), *rest), **parts)
    return Network(body.eval(), InputSpec(size=(4, 4)), head="none")


def tokens(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_weights_of_every_spelling_are_those_by_hand(spelling: Spelling) -> None:
    x, fused = images(), vit().module
    assert isinstance(fused, ViT)
    found = netloupe.attention(vit(spelling), x)
    assert list(found) == NAMES
    for n, image in enumerate(x):
        for weights, expected in zip(found.values(), weights_by_hand(fused, image), strict=True):
            assert weights.shape == (2, HEADS, 10, 10)
            assert torch.allclose(weights[n], expected, atol=1e-10)
            assert weights[n].std(-1).min() > 0.01, "heads that look everywhere alike would prove nothing"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_pass_is_untouched(spelling: Spelling) -> None:
    net, x = vit(spelling), images()
    before = copy.deepcopy(net.module.state_dict())
    seen: list[Tensor] = []
    with torch.no_grad():
        plain = net(x)
        with attending(net.module, lambda _, weights: seen.append(weights), 2):
            assert torch.equal(net(x), plain)
        with attending(net.module, lambda *_: pytest.fail("not asked for"), 2, layers=["nothing"]):
            assert torch.equal(net(x), plain)
    assert len(seen) == 3
    pixels = x.requires_grad_()
    with attending(net.module, lambda *_: None, 2):
        through = net(pixels)
    assert torch.allclose(through, plain, atol=1e-12)
    slope = torch.autograd.grad(through.sum(), pixels)[0]
    assert torch.allclose(slope, torch.autograd.grad(net(pixels).sum(), pixels)[0], atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.module.modules())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_scores_can_be_differentiated_by_the_weights(spelling: Spelling) -> None:
    """As far as the output changes when one weight does."""
    net, x = vit(spelling), images(1)
    held: dict[str, Tensor] = {}
    with attending(net.module, held.__setitem__, 1):
        score = net(x.clone().requires_grad_())[0, 1]
    gradients = dict(zip(held, torch.autograd.grad(score, list(held.values())), strict=True))
    assert all(one.abs().max() > 1e-3 for one in gradients.values())
    gradient, step = gradients["blocks.1.attn"], 1e-6
    fused = fresh()
    assert isinstance(fused.module, ViT)
    attn = fused.module.blocks[1].attn  # type: ignore[union-attr]
    assert isinstance(attn, Attention)
    for at in ((0, 1, 0, 3), (0, 2, 4, 9)):
        moved = []
        for sign in (1, -1):
            weights = held["blocks.1.attn"].detach().clone()
            weights[at] += sign * step
            attn.forward = lambda y, w=weights: attn.proj(  # type: ignore[method-assign]
                (w @ attn.qkv(y).view(1, 10, 3, HEADS, 4).permute(2, 0, 3, 1, 4)[2]).transpose(1, 2).flatten(2)
            )
            moved.append(float(fused(x)[0, 1].detach()))
        assert float(gradient[at]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(3)) > 0.5},
        {"attn_mask": torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)},
        {"attn_mask": torch.arange(5)[None].expand(5, 5) > 4},
        {"attn_mask": torch.tensor([[True, True, False, False, True]])},
        {"enable_gqa": True},
    ],
)
def test_what_fused_attention_is_given(given: dict[str, Any]) -> None:
    torch.manual_seed(0)
    heads = 2 if "enable_gqa" in given else 4
    q, k, v = (torch.randn(2, h, 5, 3, dtype=torch.float64) for h in (4, heads, heads))
    weights = weights_of(
        q, k, given.get("attn_mask"), given.get("is_causal", False), given.get("scale"), "enable_gqa" in given
    )
    mixed = weights @ v.repeat_interleave(4 // heads, 1)
    assert torch.allclose(mixed, F.scaled_dot_product_attention(q, k, v, **given), atol=1e-12)
    some = weights_of(
        q, k, given.get("attn_mask"), given.get("is_causal", False), given.get("scale"), "enable_gqa" in given, [3, 0]
    )
    assert torch.allclose(some, weights[..., [3, 0], :], atol=1e-12)


@pytest.mark.parametrize("gradients", [True, False])
def test_half_of_the_keys_heads(gradients: bool) -> None:
    def grouped(x: Tensor) -> Tensor:
        q = x.unflatten(2, (3, 1)).transpose(1, 2).repeat(1, 2, 1, 1)  # six heads
        return F.scaled_dot_product_attention(q, q[:, :3], q[:, :3], enable_gqa=True, scale=2.0)

    net, x = of(grouped), tokens().requires_grad_(gradients)
    found: list[Tensor] = []
    plain = net.module(x).detach()
    with torch.set_grad_enabled(gradients), attending(net.module, lambda _, weights: found.append(weights), 2):
        assert torch.allclose(net.module(x), plain, atol=1e-6)
    assert [one.shape for one in found] == [(2, 6, 16, 16)]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rows_alone(spelling: Spelling) -> None:
    net, x = vit(spelling), images()
    whole, rows = netloupe.attention(net, x), netloupe.attention(net, x, queries=[0, 7])
    for name in NAMES:
        assert torch.allclose(rows[name], whole[name][:, :, [0, 7]], atol=1e-12)
        assert rows[name].shape == (2, HEADS, 2, 10)


def test_one_pass_goes_no_deeper_than_asked_and_hands_on_in_order() -> None:
    net, reached = fresh(), []
    assert list(net.attentions) == NAMES
    for i, block in enumerate(net.module.blocks):  # type: ignore[arg-type, union-attr]
        block.register_forward_hook(lambda *_, i=i: reached.append(i))
    told: list[str] = []
    netloupe.attention(net, images(), NAMES[:2]).each(lambda name, _: told.append(name))
    assert (told, reached) == (NAMES[:2], [0])
    assert netloupe.attention(net, images(), NAMES[0])[NAMES[0]].shape == (2, HEADS, 10, 10)


def test_names() -> None:
    def twice(x: Tensor, part: nn.Module) -> Tensor:
        x = part(part(x))
        return F.scaled_dot_product_attention(F.scaled_dot_product_attention(x, x, x), x, x)

    inner = Fn(lambda x: F.scaled_dot_product_attention(x, 2 * x, x) + (x @ x.mT).softmax(-1) @ x)
    assert list(of(twice, inner=inner).attentions) == ["inner", "inner~2", "inner~3", "inner~4", "~1", "~2"]


def test_pytorchs_encoder_layer_without_its_fused_path() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    net = of(lambda x, grow, block: block(grow(x)), grow=nn.Linear(3, 8), block=block)
    x = tokens()
    assert net.attentions == {"block.self_attn": (2, 16, 16)}
    y = net.module._modules["grow"](x.flatten(2).transpose(1, 2))  # type: ignore[misc]
    expected = block.self_attn(y, y, y, average_attn_weights=False)[1]
    with torch.no_grad():
        assert torch.allclose(netloupe.attention(net, x)["block.self_attn"], expected, atol=1e-6)


def test_the_batch_second_and_masks_of_keys() -> None:
    torch.manual_seed(0)
    part = nn.MultiheadAttention(8, 2, bias=False, add_zero_attn=True, kdim=3, vdim=3)
    hidden = torch.arange(16)[None].expand(2, 16) > 11

    def run(x: Tensor, grow: nn.Module, part: nn.Module) -> Any:
        first = x.transpose(0, 1)
        return part(grow(first), first, first, key_padding_mask=hidden, average_attn_weights=False)[1]

    net = Network(
        Fn(lambda x, *rest: run(x.flatten(2).transpose(1, 2), *rest), grow=nn.Linear(3, 8), part=part).eval(),
        InputSpec(size=(4, 4)),
        head="none",
    )
    found: list[Tensor] = []
    x = tokens()
    with torch.no_grad(), attending(net.module, lambda _, weights: found.append(weights), 2):
        expected = net.module(x)
    assert found[0].shape == (2, 2, 16, 17)
    assert torch.equal(found[0], expected)
    assert float(found[0][..., 12:16].abs().max()) == 0


def test_windows() -> None:
    """(N * windows, heads, T, T), as in Swin: each window's is that of its tokens alone."""

    def run(x: Tensor) -> Tensor:
        part = x.reshape(-1, 4, 3)[:, None]
        return (part @ part.transpose(-2, -1) + 1).softmax(-1) @ part

    x = tokens()
    found = netloupe.attention(of(run), x)["~1"]
    assert found.shape == (2, 4, 1, 4, 4)
    rows = x.flatten(2).transpose(1, 2)
    one = rows[1, 8:12]
    assert torch.allclose(found[1, 2, 0], (one @ one.T).softmax(-1), atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x @ x.mT) @ x,  # no softmax
        lambda x: (x @ x.mT).softmax(1) @ x,  # over the queries
        lambda x: (x @ torch.ones(3, 5)).softmax(-1) @ torch.ones(5, 2),  # of weights
        lambda x: (x.exp() @ x.mT).softmax(-1),  # multiplied on with nothing
        lambda x: (x * 2).softmax(-1) @ x.mT,  # of no product
        lambda x: F.relu(x @ x.mT).log().softmax(-1) @ x,  # of something made of scores
    ],
)
def test_what_is_no_attention(function: Callable[[Tensor], Tensor]) -> None:
    net = of(function)
    assert net.attentions == {}
    with pytest.raises(NetworkError, match="has no attention that can be seen"):
        netloupe.attention(net, tokens())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.bmm(x, x.mT).div(2).softmax(2).bmm(x),
        lambda x: torch.baddbmm(torch.zeros(16, 16), x, x.mT).softmax(-1).matmul(x),
        lambda x: nn.Softmax(-1)(torch.matmul(x, x.mT)).to(torch.float64).float() @ x,
        lambda x: x.mT @ (x @ x.mT).masked_fill(torch.eye(16) > 0, -9.0).softmax(-1).mT,  # the value first
        lambda x: torch.einsum("nqk,nkc->nqc", torch.einsum("nqc,nkc->nqk", x, x).clamp_(max=5).softmax(-1), x),
        lambda x: F.dropout(F.softmax(((x @ x.mT) * 0.5).add_(1.0).view(-1, 16, 16), dim=-1), 0.0) @ x,
    ],
)
def test_attention_written_out(function: Callable[[Tensor], Tensor]) -> None:
    assert of(function).attentions == {"~1": (1, 16, 16)}


def test_errors_of_readers_and_of_names() -> None:
    def reader(*_: object) -> None:
        raise ZeroDivisionError

    class Careful(nn.Module):
        """Goes on whatever happens inside."""

        def __init__(self) -> None:
            super().__init__()
            self.inside = vit().module

        def forward(self, x: Tensor) -> Tensor:
            try:
                out: Tensor = self.inside(x)
            except Exception:
                out = torch.zeros(len(x), 5)
            return out

    net = Network(Careful().eval(), vit().inputs)
    with pytest.raises(ZeroDivisionError):
        net.attend(images(), reader)
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.module.modules())
    with pytest.raises(UnknownName, match=r"no attention 'inside.blocks.1.atn'; did you mean 'inside.blocks.1.attn'"):
        netloupe.attention(net, images(), ["inside.blocks.1.atn"])
    with pytest.raises(InputError, match="images of shape"):
        netloupe.attention(net, images()[0])
    with pytest.raises(InputError, match="pixels from"):
        netloupe.attention(net, images() * 255)


def test_a_batch_that_is_no_batch_of_images() -> None:
    net = of(lambda x: F.scaled_dot_product_attention(x[:1].repeat(3, 1, 1), x[:1], x[:1]))
    with pytest.raises(NetworkError, match=r"attention '~1' has weights of shape \(3, 16, 16\), which are"):
        netloupe.attention(net, tokens())["~1"]

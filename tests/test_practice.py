"""Networks as they are built today: wrapped, parametrized, checkpointed, quantized, called with more than images."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import netloupe
from netloupe.core.errors import NetworkError

SPEC = netloupe.InputSpec((12, 12))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def middle(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.middle(x).relu().mean((2, 3)))


class Checkpointed(Plain):
    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(checkpoint(self.middle, x, use_reentrant=self.reentrant).relu().mean((2, 3)))


class Reentrant(Checkpointed):
    reentrant = True


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def made(kind: type[Plain]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


@pytest.mark.parametrize("kind", [Checkpointed, Reentrant])
@pytest.mark.parametrize("rule", ["plain", "guided"])
def test_gradients_through_checkpoints_are_right(kind: type[Plain], rule: netloupe.Rule, images: Tensor) -> None:
    expected, found = (netloupe.Network(made(k), SPEC) for k in (Plain, kind))
    for objective in ("class:2", "b:3"):
        right = netloupe.gradient(expected, images, objective, rule=rule)
        assert right.abs().max() > 0
        assert torch.equal(netloupe.gradient(found, images, objective, rule=rule), right)
    module = found.module
    x = images.clone().requires_grad_()
    module(x).sum().backward()  # and the module checkpoints as before
    assert x.grad is not None


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, lambda m: torch.compile(m, backend="eager"), lambda m: nn.DataParallel(torch.compile(m))],
    ids=["parallel", "compiled", "both"],
)
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module], images: Tensor) -> None:
    module = made(Plain)
    net = netloupe.Network(wrap(module), SPEC)
    assert list(net.layers) == ["a", "b", "fc"]
    assert net.name == "Plain"
    assert torch.equal(net(images), netloupe.Network(module, SPEC)(images))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, images: Tensor) -> None:
    full, net = netloupe.Network(made(Plain), SPEC), netloupe.Network(made(Plain).to(dtype), SPEC)
    right, found = (netloupe.gradient(n, images, "class:2") for n in (full, net))
    assert right.abs().max() > 0
    assert F.cosine_similarity(found.flatten(), right.flatten(), dim=0) > 0.9


@pytest.mark.parametrize(
    "normed",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
    ids=["weight_norm", "spectral_norm", "old_weight_norm", "old_spectral_norm"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_made_are_read_and_stay(normed: Callable[[nn.Module], nn.Module], images: Tensor) -> None:
    module = made(Plain)
    assert isinstance(module, Plain)
    normed(module.a)
    module.train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    net = netloupe.Network(module, SPEC)
    assert net.layers["a"].is_weighted
    found = netloupe.filters(net, "a").weights
    after = module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    module.eval()
    assert torch.allclose(torch.from_numpy(found), module.a.weight.detach(), atol=1e-6)
    assert torch.equal(F.conv2d(images, module.a.weight, module.a.bias, padding=1), module.a(images))


def test_no_gradient_of_what_is_quantized_in_one_line(images: Tensor) -> None:
    module = torch.ao.quantization.quantize_dynamic(made(Plain).eval(), {nn.Linear})
    net = netloupe.Network(module, SPEC)
    assert len(net.predict(images)) == 2
    for rule in ("plain", "guided"):
        with pytest.raises(NetworkError, match=r"'fc' is quantized, and has none \(give the network before"):
            netloupe.gradient(net, images, "class:1", rule=rule)


class Overwriting(Plain):
    def forward(self, x: Tensor) -> Tensor:
        first = torch.sigmoid(self.a(x))
        second = self.b(first)
        first.mul_(2)
        return self.fc((first + second).mean((2, 3)))


def test_an_error_on_the_way_back_is_one_line(images: Tensor) -> None:
    net = netloupe.Network(made(Overwriting), SPEC)
    for try_ in (
        lambda: netloupe.gradient(net, images, "class:1"),
        lambda: netloupe.visualize(net, "class:1", steps=1),
        lambda: netloupe.integrated_gradients(net, images, "class:1", steps=2),
    ):
        with pytest.raises(NetworkError, match=r"^Overwriting can't be differentiated: .*inplace") as caught:
            try_()
        assert "\n" not in str(caught.value)


class Conditioned(Plain):
    def forward(self, x: Tensor, scale: Tensor | dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(x) * (scale["scale"] if isinstance(scale, dict) else scale)


@pytest.mark.parametrize("named", [False, True])
def test_a_module_may_be_called_with_more_than_images(named: bool, images: Tensor) -> None:
    scale = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0])
    more = {"scale": scale} if named else scale
    net = netloupe.Network(made(Conditioned), SPEC, call=lambda module, x: module(x, more))
    plain = netloupe.Network(made(Plain), SPEC)
    assert torch.allclose(net(images), plain(images) * scale)
    assert list(net.layers) == ["a", "b", "fc"]
    right = -2 * netloupe.gradient(plain, images, "class:1")
    assert torch.allclose(netloupe.gradient(net, images, "class:1"), right, atol=1e-6)
    with pytest.raises(NetworkError, match=re.escape("Conditioned failed on input of shape (2, 3, 12, 12)")):
        netloupe.Network(made(Conditioned), SPEC)(images)

"""Gradients, their averages and class activation: against Captum, against identities, and what has none."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from core_helpers import Fn
from netloupe import InputSpec, NetloupeError, Network
from netloupe import objectives as obj
from netloupe.analysis.baselines import baseline_images
from netloupe.analysis.gradients import acted_on, cam_layer
from netloupe.core.errors import NetloupeWarning, NetworkError

IMAGES = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))


class Small(nn.Module):
    """Modules only, none in place, as Captum's hooks want it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.relu2(self.norm(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def small() -> Network:
    torch.manual_seed(0)
    module = Small().double()
    module.norm.running_mean.normal_()
    return Network(module, InputSpec((20, 20)), list("abcde"))


X = IMAGES.double()
SCORE = obj.logit("c")


def captums(net: Network, method: str) -> Tensor:
    """In eval mode, of class c."""
    net.module.eval()
    x = X.clone().requires_grad_()
    if method == "grad_cam":
        return captum.attr.LayerGradCam(net.module, net.module.relu2).attribute(x, target=2, relu_attributions=True)
    if method == "integrated_gradients":
        return captum.attr.IntegratedGradients(net.module).attribute(x, 0.0, target=2, n_steps=50)
    kinds = {
        "plain": captum.attr.Saliency,
        "guided": captum.attr.GuidedBackprop,
        "deconvnet": captum.attr.Deconvolution,
        "guided_grad_cam": captum.attr.GuidedGradCam,
    }
    if method == "guided_grad_cam":
        found = captum.attr.GuidedGradCam(net.module, net.module.relu2)
        return found.attribute(x, target=2, interpolate_mode="bilinear")
    options = {"abs": False} if method == "plain" else {}
    return kinds[method](net.module).attribute(x, target=2, **options)


OURS: dict[str, Callable[[Network], Tensor]] = {
    "plain": lambda net: netloupe.gradient(net, X, SCORE),
    "guided": lambda net: netloupe.gradient(net, X, SCORE, rule="guided"),
    "deconvnet": lambda net: netloupe.gradient(net, X, SCORE, rule="deconvnet"),
    "integrated_gradients": lambda net: netloupe.integrated_gradients(net, X, SCORE),
    "grad_cam": lambda net: netloupe.grad_cam(net, X, SCORE, upsample=False)[:, None],
    "guided_grad_cam": lambda net: netloupe.guided_grad_cam(net, X, SCORE),
}


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
@pytest.mark.parametrize("method", OURS)
def test_equal_to_captum(method: str) -> None:
    net = small()
    ours = OURS[method](net)
    theirs = captums(net, method).detach()
    assert theirs.abs().max() > 1e-6
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8 * float(theirs.abs().max()))


def test_batch_is_its_single_images() -> None:
    net = small()
    for way in (netloupe.gradient, netloupe.integrated_gradients, netloupe.smooth_grad, netloupe.grad_cam):
        whole = way(net, X, SCORE)
        singles = torch.cat([way(net, x[None], SCORE) for x in X])
        torch.testing.assert_close(whole, singles, rtol=1e-9, atol=1e-12)
        assert whole.abs().max() > 0


def test_saliency_is_the_largest_size_over_colors() -> None:
    net = small()
    gradient = netloupe.gradient(net, X, SCORE)
    assert torch.equal(netloupe.saliency(net, X, SCORE), gradient.abs().max(1).values)
    assert bool((gradient < 0).any())


def test_an_address_is_an_objective() -> None:
    net = small()
    found = netloupe.gradient(net, X, "conv2:3@1,2")
    assert torch.equal(found, netloupe.gradient(net, X, obj.neuron("conv2", 3, 1, 2)))
    box = net.layers["conv2"].receptive_field.box(1, 2, (20, 20))
    outside = found.clone()
    outside[:, :, box[0] : box[2], box[1] : box[3]] = 0
    assert found.abs().sum() > 0
    assert outside.abs().sum() == 0


def linear() -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 5)).double()
    return Network(module, InputSpec((20, 20), mean=(0.4,), std=(0.5,))), module[1].weight[2].detach().view(
        3, 20, 20
    ) / 0.5


def test_on_a_linear_network_every_gradient_is_the_weights() -> None:
    net, weights = linear()
    for found in (netloupe.gradient(net, X, obj.logit(2)), netloupe.smooth_grad(net, X, obj.logit(2), samples=3)):
        torch.testing.assert_close(found, weights.expand_as(found))
    paths = netloupe.integrated_gradients(net, X, obj.logit(2), baseline=0.25)
    torch.testing.assert_close(paths, weights * (X - 0.25))


def test_integrated_gradients_add_up_to_the_difference() -> None:
    net = small()
    for baseline in (0.0, "mean", "blur", [0.1, 0.5, 0.9]):
        found = netloupe.integrated_gradients(net, X, SCORE, baseline, steps=400).sum((1, 2, 3))
        with torch.no_grad():
            difference = net.read(X, SCORE) - net.read(baseline_images(net, X, baseline), SCORE)
        assert difference.abs().min() > 1e-4
        torch.testing.assert_close(found, difference, rtol=2e-2, atol=1e-3)


def test_smooth_grad_without_noise_is_the_gradient() -> None:
    net = small()
    still = netloupe.smooth_grad(net, X, SCORE, samples=2, noise=0.0)
    torch.testing.assert_close(still, netloupe.gradient(net, X, SCORE))
    noisy = netloupe.smooth_grad(net, X, SCORE, seed=1)
    assert torch.equal(noisy, netloupe.smooth_grad(net, X, SCORE, seed=1, batch_size=25))
    assert not torch.equal(noisy, netloupe.smooth_grad(net, X, SCORE, seed=2))


def test_cam_layer() -> None:
    net = small()
    assert cam_layer(net, SCORE) == "relu2"
    assert cam_layer(net, obj.channel("conv2", 1)) == "relu1"
    assert netloupe.grad_cam(net, X, SCORE).shape == (3, 20, 20)
    assert netloupe.grad_cam(net, X, SCORE, layer="conv1", upsample=False).shape == (3, 20, 20)
    assert float(netloupe.grad_cam(net, X, SCORE).min()) >= 0


def test_energy_of_one_neuron_starts_from_its_value() -> None:
    net = small()
    value = net.activations(X, ["conv2"])["conv2"][:, 3, 1, 2].view(-1, 1, 1, 1)
    ones = netloupe.gradient(net, X, obj.neuron("conv2", 3, 1, 2))
    torch.testing.assert_close(netloupe.gradient(net, X, obj.energy("conv2", 3, 1, 2)), value * ones)
    whole = netloupe.gradient(net, X, obj.energy("conv2"))
    parts = sum(netloupe.gradient(net, X, obj.energy("conv2", c)) for c in range(8))
    torch.testing.assert_close(whole, parts)
    assert whole.abs().max() > 0


@pytest.mark.parametrize("rule", ["plain", "guided", "deconvnet"])
def test_module_function_and_reuse_agree(rule: Any) -> None:
    """The same computation written in three ways."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 4, 3).double()
    relu = nn.ReLU(inplace=True)
    ways = [
        lambda x, a, b: F.relu(b(F.relu(a(x)))).mean((2, 3)),
        lambda x, a, b: b(a(x).relu_()).relu().mean((2, 3)),
        lambda x, a, b: relu(b(relu(a(x)))).mean((2, 3)),
    ]
    nets = [Network(Fn(way, a=first, b=second), InputSpec((20, 20))) for way in ways]
    found = [netloupe.gradient(net, X, obj.logit(1), rule=rule) for net in nets]
    assert found[0].abs().max() > 0
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_nothing_is_left_behind() -> None:
    net = small()
    before = net.fingerprint()
    for way in OURS.values():
        way(net)
    with pytest.raises(NetloupeError):
        netloupe.grad_cam(net, X, "conv2:99")
    assert net.fingerprint() == before
    assert net.module.training
    assert all(not m._forward_hooks and not m._backward_hooks for m in net.module.modules())
    assert all(p.grad is None for p in net.module.parameters())


def smooth() -> Network:
    return Network(Fn(lambda x, c: F.silu(c(x)).mean((2, 3)), c=nn.Conv2d(3, 4, 3)), InputSpec((20, 20)))


CONSTANT = Network(Fn(lambda x: torch.ones(len(x), 4)), InputSpec((20, 20)))
BROKEN = Network(Fn(lambda x: x.mean((2, 3)) * torch.tensor([1.0, torch.nan, 1.0])), InputSpec((20, 20)))


def test_a_rule_says_on_what_it_acts() -> None:
    torch.manual_seed(0)
    parts = {"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(8, 8, 3), "c": nn.Linear(8, 5)}
    both = Network(Fn(lambda x, a, b, c: c(F.silu(b(F.relu(a(x)))).mean((2, 3))), **parts), InputSpec((20, 20)))
    with pytest.warns(NetloupeWarning, match=r"'guided' acts on 1 of 2 nonlinearities \(not on silu\) in Fn"):
        netloupe.gradient(both, IMAGES, obj.logit(1), "guided")
    assert acted_on(both, IMAGES, obj.logit(1), "deconvnet") == "acts on 1 of 2 nonlinearities (not on silu)"
    assert acted_on(both, IMAGES, obj.logit(1), "plain") == ""
    with pytest.raises(NetworkError, match=r"finds no ReLU .*acts on 0 of 1 nonlinearities \(not on silu\)"):
        netloupe.gradient(smooth(), IMAGES, obj.logit(1), "guided")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        netloupe.gradient(both, IMAGES, obj.logit(1))
    found = netloupe.explain(both, IMAGES[0], methods=["guided_backprop", "gradient"], steps=2)
    assert found["guided_backprop"].note == "acts on 1 of 2 nonlinearities (not on silu)"
    assert found["gradient"].note == ""
    assert "Guided backprop acts on 1 of 2 nonlinearities (not on silu)." in found.documents()["explain.html"]
    assert found.task is not None
    assert "guided_backprop acts on 1 of 2" in found.task.words(found.summary())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: netloupe.gradient(smooth(), IMAGES, obj.logit(1), "guided"), "rule 'guided' finds no ReLU"),
        (lambda: netloupe.gradient(CONSTANT, IMAGES, obj.logit(1)), "does not depend on the image"),
        (lambda: netloupe.gradient(BROKEN, IMAGES, obj.logit(1)), "is nan"),
        (lambda: netloupe.gradient(smooth(), IMAGES, obj.logit(9)), "no class 9"),
        (lambda: netloupe.gradient(smooth(), IMAGES, "cc:1"), "no layer 'cc'; did you mean 'c'"),
        (lambda: netloupe.gradient(smooth(), IMAGES, 3), "objective 3"),
        (lambda: netloupe.gradient(smooth(), IMAGES * 255, obj.logit(1)), "normalization happens inside"),
        (lambda: netloupe.gradient(smooth(), IMAGES[:, :1], obj.logit(1)), "accepted: \\(N, 3, H, W\\)"),
        (lambda: netloupe.smooth_grad(smooth(), IMAGES, obj.logit(1), samples=0), "samples 0 "),
        (lambda: netloupe.integrated_gradients(smooth(), IMAGES, obj.logit(1), steps=0), "steps 0 "),
        (lambda: netloupe.integrated_gradients(smooth(), IMAGES, obj.logit(1), "maen"), "no baseline 'maen'"),
        (
            lambda: netloupe.integrated_gradients(smooth(), IMAGES, obj.logit(1), [0.0, 1.0]),
            "a baseline of shape \\(2,\\)",
        ),
        (lambda: netloupe.integrated_gradients(smooth(), IMAGES, obj.logit(1), 7.0), "accepted: \\[0, 1\\]"),
        (lambda: netloupe.grad_cam(small(), X, SCORE, layer="fc"), "has no positions"),
        (
            lambda: netloupe.grad_cam(small(), X, obj.channel("conv1", 1), layer="conv2"),
            "does not depend on layer 'conv2'",
        ),
        (lambda: netloupe.grad_cam(small(), X, obj.channel("conv1", 1)), "no layer with positions before"),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(NetloupeError, match=message):
        call()

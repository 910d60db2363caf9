"""Network: any module, read at any layer, and left as it was."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_helpers import Branches, Dense, Fn, Gate, Residual, Reused, Shuffle, conv, held_in_circles, run_to
from netloupe.core import objectives as obj
from netloupe.core.errors import NetloupeError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS


def build(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    return classifier(*BODIES[name]())


def classifier(*body: nn.Module, of: int = 3, classes: int = 5) -> nn.Sequential:
    """(N, of, H, W) -> (N, classes): four channels at 'stem', the parts of 'body', pooling, 'fc'."""
    torch.manual_seed(1)
    module = nn.Sequential()
    module.add_module("stem", conv(4, of=of, padding=1))
    module.add_module("body", nn.Sequential(*body))
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.LazyLinear(classes))
    module(torch.rand(2, of, 24, 24))
    return module.train()


BODIES: dict[str, Callable[[], list[nn.Module]]] = {
    "module relu": lambda: [conv(), nn.ReLU()],
    "in-place relu": lambda: [conv(), nn.ReLU(inplace=True)],
    "functional relu": lambda: [Fn(lambda x, part: F.relu(part(x)), part=conv())],
    "batch norm": lambda: [conv(), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True)],
    "residual": lambda: [Residual(conv(padding=1), nn.BatchNorm2d(4))],
    "dense": lambda: [Dense()],
    "branches": lambda: [Branches()],
    "gate": lambda: [Gate()],
    "shuffle": lambda: [Shuffle()],
    "reused": lambda: [Reused()],
    "nothing": lambda: [nn.Identity()],
}


def same(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert b.abs().sum() > 0
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [(24, 24), (13, 18)])
def test_logits_and_layers_are_the_modules_own(name: str, size: tuple[int, int]) -> None:
    module = build(name)
    spec = InputSpec(size=size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    net, images = Network(module, spec), torch.rand(3, 3, *size)
    pixels = (images - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    twin = copy.deepcopy(module).eval()
    with torch.no_grad():
        same(net(images), twin(pixels))
    found = net.activations(images, net.layers)
    assert list(found) == list(net.layers)
    for layer in net.layers:
        if "~" not in layer and layer != "body.0.part":
            same(found[layer], run_to(copy.deepcopy(module), layer, pixels))
            assert found[layer].shape[1:] == net.layers[layer].shape
    for i in range(3):  # a batch of N is N single images
        alone = net.activations(images[i : i + 1], ["body", LOGITS])
        same(alone["body"], found["body"][i : i + 1])
    assert list(net.activations(images, ["fc", "stem"])) == ["fc", "stem"]


def test_module_functional_and_in_place_relu_agree() -> None:
    names = ["module relu", "in-place relu", "functional relu"]
    modules = [build(name) for name in names]
    nets = [Network(module, InputSpec(size=16)) for module in modules]
    images = torch.rand(2, 3, 16, 16)
    kinds = ["body.0", "body.0", "body.0.part"]
    before = [net.activations(images, [kind])[kind] for net, kind in zip(nets, kinds, strict=True)]
    assert (before[0] < 0).any()
    for net, reading in zip(nets[1:], before[1:], strict=True):
        same(reading, before[0])
        same(net(images), nets[0](images))
        same(net.read(images, obj.energy("body")), nets[0].read(images, obj.energy("body")))
    assert [net.layers[kind].overwritten for net, kind in zip(nets, kinds, strict=True)] == [False, True, False]
    assert [net.layers["body.1"].overwritten for net in nets[:2]] == [False, False]


def test_layers_describe_themselves() -> None:
    net = Network(classifier(Reused(), nn.BatchNorm2d(4)), InputSpec(size=(12, 10)))
    layers = net.layers
    assert list(layers) == ["stem", "body.0.part", "body.0.part~2", "body.0", "body.1", "body", "pool", "flat", "fc"]
    assert (layers["stem"].kind, layers["stem"].shape, layers["fc"].shape) == ("Conv2d", (4, 12, 10), (5,))
    counts = {"stem": 4 * 3 * 9 + 4, "body.0.part": 148, "body.0.part~2": 148, "body.0": 148, "body": 156, "pool": 0}
    assert {name: layers[name].parameters for name in counts} == counts
    assert (layers["body"].same_as, layers["body.0"].same_as, layers["body.1"].same_as) == (
        "body.1",
        "body.0.part~2",
        None,
    )
    assert (layers["pool"].spatial, layers["fc"].spatial, layers["fc"].channels) == (True, False, 5)
    images = torch.rand(2, 3, 12, 10)
    first, second = net.activations(images, ["body.0.part", "body.0.part~2"]).values()
    same(net.activations(images, ["body.0.part~2"])["body.0.part~2"], second)
    assert not torch.equal(first, second)
    same(net.module.get_submodule("body.0.part")(first.relu()), second)


def test_shared_parameters_count_once() -> None:
    part = conv(padding=1)
    assert Network(classifier(part, nn.ReLU(), part), InputSpec(size=12)).layers["body"].parameters == 148


class Deep(nn.Module):
    """Notes which parts ran."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(conv(4, of=3 if i == 0 else 4, padding=1) for i in range(4))
        self.ran: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        for i, part in enumerate(self.parts):
            try:
                x = part(x)
            except Exception:  # swallows what it can
                x = torch.zeros(1)
            self.ran.append(i)
        return x.mean((2, 3))


@pytest.mark.parametrize(("layers", "ran"), [(["parts.0"], 0), (["parts.2", "parts.1"], 2), (["parts.0", ""], 4)])
def test_a_pass_stops_after_the_deepest_layer(layers: list[str], ran: int) -> None:
    net = Network(Deep(), InputSpec(size=9))
    assert net.layers
    net.module.ran.clear()
    net.activations(torch.rand(1, 3, 9, 9), layers)
    assert net.module.ran == list(range(ran))


def test_readers_errors_come_out_as_they_are() -> None:
    net = Network(Deep(), InputSpec(size=9))

    def reader(_: Tensor) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        net.run(torch.rand(1, 3, 9, 9), {"parts.1": reader})


@pytest.mark.parametrize("layers", [["parts.1"], ["parts.2", "parts.1"], [""]])
def test_a_pass_leaves_nothing_to_the_garbage_collector(layers: list[str]) -> None:
    """Which comes after so many objects that outputs of many passes would be held until then."""
    net, x = Network(Deep(), InputSpec(size=9)), torch.rand(1, 3, 9, 9)
    assert "Tensor" not in held_in_circles(lambda: net.activations(x, layers))
    assert "Tensor" in held_in_circles(lambda: (circle := [x.clone()]).append(circle)), "it finds circles"


class Sometimes(nn.Module):
    """Calls `extra` only for dark images; fails on pure white ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.extra, self.norm = conv(4, of=3), conv(), nn.BatchNorm2d(4, momentum=None)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        y = F.dropout(self.norm(self.first(x)), training=True)
        if x.mean() < 0.6:
            y = self.extra(y)
        assert x.min() < 1, "too bright"
        return y.mean((2, 3))


def state_of(module: nn.Module) -> tuple[Any, ...]:
    values = {name: value.clone() for name, value in module.state_dict().items()}
    grads = [(p.grad, p.requires_grad) for p in module.parameters()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules())
    modes = [m.training for m in module.modules()]
    return values, grads, hooks, modes, torch.get_rng_state()


@pytest.mark.parametrize(
    "action",
    [
        lambda net: net.layers,
        lambda net: net(torch.full((2, 3, 12, 12), 0.2)),
        lambda net: net.activations(torch.full((2, 3, 12, 12), 0.2), ["first", "extra"]),
        lambda net: net.read(torch.full((2, 3, 12, 12), 0.2).requires_grad_(), obj.energy("norm")).sum().backward(),
        lambda net: net(torch.ones(1, 3, 12, 12)),
        lambda net: net.activations(torch.full((1, 3, 12, 12), 0.9), ["extra"]),
        lambda net: net(torch.ones(1, 3, 1, 1)),
        lambda net: net.activations(torch.zeros(1, 3, 12, 12), ["nowhere"]),
    ],
)
def test_nothing_is_changed(action: Callable[[Network], Any]) -> None:
    module = Sometimes().train()
    module.extra.eval().requires_grad_(False)
    module.norm.requires_grad_(False)
    module.first.requires_grad_(False)
    module.first.register_forward_hook(lambda *_: None)
    net = Network(module, InputSpec(size=12))
    values, grads, hooks, modes, random = state_of(module)
    try:
        action(net)
    except NetloupeError:
        pass
    after = state_of(module)
    assert all(torch.equal(values[name], after[0][name]) for name in values)
    assert (grads, hooks, modes) == after[1:4]
    assert torch.equal(random, after[4])


def test_a_layer_that_is_not_reached_is_an_error() -> None:
    net = Network(Sometimes(), InputSpec(size=12))
    bright = torch.full((1, 3, 12, 12), 0.9)
    for call in (lambda: net.activations(bright, ["first", "extra"]), lambda: net.read(bright, obj.energy("extra"))):
        with pytest.raises(NetworkError, match="did not reach layer 'extra'"):
            call()
    with pytest.raises(NetworkError, match=r"Sometimes failed on input of shape \(1, 3, 12, 12\): too bright"):
        net(torch.ones(1, 3, 12, 12))


@dataclass
class Answer:
    aux: Tensor
    scores: Tensor


Pair = namedtuple("Pair", "aux scores")
SHAPES: list[tuple[Callable[[Tensor], Any], Any]] = [
    (lambda x: x, None),
    (lambda x: {"aux": x[:, :1], "scores": x}, "scores"),
    (lambda x: (x[:, :1], x), 1),
    (lambda x: [x], None),
    (lambda x: [x[:, :1], x], 1),
    (lambda x: Pair(x[:, :1], x), "scores"),
    (lambda x: Pair(x[:, :1], x), 1),
    (lambda x: Answer(x[:, :1], x), "scores"),
    (lambda x: {"aux": x[:, :1], "logits": x}, None),
    (lambda x: {"scores": x}, None),
    (lambda x: (x[:, :1], x), lambda found: found[1]),
]


@pytest.mark.parametrize(("wrap", "output"), SHAPES)
def test_outputs_of_any_form(wrap: Callable[[Tensor], Any], output: Any) -> None:
    plain, images = classifier(), torch.rand(2, 3, 12, 12)
    net = Network(nn.Sequential(plain, Fn(wrap)), InputSpec(size=12), output=output)
    same(net(images), Network(plain, InputSpec(size=12))(images))
    if isinstance(output, str | int):
        with pytest.raises(NetworkError, match=r"name the entry: output=\.\.\."):
            Network(net.module, InputSpec(size=12))(images)
        with pytest.raises(UnknownName, match="no output 'logit'"):
            Network(net.module, InputSpec(size=12), output="logit")(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_types_and_channels(dtype: torch.dtype, channels: int) -> None:
    module = classifier(conv(), nn.ReLU(inplace=True), of=channels)
    images, spec = torch.rand(2, channels, 12, 12), InputSpec(size=12, channels=channels)
    expected = Network(module, spec)(images)
    net = Network(copy.deepcopy(module).to(dtype).requires_grad_(False), spec)
    read = torch.float64 if dtype == torch.float64 else torch.float32
    assert (net(images).dtype, net.dtype, net.activations(images, ["stem"])["stem"].dtype) == (read, dtype, read)
    torch.testing.assert_close(net(images).to(expected), expected, rtol=0.05, atol=0.02)
    x = images.clone().requires_grad_()
    net.read(x, obj.logit(1)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert len(net.fingerprint()) == 16


def test_a_module_without_parameters() -> None:
    net = Network(nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(1), nn.Flatten()), InputSpec(size=9))
    images = torch.rand(2, 3, 9, 9)
    same(net(images), F.avg_pool2d(images, 2).amax((2, 3)))
    assert (net.device.type, net.dtype, net.head.count) == ("cpu", torch.float32, 3)

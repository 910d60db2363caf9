"""Incremental passes give what full passes give, on graphs drawn at random and on the awkward ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core_helpers import Fn
from netloupe.analysis.occlusion import occlusion
from netloupe.analysis.windows import Sliding, Windows
from netloupe.core import objectives as obj
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS
from netloupe.core.trace import window_rules, winograd


class Gate(nn.Module):
    """Squeeze and excitation: the whole map changes wherever the window is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(x.mean((2, 3), keepdim=True)).sigmoid()


class Branches(nn.Module):
    """Two ways of different reach, added or put side by side."""

    def __init__(self, channels: int, kernel: int, join: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        other = self.conv(x).relu_()
        if self.join == "add":
            x = x.clone()
            x += other
            return x
        return torch.cat([x, other], 1)[:, :: 2 if self.join == "every other" else 1]


def noisy(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    return norm


@st.composite
def parts(draw: Any, channels: int) -> tuple[nn.Module, int]:
    """A layer and the number of channels it gives."""
    kind = draw(st.sampled_from(["conv", "max", "mean", "norm", "relu", "pad", "join", "gate", "enlarge", "scale"]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    half = draw(st.tuples(st.integers(0, kernel[0] // 2), st.integers(0, kernel[1] // 2)))
    flag = draw(st.booleans())
    if kind == "conv":
        groups = draw(st.sampled_from([1, 2]))
        dilation = draw(st.integers(1, 2))
        out = draw(st.sampled_from([2, 4]))
        return nn.Conv2d(channels, out, kernel, stride, half, dilation, groups, bias=flag), out
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, half, dilation=draw(st.integers(1, 2)), ceil_mode=flag), channels
    if kind == "mean":
        return nn.AvgPool2d(kernel, stride, half, ceil_mode=draw(st.booleans()), count_include_pad=flag), channels
    if kind == "norm":
        return noisy(nn.BatchNorm2d(channels)), channels
    if kind == "relu":
        return draw(
            st.sampled_from([nn.ReLU(flag), nn.ReLU6(flag), nn.SiLU(), nn.LeakyReLU(0.1), nn.Dropout()])
        ), channels
    if kind == "pad":
        sides = draw(st.tuples(*[st.integers(0, 2)] * 4))
        return Fn(lambda x: F.pad(x, sides, value=0.7)), channels
    if kind == "join":
        join = draw(st.sampled_from(["add", "side by side", "every other"]))
        part = Branches(channels, draw(st.sampled_from([1, 3])), join)
        return part, channels * 2 if join == "side by side" else channels
    if kind == "gate":
        return Gate(channels), channels
    if kind == "enlarge":
        return nn.Upsample(scale_factor=2, mode=draw(st.sampled_from(["nearest", "bilinear"]))), channels
    return Fn(lambda x: (1.5 * x - 0.1).add_(0.3)), channels


@st.composite
def networks(draw: Any) -> tuple[Network, str]:
    """A network of up to six drawn layers, in float64, and a layer of it to read."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    body, channels = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), 4
    for _ in range(draw(st.integers(1, 6))):
        part, channels = draw(parts(channels))
        body.append(part)
    head = draw(st.sampled_from(["pool", "flat"]))
    end = nn.LazyLinear(3)
    body.append(Fn(lambda x, e: e(x.mean((2, 3)) if head == "pool" else x.flatten(1)), end=end))
    size = draw(st.sampled_from([(24, 24), (17, 30)]))
    body.eval().double()(torch.zeros(1, 3, *size, dtype=torch.float64))
    return Network(body, InputSpec(size)), str(draw(st.integers(0, len(body) - 2)))


def scores(
    net: Network, image: Tensor, cover: Tensor, layer: str, windows: Windows, **options: Any
) -> dict[str, Tensor]:
    """What is read at every position, in order."""
    sliding = Sliding(net, image, cover, [layer, LOGITS], **options)
    assert (sliding.reason is None) == options.get("incremental", True), sliding.reason
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    with torch.no_grad():
        for places, reading in sliding.readings(*windows.spans):
            for i, place in enumerate(places):
                found[place] = {name: output[i] for name, output in reading.outputs.items()}
    assert len(found) == windows.grid[0] * windows.grid[1]
    return {name: torch.stack([found[place][name] for place in sorted(found)]) for name in (layer, LOGITS)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(drawn=st.data())
def test_what_full_passes_give(drawn: Any) -> None:
    net, layer = drawn.draw(networks())
    image, cover = torch.rand(2, 1, 3, *net.inputs.size, dtype=torch.float64)
    window = drawn.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    stride = drawn.draw(st.tuples(st.integers(1, window[0]), st.integers(1, window[1])))
    stride = max(stride[0], window[0] // 2), max(stride[1], window[1] // 2)
    windows = Windows(window, stride, net.inputs.size)
    found = scores(net, image, cover, layer, windows)
    full = scores(net, image, cover, layer, windows, incremental=False)
    for name in full:
        torch.testing.assert_close(found[name], full[name], rtol=1e-9, atol=1e-9)
    changed = full[layer] - net.activations(image, [layer])[layer]
    assert changed.isfinite().all()


def small(*layers: nn.Module, size: tuple[int, int] = (20, 20)) -> Network:
    torch.manual_seed(3)
    return Network(nn.Sequential(*layers).double(), InputSpec(size))


def reason(net: Network) -> str | None:
    image = torch.rand(1, 3, *net.inputs.size, dtype=torch.float64)
    return Sliding(net, image, torch.zeros_like(image), [LOGITS]).reason


HEAD = Fn(lambda x: x.mean((2, 3)))

PARTS = [
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d((2, 3), (2, 1), (1, 0), ceil_mode=True),
    nn.MaxPool2d(2, 2, dilation=2),
    nn.AvgPool2d(3, 2, 1),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AvgPool2d((3, 2), 2, ceil_mode=True),
    nn.AvgPool2d(2, divisor_override=3),
    nn.Conv2d(4, 4, 3, 2, 1, groups=4),
    nn.Conv2d(4, 6, (1, 5), (3, 2), (0, 2), bias=False),
    nn.Conv2d(4, 6, 3, dilation=2, padding="same"),
    nn.Conv2d(4, 6, 1, 2),
    nn.ConvTranspose2d(4, 4, 2, 2),
    nn.PReLU(4),
    nn.Hardswish(),
    nn.GroupNorm(2, 4),
    nn.LocalResponseNorm(3),
    nn.ZeroPad2d((1, 2, 0, 3)),
    nn.ReflectionPad2d(2),
    nn.AdaptiveAvgPool2d(5),
    nn.PixelShuffle(2),
    Fn(lambda x: torch.cat([y.square() for y in x.chunk(2, 1)], 1)),
    Fn(lambda x: F.pad(x, (0, 1, 0, 1), value=2.0)),
    Fn(lambda x: x * torch.linspace(0, 1, 18, dtype=x.dtype)),
    Fn(lambda x: x.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)),
]


@pytest.mark.parametrize("part", PARTS, ids=repr)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_each_operation(part: nn.Module, sign: float) -> None:
    """On maps of one sign, where what pads them matters."""
    torch.manual_seed(0)
    part = part.double() if isinstance(part, nn.Module) else part
    net = small(nn.Conv2d(3, 4, 3), Fn(lambda x: sign * (x.abs() + 0.1)), part, Fn(lambda x: x.flatten(1)[:, :999]))
    image, cover = torch.rand(2, 1, 3, 20, 20, dtype=torch.float64)
    windows = Windows((3, 4), (2, 3), (20, 20))
    found, full = (scores(net, image, cover, "1", windows, incremental=way)[LOGITS] for way in (True, False))
    assert full.std(0).max() > 1e-3
    torch.testing.assert_close(found, full, rtol=1e-9, atol=1e-9)


def test_only_a_window_of_the_first_maps_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = small(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), HEAD, size=(40, 40))
    sizes = []
    conv2d = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest: sizes.append(tuple(x.shape[2:])) or conv2d(x, *rest))
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    sliding = Sliding(net, image, torch.zeros_like(image), [LOGITS], trusted=True)
    sizes.clear()
    list(sliding.readings(*Windows((4, 4), (4, 4), (40, 40)).spans))
    assert set(sizes) == {(8, 8), (10, 10)}  # the window and what lies around it: 4 + 2 + 2, then 6 + 2 + 2


def test_the_approximate_mode_bounds_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [nn.Conv2d(3 if i == 0 else 4, 4, 5, padding=2) for i in range(5)]
    net = small(*layers, HEAD, size=(40, 40))
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64)
    cover = torch.zeros_like(image)
    windows = Windows((4, 4), (4, 4), (40, 40))
    full = scores(net, image, cover, "1", windows)
    near = scores(net, image, cover, "1", windows, growth=0.25)
    difference = (near[LOGITS] - full[LOGITS]).abs().max() / (full[LOGITS].max() - full[LOGITS].min())
    assert 1e-9 < difference < 1
    changed = (near["1"] - net.activations(image, ["1"])["1"]).abs().amax(1) > 1e-12
    assert changed.any(2).sum(1).max() <= 10
    assert changed.any(1).sum(1).max() <= 10


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean().item() > 0.5 else x


class Patching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, :, 3:5] = 0
        return y


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Deciding(), "depends on the values of pixels"),
        (Patching(), "written in place"),
        (nn.InstanceNorm2d(3), "does not give what the network gives"),
        (Fn(lambda x: x.flatten(2).transpose(1, 2) @ torch.ones(3, 3, dtype=x.dtype)), "can't be repeated"),
        (Fn(lambda x: x.flatten(0, 1).unflatten(0, (len(x), 3))), "can't be repeated on other values"),
        (Fn(lambda x: x + torch.rand_like(x)), "does not give what the network gives"),
    ],
)
def test_what_cannot_be_repeated_is_told_and_computed_in_full(part: nn.Module, why: str) -> None:
    found = reason(small(part, Fn(lambda x: x.flatten(2)[:, :, :9].mean(2))))
    assert found is not None
    assert why in found


def test_tap_before_an_operation_in_place() -> None:
    net = small(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), HEAD)
    image, cover = torch.rand(2, 1, 3, 20, 20, dtype=torch.float64)
    windows = Windows((5, 5), (5, 5), (20, 20))
    found, full = (scores(net, image, cover, "0", windows, incremental=way) for way in (True, False))
    torch.testing.assert_close(found["0"], full["0"], rtol=1e-9, atol=1e-9)
    assert (full["0"] < 0).any()


def test_the_network_is_left_as_it_was() -> None:
    net = small(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), HEAD)
    net.module.train()
    before = net.fingerprint()
    assert reason(net) is None
    assert net.fingerprint() == before
    assert net.module.training
    assert not net.module[0]._forward_hooks


@pytest.mark.parametrize("side", [(7, 12), (8, 9), (3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_is_the_sum_it_stands_for(side: tuple[int, int], bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pixels, weight = torch.randn(5, 24, *side), torch.randn(40, 24, 3, 3)
    added = torch.randn(40) if bias else None
    monkeypatch.setattr(winograd, "WORKING_SET", 2 * pixels[0].numel() * 4)  # five images in three parts
    found = winograd.winograd(pixels, winograd.transformed(weight), added)
    expected = F.conv2d(pixels.double(), weight.double(), None if added is None else added.double())
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_wide_convolutions_are_computed_by_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    whole = winograd.winograd
    monkeypatch.setattr(window_rules, "winograd", lambda *a: calls.append(a[0]) or whole(*a))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 512, 3, padding=1))
    net = Network(module, InputSpec((24, 24)))
    image = torch.rand(1, 3, 24, 24)
    options = {"window": 4, "stride": 4, "baseline": 0.0}
    exact = occlusion(net, image, obj.energy("2"), **options)
    assert calls
    assert exact.method == "incremental"
    full = occlusion(net, image, obj.energy("2"), **options, incremental=False)
    assert np.abs(exact.scores - full.scores).max() < 1e-5 * np.abs(full.scores).max()
    calls.clear()
    occlusion(net, image, obj.energy("0"), **options)
    assert not calls

"""Following a pass below Python: faults of rules come out, what can't be told is told, and nothing is held."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_helpers import Fn, conv, network
from netloupe.analysis.windows import Sliding
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.taps import LOGITS
from netloupe.core.trace import field_rules, window_rules
from netloupe.core.trace.after import Rest
from netloupe.core.trace.graph import Recorder
from netloupe.core.trace.mode import CantTell, Memory

FAULTS = [ValueError, LookupError, TypeError, RuntimeError, ZeroDivisionError]


def planted(fault: type[Exception]) -> Callable[..., Any]:
    def rule(_call: object) -> None:
        raise fault("planted")

    return rule


class Catching(nn.Module):
    """A network that takes every exception for one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(padding=1)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.conv(x)
        except Exception:
            return x


# --- faults of rules


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("part", [conv(padding=1), Catching()], ids=["plain", "catching"])
def test_a_fault_in_a_rule_of_fields_comes_out(
    part: nn.Module, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network(part).layers["a"].receptive_field.exact
    monkeypatch.setitem(field_rules._RULES, "convolution", planted(fault))
    net = network(part)
    with pytest.raises(fault, match="planted"):
        net.layers  # noqa: B018
    assert not any(module._forward_hooks for module in net.module.modules())
    monkeypatch.undo()
    assert net.layers["a"].receptive_field.exact


def test_a_rule_of_fields_that_cannot_tell_loses_track(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(field_rules._RULES, "convolution", planted(CantTell))
    assert not network(conv()).layers["a"].receptive_field.exact


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_rule_of_windows_comes_out(fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    net = network(conv(), nn.ReLU())
    image = torch.rand(1, 4, *net.inputs.size)
    assert Sliding(net, image, torch.zeros_like(image), [LOGITS]).reason is None
    monkeypatch.setitem(window_rules._RULES, "convolution", planted(fault))
    with pytest.raises(fault, match="planted"):
        Sliding(net, image, torch.zeros_like(image), [LOGITS])
    monkeypatch.setitem(window_rules._RULES, "convolution", planted(CantTell))
    assert Sliding(net, image, torch.zeros_like(image), [LOGITS]).reason is None  # by full maps


def test_a_fault_of_the_recorder_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "_step", lambda *_: planted(LookupError)(None))
    with pytest.raises(LookupError, match="planted"):
        Rest(network(conv(), nn.ReLU()), "a").record(torch.rand(2, 4, 23, 20))


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "numbers read as others": lambda x: x.view(torch.int32).view(torch.float32)[..., ::2],
    "half numbers": lambda x: x.view(torch.float16).float(),
    "no elements": lambda x: torch.cat([x, x[:, :0].reshape(1, 0, *x.shape[2:])], 1),
    "an empty vector beside": lambda x: torch.cat([torch.zeros(0), x], 2),
    "overwritten by constants": lambda x: x.clone().copy_(torch.ones(1)),
    "filtered by itself": lambda x: F.conv2d(x, x[:, :, :3, :3].expand(4, 4, 3, 3)),
    "weights of the image": lambda x: F.conv2d(torch.ones(1, 4, 9, 9), x[:, :, :3, :3].expand(4, 4, 3, 3)),
    "its own product": lambda x: x @ x.transpose(2, 3),
    "rolled": lambda x: x.roll((1, 2), (2, 3)),
    "rolled flat": lambda x: x.roll(3),
    "sum of a number": lambda x: x * x.sum().sum(0).softmax(-1),
    "by word": lambda x: F.conv2d(x, torch.ones(4, 4, 3, 3), padding="same"),
    "of two": lambda x: F.prelu(x, x.mean((0, 2, 3))),
    "scaled by itself": lambda x: F.group_norm(x, 2, x.mean((0, 2, 3))),
}


UNTOLD = ("half numbers", "overwritten by constants", "its own product", "rolled flat")
"""What gives four dimensions, of which it can't be told that they are those of a map."""


@pytest.mark.parametrize("name", ODD)
def test_odd_forms_lose_track_at_most(name: str) -> None:
    net = network(conv(), Fn(ODD[name]), nn.Identity())
    assert net.layers["a"].receptive_field.exact
    assert ("b" in net.layers) == (name not in UNTOLD)
    if name not in UNTOLD:
        assert net.layers["b"].receptive_field.size > (2, 2)


# --- memory


def test_an_address_is_never_taken_for_another_tensors() -> None:
    memory: Memory[int] = Memory()
    for i in range(200):
        tensor = torch.rand(1, 8, 16, 16)
        assert tensor not in memory
        memory.put(tensor, i)
        assert memory.get(tensor) == i
        assert memory.get(tensor[:, 1:]) is None
        assert tensor[:, 1:] in memory


def test_a_memory_holds_no_tensor() -> None:
    memory: Memory[None] = Memory()
    tensor = torch.rand(1000)
    alive = weakref.ref(tensor.untyped_storage())
    memory.put(tensor, None)
    del tensor
    gc.collect()
    assert alive() is None


def test_the_rest_of_a_chain_holds_nothing_of_the_images() -> None:
    net = network(conv(padding=1), nn.ReLU(True), conv(padding=1), nn.ReLU(True), conv(stride=2))
    rest = Rest(net, "b")
    rest.record(torch.rand(3, 4, 23, 20))
    assert rest.whole is None
    own = {parameter.data_ptr() for parameter in net.module.parameters()}
    assert rest._graph is not None
    held = [leaf for step in rest._graph.steps for leaf in step.arguments.values() if isinstance(leaf, Tensor)]
    assert held
    assert {tensor.data_ptr() for tensor in held} <= own
    assert not rest._graph.clean


# --- the rest after a layer


class Around(nn.Module):
    """The main way is computed first, then overwritten by the way around; what both read is overwritten last."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.around = conv(padding=1), conv(kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        main = self.main(x)
        around = self.around(x)
        main += around
        x = x.clone()
        product = around * x
        x.zero_()
        return torch.relu_(main) + product


class Handed(nn.Module):
    """A layer that hands on the very tensor that goes around it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :2], self.same(x)[:, 2:] + x[:, :2]], 1)


class Shape(nn.Module):
    """Masks that are made by the shape of a map and written part by part (Swin)."""

    def forward(self, x: Tensor) -> Tensor:
        mask = x.new_zeros(x.shape[2:])
        mask[1:3] = 2.0
        mask[3:, 1:] = torch.arange(1.0, x.shape[3])
        return x * mask + torch.rand_like(x)


class Windows(nn.Module):
    """Attention inside of windows, which go along with the images (Swin)."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.view(n, c, 2, h // 2, w).permute(0, 2, 3, 4, 1).reshape(n * 2, h // 2 * w, c)
        y = (y @ y.transpose(1, 2)).softmax(2) @ y
        return y.view(n, 2, h // 2, w, c).permute(0, 4, 1, 2, 3).reshape(n, c, h, w)


class Listing(nn.Module):
    """Decides by numbers that it reads behind the dispatcher's back."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2 if max(x.flatten().tolist()) > 1 else 1)


@pytest.mark.parametrize(
    ("part", "layer"),
    [
        (Around, "b.main"),
        (Around, "b.around"),
        (Handed, "b.same"),
        (Shape, "a"),
        (Shape, "b"),
        (Windows, "a"),
        (lambda: nn.Dropout(), "a"),
        (lambda: Fn(lambda x: F.dropout(x, 0.5, True)), "a"),
        (lambda: torch.jit.script(nn.Sequential(conv(padding=1), nn.ReLU(True))), "a"),
        (lambda: nn.BatchNorm2d(4), "b"),
        (lambda: nn.InstanceNorm2d(4), "a"),
        (lambda: Fn(lambda x: torch.where(x > 0.1, x, -x)), "a"),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_the_rest_gives_the_very_bits_of_whole_passes(part: Callable[[], nn.Module], layer: str, count: int) -> None:
    net = network(conv(padding=1), part(), conv(), size=(22, 20))
    images = torch.rand(count, 4, 22, 20)
    rest = Rest(net, layer)
    output, logits = rest.record(images)
    assert rest.whole is None
    with torch.no_grad():
        assert torch.equal(logits, net(images))
    for changed in (output.clone(), torch.randn(output.shape, generator=torch.Generator().manual_seed(1))):
        found: list[Tensor] = []
        with torch.no_grad():
            net.run(images, {layer: lambda _, now=changed: now.clone(), LOGITS: found.append})
        for _ in range(2):
            assert torch.equal(rest(changed.clone()), found[0])
    assert not torch.equal(found[0], logits)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (Listing(), "does not give the logits of the whole"),
        (Fn(lambda x: torch.zeros_like(x) + 1), "does not depend on it"),
        (Fn(lambda x: x if bool(x.sum() > 0) else -x), "depends on the values of pixels"),
        (Fn(lambda x: x[(x > 0).nonzero()[:, 0]]), "depends on the values of pixels"),
    ],
)
def test_what_cannot_be_repeated_runs_whole(part: nn.Module, why: str) -> None:
    net = network(Fn(lambda x: 4 * x), part, conv(), size=(9, 8))
    images = torch.rand(2, 4, 9, 8) / 4
    images[0, 0, 0, 0] = 0.4
    rest = Rest(net, "a")
    output, _ = rest.record(images)
    assert why in str(rest.whole)
    changed = output / 8
    found: list[Tensor] = []
    with torch.no_grad():
        net.run(images, {"a": lambda _: changed.clone(), LOGITS: found.append})
    assert torch.equal(rest(changed.clone()), found[0])
    assert torch.equal(rest.record(images.flip(0))[1], net(images.flip(0)))  # and goes on to


def test_a_network_that_refuses_other_values_runs_whole() -> None:
    def checked(x: Tensor) -> Tensor:
        if x.flatten().tolist()[0] < 0.4:
            raise ValueError("too small")
        return x

    net = Network(nn.Sequential(nn.Identity(), Fn(checked), nn.Flatten()), InputSpec((4, 4), 1))
    rest = Rest(net, "0")
    rest.record(torch.full((2, 1, 4, 4), 0.5))
    assert "can't be tried" in str(rest.whole)
    assert rest(torch.ones(2, 1, 4, 4)).sum() == 32

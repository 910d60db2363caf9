"""Questions about layers, on small networks whose answers can be read off their code; and numbers evenly apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from core_helpers import Fn, Residual, Reused, conv
from netloupe import objectives as obj
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.layers import Layers
from netloupe.core.network import Network
from netloupe.core.numbers import evenly, spread
from netloupe.core.units import Unit


def chain(size: Any = 12, **parts: nn.Module) -> Network:
    """The parts one after the other, by their names."""
    torch.manual_seed(0)
    body = nn.Sequential()
    for name, part in parts.items():
        body.add_module(name, part)
    return Network(body.eval(), InputSpec(size), name="chain")


class ByHand(nn.Module):
    """All but the weights by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = conv(4, of=3, padding=1), conv(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        return self.fc(F.relu_(self.second(x)).mean((2, 3))).log_softmax(1)


class Tokens(nn.Module):
    """A vision transformer of one block; `pooled`: a module takes the class token out, as (N, C)."""

    def __init__(self, *, pooled: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.places = nn.Parameter(torch.rand(1, 10, 8))
        self.mix = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Identity() if pooled else None
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        scores = x @ x.transpose(1, 2)
        x = x + self.mix(scores.softmax(2) @ x)
        x = self.norm(x)[:, 0]
        return self.head(x if self.drop is None else self.drop(x))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.AvgPool2d(12), nn.MaxPool2d(12)
        self.one, self.other = nn.Linear(3, 5), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.left(x).flatten(1)) + self.other(self.right(x).flatten(1))


def classic() -> Network:
    return chain(
        conv1=conv(4, of=3, padding=1),
        norm1=nn.BatchNorm2d(4),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        block=nn.Sequential(conv(6, padding=1), nn.ReLU()),
        mean=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        fc=nn.Linear(6, 5),
    )


def test_several_layers() -> None:
    layers = classic().layers
    assert list(layers) == ["conv1", "norm1", "relu1", "pool1", "block.0", "block.1", "block", "mean", "flat", "fc"]
    assert list(layers.maps()) == list(layers)[:7]
    assert list(layers.convolutions()) == ["conv1", "block.0"]
    assert list(layers.weighted()) == ["conv1", "block.0", "fc"]
    assert list(layers.rectifiers()) == ["relu1", "block.1"]
    assert list(layers.distinct()) == [name for name in layers if name not in ("block",)]
    assert [list(some) for some in layers.maps().by_size()] == [list(layers)[:3], list(layers)[3:7]]
    assert list(layers.before("pool1")) == ["conv1", "norm1", "relu1"]
    assert list(layers.through("pool1", "norm1")) == ["conv1", "norm1", "relu1", "pool1"]
    assert list(layers.before("pool1", "norm1")) == ["conv1"]
    assert list(layers.after("mean")) == ["flat", "fc"]
    assert list(layers.only(["fc", "relu1"])) == ["relu1", "fc"]
    assert layers.each(["fc", "relu1", "fc"]) == ["fc", "relu1"]
    assert list(layers.evenly(4)) == ["conv1", "pool1", "block", "fc"]
    assert list(layers.convolutions().before("block.1").evenly(1)) == ["conv1"]
    assert isinstance(layers.maps().before("fc"), Layers)
    with pytest.raises(UnknownName, match="no layer 'poll1'; did you mean 'pool1'"):
        layers.before("poll1")


def test_what_an_objective_reads_cuts_them() -> None:
    layers = classic().layers
    both = obj.channel("block.1", 2) + obj.energy("relu1")
    assert list(layers.before(both)) == ["conv1", "norm1"]
    assert list(layers.through(both)) == list(layers)[:6]
    assert list(layers.before(obj.logit(0))) == list(layers.through(obj.logit(0))) == list(layers)
    assert list(layers.through(obj.total_variation())) == []
    assert list(layers.before(obj.logit(0) + obj.energy("norm1"))) == ["conv1"]


def test_one_layer() -> None:
    layers = classic().layers
    assert layers.features().name == "flat"
    assert layers.last_map().name == "block.1"  # its container gives the same
    assert layers.first_features().name == "pool1"
    assert layers.before("fc").convolved().name == "block"
    assert layers.before("block").convolved().name == "block.1"
    assert layers.before("mean").last.name == "block"
    assert [layers.classifier()] == [layers["fc"]]
    assert list(layers.stage_ends()) == ["pool1", "block.1"]
    assert list(layers.stage_ends(1)) == ["pool1"]
    assert list(Network(TwoHeads(), InputSpec(12)).layers.stage_ends()) == ["left"]  # neither head is among them
    assert list(Network(Tokens(pooled=False), InputSpec(12)).layers.stage_ends()) == ["mix.0", "mix.2", "norm"]


def test_of_the_embedded_network() -> None:
    layers = netloupe.load().layers
    assert (layers.features().name, layers.last_map().name, layers.first_features().name) == ("mean", "relu7", "pool1")
    assert list(layers.stage_ends()) == ["pool1", "pool2", "relu3", "pool4", "relu5", "pool6", "relu7"]
    assert list(layers.convolutions()) == [f"conv{i}" for i in range(1, 8)]
    assert list(layers.weighted()) == [*layers.convolutions(), "fc"]
    assert list(layers.rectifiers()) == [f"relu{i}" for i in range(1, 8)]
    assert layers.convolved().name == "relu7"
    assert [(layers[name].is_map, layers[name].spatial) for name in ("conv2", "mean", "fc")] == [
        (True, True),
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("net", "features", "classifier"),
    [
        (Network(ByHand(), InputSpec(12)), "second", "fc"),  # what lies between is no module
        (chain(flat=nn.Flatten(), fc=nn.Linear(432, 5)), "flat", "fc"),  # no convolution
        (chain(flat=nn.Flatten(), one=nn.Linear(432, 7), act=nn.Tanh(), two=nn.Linear(7, 5)), "act", "two"),
        # as many features as classes, which counting would take for logits
        (chain(flat=nn.Flatten(), one=nn.Linear(432, 5), act=nn.ReLU(), two=nn.Linear(5, 5)), "act", "two"),
        # logits that are pooled (SqueezeNet)
        (
            chain(
                stem=conv(4, of=3),
                act=nn.ReLU(),
                drop=nn.Dropout(),
                tell=conv(5, 1),
                last=nn.ReLU(),
                mean=nn.AdaptiveAvgPool2d(1),
                flat=nn.Flatten(),
            ),
            "drop",
            "tell",
        ),
        # a block whose last rectifier is no module, and what follows it
        (
            chain(
                stem=conv(4, of=3, padding=1),
                block=Residual(conv(4, padding=1)),
                rest=Fn(lambda x: x.mean((2, 3))),
                fc=nn.Linear(4, 5),
            ),
            "rest",
            "fc",
        ),
        (
            chain(
                stem=conv(4, of=3, padding=1),
                twice=Reused(),
                head=Fn(lambda x, fc: fc(x.mean((2, 3))), fc=nn.Linear(4, 5)),
            ),
            "twice",
            "head.fc",
        ),
        (chain(size=12, stem=conv(8, 4, of=3, stride=4), tokens=nn.Flatten(), fc=nn.Linear(72, 5)), "tokens", "fc"),
        # tokens that a module averages to what is no layer, (N, C, 1), as Swin of transformers
        (
            chain(
                stem=conv(8, 4, of=3, stride=4),
                norm=Fn(lambda x, norm: norm(x.flatten(2).transpose(1, 2)), norm=nn.LayerNorm(8)),
                pool=Fn(lambda x, mean: mean(x.transpose(1, 2)), mean=nn.AdaptiveAvgPool1d(1)),
                head=Fn(lambda x, fc: fc(x.flatten(1)), fc=nn.Linear(8, 5)),
            ),
            "norm",
            "head.fc",
        ),
        (Network(Tokens(pooled=True), InputSpec(12)), "drop", "head"),
        (Network(Tokens(pooled=False), InputSpec(12)), "norm@cls", "head"),
    ],
)
def test_features_are_what_the_last_weights_read(net: Network, features: str, classifier: str) -> None:
    assert net.layers.features().name == features
    assert [net.layers.classifier()] == [net.layers[classifier]]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Network(TwoHeads(), InputSpec(12)), r"from several layers \(left, right\)"),
        (chain(fc=Fn(lambda x, fc: fc(x.flatten(1)), fc=nn.Linear(432, 5))), "has no layer before its logits"),
        (chain(maps=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()), "has no layer before its logits"),
        (chain(out=Fn(lambda x: {"a": x})), "has no layer before its logits"),
        (
            chain(
                lines=Fn(lambda x, fc: fc(x.flatten(2)), fc=nn.Linear(144, 7)),
                head=Fn(lambda x, fc: fc(x.flatten(1)), fc=nn.Linear(21, 5)),
            ),
            "'lines', which is no layer",
        ),
    ],
)
def test_features_that_can_not_be_told(net: Network, message: str) -> None:
    with pytest.raises(InputError, match=message + ".*; name a layer"):
        net.layers.features()


def test_the_last_map_of_several_answers_lies_before_them_all() -> None:
    two = Fn(
        lambda x, left, right, one, other: one(left(x).flatten(1)) + other(right(x).flatten(1)),
        left=nn.AvgPool2d(12),
        right=nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(6)),  # a map within, which one answer alone is computed from
        one=nn.Linear(4, 5),
        other=nn.Linear(4, 5),
    )
    assert chain(stem=conv(4, of=3, padding=1), act=nn.ReLU(), heads=two).layers.last_map().name == "act"
    unknown = chain(stem=conv(4, of=3, padding=1), act=nn.ReLU(), out=Fn(lambda x: {"a": x, "b": x.mean((2, 3))}))
    assert unknown.layers.last_map().name == "act"


def test_without_classes_the_features_are_what_the_network_gives() -> None:
    body = chain(stem=conv(4, of=3, padding=1), mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()).module
    assert Network(body, InputSpec(12), head="none").layers.features().name == "flat"
    assert Network(body, InputSpec(12)).layers.features().name == "stem", "a map of classes that is averaged"
    maps = chain(stem=conv(4, of=3, padding=1), act=nn.ReLU()).module
    assert Network(maps, InputSpec(12), head="none").layers.features().name == "act"
    assert Network(maps, InputSpec(12)).layers.features().name == "stem", "a map of classes"


def test_a_transformer_never_hands_over_its_patches() -> None:
    """Nor anything else that its classifier does not read: a change of the features is a change of the logits."""
    images = torch.rand(3, 3, 12, 12)
    for pooled, name in ((True, "drop"), (False, "norm@cls")):
        net = Network(Tokens(pooled=pooled), InputSpec(12))
        features = net.activations(images, [net.layers.features().name])[name]
        assert features.shape == (3, 8)
        torch.testing.assert_close(net.module.head(features), net(images))  # type: ignore[operator]


def test_logits_follow_from_the_features() -> None:
    """Putting other features in their place gives other logits, whatever the image: nothing passes them by."""
    tokens = [Network(Tokens(pooled=pooled), InputSpec(12)) for pooled in (True, False)]
    for net in (classic(), Network(ByHand(), InputSpec(12)), *tokens):
        name = net.layers.features().name
        one, other = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12)
        kept: list[Tensor] = []
        net.run(one, {name: lambda x, kept=kept: kept.append(x.clone())})  # type: ignore[misc]
        logits: list[Tensor] = []
        net.run(other, {name: lambda _, kept=kept: kept[0], "": logits.append})  # type: ignore[misc]
        assert not torch.allclose(net(one), net(other))
        torch.testing.assert_close(logits[0], net(one))


def test_reused_modules_count_by_call() -> None:
    layers = chain(stem=conv(4, of=3, padding=1), twice=Reused(), flat=nn.Flatten(), fc=nn.Linear(576, 5)).layers
    assert list(layers.convolutions()) == ["stem", "twice.part", "twice.part~2"]
    assert list(layers.convolutions().once()) == ["stem", "twice.part"]
    assert (layers["twice.part~2"].path, layers["twice.part~2"].call) == ("twice.part", 2)
    assert layers["twice.part"].module is layers["twice.part~2"].module


def test_layers_know_their_modules_after_a_change_of_network() -> None:
    net = classic()
    assert net.layers["conv1"].module is net.module.get_submodule("conv1")
    other = net.with_module(classic().module, "other")
    assert other.layers["block.0"].module is other.module.get_submodule("block.0")
    assert net.layers["block.0"].module is net.module.get_submodule("block.0")
    assert other.layers.features().name == "flat"
    assert other.layers["block.0"] == net.layers["block.0"]


def test_a_channel_that_is_there() -> None:
    layers = classic().layers
    assert Unit.parse("conv1:3").channel_of(layers) == ("conv1", 3)
    with pytest.raises(UnknownName, match=r"no channel 4 in layer 'conv1' \(accepted: 0 to 3\)"):
        Unit.parse("conv1:4").channel_of(layers)
    with pytest.raises(UnknownName, match="did you mean 'conv1'"):
        Unit.parse("conv2:4").channel_of(layers)
    for text in ("conv1", "conv1:2@0,0", "class:a"):
        with pytest.raises(InputError, match=f"'{text}' is no channel"):
            Unit.parse(text).channel_of(layers)


def test_spread_is_what_numpy_gives() -> None:
    for count in range(1, 60):
        for most in (1, 2, 3, 5, 8, 12, 24):
            places = np.linspace(0, count - 1, min(most, count))
            assert spread(0, count - 1, most) == places.round().astype(int).tolist()
            assert spread(0, count - 1, most, down=True) == places.astype(int).tolist()
            assert spread(count, 1, most) == np.linspace(count, 1, min(most, count)).round().astype(int).tolist()
    assert spread(0, 294, 256, down=True) == np.linspace(0, 294, 256).astype(int).tolist()
    assert spread(0, 5, 0) == []
    assert evenly("abcdefg", 3) == ["a", "d", "g"]
    assert evenly([], 3) == evenly([1], 0) == []


@pytest.mark.parametrize(
    ("cell", "position", "box"),
    [(2, (2, 2), (2, 2, 8, 8)), (2, (0, 5), (0, 6, 6, 12)), (4, (0, 2), (0, 8, 4, 12)), (6, (1, 0), (6, 0, 12, 6))],
)
def test_the_patch_of_what_sees_all_is_where_it_stands(cell: int, position: Any, box: Any) -> None:
    """With a cell around, but of a map that this would cover."""
    layer = chain(pool=nn.AvgPool2d(cell), mixed=Fn(lambda x: x + x.mean((2, 3), keepdim=True))).layers["mixed"]
    assert layer.sees_all
    assert layer.patch(*position, (12, 12)) == box

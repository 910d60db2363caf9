"""Layers whose outputs lie otherwise than (N, C, H, W): found by following a pass, and maps to everything above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from core_helpers import Fn, run_to
from netloupe import InputSpec, Network
from netloupe import objectives as obj
from netloupe.analysis.gradients import cam_layer
from netloupe.core.errors import InputError, NetloupeError, UnknownName
from netloupe.core.layout import CHANNELS_LAST, MAPS, VECTORS, Tokens, parse, stated
from netloupe.core.trace.after import Rest
from netloupe.core.units import Unit

SIDE = 24


class Pointwise(nn.Module):
    """A matrix over channels, of a map that lies in one of three forms."""

    def __init__(self, form: str, before: int, after: int) -> None:
        super().__init__()
        self.form = form
        self.weight, self.bias = nn.Parameter(torch.empty(after, before)), nn.Parameter(torch.empty(after))

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "first":
            return F.conv2d(x, self.weight[:, :, None, None], self.bias)
        return F.linear(x, self.weight, self.bias)


class Forms(nn.Module):
    """A patch stem, two layers over channels with a residual sum, a mean: maps first, channels last, or as tokens."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.up, self.act, self.down = Pointwise(form, 8, 12), nn.ReLU(), Pointwise(form, 12, 8)
        self.sum = nn.Identity()
        self.head = nn.Linear(8, 5)
        self.cls = nn.Parameter(torch.empty(1, 2, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x.permute(0, 2, 3, 1) if self.form == "last" else x
        x = x.flatten(2).transpose(1, 2) if self.form == "tokens" else x
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) if self.form == "tokens" else x
        x = self.sum(x + self.down(self.act(self.up(x))))
        if self.form == "first":
            return self.head(x.mean((2, 3)))
        return self.head(x.mean((1, 2)) if self.form == "last" else x[:, 2:].mean(1))


def filled(module: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / max(1, parameter[0].numel()) ** 0.5)
    return module.eval()


def form(name: str) -> Network:
    return Network(filled(Forms(name)), InputSpec(SIDE))


LAYERS = ("up", "act", "down", "sum")
FIRST, OTHERS = form("first"), {name: form(name) for name in ("last", "tokens")}
IMAGES = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


TEXTS = ("nchw", "nhwc", "vectors", "tokens:prefix=5,grid=16x12", "tokens:prefix=0,grid=3x3,suffix=2,order=tnc")
BAD = ("", "nwhc", "tokens", "tokens:prefix=5", "tokens:grid=4", "tokens:prefix=x,grid=2x2", "tokens:grid=0x2")


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_layouts_read_back(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", [*BAD, "tokens:grid=2x2,order=cnt"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="accepted: nchw, nhwc"):
        parse(text)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (MAPS, (2, 5, 3, 4)),
        (VECTORS, (2, 5)),
        (CHANNELS_LAST, (2, 3, 4, 5)),
        (Tokens(2, (3, 4)), (2, 14, 5)),
        (Tokens(1, (3, 4), 2, "tnc"), (15, 2, 5)),
        (Tokens(0, (3, 4), order="nct"), (2, 5, 12)),
    ],
)
def test_a_map_is_a_view_and_goes_back(layout: Any, shape: tuple[int, ...]) -> None:
    output = torch.rand(shape)
    maps = layout.to_map(output)
    assert maps.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
    assert maps.shape == (2, 5) if layout == VECTORS else maps.shape == (2, 5, 3, 4)
    assert torch.equal(layout.to_output(maps, output), output)
    changed = layout.to_output(maps + 1, output)
    assert torch.equal(layout.to_map(changed), maps + 1)
    assert int((changed == output).sum()) == output.numel() - maps.numel()


# --- what lies otherwise gives the same


@pytest.mark.parametrize("other", OTHERS)
def test_layers_are_the_same(other: str) -> None:
    net = OTHERS[other]
    layout = {"last": "nhwc", "tokens": "tokens:prefix=2,grid=6x6"}[other]
    for name in LAYERS:
        assert net.layers[name].shape == FIRST.layers[name].shape
        assert (str(FIRST.layers[name].layout), str(net.layers[name].layout)) == ("nchw", layout)
        field, expected = net.layers[name].receptive_field, FIRST.layers[name].receptive_field
        assert (field.exact, field.size, field.stride) == (True, expected.size, expected.stride)
        assert net.layers[name].place(1, 2) == field.box(1, 2, (SIDE, SIDE)) == (4, 8, 8, 12)
    found, expected_maps = net.activations(IMAGES, LAYERS), FIRST.activations(IMAGES, LAYERS)
    for name in LAYERS:
        torch.testing.assert_close(found[name], expected_maps[name])
        raw = run_to(net.module, name, net.inputs.normalize(IMAGES))
        assert torch.equal(found[name], net.layers[name].layout.to_map(raw))


VERBS: dict[str, Callable[[Network], Any]] = {
    "gradient": lambda net: netloupe.gradient(net, IMAGES, obj.channel("act", 3)),
    "gradient of a neuron": lambda net: netloupe.gradient(net, IMAGES, obj.neuron("sum", 3, 1, 2)),
    "guided": lambda net: netloupe.gradient(net, IMAGES, obj.neuron("sum", 3, 1, 2), rule="guided"),
    "grad_cam": lambda net: netloupe.grad_cam(net, IMAGES, obj.logit(4), layer="sum"),
    "occlusion": lambda net: netloupe.occlusion(net, IMAGES[:2], obj.unit("act:4"), window=8, stride=8).scores,
    "logits": lambda net: netloupe.occlusion(net, IMAGES[:2], obj.logit(2), window=8, stride=8).scores,
    "patches": lambda net: netloupe.top_patches(net, IMAGES, layers=["act"], k=2)["act"].values,
    "places": lambda net: netloupe.top_patches(net, IMAGES, layers=["act"], k=2)["act"].positions,
    "visualize": lambda net: netloupe.visualize(net, obj.channel("down", 3), preset="none", steps=3).images,
    "invert": lambda net: netloupe.invert(net, IMAGES[:1], "act", steps=3).images,
    "dream": lambda net: netloupe.dream(net, IMAGES[:1], "act", steps=2, octaves=1).images,
    "gram": lambda net: obj.match_gram("act", torch.eye(12)).score(net.reading(IMAGES, ["act"])),
    "direction": lambda net: net.read(IMAGES, obj.direction("act", torch.arange(12.0))),
    "energy": lambda net: net.read(IMAGES, obj.energy("act")),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_gives_the_same(verb: str, other: str) -> None:
    expected, found = (torch.as_tensor(VERBS[verb](net)).double() for net in (FIRST, OTHERS[other]))
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_written_into_a_layer_is_the_same(other: str) -> None:
    def halved(net: Network) -> tuple[Tensor, Tensor]:
        rest = Rest(net, "act")
        output, _ = rest.record(IMAGES)
        assert rest.whole is None
        changed = output.clone()
        changed[:, 5, 2:] = 0
        return output, rest(changed)

    for one, expected in zip(halved(OTHERS[other]), halved(FIRST), strict=True):
        torch.testing.assert_close(one, expected)


# --- tokens that stand nowhere


def test_tokens_outside_of_the_grid_are_layers() -> None:
    net = OTHERS["tokens"]
    raw = run_to(net.module, "down", net.inputs.normalize(IMAGES))
    found = net.activations(IMAGES, ["down", "down@cls", "down@reg0"])
    assert torch.equal(found["down@cls"], raw[:, 0])
    assert torch.equal(found["down@reg0"], raw[:, 1])
    assert net.layers["down@cls"].shape == (8,)
    assert net.layers["down@token1"].name == "down@reg0"
    assert "down@cls" not in list(net.layers)
    assert str(Unit.parse("down:3@cls")) == "down:3@cls"
    assert torch.equal(net.read(IMAGES, obj.unit("down:3@reg0")), raw[:, 1, 3])
    assert str(obj.unit("down:3@reg0")) == "channel(down@reg0, 3)"
    for wrong in ("down@reg1", "down@token2", "down@register", "stem@cls", "nothing@cls"):
        with pytest.raises(UnknownName):
            net.layer(wrong)


def test_a_token_is_written_back_where_it_was() -> None:
    net = OTHERS["tokens"]
    after: list[Tensor] = []
    net.run(IMAGES, {"up": lambda x: x * 0, "up@cls": lambda x: x + 1, "act": lambda x: after.append(x.clone())})
    assert not after[0].any()
    raw = run_to(net.module, "up", net.inputs.normalize(IMAGES))
    seen: list[Tensor] = []
    readers = dict.fromkeys(("act@cls", "act@reg0"), lambda x: seen.append(x.clone()))
    net.run(IMAGES, {"up@cls": lambda x: x + 1, **readers})
    torch.testing.assert_close(seen[0], F.relu(raw[:, 0] + 1))
    torch.testing.assert_close(seen[1], F.relu(raw[:, 1]))


# --- what can't be told


def test_what_can_not_be_told_is_no_layer_and_says_what_it_gives() -> None:
    mixed = Fn(lambda x: x.flatten(2).transpose(1, 2)[:, torch.tensor([3, 1, 2, 0, 4])])
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 4, 4), mixed, Fn(lambda x: x.mean(1))), InputSpec(SIDE))
    assert list(net.layers) == ["0", "2"]
    with pytest.raises(UnknownName, match=r"'1' is no layer: it gives \(1, 5, 4\) for one image.*--layout '1=LAYOUT'"):
        net.layer("1")


def test_a_layout_can_be_stated() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 4, 4), Fn(lambda x: x.flatten(2).transpose(1, 2)[:, :5]))
    named = Network(module, InputSpec(SIDE), head="none", layouts=stated(["1=tokens:prefix=1,grid=2x2"]))
    assert named.layers["1"].shape == (4, 2, 2)
    raw = run_to(module, "1", named.inputs.normalize(IMAGES))
    assert torch.equal(named.activations(IMAGES, ["1"])["1"][:, :, 1, 0], raw[:, 3])
    plain = Network(module, InputSpec(SIDE), head="none")
    assert named.fingerprint() != plain.fingerprint()
    for layouts, why in (({"1": "nhwc"}, "'1' gives"), ({"x*": "nhwc"}, "no layer has such a name")):
        with pytest.raises(NetloupeError, match=f"fits no layer.*{why}"):
            Network(module, InputSpec(SIDE), head="none", layouts=layouts).layers  # noqa: B018


class Encoder(nn.Module):
    """Patches with a class token through PyTorch's own encoder layers; the class token is classified."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        blocks = [nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True) for _ in range(depth)]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        head: Tensor = self.head(self.blocks(torch.cat([self.cls.expand(len(y), -1, -1), y], 1))[:, 0])
        return head


def test_encoders_of_torch_show_their_inner_layers() -> None:
    net = Network(Encoder(), InputSpec(SIDE))
    enabled = torch.backends.mha.get_fastpath_enabled()
    inner = ["self_attn", "norm1", "linear1", "dropout", "linear2", "norm2"]
    for name in [*(f"blocks.0.{one}" for one in inner), "blocks.0", "blocks"]:
        assert str(net.layers[name].layout) == "tokens:prefix=1,grid=3x3"
    assert net.layers["blocks.0.linear1"].shape == (32, 3, 3)
    assert net.layers["blocks.0.self_attn"].receptive_field.whole
    assert net.layers.features().name == "blocks@cls"
    assert np.isfinite(net.activations(IMAGES, ["blocks.0.self_attn"])["blocks.0.self_attn"].numpy()).all()
    features = net.activations(IMAGES, ["blocks@cls"])["blocks@cls"]
    torch.testing.assert_close(net.module.head(features), net(IMAGES))  # type: ignore[operator]
    assert torch.backends.mha.get_fastpath_enabled() == enabled


def test_maps_of_classes_are_of_what_the_last_attention_reads() -> None:
    """Behind it only the class token is on the way to the head, so the map of the others has no gradient."""
    net = Network(Encoder(2), InputSpec(SIDE))
    assert cam_layer(net, obj.logit(1)) == "blocks.1.norm1"
    assert netloupe.grad_cam(net, IMAGES, obj.logit(1)).max() > 0
    assert not netloupe.grad_cam(net, IMAGES, obj.logit(1), layer="blocks.1").any()
    assert cam_layer(OTHERS["last"], obj.logit(1)) == cam_layer(OTHERS["tokens"], obj.logit(1)) == "sum"


def test_maps_that_no_image_changes_are_none_of_those_of_classes() -> None:
    """As the positions of DETR, which a module of its own gives."""
    module = nn.Sequential()
    module.add_module("stem", nn.Conv2d(3, 8, 8, 8))
    module.add_module("tokens", Fn(lambda x: x.flatten(2).transpose(1, 2)))
    module.add_module("sum", Fn(lambda t, place: t.tanh() + place(t), place=Fn(placed)))
    module.add_module("mean", Fn(lambda t: t.mean(1)))
    module.add_module("head", nn.Linear(8, 4))
    net = Network(module, InputSpec(SIDE))
    assert net.layers["sum.place"].shape == net.layers["sum"].shape
    assert cam_layer(net, obj.logit(1)) == "sum"
    with pytest.raises(NetloupeError, match="does not depend on the image"):
        netloupe.gradient(net, IMAGES, obj.channel("sum.place", 1))


def test_what_a_module_gives_once_for_all_images_is_that_of_each() -> None:
    """As XCiT's convolution of positions."""
    place = nn.Conv2d(8, 8, 1)
    module = nn.Sequential(nn.Conv2d(3, 8, 8, 8), Fn(lambda x, place: x + place(torch.ones_like(x[:1])), place=place))
    net = Network(module, InputSpec(SIDE), head="none")
    found = net.activations(IMAGES, ["1.place", "1"])
    assert found["1.place"].shape == found["1"].shape == (len(IMAGES), 8, 3, 3)
    assert torch.equal(found["1.place"][0], found["1.place"][1])
    assert found["1.place"].any()
    assert netloupe.activation_maps(net, IMAGES, ["1.place"]).pictures()
    net.run(IMAGES, {"1.place": lambda maps: torch.zeros_like(maps), "1": lambda maps: None})


def placed(tokens: Tensor) -> Tensor:
    side = SIDE // 8
    return F.interpolate(torch.ones(1, 8, side, side), scale_factor=1.0).flatten(2).transpose(1, 2).expand_as(tokens)


def test_patches_of_what_sees_all_show_where_it_stands() -> None:
    net = Network(Encoder(2), InputSpec(64), head="none")
    layer = net.layers["blocks.1.norm1"]
    assert layer.sees_all
    assert (layer.place(0, 3), layer.place(2, 2, around=1)) == ((0, 24, 8, 32), (8, 8, 32, 32))
    images = torch.rand(6, 3, 64, 64)
    top = netloupe.top_patches(net, images, layers=["patch", layer.name], k=2)
    for name in top:
        y, x = (int(n) for n in top[name].positions[3, 0])
        maps = net.activations(images[int(top[name].images[3, 0])][None], [name])[name]
        assert int(maps[0, 3].argmax()) == y * 8 + x
        wide = (min(max(y - 1, 0), 5) * 8, min(max(x - 1, 0), 5) * 8)
        box = (y * 8, x * 8, y * 8 + 8, x * 8 + 8) if name == "patch" else (*wide, wide[0] + 24, wide[1] + 24)
        assert top.box(name, 3, 0) == box
    assert [one["shown"] for one in top.summary()["layers"].values()] == ["receptive field", "place"]


def test_changes_stay_within_receptive_fields_of_a_convnext() -> None:
    """Where a map changes most is not where the image did, and still it lies as it should.

    In a ConvNeXt with random weights the residual stream changes most at the place itself. What is computed within a
    block follows a depthwise convolution of 7x7 random weights, whose largest need not be in the middle: up to 3
    positions away. So counting where maps change most tells kernels, not layouts; receptive fields tell these.
    """
    torch.manual_seed(0)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(12, 12, 7, padding=3, groups=12)
            self.norm, self.up, self.act, self.down = nn.LayerNorm(12), nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12)
            self.scale = nn.Parameter(torch.full((12,), 1e-6))

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
            y = self.scale * self.down(self.act(self.up(y)))
            return x + y.permute(0, 3, 1, 2)

    module = nn.Sequential(
        nn.Conv2d(3, 12, 4, 4), Last(), Last(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)
    )
    net = Network(module.eval(), InputSpec((64, 64)))
    before = torch.rand(1, 3, 64, 64)
    after = before.clone()
    after[:, :, 20:24, 40:44] = 1 - after[:, :, 20:24, 40:44]
    maps = net.layers.maps()
    assert {str(layer.layout) for layer in maps.values()} == {"nchw", "nhwc"}
    old, new = net.activations(before, maps), net.activations(after, maps)
    away = {}
    for name, layer in maps.items():
        changed = (new[name] - old[name]).abs().sum(1)[0]
        y, x = divmod(int(changed.argmax()), 16)
        away[name] = max(abs(y - 5), abs(x - 10))
        for row, column in (changed > 0).nonzero().tolist():
            top, left, bottom, right = layer.receptive_field.box(row, column, (64, 64))
            assert top < 24, name
            assert bottom > 20, name
            assert left < 44, name
            assert right > 40, name
    assert [away[name] for name in ("0", "1", "2")] == [0, 0, 0]
    assert 0 < max(away.values()) <= 3

"""Names and addresses: layers, classes, units, input specs, fingerprints, and the errors for what is not there."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core_helpers import conv
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.units import Unit

IMAGES = torch.rand(2, 3, 9, 9)


def small(classes: int = 3, **options: Any) -> Network:
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("conv", conv(2, of=3))
    module.add_module("relu", nn.ReLU())
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.Linear(2, classes))
    return Network(module, InputSpec(size=9), **options)


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.jit.script(nn.Sequential(conv(4, of=3), nn.ReLU(inplace=True)))
        self.list, self.last = nn.ModuleList([conv()]), conv(2, of=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x)).mean((2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_torchscript_is_left_out_and_named() -> None:
    net = Network(Scripted(), InputSpec(size=9))
    assert list(net.layers) == ["last"]
    assert net.layers["last"].receptive_field.size == (5, 5)
    assert net(IMAGES).shape == (2, 2)
    for layer in ("inner", "inner.0"):
        with pytest.raises(UnknownName, match=f"'{layer}' is TorchScript"):
            net.activations(IMAGES, [layer])
    with pytest.raises(UnknownName, match="'list' is no layer: it is not called"):
        net.layer("list")
    assert Network(torch.jit.script(small().module), InputSpec(size=9))(IMAGES).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda n: n.activations(IMAGES, ["cnv"]), UnknownName, "no layer 'cnv'; did you mean 'conv'"),
        (lambda n: n.activations(IMAGES, ["relu~2"]), UnknownName, "no layer 'relu~2'; did you mean 'relu'"),
        (lambda n: n.layer(""), UnknownName, "no layer ''"),
        (lambda n: n(IMAGES[0]), InputError, r"images of shape \(3, 9, 9\) \(accepted: \(N, 3, H, W\)\)"),
        (lambda n: n(IMAGES[:, :1]), InputError, r"accepted: \(N, 3, H, W\)"),
        (lambda n: n(IMAGES * 255), InputError, "pixels from"),
        (lambda n: n(IMAGES * float("nan")), InputError, "pixels from nan"),
        (lambda n: n((IMAGES * 255).byte()), InputError, "divide bytes by 255"),
        (lambda n: n("cat.jpg"), InputError, "images are a str"),
        (lambda n: n(IMAGES[..., :2]), InputError, "images of 9x2 px don't fit Sequential"),
        (lambda n: n.predict(IMAGES, top=0), InputError, r"top 0 \(accepted: 1 or more\)"),
        (lambda n: n.head.index(3), UnknownName, r"no class 3 \(accepted: 0 to 2\)"),
        (lambda n: n.head.index("-1"), UnknownName, "no class -1"),
        (lambda n: n.head.index("kat"), UnknownName, "no class 'kat'; did you mean 'cat'"),
        (lambda n: n.head.index("dog"), InputError, "2 classes are named 'dog'; give the index: 1, 2"),
        (lambda n: Network(n.module, n.inputs, ["a"])(IMAGES), NetworkError, "3 classes, but 1 labels"),
        (lambda n: Network("resnet"), InputError, r"the network is a str \(accepted: an nn.Module\)"),
        (lambda n: Network(nn.LazyLinear(3)), InputError, "run it once on an image"),
        (lambda n: Network(n.module[:1], n.inputs).probabilities(IMAGES), NetworkError, "gives 2 classes by pixel"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call(small(labels=["cat", "dog", "Dog"]))


def test_classes_by_name_and_index() -> None:
    net = small(labels=["cat", "dog", "7"])
    assert [net.head.index(name) for name in ("CAT", "dog", "7", 1, "1", torch.tensor(2))] == [0, 1, 2, 1, 1, 2]
    assert [net.head.label(i) for i in range(3)] == ["cat", "dog", "7"]
    assert (small().head.count, small().head.label(2), net.head.count) == (3, "2", 3)


def test_predict_is_the_softmax_in_order() -> None:
    net = small(labels=["cat", "dog", "bird"])
    probabilities = net(IMAGES).softmax(1)
    for row, found in zip(probabilities, net.predict(IMAGES, top=9), strict=True):
        assert [label for label, _ in found] == [net.head.label(int(i)) for i in row.argsort(descending=True)]
        assert [p for _, p in found] == pytest.approx(sorted(row.tolist(), reverse=True))
    assert [len(row) for row in net.predict(IMAGES, top=2)] == [2, 2]
    with torch.no_grad():
        net.module[-1].weight.fill_(torch.nan)
    with pytest.raises(NetworkError, match="not finite"):
        net.predict(IMAGES)


def test_fingerprints_tell_networks_apart() -> None:
    net = small()
    assert net.fingerprint() == small().fingerprint() == copy.deepcopy(net).fingerprint()
    others = [small(), small(), small(4), small(), small(output="logits")]
    with torch.no_grad():
        others[0].module[0].weight[0, 0, 0, 0] += 1e-6
    others[1].module[1] = nn.Tanh()
    others[3].module[0].stride = (2, 2)
    others.append(Network(net.module, InputSpec(size=10)))
    others.append(Network(copy.deepcopy(net.module).bfloat16(), net.inputs))
    assert len({other.fingerprint() for other in [net, *others]}) == len(others) + 1


def test_fingerprints_of_odd_buffers() -> None:
    net = small()
    before = net.fingerprint()
    for value in (torch.tensor(3), torch.tensor(True), torch.tensor(1.5).bfloat16(), torch.zeros(0), torch.eye(3).T):
        net.module.register_buffer("odd", value, persistent=False)
        assert net.fingerprint() != before


def test_a_network_can_be_copied_and_sent() -> None:
    net = small()
    assert len(net.layers) == 5
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.layers == net.layers
        assert torch.equal(twin(IMAGES), net(IMAGES))


def test_inference_mode_and_layers() -> None:
    net = small()
    with torch.inference_mode():
        assert net.layers["conv"].receptive_field.exact
        assert net(IMAGES).shape == (2, 3)
    images = IMAGES.clone().requires_grad_()
    net(images).sum().backward()
    assert images.grad is not None


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("conv3", Unit("conv3")),
        ("layer1.0.conv2", Unit("layer1.0.conv2")),
        ("conv3:17", Unit("conv3", 17)),
        ("relu~2:0@4,5", Unit("relu~2", 0, (4, 5))),
        ("class:Egyptian cat", Unit(class_name="Egyptian cat")),
        ("class:a:b", Unit(class_name="a:b")),
        ("class:5", Unit(class_name="5")),
    ],
)
def test_units_have_one_spelling(text: str, unit: Unit) -> None:
    assert Unit.parse(text) == Unit.parse(f" {text} ") == unit
    assert str(unit) == text


@pytest.mark.parametrize("text", ["", " ", ":3", "a:", "a:x", "a:-1", "a:1@2", "a:1@2,", "a:1@2,3,4", "class:", "a:²"])
def test_what_is_no_unit(text: str) -> None:
    with pytest.raises(InputError, match="is no unit"):
        Unit.parse(text)


@pytest.mark.parametrize("parts", [{}, {"layer": "a", "class_name": "b"}, {"layer": "a", "position": (1, 2)}])
def test_units_that_can_not_be(parts: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is no unit"):
        Unit(**parts)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": (0, 3)}, r"input size \(0, 3\)"),
        ({"size": (1, 2, 3)}, "input size"),
        ({"channels": 0}, "input channels 0"),
        ({"mean": (0.1, 0.2)}, "mean has 2 values for 3 channels"),
        ({"std": (1, 1, 1, 1)}, "std has 4 values for 3 channels"),
        ({"std": (1, 0, 1)}, "numbers above 0"),
        ({"range": (1, 0)}, "low < high"),
    ],
)
def test_input_specs_that_can_not_be(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        InputSpec(**options)


def test_normalization() -> None:
    spec = InputSpec(size=4, mean=(104, 117, 123), std=2, range=(0, 255))
    assert spec == InputSpec((4, 4), mean=[104.0, 117.0, 123.0], std=(2,), range=[0, 255])
    assert hash(spec) == hash(copy.deepcopy(spec))
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    out = spec.normalize(images)
    for c, mean in enumerate((104, 117, 123)):
        torch.testing.assert_close(out[:, c], (images[:, c] * 255 - mean) / 2)
    out.sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad, torch.full_like(images, 127.5))
    torch.testing.assert_close(spec.mean_color(), torch.tensor([104, 117, 123]) / 255)
    assert InputSpec(mean=(0.5,)).mean_color().tolist() == [0.5] * 3

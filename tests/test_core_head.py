"""What a network answers, and what those who need classes say where it gives none."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netloupe
from core_helpers import Fn, conv
from data_helpers import shared
from netloupe import objectives as obj
from netloupe.core.errors import InputError, NetloupeError, NetworkError, UnknownName
from netloupe.core.head import Classes, Head, NoHead
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

IMAGES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def giving(answer: Callable[[Tensor], Any], **options: Any) -> Network:
    """A network of 'maps' (N, 4, 12, 12) and 'relu', which returns what `answer` makes of them."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("maps", conv(4, of=3, padding=1))
    module.add_module("relu", nn.ReLU())
    module.add_module("answer", Fn(answer))
    return Network(module, InputSpec(size=12), **options)


def vectors(maps: Tensor) -> Tensor:
    return maps.mean((2, 3))


@pytest.mark.parametrize(
    ("answer", "options", "head"),
    [
        (vectors, {}, Classes(count=4)),
        (vectors, {"labels": list("abcd")}, Classes("abcd")),
        (vectors, {"head": Classes("abcd")}, Classes("abcd")),
        (vectors, {"head": "none"}, NoHead()),
        (lambda x: {"out": x, "logits": vectors(x)}, {"output": "logits"}, Classes(count=4, output="logits")),
        (lambda x: (vectors(x), x), {"output": 0, "head": Classes("abcd")}, Classes("abcd", output=0)),
        (lambda x: x, {}, NoHead("(N, 4, 12, 12)")),
        (lambda x: vectors(x)[:, 0], {}, NoHead("(N,)")),
        (lambda x: {"out": x}, {}, NoHead("a dict of 'out': (N, 4, 12, 12)", "; name the entry: output=... ('out')")),
        (lambda x: {"out": x}, {"output": "out"}, NoHead("(N, 4, 12, 12)")),
        (lambda x: [{"boxes": x[0]}], {}, NoHead("a list", "; name the entry: output=... (0)")),
    ],
)
def test_the_head_is_what_is_said_or_found(answer: Callable[[Tensor], Any], options: Any, head: Head) -> None:
    assert giving(answer, **options).head == head
    net = giving(answer, **options)
    if isinstance(head, NoHead):  # found in what the first pass returns, too
        with pytest.raises(NetworkError, match=re.escape(f"the network gives {head.gives}, no logits")):
            net(IMAGES)
    else:
        assert net(IMAGES).shape == (2, head.count)
    assert net.head == head
    assert pickle.loads(pickle.dumps(head)) == head


def test_what_nobody_said_is_told() -> None:
    assert str(giving(vectors).head) == (
        "4 classes, as the output's shape (N, 4) suggests; say head='none' if it is no class logits"
    )
    assert str(giving(vectors, labels=list("abcd")).head) == "4 classes"
    assert str(giving(lambda x: x).head) == "no classes: it gives (N, 4, 12, 12)"
    image = netloupe.explain(giving(vectors), IMAGES[0], "maps:1", ["gradient"])
    assert "(N, 4) suggests" in image.provenance["network"]["head"]


def test_labels_stand_for_numbers_where_there_are_no_names() -> None:
    assert (Classes(count=3).labels, Classes("ab").labels, NoHead().labels) == (("0", "1", "2"), ("a", "b"), ())
    assert (Classes(count=3).label(2), Classes("ab").label(1)) == ("2", "b")


def test_probabilities_do_not_depend_on_the_batch() -> None:
    net = giving(vectors)
    found = net.probabilities(IMAGES)
    assert torch.equal(found, net(IMAGES).detach().softmax(1))
    torch.testing.assert_close(net.probabilities(IMAGES, 1), found)
    assert net.probabilities(IMAGES).sum(1).tolist() == pytest.approx([1, 1])
    with pytest.raises(NetworkError, match="not finite"):
        giving(lambda x: vectors(x) * torch.inf).probabilities(IMAGES)


WITHOUT: dict[str, Callable[[], Network]] = {
    "stated": lambda: giving(vectors, head="none"),
    "maps": lambda: giving(lambda x: x),
    "dict": lambda: giving(lambda x: {"out": x}),
    "values": lambda: giving(lambda x: vectors(x)[:, 0]),
    "boxes": lambda: giving(lambda x: [{"boxes": one[0]} for one in x]),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_classes_all_else_works(name: str) -> None:
    net, same = WITHOUT[name](), giving(vectors)
    assert list(net.layers)[:2] == ["maps", "relu"]
    assert torch.equal(net.activations(IMAGES, ["maps"])["maps"], same.activations(IMAGES, ["maps"])["maps"])
    for score in (obj.channel("maps", 1), obj.neuron("relu", 2, 3, 4), obj.energy("maps")):
        assert torch.equal(netloupe.gradient(net, IMAGES, score), netloupe.gradient(same, IMAGES, score))
    one, other = (netloupe.occlusion(n, IMAGES[:1], "maps:1", 4, 4).scores for n in (net, same))
    assert one.tolist() == pytest.approx(other)
    one, other = (netloupe.top_patches(n, IMAGES, ["relu"], k=2)["relu"].values for n in (net, same))
    assert (one == other).all()
    made = netloupe.visualize(net, "maps:1", steps=2, size=12)
    assert (made.scores > made.before).all()
    assert net.runs_channels_last
    explained = netloupe.explain(net, IMAGES[0], "maps:1", ["gradient"])
    assert explained.predictions == ()
    assert "no choice of classes" in explained.documents()["explain.html"]
    assert explained.pictures()
    assert len(net.fingerprint()) == 16


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize(
    "call",
    [
        lambda net: net(IMAGES),
        lambda net: net.predict(IMAGES),
        lambda net: net.probabilities(IMAGES),
        lambda net: net.read(IMAGES, obj.logit(0)),
        lambda net: netloupe.gradient(net, IMAGES, "class:koala"),
        lambda net: netloupe.occlusion(net, IMAGES, obj.probability(1), 4, 4),
        lambda net: netloupe.visualize(net, obj.logit(0), steps=1, size=12),
        lambda net: netloupe.fool(net, IMAGES, 1),
        lambda net: netloupe.explain(net, IMAGES[0]),
        lambda net: netloupe.explain(net, IMAGES[0], "class:1"),
    ],
)
def test_without_classes_those_who_need_them_say_so(name: str, call: Callable[[Network], Any]) -> None:
    net = WITHOUT[name]()
    with pytest.raises(NetworkError, match=r"gives .*, no logits") as raised:
        call(net)
    assert "\n" not in str(raised.value)


def test_one_number_is_a_score_but_no_certainty() -> None:
    net = giving(lambda x: vectors(x)[:, :1])
    assert torch.equal(net.read(IMAGES, obj.logit(0)), net(IMAGES)[:, 0])
    assert netloupe.explain(net, IMAGES[0], methods=["gradient"]).predictions == ()
    for call in (
        lambda: net.predict(IMAGES),
        lambda: net.read(IMAGES, obj.probability(0)),
        lambda: net.read(IMAGES, obj.log_probability(0)),
        lambda: netloupe.fool(net, IMAGES, 0),
    ):
        with pytest.raises(NetworkError, match="one number an image, whose softmax is 1"):
            call()


FIELD = {
    "one output": "one class, as the output's shape (N, 1) suggests; say head='none' if it is no class logits",
    "value per image": "no classes: it gives (N,)",
    "segmenter": "no classes: it gives a dict of 'out': (N, 4, 32, 32)",
    "detector": "no classes: it gives a list",
    "embedder": "8 classes, as the output's shape (N, 8) suggests; say head='none' if it is no class logits",
    "bands": "4 classes, as the output's shape (N, 4) suggests; say head='none' if it is no class logits",
}


@pytest.mark.parametrize("name", FIELD)
def test_networks_of_the_field_are_not_silently_taken_for_classifiers(name: str) -> None:
    path = shared() / "cases" / "networks.py"
    if not path.exists():
        pytest.skip(f"no {path}")
    spec = importlib.util.spec_from_file_location("networks_of_the_field", path)
    assert spec is not None
    assert spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = cases
    spec.loader.exec_module(cases)
    case = cases.all_cases()[name]
    channels, *size = case.shape
    color = {} if channels == 3 else {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    inputs, images = InputSpec(size, channels, **color), torch.rand(1, *case.shape)
    net, none = Network(case.module, inputs), Network(case.module, inputs, head="none")
    assert str(net.head) == FIELD[name]
    for network in (net, none):
        gradient = netloupe.gradient(network, images, obj.channel("conv", 1))
        assert float(gradient.abs().max()) > 0
    for network in (none, net) if net.head.count < 2 else (none,):
        with pytest.raises(NetworkError, match="gives") as raised:
            network.predict(images)
        assert "\n" not in str(raised.value)


def test_an_embedding_is_its_own_features() -> None:
    assert giving(vectors, head="none").layers.features().name == "answer"


def test_failures_of_another_kind_are_not_taken_for_a_layout() -> None:
    net = giving(vectors)
    net.module[0].weight.data = torch.zeros(4, 5, 3, 3)
    with pytest.raises(NetworkError, match="failed on input"):
        _ = net.runs_channels_last


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Classes(), InputError, "a head of 0 classes with no names"),
        (lambda: Classes(count=-1), InputError, "a head of -1 classes"),
        (lambda: Classes("ab", 3), InputError, r"a head of 3 classes with 2 names \(accepted"),
        (lambda: giving(vectors, head="nnoe"), UnknownName, "no head 'nnoe'; did you mean 'none'"),
        (lambda: giving(vectors, head="none", labels="ab"), InputError, "labels and a head were given"),
        (lambda: giving(vectors, head=Classes("abc"))(IMAGES), NetworkError, "has 4 classes, but 3 labels"),
        (lambda: giving(vectors, head=Classes(count=3))(IMAGES), NetworkError, "has 4 classes, but 3 classes"),
        (lambda: giving(lambda x: x, labels="abcd")(IMAGES), NetworkError, r"gives \(N, 4, 12, 12\), no logits"),
        (lambda: giving(lambda x: {"out": x}, output="uot").head, UnknownName, "no output 'uot'; did you mean 'out'"),
        (lambda: Classes("ab").index("1" * 9999), UnknownName, "no class '1111"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        make()
    assert isinstance(raised.value, NetloupeError)
    assert "\n" not in str(raised.value)

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
from netloupe.core.head import Classes, Detections, Head, Maps, NoHead, Unsaid, Value, Vector
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


def boxes(maps: Tensor) -> dict[str, Tensor]:
    """Two boxes, as a detector gives them."""
    places = torch.tensor([[0.0, 1.0, 4.0, 5.0], [2.0, 2.0, 9.0, 12.0]])
    return {"boxes": places, "labels": torch.tensor([3, 1]), "scores": maps[:2].mean((1, 2)).sigmoid()}


def third(result: Any) -> Tensor:
    return vectors(result["tokens"])[:, 2]


WHICHEVER = "; say head='value' or head='binary' (--head), whichever it is"
ENTRIES = "; name the entry: output=... (0, 1)"
ASKED = (
    "; say head='maps' (--head) if it is one logit a pixel, or in Python make one number or a vector of it "
    "(output=a function)"
)


@pytest.mark.parametrize(
    ("answer", "options", "head"),
    [
        (vectors, {}, Classes(count=4)),
        (vectors, {"labels": list("abcd")}, Classes("abcd")),
        (vectors, {"head": Classes("abcd")}, Classes("abcd")),
        (vectors, {"head": "none"}, NoHead()),
        (lambda x: {"out": x, "logits": vectors(x)}, {"output": "logits"}, Classes(count=4, output="logits")),
        (lambda x: (vectors(x), x), {"output": 0, "head": Classes("abcd")}, Classes("abcd", output=0)),
        (vectors, {"labels": list("abcd"), "head": "sigmoid"}, Classes("abcd", kind="sigmoid")),
        (lambda x: vectors(x).softmax(1), {"head": "probabilities"}, Classes(count=4, kind="probabilities")),
        (vectors, {"head": "classes"}, Classes(count=4)),
        (vectors, {"head": "vector"}, Vector()),
        (lambda x: vectors(x)[:, :, None, None], {}, Classes(count=4)),
        (lambda x: vectors(x)[:, :1], {}, Unsaid("(N, 1)", WHICHEVER)),
        (lambda x: vectors(x)[:, :1], {"head": "value"}, Value()),
        (lambda x: vectors(x)[:, :1], {"head": "binary"}, Classes(count=2, kind="binary")),
        (lambda x: vectors(x)[:, 0], {"head": "binary", "labels": ["cat"]}, Classes(["not cat", "cat"], kind="binary")),
        (lambda x: vectors(x)[:, 0], {}, Value()),
        (lambda x: {"loss": None, "logits": vectors(x)}, {}, Classes(count=4, output="logits")),
        (lambda x: {"aux": x, "out": x}, {}, Maps(count=4, output="out")),
        (lambda x: (x, vectors(x)), {}, NoHead("a tuple of 0: (N, 4, 12, 12), 1: (N, 4)", ENTRIES)),
        (lambda x: {"tokens": x, "pooled": vectors(x)}, {"output": third}, Value(third)),
        (lambda x: {"last_hidden_state": x, "pooler_output": vectors(x)}, {}, Vector("pooler_output")),
        (lambda x: {"image_embeds": vectors(x), "pooler_output": x}, {}, Vector("image_embeds")),
        (lambda x: {"logits": vectors(x), "pooler_output": x}, {}, Classes(count=4, output="logits")),
        (
            lambda x: {"tokens": x, "pooler_output": vectors(x)},
            {"labels": list("abcd"), "output": "pooler_output"},
            Classes("abcd", output="pooler_output"),
        ),
        (lambda x: x, {}, Maps(count=4)),
        (lambda x: x, {"labels": list("abcd")}, Maps("abcd")),
        (lambda x: x[:, :1], {}, NoHead("(N, 1, 12, 12)", "; say head='maps' (--head) if it is one logit a pixel")),
        (lambda x: x[:, :1], {"head": "maps"}, Maps(count=2)),
        (lambda x: {"out": x}, {}, Maps(count=4, output="out")),
        (lambda x: {"out": x}, {"output": "out"}, Maps(count=4, output="out")),
        (lambda x: [boxes(one) for one in x], {}, Detections()),
        (lambda x: [boxes(one) for one in x], {"labels": "abcd"}, Detections("abcd")),
        (lambda x: x[:, 0], {}, NoHead("(N, 12, 12)", ASKED)),
        (lambda x: x[:, 0], {"head": "maps"}, Maps(count=2)),
        (lambda x: x.flatten(2), {}, NoHead("(N, 4, 144)", ASKED)),
        (lambda x: [{"boxes": x[0]}], {}, NoHead("a list", "; name the entry: output=... (0)")),
    ],
)
def test_the_head_is_what_is_said_or_found(answer: Callable[[Tensor], Any], options: Any, head: Head) -> None:
    assert giving(answer, **options).head == head
    net = giving(answer, **options)
    if isinstance(head, NoHead) and not isinstance(head, Unsaid):  # found in what the first pass returns, too
        with pytest.raises(NetworkError, match=re.escape(f"the network gives {head.gives}, no logits")):
            net(IMAGES)
    elif isinstance(head, Classes):
        assert net(IMAGES).shape == (2, head.count)
    assert net.head == head
    assert net.labels == head.names
    assert pickle.loads(pickle.dumps(head)) == head
    assert giving(answer, head=head).head == head  # what was found may be said


def test_one_map_may_lie_without_a_dimension_of_classes() -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    flat, kept = (giving(answer, head="maps")(images) for answer in (lambda x: x[:, 0], lambda x: x[:, :1]))
    assert flat.shape == (2, 2, 12, 12)
    assert torch.equal(flat, kept)
    assert bool(flat.any())


def test_what_nobody_said_is_told() -> None:
    assert str(giving(vectors).head) == (
        "4 classes, as the output's shape (N, 4) suggests; say head='none' if it is no class logits"
    )
    assert str(giving(vectors, labels=list("abcd")).head) == "4 classes"
    assert str(giving(lambda x: x).head) == (
        "4 classes by pixel, as the output's shape (N, 4, height, width) suggests; say head='none' if it is something "
        "else"
    )
    assert str(giving(lambda x: x.flatten(2)).head) == f"no classes: it gives (N, 4, 144){ASKED}"
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
    "one": lambda: giving(lambda x: vectors(x)[:, :1]),
    "tokens": lambda: giving(lambda x: x.flatten(2)),
    "tuple": lambda: giving(lambda x: (x, vectors(x))),
    "strange": lambda: giving(lambda x: [{"boxes": one[0]} for one in x]),
}
OTHER: dict[str, Callable[[], Network]] = {
    "value": lambda: giving(lambda x: vectors(x)[:, 0]),
    "vector": lambda: giving(vectors, head="vector"),
    "maps": lambda: giving(lambda x: {"out": x}),
    "boxes": lambda: giving(lambda x: [boxes(one) for one in x]),
}


@pytest.mark.parametrize("name", WITHOUT | OTHER)
def test_without_classes_all_else_works(name: str) -> None:
    net, same = (WITHOUT | OTHER)[name](), giving(vectors)
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
    assert bool(explained.predictions) == (name in ("value", "maps", "boxes"))
    assert ("no choice of classes" in explained.documents()["explain.html"]) == (not explained.predictions)
    assert explained.pictures()
    assert len(net.fingerprint()) == 16


READING: list[Callable[[Network], Any]] = [
    lambda net: net(IMAGES),
    lambda net: net.read(IMAGES, obj.logit(0)),
    lambda net: netloupe.visualize(net, obj.logit(0), steps=1, size=12),
]
CHOOSING: list[Callable[[Network], Any]] = [
    lambda net: net.predict(IMAGES),
    lambda net: net.probabilities(IMAGES),
    lambda net: netloupe.gradient(net, IMAGES, "class:koala"),
    lambda net: netloupe.occlusion(net, IMAGES, obj.probability(1), 4, 4),
    lambda net: netloupe.fool(net, IMAGES, 1),
    lambda net: netloupe.explain(net, IMAGES[0]),
    lambda net: netloupe.explain(net, IMAGES[0], "class:1"),
]


@pytest.mark.parametrize(
    ("name", "call"),
    [(name, call) for name in WITHOUT for call in (CHOOSING if name == "one" else READING + CHOOSING)],
)
def test_without_classes_those_who_need_them_say_so(name: str, call: Callable[[Network], Any]) -> None:
    net = WITHOUT[name]()
    with pytest.raises(NetworkError, match=r"gives .*, no logits") as raised:
        call(net)
    assert "\n" not in str(raised.value)


def test_one_number_that_nobody_named_can_be_read_and_no_more() -> None:
    net = WITHOUT["one"]()
    raw = net.module(net.inputs.normalize(IMAGES))
    assert torch.equal(net(IMAGES), raw)
    assert torch.equal(net.read(IMAGES, obj.logit(0)), raw[:, 0])
    assert netloupe.visualize(net, obj.logit(0), steps=1, size=12).scores.shape == (1,)
    with pytest.raises(NetworkError, match=r"say head='value' or head='binary'"):
        net.read(IMAGES, obj.logit(1))


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.probabilities(IMAGES),
        lambda net: net.read(IMAGES, obj.logit(0)),
        lambda net: netloupe.fool(net, IMAGES, 1),
        lambda net: netloupe.explain(net, IMAGES[0], "class:1"),
        lambda net: netloupe.occlude(net, IMAGES[0], "class:1"),
    ],
)
def test_those_who_need_classes_say_what_there_is_instead(name: str, call: Callable[[Network], Any]) -> None:
    net = OTHER[name]()
    with pytest.raises(
        NetworkError, match=r"needs classes, but the network gives .* \(.*\(.*\) (is|reads?) "
    ) as raised:
        call(net)
    assert "\n" not in str(raised.value)


def test_one_number_is_a_score_but_no_certainty() -> None:
    net = giving(lambda x: vectors(x)[:, :1], head="classes")
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
    "one output": "no classes: it gives (N, 1); say head='value' or head='binary' (--head), whichever it is",
    "value per image": "one number an image",
    "segmenter": "4 classes by pixel, as the output's shape (N, 4, height, width) suggests; say head='none' if it is "
    "something else",
    "detector": "boxes",
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
    for network in (none, net) if name == "one output" else (none,):
        with pytest.raises(NetworkError, match="gives") as raised:
            network.predict(images)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("head", ["none", "vector"])
def test_an_embedding_is_its_own_features(head: str) -> None:
    assert giving(vectors, head=head).layers.features().name == "answer"


def test_an_embedding_that_is_named_so_is_one() -> None:
    net = giving(lambda x: {"last_hidden_state": x.flatten(2), "pooler_output": x.mean((2, 3))})
    assert net(IMAGES).shape == (2, 4)
    assert net.layers.features().name == "relu"
    with pytest.raises(NetworkError, match="needs classes, but the network gives a vector"):
        netloupe.fool(net, IMAGES, 0)


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
        (lambda: giving(vectors, head="none", labels="ab"), InputError, "labels and head='none' were given"),
        (lambda: giving(vectors, head=Classes("ab"), labels="ab"), InputError, "labels and a head were given"),
        (lambda: giving(vectors, head=3), InputError, "the head is a int"),
        (lambda: giving(vectors, head="maps").head, NetworkError, r"gives \(N, 4\), no classes by pixel"),
        (lambda: giving(vectors, head="value").head, NetworkError, r"gives \(N, 4\), no number"),
        (lambda: giving(vectors, head="binary").head, NetworkError, r"gives \(N, 4\), not one logit"),
        (lambda: giving(vectors, head="detections").head, NetworkError, r"gives \(N, 4\), no boxes"),
        (lambda: giving(lambda x: x, head="vector").head, NetworkError, r"gives \(N, 4, 12, 12\), no vector"),
        (lambda: giving(lambda x: x, head="sigmoid").head, NetworkError, r"gives \(N, 4, 12, 12\), no logits"),
        (lambda: giving(lambda x: vectors(x) - 9, head="probabilities").probabilities(IMAGES), NetworkError, "outside"),
        (lambda: giving(vectors, output=lambda x: x.out)(IMAGES), NetworkError, "output=<lambda>-.* failed on what"),
        (lambda: Classes("abc", kind="binary"), InputError, "a binary head of 3 classes"),
        (lambda: giving(vectors, head=Classes("abc"))(IMAGES), NetworkError, "has 4 classes, but 3 labels"),
        (lambda: giving(vectors, head=Classes(count=3))(IMAGES), NetworkError, "has 4 classes, but 3 classes"),
        (lambda: giving(lambda x: x, labels="abc")(IMAGES), NetworkError, "has 4 classes by pixel, but 3 labels"),
        (lambda: giving(lambda x: {"out": x}, output="uot").head, UnknownName, "no output 'uot'; did you mean 'out'"),
        (lambda: Classes("ab").index("1" * 9999), UnknownName, "no class '1111"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        make()
    assert isinstance(raised.value, NetloupeError)
    assert "\n" not in str(raised.value)

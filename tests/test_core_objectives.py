"""Objectives against plain loops in float64, and the identities that tie them together."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core_helpers import conv
from netloupe.core import objectives as obj
from netloupe.core.errors import InputError, NetloupeError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.objectives import Objective

IMAGES = torch.rand(3, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def net(dtype: torch.dtype = torch.float64) -> Network:
    """maps (4, 6, 4) at 'maps', which 'relu' overwrites, three classes."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("maps", conv(4, of=3))
    module.add_module("relu", nn.ReLU(inplace=True))
    module.add_module("flat", nn.Flatten())
    module.add_module("fc", nn.Linear(4 * 6 * 4, 3))
    return Network(module.to(dtype), InputSpec(size=(8, 6)), ["cat", "dog", "koala"])


MAPS = net().activations(IMAGES, ["maps"])["maps"]
LOGITS = net()(IMAGES).detach()
TARGET = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
VECTOR = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)


def over(*counts: int) -> Any:
    return torch.cartesian_prod(*(torch.arange(n) for n in counts)).tolist()


def slow_gram(maps: Tensor) -> list[list[float]]:
    channels, height, width = maps.shape
    return [
        [
            sum(float(maps[a, y, x] * maps[b, y, x]) for y, x in over(height, width)) / (height * width)
            for b in range(channels)
        ]
        for a in range(channels)
    ]


def slow_match_gram(maps: Tensor, target: Tensor) -> float:
    """Gatys et al. 2015, eq. 4, of features F and P of the same size M: sum (G - A)^2 / (4 N^2 M^2), unnormalized G."""
    n, m = maps.shape[0], maps.shape[1] * maps.shape[2]
    g, a = slow_gram(maps), slow_gram(target)
    return -sum((g[i][j] * m - a[i][j] * m) ** 2 for i, j in over(n, n)) / (4 * n**2 * m**2)


def slow_total_variation(image: Tensor, beta: float) -> float:
    total = 0.0
    for c, y, x in over(3, 7, 5):
        here = float(image[c, y, x])
        total += ((float(image[c, y, x + 1]) - here) ** 2 + (float(image[c, y + 1, x]) - here) ** 2) ** (beta / 2)
    return total


def slow_softmax(logits: Tensor, index: int) -> float:
    powers = [math.exp(float(v)) for v in logits]
    return powers[index] / sum(powers)


CASES: dict[str, tuple[Objective, Callable[[int], float]]] = {
    "logit": (obj.logit("koala"), lambda i: float(LOGITS[i, 2])),
    "logit by index": (obj.logit(0), lambda i: float(LOGITS[i, 0])),
    "probability": (obj.probability("Dog"), lambda i: slow_softmax(LOGITS[i], 1)),
    "channel": (obj.channel("maps", 2), lambda i: sum(float(MAPS[i, 2, y, x]) for y, x in over(6, 4)) / 24),
    "channel of a vector": (obj.channel("fc", 1), lambda i: float(LOGITS[i, 1])),
    "neuron": (obj.neuron("maps", 1, 5, 0), lambda i: float(MAPS[i, 1, 5, 0])),
    "middle neuron": (obj.neuron("maps", 3), lambda i: float(MAPS[i, 3, 3, 2])),
    "direction": (
        obj.direction("maps", VECTOR),
        lambda i: sum(float(MAPS[i, c, y, x] * VECTOR[c]) for c, y, x in over(4, 6, 4)) / 24,
    ),
    "direction of a vector": (
        obj.direction("fc", VECTOR[:3]),
        lambda i: sum(float(LOGITS[i, c] * VECTOR[c]) for c in range(3)),
    ),
    "energy": (obj.energy("maps"), lambda i: sum(float(MAPS[i, c, y, x]) ** 2 for c, y, x in over(4, 6, 4)) / 2),
    "match features": (
        obj.match_features("maps", TARGET),
        lambda i: (
            -sum(float(MAPS[i, c, y, x] - TARGET[c, y, x]) ** 2 for c, y, x in over(4, 6, 4))
            / sum(float(TARGET[c, y, x]) ** 2 for c, y, x in over(4, 6, 4))
        ),
    ),
    "match gram": (
        obj.match_gram("maps", torch.tensor(slow_gram(TARGET), dtype=torch.float64)),
        lambda i: slow_match_gram(MAPS[i], TARGET),
    ),
    "total variation": (obj.total_variation(), lambda i: slow_total_variation(IMAGES[i], 2)),
    "rough total variation": (obj.total_variation(beta=1), lambda i: slow_total_variation(IMAGES[i], 1)),
    "l2": (obj.l2(), lambda i: sum(float(IMAGES[i, c, y, x]) ** 2 for c, y, x in over(3, 8, 6))),
    "combined": (
        obj.logit("cat") - 0.5 * obj.l2() + obj.neuron("maps", 1, 5, 0) * 2,
        lambda i: float(LOGITS[i, 0]) - 0.5 * float(IMAGES[i].square().sum()) + 2 * float(MAPS[i, 1, 5, 0]),
    ),
    "negative": (-obj.channel("fc", 1), lambda i: -float(LOGITS[i, 1])),
    "sum": (sum([obj.logit(i) for i in range(3)]), lambda i: float(LOGITS[i].sum())),
    "unit channel": (obj.unit("fc:1"), lambda i: float(LOGITS[i, 1])),
    "unit neuron": (obj.unit("maps:1@5,0"), lambda i: float(MAPS[i, 1, 5, 0])),
    "unit class": (obj.unit("class:dog"), lambda i: float(LOGITS[i, 1])),
    "unit layer": (obj.unit("fc"), lambda i: float(LOGITS[i].square().sum()) / 2),
}


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_loops(name: str) -> None:
    objective, slow = CASES[name]
    expected = [slow(i) for i in range(3)]
    assert min(abs(value) for value in expected) > 1e-6
    scores = net().read(IMAGES, objective)
    assert scores.shape == (3,)
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)
    for i in range(3):  # a batch of N is N single images
        assert net().read(IMAGES[i : i + 1], objective).tolist() == pytest.approx([expected[i]], rel=1e-6)
    half = net(torch.bfloat16).read(IMAGES.float(), objective)
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(expected, rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_differences(name: str) -> None:
    objective = CASES[name][0]
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net().read(images, objective).sum(), images)
    step = torch.zeros_like(IMAGES)
    step[1, 2, 3, 3] = 1e-6
    change = (net().read(IMAGES + step, objective) - net().read(IMAGES - step, objective)).detach() / 2e-6
    assert float(gradient[1, 2, 3, 3]) == pytest.approx(float(change[1]), rel=1e-3, abs=1e-7)
    assert (change[0], change[2]) == (0, 0)


def test_the_gradient_of_energy_is_the_output_itself() -> None:
    found: list[Tensor] = []
    network = net()
    outputs = network.activations(IMAGES, ["maps"])["maps"].requires_grad_()
    score = obj.energy("maps").score(obj.Reading(None, lambda: IMAGES, {"maps": outputs}))
    found.extend(torch.autograd.grad(score.sum(), outputs))
    torch.testing.assert_close(found[0], outputs.detach())


def test_matches_are_best_at_their_targets() -> None:
    network = net()
    for objective in (obj.match_features("maps", MAPS[0]), obj.match_gram("maps", obj.gram(MAPS[:1])[0])):
        scores = network.read(IMAGES, objective).detach()
        assert float(scores[0]) == pytest.approx(0, abs=1e-12)
        assert (scores[1:] < -1e-9).all()
    torch.testing.assert_close(obj.gram(MAPS)[1], torch.tensor(slow_gram(MAPS[1]), dtype=torch.float64))
    wide = torch.cat([MAPS, MAPS], dim=3)
    torch.testing.assert_close(obj.gram(wide), obj.gram(MAPS))


def test_even_areas_have_a_finite_gradient() -> None:
    images = torch.full((1, 3, 8, 6), 0.5, dtype=torch.float64, requires_grad=True)
    net().read(images, obj.total_variation(1.5)).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_targets_are_taken_as_they_are_now() -> None:
    target, vector = TARGET.clone(), VECTOR.clone()
    made = [obj.match_features("maps", target), obj.direction("maps", vector)]
    before = [net().read(IMAGES, objective) for objective in made]
    target.zero_()
    vector.zero_()
    for objective, scores in zip(made, before, strict=True):
        torch.testing.assert_close(net().read(IMAGES, objective), scores)


TEXTS: list[tuple[Objective, str]] = [
    (obj.logit("koala"), "logit(koala)"),
    (obj.logit(torch.tensor(5)), "logit(5)"),
    (obj.logit("5"), 'logit("5")'),
    (obj.logit("tabby cat") - obj.logit("lynx"), "logit(tabby cat) - logit(lynx)"),
    (obj.log_odds("jack-o'-lantern"), "log_odds(jack-o'-lantern)"),
    (obj.logit("'t"), 'logit("\'t")'),
    (obj.logit("crane (bird)"), 'logit("crane (bird)")'),
    (obj.logit('tabby, "cat"\n\\'), 'logit("tabby, \\"cat\\"\\n\\\\")'),
    (obj.probability("a") + obj.l2() * 2, "probability(a) + 2 * l2()"),
    (obj.channel("a", 3) - 0.1 * obj.total_variation(), "channel(a, 3) - 0.1 * total_variation()"),
    (obj.neuron("a.1~2", 3, 1, 2), "neuron(a.1~2, 3, 1, 2)"),
    (obj.neuron("a", 3), "neuron(a, 3)"),
    (obj.neuron("a", 3, None, 2), "neuron(a, 3, None, 2)"),
    (obj.unit("2.10:3"), "channel(2.10, 3)"),
    (2 * (obj.logit("a") + obj.energy("b")), "2 * (logit(a) + energy(b))"),
    (-(obj.logit("a") + obj.energy("b", 2, 3, 4)), "-(logit(a) + energy(b, 2, 3, 4))"),
    (obj.logit("a") - (obj.l2() - -2.5 * obj.l2()), "logit(a) - (l2() - -2.5 * l2())"),
    (-(2 * obj.log_probability("a")), "-(2 * log_probability(a))"),
    (2 * -obj.diversity("a"), "2 * -diversity(a)"),
    (obj.excitation("a", 1) * math.inf, "inf * excitation(a, 1)"),
    (1e-30 * obj.norm(6.0, [0.25, 0.5, 1]), "1e-30 * norm(6.0, [0.25, 0.5, 1.0])"),
    (obj.norm(2.0) + obj.total_variation(1), "norm(2.0) + total_variation(1.0)"),
    (obj.direction("a", torch.tensor([0.5, -1.0])), "direction(a, [0.5, -1.0])"),
]


@pytest.mark.parametrize(("objective", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_texts_are_complete_and_read_back(objective: Objective, text: str) -> None:
    assert repr(objective) == str(objective) == text
    again = obj.parse(text)
    assert again == objective
    assert hash(again) == hash(objective)
    assert obj.as_objective(f"  {text}\n") == objective
    others = [other for other, _ in TEXTS if other is not objective]
    assert len(others) == len(TEXTS) - 1
    assert objective not in others


@pytest.mark.parametrize(
    ("text", "objective"),
    [
        ("logit('tabby, cat')", obj.logit("tabby, cat")),
        (r"logit('a\'b\\c\"d\u0041\"')", obj.logit("a\'b\\c\"dA\"")),
        ("channel(layer=conv3,index=17)", obj.channel("conv3", 17)),
        ("neuron(conv3, 17, x=5, y=4)", obj.neuron("conv3", 17, 4, 5)),
        ("unit(conv3:17@4,5)-unit(class:crane)", obj.neuron("conv3", 17, 4, 5) - obj.logit("crane")),
        ("unit('class:crane (bird)')", obj.logit("crane (bird)")),
        ("( logit( koala ) *.5 )", 0.5 * obj.logit("koala")),
        ("((logit(a)))+(logit(b))", obj.logit("a") + obj.logit("b")),
        ("- -logit(a)", -1 * (-obj.logit("a"))),
        ("norm(2, around=[.5, 1e-1,0])", obj.norm(2, [0.5, 0.1, 0.0])),
        ("energy(1.10)", obj.energy("1.10")),
    ],
)  # fmt: skip
def test_texts_by_hand(text: str, objective: Objective) -> None:
    assert obj.parse(text) == objective


NAMES = st.one_of(st.text(), st.from_regex(r"[a-z]+(\.[0-9]+)*(~2)?", fullmatch=True))
WHOLE = st.integers(-(10**18) + 1, 10**18 - 1)
REAL = st.floats(allow_nan=True)
AT = st.none() | WHOLE
LEAVES = st.one_of(
    st.builds(obj.logit, NAMES | WHOLE),
    st.builds(obj.probability, NAMES | WHOLE),
    st.builds(obj.channel, NAMES, WHOLE),
    st.builds(obj.neuron, NAMES, WHOLE, AT, AT),
    st.builds(obj.energy, NAMES, WHOLE),
    st.builds(obj.diversity, NAMES),
    st.builds(obj.total_variation, REAL),
    st.builds(obj.norm, REAL | WHOLE, REAL | st.lists(REAL, min_size=1, max_size=4)),
)
OBJECTIVES = st.recursive(
    LEAVES,
    lambda some: st.one_of(
        st.builds(lambda a, b: a + b, some, some),
        st.builds(lambda a, b: a - b, some, some),
        st.builds(lambda number, a: number * a, REAL | WHOLE, some),
        st.builds(lambda a: -a, some),
    ),
    max_leaves=9,
)


@given(OBJECTIVES)
def test_any_text_reads_back(objective: Objective) -> None:
    again = obj.parse(str(objective))
    assert again == objective
    assert str(again) == str(objective)
    assert again.layers == objective.layers
    assert pickle.loads(pickle.dumps(objective)) == objective


@given(st.text(alphabet="logit(a,b)channel-+*1.e9 '\"[]=_x:@\\\n", max_size=40) | st.text())
def test_any_other_text_is_refused_in_one_line(text: str) -> None:
    try:
        found = obj.parse(text)
    except (InputError, UnknownName) as error:
        said = str(error)
    else:
        assert obj.parse(str(found)) == found
        return
    assert "\n" not in said
    assert "accepted" in said


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("__import__('os').system('true')", "no objective '__import__'"),
        ("logit(koala).score", "'.score' follows where it ends"),
        ("logit(__class__.__name__())", r"a comma or \) should stand where '\(\)\)' is"),
        ("(" * 100_000 + "logit(a)", "nested more than 50 deep"),
        ("-" * 100_000 + "logit(a)", "nested more than 50 deep"),
        ("2 * " * 100_000 + "logit(a)", "nested more than 50 deep"),
        ("9" * 100_000 + " * logit(a)", "is no objective"),
        ("1e999 * logit(a)", "1e999 is too large a number"),
        ("logit(" + "9" * 100_000 + ")", None),
        ("channel(a, 9999999999999999999)", "channel can't have '9999999999999999999' for its index"),
        ("total_variation(1e999)", "1e999 is too large"),
        ("logit(koala", r"a comma or \) should stand where the end is"),
        ("(logit(koala)", r"a \) should stand where the end is"),
        ("logit(koala) - ", "should stand where the end is"),
        ("", "should stand where the end is"),
        ("1 + logit(koala)", r"should stand where '1 \+ logit\(koala\)' is"),
        ("logit(a) * logit(b)", r"'\* logit\(b\)' follows where it ends"),
        ("lgit(koala)", "no objective 'lgit'; did you mean 'logit'"),
        ("logit()", "logit takes name"),
        ("logit(a, b)", "logit takes name, not 2 settings"),
        ("channel(conv3)", "channel takes layer, index"),
        ("channel(conv3, x)", "channel can't have 'x' for its index"),
        ("channel(conv3, '1')", "channel can't have '1' for its index"),
        ("channel(conv3, 1, layer=a)", "not 3 settings"),
        ("channel(conv3, layer=a)", "takes layer, index, each once"),
        ("norm(2, [1, x])", "'x' is no number"),
        ("logit('a\\q')", "a wrong backslash"),
        ("l2(2)", "l2 takes nothing, not 1 settings"),
        ("unit(conv3:x)", "is no unit"),
        ("match_gram(conv3, sha256:0123456789abcdef)", "match_gram holds numbers that no text tells"),
        ("direction(conv3, sha256:0123456789abcdef)", "direction holds numbers that its text does not tell"),
    ],
)
def test_hostile_and_wrong_texts_are_refused(text: str, match: str | None) -> None:
    if match is None:  # a name, if a strange one
        match = "no class '9999"
        with pytest.raises(UnknownName, match=match) as raised:
            net().read(IMAGES, text)
    else:
        with pytest.raises((InputError, UnknownName), match=match) as raised:
            obj.parse(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400 or match == "no class '9999"


def test_numbers_beyond_a_text_are_refused() -> None:
    for make in (lambda: obj.logit(10**18), lambda: 10**5000 * obj.l2(), lambda: obj.channel("a", -(10**18))):
        with pytest.raises(InputError, match="more than 18 digits"):
            make()


def test_targets_stand_as_digests() -> None:
    kinds: list[Callable[[Tensor], Objective]] = [
        lambda t: obj.match_features("a", t),
        lambda t: obj.match_best("a", t),
        lambda t: obj.match_gram("a", t),
        lambda t: obj.match_gram("a", torch.eye(4), t),
        lambda t: obj.match_covariance("a", torch.ones(5), t),
        lambda t: obj.match_neighborhoods(3, torch.ones(5), t),
        lambda t: obj.direction("a", t),
    ]
    targets = (torch.eye(5), torch.eye(5).bfloat16() * 2, torch.eye(6), torch.eye(5, dtype=torch.float64) * (1 + 1e-12))
    made = [make(target) for make in kinds for target in targets]
    assert len({str(one) for one in made}) == len(set(made)) == 28
    for one, same in zip(made, [make(target) for make in kinds for target in targets], strict=True):
        assert one == same
        assert str(one) == str(same)
        assert pickle.loads(pickle.dumps(one)) == one
        with pytest.raises(InputError, match="holds numbers that"):
            obj.parse(str(one))


def test_pickled_objectives_score_the_same() -> None:
    for objective, _ in CASES.values():
        again = pickle.loads(pickle.dumps(objective))
        assert again == objective
        assert torch.equal(net().read(IMAGES, again), net().read(IMAGES, objective))


def test_sums_are_added_from_the_left() -> None:
    a, b, c = obj.channel("maps", 0), obj.energy("maps"), 0.1 * obj.l2()
    one, two, three = (net().read(IMAGES, objective) for objective in (a, b, c))
    assert torch.equal(net().read(IMAGES, a + b + c), (one + two) + three)
    assert torch.equal(net().read(IMAGES, a + (b + c)), one + (two + three))
    assert a + b + c != a + (b + c)
    assert torch.equal(net().read(IMAGES, "channel(maps, 0) + energy(maps) + 0.1 * l2()"), (one + two) + three)


def test_addresses_and_texts_are_objectives() -> None:
    assert obj.as_objective("class:koala") == obj.logit("koala")
    assert obj.as_objective("maps:1") == obj.channel("maps", 1)
    assert obj.as_objective("logit(koala) - logit(cat)") == obj.logit("koala") - obj.logit("cat")
    assert obj.as_objective("class:crane (bird)") == obj.logit("crane (bird)")


def test_layers_are_named_once() -> None:
    objective = obj.channel("maps", 0) + obj.energy("maps") + obj.logit(0) - obj.l2()
    assert objective.layers == ("maps", "")


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: obj.logit("kaola"), UnknownName, "no class 'kaola'; did you mean 'koala'"),
        (lambda: obj.probability(3), UnknownName, "no class 3"),
        (lambda: obj.channel("map", 0), UnknownName, "no layer 'map'; did you mean 'maps'"),
        (lambda: obj.channel("maps", 4), UnknownName, r"no channel 4 in layer 'maps' \(accepted: 0 to 3\)"),
        (lambda: obj.channel("maps", -1), UnknownName, "no channel -1"),
        (lambda: obj.neuron("maps", 0, 6, 0), UnknownName, r"no position \(6, 0\) .* \(0, 0\) to \(5, 3\)"),
        (lambda: obj.neuron("maps", 0, -1, 0), UnknownName, "no position"),
        (lambda: obj.neuron("fc", 1), InputError, r"has no positions; use channel\('fc', 1\)"),
        (lambda: obj.direction("maps", torch.ones(3)), InputError, r"length 3 in layer 'maps' \(accepted: 4\)"),
        (lambda: obj.match_features("maps", torch.ones(4, 2, 2)), InputError, r"\(4, 2, 2\) .* \(4, 6, 4\)"),
        (lambda: obj.match_gram("maps", torch.eye(3)), InputError, r"Gram target of shape \(3, 3\) .* \(4, 4\)"),
        (lambda: obj.match_gram("fc", torch.eye(3)), InputError, "layer 'fc' has no positions"),
        (lambda: obj.unit("maps:9@1,1"), UnknownName, "no channel 9"),
        (lambda: obj.unit("maps:x"), InputError, "is no unit"),
        (lambda: obj.logit("cat") + 1, TypeError, "unsupported operand"),
        (lambda: 1 + obj.logit("cat"), TypeError, "unsupported operand"),
        (lambda: obj.logit("cat") * "2", TypeError, "can't multiply"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Callable[[], Objective], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        net().read(IMAGES, make())
    assert issubclass(error, NetloupeError | TypeError)
    with pytest.raises(InputError, match=r"images of 5x5 px don't fit Sequential \(accepted: 8x6 px\)"):
        net().read(IMAGES[..., :5, :5], obj.logit(0))

"""Networks that answer otherwise than by classes: a number, a vector, classes by pixel, boxes, independent classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netloupe
from netloupe import objectives as obj
from netloupe.analysis.fidelity import deletion
from netloupe.core.errors import InputError, NetloupeError, NetworkError, UnknownName
from netloupe.core.head import Classes
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

SIDE = 16
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PLAIN = InputSpec(SIDE, mean=(0, 0, 0), std=(1, 1, 1))


class Trunk(nn.Module):
    """Six smooth maps, so that finite differences can be trusted."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return torch.tanh(self.conv(x))


class Regressor(Trunk):
    """The mean of the squares of all pixels, times two, or as (N, 1)."""

    def __init__(self, wide: bool = False) -> None:
        super().__init__()
        self.wide = wide

    def forward(self, x: Tensor) -> Any:
        self.conv(x)  # a layer to look at, with no part in the answer
        found = 2 * x.square().flatten(1).mean(1)
        return found[:, None] if self.wide else found


class Embedder(Trunk):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).mean((2, 3))


class Segmenter(Trunk):
    """A convolution of one pixel gives four classes, at a part of the size."""

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        self.head, self.shrink = nn.Conv2d(6, 4, 1), shrink

    def forward(self, x: Tensor) -> Any:
        return {"out": self.head(F.avg_pool2d(super().forward(x), self.shrink)), "aux": x}


class Detector(Trunk):
    """Boxes of 8 px on a grid: the score is how bright each is. Which are given depends on the scores, as after nms."""

    def forward(self, x: Tensor) -> Any:
        found = []
        for one in super().forward(x):
            scores = F.avg_pool2d(one[:3], 8).sigmoid()
            best, labels = scores.flatten(1).max(0)
            y, left = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
            corners = torch.stack([left, y], -1).reshape(-1, 2) * 8.0
            kept = best.argsort(descending=True)[: 3 if float(one.mean()) > -9 else 0]
            boxes = torch.cat([corners, corners + 8], 1)
            found.append({"boxes": boxes[kept], "scores": best[kept], "labels": labels[kept] + 1, "masks": None})
        return found


class Queries(Trunk):
    """As DETR answers: logits (N, 5, 2 + 1) and boxes as shares of the image, (center x, center y, width, height)."""

    def forward(self, x: Tensor) -> Any:
        maps = super().forward(x).flatten(2)[:, :, :5].transpose(1, 2)
        return {"logits": maps[:, :, :3], "pred_boxes": maps[:, :, 2:].sigmoid()}


def net(module: nn.Module, **options: Any) -> Network:
    return Network(module.double(), PLAIN, **options)


def slopes(network: Network, image: Tensor, objective: Any, places: list[tuple[int, int, int]]) -> list[float]:
    """By central differences, at (color, y, x)."""
    found = []
    for place in places:
        step = torch.zeros_like(image)
        step[(0, *place)] = 1e-5
        up, down = (float(network.read(image + sign * step, objective).detach()) for sign in (1, -1))
        found.append((up - down) / 2e-5)
    return found


PLACES = [(0, 3, 4), (1, 8, 9), (2, 15, 0)]


@pytest.mark.parametrize("wide", [False, True])
def test_a_value_and_its_gradient(wide: bool) -> None:
    network = net(Regressor(wide), head="value" if wide else None)
    expected = 2 * IMAGES.square().flatten(1).mean(1)
    torch.testing.assert_close(network(IMAGES), expected[:, None])
    torch.testing.assert_close(network.read(IMAGES, "value()"), expected)
    torch.testing.assert_close(netloupe.gradient(network, IMAGES, obj.value()), 4 * IMAGES / IMAGES[0].numel())
    assert network.predict(IMAGES) == [[("value", pytest.approx(float(one)))] for one in expected]
    scores = netloupe.occlusion(network, IMAGES[:1], obj.value(), 8, 8, baseline=0.0).scores[0]
    without = IMAGES[0].clone()
    without[:, :8, 8:] = 0
    assert scores[0, 1] == pytest.approx(float(2 * without.square().mean()))


def test_binary_is_two_classes_by_one_logit() -> None:
    network = net(Regressor(True), head="binary", labels=["cat"])
    z = 2 * IMAGES.square().flatten(1).mean(1)
    torch.testing.assert_close(network.probabilities(IMAGES), torch.stack([(-z).sigmoid(), z.sigmoid()], 1))
    torch.testing.assert_close(network.read(IMAGES, obj.log_odds("cat")), z)
    torch.testing.assert_close(network.read(IMAGES, "logit(not cat)"), -z)
    assert network.predict(IMAGES)[0][0] == ("cat", pytest.approx(float(z[0].sigmoid())))


class Labels(Trunk):
    def __init__(self, end: Any = None) -> None:
        super().__init__()
        self.fc, self.end = nn.Linear(6, 3), end

    def forward(self, x: Tensor) -> Any:
        z = 3 * self.fc(super().forward(x).mean((2, 3)))
        return z if self.end is None else self.end(z)


def test_independent_classes_have_independent_probabilities() -> None:
    network, logits = net(Labels(), head="sigmoid", labels=["a", "b", "c"]), net(Labels())(IMAGES).detach()
    torch.testing.assert_close(network.probabilities(IMAGES), logits.sigmoid())
    torch.testing.assert_close(network.read(IMAGES, "log_probability(b)").detach(), logits[:, 1].sigmoid().log())
    torch.testing.assert_close(network.read(IMAGES, "log_odds(b)").detach(), logits[:, 1])
    best = int(logits[0].argmax())
    assert network.predict(IMAGES)[0][0] == ("abc"[best], pytest.approx(float(logits[0, best].sigmoid())))
    assert str(network.head) == "3 classes, each for itself"


@pytest.mark.parametrize("end", [lambda z: z.softmax(1), lambda z: z.sigmoid()])
def test_probabilities_are_taken_as_they_are(end: Any) -> None:
    network, given = net(Labels(end), head="probabilities"), net(Labels(end))(IMAGES).detach()
    torch.testing.assert_close(network.probabilities(IMAGES), given)
    torch.testing.assert_close(network.read(IMAGES, obj.log_odds(1)).detach(), (given / (1 - given)).log()[:, 1])
    torch.testing.assert_close(network.read(IMAGES, obj.logit(1)).detach(), given[:, 1].log())


def test_a_probability_of_zero_stays_finite() -> None:
    network = net(Labels(lambda z: F.one_hot(z.argmax(1), 3).to(z)), head="probabilities")
    assert sorted(network.probabilities(IMAGES)[0].tolist()) == pytest.approx([0, 0, 1])
    assert bool(network.read(IMAGES, obj.log_odds(int(network(IMAGES)[0].argmax()))).isfinite().all())


@pytest.mark.parametrize("shrink", [1, 4])
def test_classes_by_pixel(shrink: int) -> None:
    module = Segmenter(shrink)
    network = net(module, labels=["sky", "tree", "road", "car"])
    raw = module.double()(IMAGES)["out"].detach()
    maps = raw if shrink == 1 else F.interpolate(raw, (SIDE, SIDE), mode="bilinear")
    torch.testing.assert_close(network(IMAGES).detach(), maps)
    classes = maps.argmax(1)
    torch.testing.assert_close(network.read(IMAGES, "pixel_class(tree, 3, 5)").detach(), maps[:, 1, 3, 5])
    shares = sorted((float((classes[0] == c).double().mean()) for c in range(4)), reverse=True)
    assert [share for _, share in network.predict(IMAGES)[0]] == pytest.approx([one for one in shares if one > 0])
    top = network.predict(IMAGES)[0][0][0]
    index = ["sky", "tree", "road", "car"].index(top)
    found = network.read(IMAGES[:1], network.fixed(obj.region_class(top), IMAGES[:1])).detach()
    assert float(found) == pytest.approx(float(maps[0, index][classes[0] == index].mean()))
    box = network.read(IMAGES, obj.region_class(top, torch.tensor([2, 3, 6, 9])))
    assert float(box[0].detach()) == pytest.approx(float(maps[0, index, 2:6, 3:9].mean()))
    assert obj.parse(f"region_class({top}, [2, 3, 6, 9])") == obj.region_class(top, torch.tensor([2, 3, 6, 9]))


def test_a_region_stays_that_of_the_clean_image() -> None:
    network = net(Segmenter())
    score = obj.region_class(network.predictions(IMAGES[:1])[0][0].index)
    mask = (network(IMAGES[:1]).argmax(1) == score.name).float()
    assert 0 < float(mask.mean()) < 1
    other = torch.rand_like(IMAGES[:1])
    assert not torch.equal((network(other).argmax(1) == score.name).float(), mask)
    held = obj.region_class(score.name, mask[0])
    fixed = network.fixed(score, IMAGES[:1])
    torch.testing.assert_close(network.read(other, fixed), network.read(other, held))
    for attribution in (
        netloupe.gradient,
        netloupe.grad_cam,
        lambda *given: netloupe.smooth_grad(*given, samples=3),
        lambda *given: netloupe.integrated_gradients(*given, steps=3),
        lambda *given: torch.from_numpy(netloupe.occlusion(*given, 4, 4).scores),
    ):
        found = attribution(network, IMAGES[:1], score)
        assert float(found.abs().max()) > 0
        torch.testing.assert_close(found, attribution(network, IMAGES[:1], held))
    assert slopes(network, IMAGES[:1], fixed, PLACES) == pytest.approx(
        [float(netloupe.gradient(network, IMAGES[:1], score)[(0, *place)]) for place in PLACES]
    )
    with pytest.raises(InputError, match="was not fixed on an image"):
        network.read(other, score)
    with pytest.raises(InputError, match=r"region_class\(0\) needs the image whose region it is"):
        netloupe.visualize(network, obj.region_class(0), steps=1)


def test_each_image_of_a_batch_has_its_own_region() -> None:
    network = net(Segmenter())
    index = int(network(IMAGES).argmax(1).mode().values[0, 0])
    together = netloupe.gradient(network, IMAGES, obj.region_class(index))
    alone = [netloupe.gradient(network, one[None], obj.region_class(index)) for one in IMAGES]
    torch.testing.assert_close(together, torch.cat(alone))
    torch.testing.assert_close(
        deletion(network, IMAGES, obj.region_class(index), together.abs().amax(1), steps=3),
        torch.cat(
            [
                deletion(network, one[None], obj.region_class(index), map_.abs().amax(1), steps=3)
                for one, map_ in zip(IMAGES, alone, strict=True)
            ]
        ),
    )


def test_grad_cam_of_a_segmenter_is_not_of_its_own_answer() -> None:
    network = net(Segmenter())
    index = network.predictions(IMAGES[:1])[0][0].index
    expected = netloupe.grad_cam(network, IMAGES[:1], obj.region_class(index), "conv")
    assert float(expected.max()) > 0
    torch.testing.assert_close(netloupe.grad_cam(network, IMAGES[:1], obj.region_class(index)), expected)


def test_likeness_of_vectors() -> None:
    network = net(Embedder(), head="vector")
    a, b = network(IMAGES).detach()
    cosine = float(a @ b / (a.norm() * b.norm()))
    assert 0.1 < abs(cosine) < 0.9999
    for other in (b, IMAGES[1], IMAGES[1:]):
        objective = obj.similarity(other)
        fixed = network.fixed(objective, IMAGES[:1])
        assert float(network.read(IMAGES[:1], fixed)) == pytest.approx(cosine)
        found = netloupe.gradient(network, IMAGES[:1], objective)
        expected = [float(found[(0, *place)]) for place in PLACES]
        assert max(map(abs, expected)) > 1e-6
        assert slopes(network, IMAGES[:1], fixed, PLACES) == pytest.approx(expected, rel=1e-4)
    made = netloupe.visualize(network, obj.similarity(IMAGES[1]), steps=3)
    assert made.scores[0] > made.before[0]


def test_likeness_to_itself_has_no_gradient_and_says_so() -> None:
    network = net(Embedder(), head="vector")
    with pytest.raises(NetworkError, match="at its highest at the image itself, so its gradient there is zero"):
        netloupe.gradient(network, IMAGES, obj.similarity())
    scores = netloupe.occlusion(network, IMAGES, obj.similarity(), 8, 8)
    assert scores.clean == pytest.approx([1, 1])
    assert (scores.scores < 1).all()
    found = netloupe.explain(network, IMAGES[0], steps=4)
    assert {"integrated_gradients", "smooth_grad", "occlusion"} == set(found.maps)
    assert "at its highest" in found.skipped["gradient"]
    assert found.target.title == "likeness to itself"


def test_boxes_and_the_score_of_one() -> None:
    module = Detector()
    network = net(module, labels=["none", "cat", "dog", "owl"])
    found = module.double()(IMAGES)[0]
    answer = network(IMAGES)
    assert answer.shape == (2, 3, 6)
    x0, y0, x1, y1 = (float(side) for side in found["boxes"][0])
    assert answer[0, 0].tolist() == pytest.approx([y0, x0, y1, x1, float(found["scores"][0]), int(found["labels"][0])])
    best = network.predictions(IMAGES)[0][0]
    assert (best.box, best.index) == ((y0, x0, y1, x1), int(found["labels"][0]))
    exact = obj.box_score(best.box, best.label)
    assert float(network.read(IMAGES[:1], exact)) == pytest.approx(best.number)
    half = obj.box_score((y0, x0, y1, x0 + 4), best.index)
    assert float(network.read(IMAGES[:1], half)) == pytest.approx(best.number / 2)
    shifted = obj.box_score((y0 + 4, x0, y1 + 4, x1), best.index)
    assert float(network.read(IMAGES[:1], shifted)) >= best.number / 3 - 1e-9
    gradient = netloupe.gradient(network, IMAGES[:1], exact)
    expected = [float(gradient[(0, *place)]) for place in PLACES]
    assert float(gradient.abs().max()) > 0
    assert slopes(network, IMAGES[:1], exact, PLACES) == pytest.approx(expected, abs=1e-9)
    assert obj.parse(str(exact)) == exact


def test_images_with_fewer_boxes_are_filled_up() -> None:
    class Some(nn.Module):
        def forward(self, x: Tensor) -> Any:
            boxes = torch.tensor([[1.0, 2, 5, 7], [0, 0, 9, 9]])
            return [
                {"boxes": boxes[:n], "scores": one.mean().expand(n), "labels": torch.ones(n, dtype=torch.int64)}
                for n, one in zip((0, 2), x, strict=True)
            ]

    network = net(Some(), head="detections")
    assert network(IMAGES)[0].tolist() == [[0, 0, 0, 0, 0, -1]] * 2
    assert network.predict(IMAGES)[0] == []
    assert network.read(IMAGES, "box_score([2, 1, 7, 5], 1)").tolist() == pytest.approx([0, float(IMAGES[1].mean())])


def test_boxes_of_queries() -> None:
    module = Queries()
    network = net(module)
    raw = {name: one.detach()[0] for name, one in module.double()(IMAGES).items()}
    for row, logits, (x, y, w, h) in zip(network(IMAGES)[0], raw["logits"], raw["pred_boxes"].tolist(), strict=True):
        likely = logits.softmax(0)[:2]
        expected = [y - h / 2, x - w / 2, y + h / 2, x + w / 2]
        assert row[:4].tolist() == pytest.approx([SIDE * side for side in expected])
        assert (float(row[4]), int(row[5])) == (pytest.approx(float(likely.max())), int(likely.argmax()))


def test_explanations_tell_what_was_answered() -> None:
    cases = {
        "value": (Regressor(), {}, "the value", "The network gives"),
        "maps": (Segmenter(), {}, "where it is predicted", "Classes by share of the area"),
        "detections": (Detector(), {}, "box of ", "Boxes by score"),
        "sigmoid": (Labels(), {"head": "sigmoid"}, "", "Top predictions"),
        "binary": (Regressor(True), {"head": "binary"}, "1", "Top predictions"),
    }
    for module, options, title, answered in cases.values():
        network = Network(module.float(), PLAIN, **options)
        found = netloupe.explain(network, IMAGES[0].float(), methods=["gradient", "occlusion"], steps=3)
        assert title in found.target.title
        assert found.answered.startswith(answered)
        assert answered in found.documents()["explain.html"]
        assert found.pictures()["explain"].shape[2] == 3
        assert found.summary()["predictions"]
        assert found.task.words(found.summary())
        assert not np.allclose(found["gradient"].attribution, 0)
        assert not np.allclose(found["occlusion"].attribution, 0)


def test_occluding_shows_what_there_is_to_read() -> None:
    for module, options, name in (
        (Regressor(), {}, "value()"),
        (Segmenter(), {}, "region_class("),
        (Detector(), {}, "box_score("),
        (Embedder(), {"head": "vector"}, "similarity()"),
    ):
        network = Network(module.float(), PLAIN, **options)
        found = netloupe.occlude(network, IMAGES[0].float())
        assert found.name.startswith(name)
        assert found.provenance["parameters"]["objective"] is None  # decided by the network, and so again
        assert found.pictures()
        assert np.ptp(found.each[0].scores) > 0


def test_fooling_flips_an_independent_label() -> None:
    module, images = Labels().float(), IMAGES.float()
    with torch.no_grad():
        module.fc.bias += (
            torch.tensor([-0.1, 0.1, -0.1]) - module(images).mean(0)
        ) / 3  # near the border, on both sides
    network = Network(module, PLAIN, head="sigmoid", labels=["a", "b", "c"])
    before = network.probabilities(images)
    for target in range(3):
        made = netloupe.fool(network, images, target, sure=0.51, lr=2 / 255, steps=300)
        after = network.probabilities(torch.from_numpy(made.images))[:, target]
        assert made.fooled.all()
        assert ((after >= 0.5) != (before[:, target] >= 0.5)).all()
        one = made.summary()["images"][0]
        assert {one["before"], one["predicted"]} == {"abc"[target], f"no {'abc'[target]}"}
    assert {bool(one) for one in (before[0] < 0.5)} == {True, False}  # both ways were taken


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: net(Segmenter()).read(IMAGES, "pixel_class(4, 0, 0)"), UnknownName, r"no class 4 \(accepted: 0 to 3"),
        (lambda: net(Segmenter()).read(IMAGES, "pixel_class(1, 0, 16)"), UnknownName, r"no pixel \(0, 16\)"),
        (lambda: net(Segmenter()).read(IMAGES, "value()"), NetworkError, r"value\(\) needs one number an image, but"),
        (lambda: net(Segmenter()).read(IMAGES, obj.region_class(1, torch.ones(3, 3))), InputError, "a mask of shape"),
        (lambda: net(Segmenter()).read(IMAGES, "region_class(1, [20, 20, 30, 30])"), InputError, "no pixel of the"),
        (lambda: net(Labels()).read(IMAGES, "box_score([0, 0, 4, 4], 1)"), NetworkError, "box_score needs boxes, but"),
        (lambda: net(Labels()).read(IMAGES, "region_class(1, [0, 0, 4, 4])"), NetworkError, "needs classes by pixel"),
        (lambda: net(Labels()).read(IMAGES, "similarity([1, 2])"), NetworkError, "similarity needs a vector an image"),
        (lambda: net(Embedder(), head="vector").read(IMAGES, "similarity([1, 2])"), InputError, "one of 6"),
        (lambda: net(Embedder(), head="vector").read(IMAGES, "similarity()"), InputError, "was not fixed"),
        (lambda: net(Embedder(), head="vector").predict(IMAGES), NetworkError, "a prediction needs classes, but"),
        (lambda: obj.box_score((0, 0, 0, 4), 1), InputError, "top, left, bottom, right"),
        (lambda: obj.box_score((0, 0, 4), 1), InputError, "top, left, bottom, right"),
        (lambda: netloupe.fool(net(Regressor()), IMAGES, 1), NetworkError, "fool needs classes, but the network"),
        (lambda: netloupe.occlude(net(Regressor()), IMAGES), InputError, "2 images"),
        (lambda: netloupe.occlude(net(Regressor()), IMAGES[0], layer="conv"), InputError, "a layer was given, but"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        make()
    assert isinstance(raised.value, NetloupeError)
    assert "\n" not in str(raised.value)


def test_a_head_decides_what_a_network_is() -> None:
    prints = {
        Network(Labels(), PLAIN, **options).fingerprint()
        for options in (
            {},
            {"head": "sigmoid"},
            {"head": "vector"},
            {"output": lambda x: x[:, :2]},
            {"output": lambda x: x[:, :1]},
            {"head": Classes(count=3)},
        )
    }
    assert len(prints) == 6
    assert Network(Labels(), PLAIN).fingerprint() == Network(Labels(), PLAIN).fingerprint()
    same = [Network(Labels(), PLAIN, output=_first).fingerprint() for _ in range(2)]
    assert same[0] == same[1]
    assert math.isfinite(int(same[0], 16))


def _first(found: Any) -> Tensor:
    tensor: Tensor = found[:, :2]
    return tensor

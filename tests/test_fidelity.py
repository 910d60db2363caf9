"""How far maps can be trusted: against plain loops, SciPy, and networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atlas_helpers import tiny_network
from core_helpers import Fn
from netloupe import objectives as obj
from netloupe.analysis.baselines import baseline_images
from netloupe.analysis.fidelity import (
    area,
    deletion,
    insertion,
    pointing_hit,
    points,
    randomized,
)
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network

# --- weights drawn anew


class Parts(nn.Module):
    """Every kind of module that `randomized` meets: what resets itself, what does not, and what does so in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.scale = Scale(8)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 6, 1))
        self.relu = nn.ReLU()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale(self.norm(self.conv(x)))
        logits: Tensor = self.fc(self.relu(self.normed(y)).mean((2, 3)))
        return logits


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.arange(1.0, channels + 1).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def parts() -> Network:
    torch.manual_seed(0)
    module = Parts()
    module.norm.running_mean.fill_(3.0)
    module.norm.weight.data.uniform_(1, 2)
    return Network(module, InputSpec((10, 10)), list("abcd"), name="parts")


def test_all_weights_are_drawn_anew_and_the_network_stays_as_it_was() -> None:
    net = parts()
    before, fingerprint = {k: v.clone() for k, v in net.module.state_dict().items()}, net.fingerprint()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    copied = randomized(net)
    assert torch.equal(torch.rand(3), expected)  # the random state is given back
    assert net.fingerprint() == fingerprint
    after = copied.module.state_dict()
    assert set(after) == set(before)
    for name, value in before.items():
        assert torch.equal(value, net.module.state_dict()[name])
        assert torch.equal(value, after[name]) == (
            name in ("norm.bias", "norm.running_var", "norm.num_batches_tracked")
        )
    assert torch.equal(after["norm.running_mean"], torch.zeros(8))
    assert torch.equal(after["norm.weight"], torch.ones(8))
    assert sorted(after["scale.factor"].flatten().tolist()) == list(range(1, 9))
    images = torch.rand(2, 3, 10, 10)
    assert not torch.allclose(copied(images), net(images))
    assert copied.labels == net.labels
    assert "parts" in copied.name


def test_only_the_named_layers_are_drawn_anew() -> None:
    net = parts()
    after = randomized(net, ["fc", "scale"]).module.state_dict()
    changed = {name for name, value in net.module.state_dict().items() if not torch.equal(value, after[name])}
    assert changed == {"fc.weight", "fc.bias", "scale.factor"}


def test_the_seed_decides_what_is_drawn() -> None:
    net = parts()
    first, again, other = (randomized(net, ["conv"], seed).module.conv.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (["fcc"], UnknownName, "did you mean 'fc'"),
        (["relu"], InputError, "layer 'relu' has no parameters to draw anew"),
        ([], InputError, "no parameters to draw anew"),
    ],
)
def test_what_cannot_be_drawn_anew(layers: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        randomized(parts(), layers)


def test_a_network_without_parameters_cannot_be_drawn_anew() -> None:
    with pytest.raises(InputError, match="no parameters"):
        randomized(Network(Fn(lambda x: x.mean((2, 3))), InputSpec((4, 4))))


# --- deletion and insertion

SIDE = 8


def linear(seed: int = 0) -> Network:
    """Two logits, each a weighted sum of the pixels; the data set's mean color is (0.2, 0.4, 0.6)."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    return Network(module, InputSpec((SIDE, SIDE), mean=(0.2, 0.4, 0.6), std=(0.5,)), ["a", "b"])


def some_images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def exact(net: Network, images: Tensor, covers: Tensor) -> Tensor:
    """(N, H, W): what each pixel adds to logit 0 of a linear network over the cover."""
    weights = net.module[1].weight[0].detach().view(3, SIDE, SIDE) / 0.5
    return ((images - covers) * weights).sum(1)


def test_deletion_is_a_plain_loop() -> None:
    net, images = linear(), some_images(2)
    importance = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    curves = deletion(net, images, obj.logit(0), importance, steps=5, batch_size=4)
    color = torch.tensor([0.2, 0.4, 0.6])
    for image, values, curve in zip(images, importance, curves, strict=True):
        order = np.argsort(-values.flatten().numpy())
        for step in range(6):
            hidden = image.clone()
            for p in order[: round(step * SIDE * SIDE / 5)]:
                hidden[:, p // SIDE, p % SIDE] = color
            assert curve[step] == pytest.approx(float(net(hidden[None])[0, 0].detach()), abs=1e-5)
    assert curves.std(1).min() > 0.01


@pytest.mark.parametrize("baseline", ["mean", "blur", 0.0])
def test_deletion_ends_where_insertion_begins(baseline: str | float) -> None:
    net, images = linear(), some_images()
    importance = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    objective = obj.probability("a")
    clean, covered = net.read(images, objective), net.read(baseline_images(net, images, baseline), objective)
    assert (clean - covered).abs().min() > 1e-4
    gone = deletion(net, images, objective, importance, steps=7, baseline=baseline)
    back = insertion(net, images, objective, importance, steps=7, baseline=baseline)
    assert gone.shape == back.shape == (3, 8)
    for curves, first, last in ((gone, clean, covered), (back, covered, clean)):
        assert torch.allclose(curves[:, 0], first, atol=1e-6)
        assert torch.allclose(curves[:, -1], last, atol=1e-6)
    mirrored = deletion(net, images, objective, -importance, steps=7, baseline=baseline)
    assert torch.allclose(back, mirrored.flip(1), atol=1e-6)  # what comes first comes back first


def test_a_perfect_map_beats_any_other() -> None:
    net, images = linear(), some_images()
    covers = baseline_images(net, images, "mean")
    perfect = exact(net, images, covers)
    assert torch.allclose(perfect.sum((1, 2)), (net(images) - net(covers))[:, 0], atol=1e-4)
    best = area(deletion(net, images, obj.logit(0), perfect))
    worst = area(deletion(net, images, obj.logit(0), -perfect))
    back = area(insertion(net, images, obj.logit(0), perfect, baseline="mean"))
    for seed in range(10):
        other = torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        between = area(deletion(net, images, obj.logit(0), other))
        assert (best < between).all()
        assert (between < worst).all()
        assert (area(insertion(net, images, obj.logit(0), other, baseline="mean")) < back).all()


def test_the_batch_size_does_not_matter() -> None:
    net, images = tiny_network(), torch.rand(3, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    importance = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(1))
    whole = deletion(net, images, "conv2:5", importance, steps=6)
    assert torch.allclose(whole, deletion(net, images, "conv2:5", importance, steps=6, batch_size=5), atol=1e-6)
    alone = deletion(net, images[1:2], "conv2:5", importance[1:2], steps=6)
    assert torch.allclose(whole[1:2], alone, atol=1e-6)
    assert whole.std(1).min() > 1e-4


def test_equal_pixels_go_in_an_order_that_favors_no_side() -> None:
    net = Network(Fn(lambda x: x[:, :, : SIDE // 2].mean((2, 3))), InputSpec((SIDE, SIDE), mean=(0.0,)))
    curve = deletion(net, torch.ones(1, 3, SIDE, SIDE), obj.logit(0), torch.zeros(1, SIDE, SIDE), steps=4)[0]
    assert curve[0] == pytest.approx(1)
    assert curve[-1] == pytest.approx(0)
    assert 0.3 < float(curve[2]) < 0.7  # by rows it would be 0 here


def test_area() -> None:
    assert area(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist() == [0.5, 1.0]
    assert area(torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]])).tolist() == [0.5]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"importance": torch.zeros(1, SIDE, 5)}, InputError, r"importance of shape \(1, 8, 5\) \(accepted: \(1, 8, 8"),
        ({"importance": torch.full((1, SIDE, SIDE), torch.nan)}, InputError, "not finite"),
        ({"steps": 0}, InputError, "0 steps"),
        ({"batch_size": 0}, InputError, "batches of 0"),
        ({"baseline": "meen"}, UnknownName, "meen"),
        ({"objective": obj.logit("z")}, UnknownName, "no class 'z'"),
        ({"objective": obj.logit(0) * float("inf")}, NetworkError, "not finite"),
        ({"images": torch.full((1, 3, SIDE, SIDE), 2.0)}, InputError, "accepted"),
    ],
)
def test_deletion_and_insertion_refuse(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"images": some_images(1), "objective": obj.logit(0), "importance": torch.rand(1, SIDE, SIDE)} | change
    for curve in (deletion, insertion):
        with pytest.raises(error, match=message):
            curve(linear(), **arguments)  # type: ignore[operator]


def test_area_refuses_what_is_no_curve() -> None:
    with pytest.raises(InputError, match="at least one step"):
        area(torch.zeros(3, 1))


# --- the pointing game


def test_points_are_the_peaks() -> None:
    maps = torch.zeros(4, 6, 7)
    maps[0, 2, 5] = 1
    maps[1] = -1
    maps[1, 4, 3] = -0.5
    maps[2, 1:4, 2:5] = 3  # a window: its middle
    assert points(maps).tolist() == [[2, 5], [4, 3], [2, 3], [-1, -1]]


def test_of_peaks_far_apart_one_is_taken() -> None:
    maps = torch.zeros(1, 5, 9)
    maps[0, 2, 0] = maps[0, 2, 8] = 1
    assert points(maps).tolist()[0] in ([2, 0], [2, 8])


@pytest.mark.parametrize(
    ("point", "tolerance", "hit"),
    [
        ((2, 3), 0, True),
        ((5, 7), 0, True),
        ((6, 7), 0, False),  # the box ends before its bottom
        ((5, 8), 0, False),
        ((1, 3), 0, False),
        ((6, 7), 1, True),
        ((7, 9), 2, False),  # 2 px down and 2 px right are 2.8 px
        ((7, 9), 2.9, True),
        ((-1, -1), 99, False),
    ],
)
def test_pointing_hit(point: tuple[int, int], tolerance: float, hit: bool) -> None:
    boxes = torch.tensor([[2, 3, 6, 8], [0, 0, 1, 1]])
    found = pointing_hit(torch.tensor([point, (0, 0)]), boxes, tolerance)
    assert found.tolist() == [hit, True]


def test_pointing_refuses() -> None:
    with pytest.raises(InputError, match="boxes"):
        pointing_hit(torch.zeros(2, 2), torch.zeros(3, 4))
    with pytest.raises(InputError, match="tolerance -1"):
        pointing_hit(torch.zeros(1, 2), torch.zeros(1, 4), -1)
    with pytest.raises(InputError, match=r"accepted: \(N, H, W\)"):
        points(torch.zeros(3, 3))

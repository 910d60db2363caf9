"""Moments of feature maps and pixels, and objectives on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netloupe
from netloupe import InputSpec, Network
from netloupe.core import objectives as obj
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.moments import covariance, gram, neighborhoods, relative_distance
from netloupe.synthesis.looks import as_weights, look
from netloupe.synthesis.statistics import PIXELS, preset_layers, statistics


@pytest.fixture(scope="module")
def net() -> Network:
    return netloupe.load()


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 3, 40, 32, generator=generator)


def test_gram_and_covariance_by_loops() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 3, 4, 5, generator=generator)
    found, (mean, cov) = gram(maps), covariance(maps)
    for n in range(2):
        for a in range(3):
            for b in range(3):
                products = [float(maps[n, a, y, x] * maps[n, b, y, x]) for y in range(4) for x in range(5)]
                assert float(found[n, a, b]) == pytest.approx(sum(products) / 20, abs=1e-6)
        flat = maps[n].flatten(1).numpy()
        assert np.allclose(mean[n], flat.mean(1), atol=1e-6)
        assert np.allclose(cov[n], np.cov(flat, bias=True), atol=1e-6)
    assert float(found.abs().min()) > 0


def test_a_mask_leaves_the_moments_of_what_it_shows() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(1, 3, 6, 8, generator=generator)
    mask = torch.zeros(12, 16)  # twice as large: averaged down
    mask[:, :6] = 1
    shown = maps[:, :, :, :3]
    assert torch.allclose(gram(maps, mask), gram(shown), atol=1e-6)
    for found, wanted in zip(covariance(maps, mask), covariance(shown), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert not torch.allclose(gram(maps, mask), gram(maps), atol=0.05)
    with pytest.raises(InputError, match="empty or negative"):
        gram(maps, torch.zeros(6, 8))
    with pytest.raises(InputError, match="empty or negative"):
        gram(maps, mask - 0.5)


def test_neighborhoods_hold_the_pixels_around() -> None:
    image = torch.arange(2 * 5 * 6, dtype=torch.float32).view(1, 2, 5, 6)
    around = neighborhoods(image, 3)
    assert around.shape == (1, 18, 3, 4)
    for y in range(3):
        for x in range(4):
            assert torch.equal(around[0, :, y, x], image[0, :, y : y + 3, x : x + 3].flatten())
    with pytest.raises(InputError, match="images of \\(2, 9\\) px"):
        neighborhoods(torch.zeros(1, 3, 2, 9), 3)


@pytest.mark.parametrize("kind", ["gram", "covariance"])
def test_an_objective_is_minus_the_weighted_distances(net: Network, images: Tensor, kind: str) -> None:
    layers = {"relu1": 0.5, "relu3": 0.2, PIXELS: 0.3}
    found = statistics(net, images, list(layers), kind)
    objective = found.objective(layers)
    scores = net.read(images, objective).detach()
    distances = found.distances(found.chosen([0]))
    wanted = -sum(weight * distances[name] for name, weight in layers.items())
    assert torch.allclose(scores, wanted, rtol=1e-4, atol=1e-7)
    assert float(scores[0]) == pytest.approx(0, abs=1e-6)
    assert float(scores[1]) < -0.005
    assert repr(objective) != repr(found.chosen([1]).objective(layers))


def test_relative_distances_and_mixtures(net: Network, images: Tensor) -> None:
    assert relative_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]])).tolist() == pytest.approx([16 / 9])
    found = statistics(net, images, ["relu2"])
    (mixed,) = found.mixed(torch.tensor([[0.25, 0.75, 0.0]])).moments["relu2"]
    (each,) = found.moments["relu2"]
    assert torch.allclose(mixed[0], 0.25 * each[0] + 0.75 * each[1], atol=1e-6)
    assert not torch.allclose(mixed[0], each[0], rtol=0.01)


def test_match_gram_is_equation_4(net: Network, images: Tensor) -> None:
    maps = net.activations(images, ["relu2"])["relu2"].double()
    target = gram(maps[1:2].float())[0]
    score = net.read(images[:1], obj.match_gram("relu2", target)).detach()
    flat = maps[0].flatten(1)
    own = flat @ flat.T / flat.shape[1]
    wanted = -float((own - target.double()).square().sum()) / (4 * len(own) ** 2)
    assert float(score[0]) == pytest.approx(wanted, rel=1e-4)
    assert wanted < 0


def test_presets_name_the_layers_of_the_papers(net: Network) -> None:
    assert preset_layers(net, "gatys") == (
        dict.fromkeys(["relu1", "relu2", "relu3", "relu5", "relu7"], 1.0), {"relu6": 1.0},
    )  # fmt: skip
    sharp, content = preset_layers(net)
    assert sharp == {PIXELS: 4.0, "relu1": 1.0, "relu2": 1.0, "relu3": 1.0, "relu5": 1.0}
    assert content == {"relu4": 1.0}
    assert preset_layers(net, "johnson")[0] == dict.fromkeys(["relu1", "relu2", "relu4", "relu6"], 1.0)
    with pytest.raises(UnknownName, match="did you mean 'gatys'"):
        preset_layers(net, "gatis")
    blocks = [nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Tanh()]
    plain = Network(nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * 16, 2)), InputSpec((8, 8)))
    assert list(preset_layers(plain, "gatys")[0]) == ["0", "2"]
    flat = Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), InputSpec((8, 8)))
    with pytest.raises(InputError, match="has no map over the image, so no style"):
        preset_layers(flat)


def test_weights_of_layers(net: Network) -> None:
    assert as_weights(net, ["relu1", "relu2"]) == {"relu1": 0.5, "relu2": 0.5}
    assert as_weights(net, {"relu1": 3, "relu2": 0, PIXELS: 1}, also=(PIXELS,)) == {"relu1": 0.75, PIXELS: 0.25}
    with pytest.raises(UnknownName, match="no layer 'relu9'"):
        as_weights(net, ["relu9"])
    for wrong in ({}, {"relu1": -1.0}, {"relu1": 0.0}, {"relu1": float("inf")}):
        with pytest.raises(InputError, match="accepted: 1 or more, weights of 0 or more"):
            as_weights(net, wrong)


def test_a_look_has_the_statistics_of_its_images(net: Network, images: Tensor) -> None:
    one = look(net, [images[0]], layers=["relu1", "relu2"])
    assert float(one.distances(images[:1], one.targets())["relu2"][0]) == pytest.approx(0, abs=1e-9)
    both = look(net, [images[0], images[1]], shares=[1, 0], layers=["relu1", "relu2"])
    (a,), (b,) = one.targets(), both.targets()
    assert torch.allclose(a.moments["relu2"][0], b.moments["relu2"][0])
    mask = torch.zeros(40, 32)
    mask[:, :16] = 1
    halves = look(net, [images[0], images[1]], layers=["relu1"], masks=[mask, 1 - mask])
    assert len(halves.targets()) == 2
    score = net.read(images, halves.objective(halves.targets()))
    assert torch.allclose(score, -halves.distances(images, halves.targets())["relu1"], rtol=1e-4, atol=1e-7)
    for wrong, message in (
        ({"shares": [1.0]}, "weights \\[1.0\\] for 2 style images"),
        ({"shares": [0, 0]}, "not all 0"),
        ({"masks": [mask]}, "1 masks for 2"),
        ({"statistic": "grim"}, "did you mean 'gram'"),
    ):
        with pytest.raises(netloupe.NetloupeError, match=message):
            look(net, [images[0], images[1]], **wrong).targets()  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no style image"):
        look(net, [])
    with pytest.raises(InputError, match="style images of 2x2 px don't fit"):
        look(net, [images[0, :, :2, :2]]).targets()

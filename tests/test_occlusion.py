"""Occlusion: identities, an oracle in plain loops, Captum, the four panels, the command, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import netloupe
from atlas_helpers import tiny_network, write_photos
from core_helpers import Fn
from netloupe import InputSpec, NetloupeError, Network
from netloupe import objectives as obj
from netloupe.analysis.occlude import OcclusionPanels, Occlusions, occlude
from netloupe.analysis.windows import Windows
from netloupe.cli.app import main
from netloupe.data.open import open_source

IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(1))
SCORE = obj.logit("dog")


def by_hand(net: Network, image: Tensor, window: int, stride: int, color: Tensor, score: int) -> np.ndarray:
    """One full pass per position, in plain loops."""
    height, width = image.shape[1:]
    rows = []
    top = 0
    while True:
        row, left = [], 0
        while True:
            hidden = image.clone()
            hidden[:, top : top + window, left : left + window] = color.view(-1, 1, 1)
            with torch.no_grad():
                row.append(float(net(hidden[None])[0, score]))
            if left + window >= width:
                break
            left += stride
        rows.append(row)
        if top + window >= height:
            break
        top += stride
    return np.array(rows)


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (7, 5), (24, 24), (1, 1)])
def test_equal_to_plain_loops(window: int, stride: int) -> None:
    net = tiny_network()
    image = IMAGES[:1, :, :, :] if window > 1 else IMAGES[:1, :, :12, :10]
    found = netloupe.occlusion(net, image, SCORE, window, stride, baseline=[0.1, 0.5, 0.9])
    expected = by_hand(net, image[0], window, stride, torch.tensor([0.1, 0.5, 0.9]), 1)
    assert found.method == "incremental"
    assert found.scores.shape == (1, *expected.shape)
    assert expected.std() > 1e-4
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found.clean, net(image)[:, 1].detach(), rtol=1e-5)


def test_equal_to_captum() -> None:
    """Captum gives for each pixel the mean drop over the windows that hide it."""
    net = tiny_network()
    net.module.eval()
    module = nn.Sequential(Fn(net.inputs.normalize), net.module)
    theirs = captum.attr.Occlusion(module).attribute(IMAGES, (3, 7, 7), (3, 3, 4), baselines=0.3, target=1)
    found = netloupe.occlusion(net, IMAGES, SCORE, 7, (3, 4), baseline=0.3)
    assert theirs.abs().max() > 1e-3
    np.testing.assert_allclose(found.heat(), theirs[:, 0].numpy(), atol=1e-5)


def test_one_pixel_by_zero_on_a_linear_network_is_input_times_gradient() -> None:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 5, 4)).double(), InputSpec((6, 5)))
    x = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    drops = netloupe.occlusion(net, x, obj.logit(3), 1, 1, baseline=0.0).drops
    product = (x * netloupe.gradient(net, x, obj.logit(3))).sum(1).numpy()
    assert np.abs(product).max() > 1e-3
    np.testing.assert_allclose(drops, product, atol=1e-12)


@pytest.mark.parametrize("baseline", ["mean", "blur", 0.25])
@pytest.mark.parametrize("score", [SCORE, obj.probability(2), "conv2:5", obj.energy("relu"), SCORE - 0.1 * obj.l2()])
def test_incremental_or_not(baseline: str | float, score: obj.Objective | str) -> None:
    net = tiny_network()
    ways = [netloupe.occlusion(net, IMAGES, score, 8, 4, baseline, incremental=way) for way in (True, False)]
    assert [way.method for way in ways] == ["incremental", "full passes: asked for"]
    assert ways[1].scores.std() > 0
    np.testing.assert_allclose(ways[0].scores, ways[1].scores, atol=1e-5 * np.abs(ways[1].scores).max())
    np.testing.assert_allclose(ways[0].clean, ways[1].clean, rtol=1e-5)


def test_mean_baseline_is_that_of_the_input_spec() -> None:
    net = Network(tiny_network().module, InputSpec((24, 32), mean=(0.2, 0.4, 0.6), std=(0.25,)))
    one, other = (netloupe.occlusion(net, IMAGES, obj.logit(1), 8, 8, b).scores for b in ("mean", [0.2, 0.4, 0.6]))
    np.testing.assert_array_equal(one, other)


def test_several_windows_are_those_of_each() -> None:
    net = tiny_network()
    both = occlude(net, IMAGES, SCORE, windows=[8, (5, 6)])
    assert isinstance(both, Occlusions)
    for one, (window, stride) in zip(both.each, [(8, 4), ((5, 6), (2, 3))], strict=True):
        alone = netloupe.occlusion(net, IMAGES, SCORE, window, stride)
        np.testing.assert_array_equal(one.scores, alone.scores)


def test_the_approximation_reports_its_error() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3 if i == 0 else 4, 4, 5, padding=2) for i in range(4)]
    net = Network(nn.Sequential(*layers, Fn(lambda x: x.square().mean((2, 3)))), InputSpec((24, 32)))
    exact = netloupe.occlusion(net, IMAGES, obj.logit(1), 4, 4)
    assert exact.error is None
    for options in ({"growth": 0.5}, {"bfloat16": True}):
        near = netloupe.occlusion(net, IMAGES, obj.logit(1), 4, 4, **options)
        off = np.abs(near.scores - exact.scores).reshape(2, -1).max(1) / np.ptp(exact.scores.reshape(2, -1), axis=1)
        assert near.error is not None
        assert 0 < near.error <= off.max() * 2
        assert near.error < 1
        assert np.corrcoef(near.scores.ravel(), exact.scores.ravel())[0, 1] > 0.95


def test_heat_of_the_windows() -> None:
    windows = Windows((4, 4), (2, 2), (6, 6))
    assert windows.grid == (2, 2)
    assert windows.box(1, 0) == (2, 0, 6, 4)
    assert Windows((4, 4), (3, 3), (6, 6)).box(1, 1) == (3, 3, 6, 6)
    rows, columns = windows.nearest()
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]
    assert columns.tolist() == rows.tolist()


def constant() -> Network:
    return Network(Fn(lambda x: torch.ones(len(x), 4) + 0 * x.mean()), InputSpec((24, 32)))


def certain() -> Network:
    """Of the second class; by how much depends on the image, and no probability in 32 bits shows it."""
    return Network(Fn(lambda x: x.mean((2, 3))[:, :1] * torch.tensor([0.0, 1e4, 0.0])), InputSpec((24, 32)))


def broken() -> Network:
    return Network(Fn(lambda x: (x.mean((2, 3)) - 0.3).log()), InputSpec((24, 32)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, 25, 4),
            "a window 25 px high on an image 24 px high",
        ),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, (8, 33), 4), "a window 33 px wide"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, 0, 1), "a window 0 px"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, 8, 9), "stride 9 with a window 8"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, 8, 0), "stride 0"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, 8, 4, "gray"), "baseline 'gray' .accepted: mean"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, obj.logit("dig"), 8, 4), "did you mean 'dog'"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, "conv2:70", 8, 4), "no channel 70"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES, SCORE, growth=0), "growth 0 .accepted: above 0"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES[:0], SCORE), "0 images"),
        (lambda: netloupe.occlusion(tiny_network(), IMAGES[:, :1], SCORE), "accepted: \\(N, 3, H, W\\)"),
        (lambda: netloupe.occlusion(constant(), IMAGES, obj.logit(1)), "does not depend on what is hidden$"),
        (
            lambda: netloupe.occlusion(certain(), IMAGES, obj.probability(1)),
            r"stays at 1 .* so near 0 or 1 can show \(log_odds\(1\) would\)",
        ),
        (lambda: netloupe.occlusion(broken(), IMAGES, obj.logit(1), 24, 24, 0.0, incremental=False), "not finite"),
        (lambda: occlude(tiny_network(), IMAGES[0], layer="fc"), "no feature maps"),
        (lambda: occlude(tiny_network(), IMAGES[0], "class:dgo"), "did you mean 'dog'"),
        (lambda: occlude(tiny_network(), IMAGES), "2 images"),
    ],
)
def test_mistakes(call: Callable[[], object], message: str) -> None:
    with pytest.raises(NetloupeError, match=message):
        call()


def test_the_four_panels(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(str(write_photos(tmp_path / "photos")))
    found = occlude(net, IMAGES[0], "class:dog", layer="relu", windows=[8, 12], data=source)
    assert isinstance(found, OcclusionPanels)
    totals = net.activations(IMAGES[:1], ["relu"])["relu"][0].sum((1, 2))
    assert found.unit == netloupe.Unit("relu", int(totals.argmax()))
    one = found.grids[0]
    for row, column in ((0, 0), (2, 3), (4, 6)):
        top, left, bottom, right = one.windows.box(row, column)
        hidden = IMAGES[:1].clone()
        hidden[:, :, top:bottom, left:right] = 0.5
        probabilities = net(hidden).softmax(1)[0].detach()
        total = net.activations(hidden, ["relu"])["relu"][0, found.unit.channel].sum()
        np.testing.assert_allclose(one.activation[row, column], total, rtol=1e-4)
        np.testing.assert_allclose(one.probability[row, column], probabilities[1], rtol=1e-4)
        assert one.classes[row, column] == int(probabilities.argmax())
    projection = netloupe.gradient(net, IMAGES[:1], obj.energy("relu", found.unit.channel), "deconvnet")
    np.testing.assert_array_equal(found.projection, projection[0].numpy())
    assert np.abs(found.projection).max() > 0
    assert found.others is not None
    assert found.others.projected is not None
    names = {path.name for path in found.save(tmp_path / "out")}
    assert {"occlusion.png", "activation-8x8.npy", "classes-12x12.npy", "manifest.json"} <= names


def test_panels_of_a_network_without_relu() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), Fn(lambda x: x.mean((2, 3))))
    found = occlude(Network(module, InputSpec((24, 32))), IMAGES[0])
    assert isinstance(found, OcclusionPanels)
    assert found.rule == "plain"
    assert next(iter(found.pictures().values())).shape[2] == 3


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(write_photos(tmp_path / "photos", 1) / "p00.png")
    arguments = ["occlude", image, "--window", "16", "--window", "32", "--first", "0", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["grid"] for one in found["windows"]] == [[7, 7], [3, 3]]
    assert found["method"] == "incremental"
    assert (tmp_path / "out" / "occlusion.png").exists()
    assert main(["occlude", image, "--unit", "conv5:3", "--window", "16", "--growth", "0.7", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert 0 < one["windows"][0]["error"] < 1
    text = ["--objective", "2 * unit(conv5:3) - channel(conv5, 3)"]  # the same score
    assert main(["occlude", image, *text, "--window", "16", "--growth", "0.7", "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert other["unit"] == "2 * channel(conv5, 3) - channel(conv5, 3)"
    clean = one["windows"][0]["images"][0]["clean"]
    assert other["windows"][0]["images"][0]["clean"] == pytest.approx(clean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--window", "65"], "a window 65 px high on an image 64 px high (accepted: 1 to 64)"),
        (["--window", "8", "--stride", "0"], "stride 0"),
        (["--class", "tabbi"], "did you mean 'tabby'"),
        (["--unit", "conv5:3", "--class", "tabby"], "--class and --unit were given (accepted: one of"),
        (["--unit", "conv5:3", "--layer", "conv4"], "a layer was given with conv5:3 (accepted: one of"),
        (["--objective", "channel(conv5)"], "channel takes layer, index"),
        (["--unit", "conv9:3"], "no layer 'conv9'"),
        (["--baseline", "#12345"], "baseline '#12345'"),
        (["--layer", "fc"], "no feature maps"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(write_photos(tmp_path / "photos", 1) / "p00.png")
    out = tmp_path / "out"
    assert main(["occlude", image, *arguments, "--first", "0", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()

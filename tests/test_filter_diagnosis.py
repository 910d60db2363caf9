"""`netloupe study filters`: planted faults are found, and a sound network is left in peace."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_helpers import encoded, noise
from netloupe.cli import app as cli
from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.studies.diagnosis.measure import diagnose
from netloupe.studies.diagnosis.record import Diagnosis
from netloupe.studies.diagnosis.spectra import aliasing, filter_spectra, folded, strided
from netloupe.studies.diagnosis.words import findings, verdict


def waves(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Smooth images: sums of slow waves in random directions."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = []
    for _ in range(count):
        parts = []
        for _ in range(3):
            f = torch.rand(2, generator=generator) * 0.12
            phase = torch.rand(1, generator=generator) * 2 * math.pi
            parts.append(0.5 + 0.4 * torch.cos(2 * math.pi * (f[0] * y + f[1] * x) + phase))
        images.append(torch.stack(parts))
    return torch.stack(images)


IMAGES = waves(12)


def gabors(count: int, size: int, low: float, high: float) -> Tensor:
    """(count, 3, size, size): waves under a Gaussian, in all directions, of frequencies from low to high."""
    y, x = (torch.arange(size) - size // 2).float().expand(size, size).T, (torch.arange(size) - size // 2).float()
    found = []
    for i in range(count):
        f, angle = low + (high - low) * i / max(1, count - 1), math.pi * i * 0.618
        wave = torch.cos(2 * math.pi * f * (math.sin(angle) * y + math.cos(angle) * x) + 1.3 * i)
        shape = wave * torch.exp(-(y**2 + x**2) / (2 * (size / 5) ** 2))
        found.append(torch.stack([shape, shape * (0.5 + 0.1 * i), -shape * 0.3]) / shape.norm())
    return torch.stack(found)


class Functional(nn.Module):
    """Two convolutions with ReLU and pooling as functions."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 10, 9, stride=stride, padding=4)
        self.second = nn.Conv2d(10, 12, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(12, 3)
        with torch.no_grad():
            self.first.weight.copy_(gabors(10, 9, 0.05, 0.24))
            self.first.bias.zero_()  # type: ignore[union-attr]
            self.second.bias.fill_(1)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.first(x)))
        found: Tensor = self.fc(F.relu(self.second(x)).mean((2, 3)))
        return found


def net(module: nn.Module, size: int = 32) -> Network:
    return Network(module.eval(), InputSpec((size, size)), name="tiny")


def found_kinds(d: Diagnosis) -> list[tuple[str, str]]:
    return [(one["kind"], one["layer"]) for one in findings(d) if one["found"]]


def test_a_sound_network_is_left_in_peace() -> None:
    d = diagnose(net(Functional()), IMAGES)
    assert found_kinds(d) == []
    assert verdict(findings(d)).endswith("aliasing nothing is past its limit.")
    assert [layer.dead.sum() for layer in d.layers.values()] == [0, 0]
    assert d.aliasing["pool"].mean < 0.2
    assert (d.spectra.bands == 1).sum() >= 3


def test_dead_channels_are_named_exactly() -> None:
    module = Functional()
    with torch.no_grad():
        module.second.bias[[2, 7]] = -1000.0  # type: ignore[index]
        module.first.weight[4] = 0
    d = diagnose(net(module), IMAGES)
    assert np.flatnonzero(d.layers["second"].dead).tolist() == [2, 7]
    assert np.flatnonzero(d.layers["first"].dead).tolist() == [4]
    assert found_kinds(d) == [("dead", "first"), ("dead", "second")]
    sentences = [one["sentence"] for one in findings(d) if one["kind"] == "dead"]
    assert "2 of 12 channels (16.7%) respond to none of 12 images (2, 7)" in sentences[1]
    assert "dead channels in first, second" in verdict(findings(d))


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.Identity()], ids=str)
def test_what_is_below_zero_is_dead_only_before_a_rectifier(rectifier: nn.Module) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 6, 3)
    with torch.no_grad():
        convolution.bias[3] = -100.0  # type: ignore[index]
    body = nn.Sequential(convolution, rectifier, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    d = diagnose(net(body), IMAGES)
    expected = [3] if isinstance(rectifier, nn.ReLU | nn.ReLU6) else []
    assert np.flatnonzero(d.layers["0"].dead).tolist() == expected


def test_a_batch_norm_counts_before_the_rectifier() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.bias[1] = -100.0
    body = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    assert np.flatnonzero(diagnose(net(body), IMAGES).layers["0"].dead).tolist() == [1]


def test_duplicates_are_named_by_weights_and_by_responses() -> None:
    module = Functional()
    with torch.no_grad():
        module.first.weight[5] = 2 * module.first.weight[1]
        module.first.weight[8] = -module.first.weight[1]
        module.second.weight[:, 5] += 0.3  # so that the second layer reads them differently
    d = diagnose(net(module), IMAGES)
    assert d.layers["first"].by_weights == ((1, 5, 8),)
    assert d.layers["first"].by_responses == ((1, 5, 8),)
    assert d.layers["second"].by_weights == ()
    assert ("weights", "first") in found_kinds(d)
    assert d.layers["first"].spare("weights") == pytest.approx(0.2)
    sentence = next(one["sentence"] for one in findings(d) if one["kind"] == "weights")
    assert "(1+5+8), so 20.0% could be spared" in sentence
    strict = diagnose(net(module), IMAGES, threshold=1.0)
    assert strict.layers["first"].by_weights == ((1, 5, 8),)


def test_filters_alike_may_respond_differently_and_the_other_way_round() -> None:
    """A depthwise layer has one filter for every input channel, which no other reads."""
    torch.manual_seed(0)
    grouped = nn.Conv2d(6, 6, 3, groups=6)
    with torch.no_grad():
        grouped.weight[1:] = grouped.weight[0]
    body = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), grouped, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    d = diagnose(net(body), torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert not d.layers["2"].compared
    assert d.layers["2"].by_weights == ()
    assert d.summary()["layers"]["2"]["alike_in_weights"] is None
    pairs = nn.Conv2d(6, 6, 3, groups=3)
    with torch.no_grad():
        pairs.weight[:] = pairs.weight[0].abs()
    body[2] = pairs
    d = diagnose(net(body), IMAGES)
    assert d.layers["2"].by_weights == ((0, 1), (2, 3), (4, 5))


def test_chains_of_likeness_are_one_group() -> None:
    """0 is like 1 and 1 like 2, but 0 is not like 2."""
    step = math.acos(0.96)
    body = nn.Sequential(nn.Conv2d(1, 3, (1, 2), bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        body[0].get_parameter("weight").copy_(
            torch.tensor([[math.cos(i * step), math.sin(i * step)] for i in range(3)])[:, None, None]
        )
    gray = Network(body.eval(), InputSpec((32, 32), 1))
    assert diagnose(gray, IMAGES[:, :1]).layers["0"].by_weights == ((0, 1, 2),)
    assert math.cos(2 * step) < 0.95


def test_filters_without_middle_frequencies() -> None:
    module = Functional()
    with torch.no_grad():
        y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
        blob = torch.exp(-((y - 4.0) ** 2 + (x - 4.0) ** 2) / 12)
        for i in range(10):
            checks = (-1.0) ** (y + x) * blob
            module.first.weight[i] = torch.stack([blob if i % 2 else checks] * 3) * torch.rand(3, 1, 1)
    d = diagnose(net(module), IMAGES)
    assert d.spectra.bands.tolist() == [2, 0] * 5
    assert ("frequencies", "first") in found_kinds(d)
    assert "50% of 10 filters are strongest at low frequencies (below 0.125 cycles per px), 0% at middle ones" in next(
        one["sentence"] for one in findings(d) if one["kind"] == "frequencies"
    )
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    finding = next(one for one in findings(diagnose(net(small), IMAGES)) if one["kind"] == "frequencies")
    assert "too small to tell these bands apart" in finding["sentence"]
    assert not finding["found"]


def test_spectra_against_sums_in_plain_loops() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    spectra = filter_spectra(weights)
    frequencies = (np.arange(64) - 32) / 64
    power = np.zeros((2, 64, 64))
    for f in range(2):
        for c in range(2):
            total = np.zeros((64, 64), dtype=complex)
            for y in range(3):
                for x in range(4):
                    wave = np.exp(-2j * math.pi * (frequencies[:, None] * y + frequencies[None] * x))
                    total += weights[f, c, y, x] * wave
            power[f] += abs(total) ** 2 / (weights[f] ** 2).sum()
    assert spectra.power == pytest.approx(power)
    radius = np.sqrt(frequencies[:, None] ** 2 + frequencies[None] ** 2)
    for f in range(2):
        at = np.unravel_index(power[f].argmax(), (64, 64))
        assert spectra.peak[f] == pytest.approx(radius[at])
        middle = power[f][(radius >= 0.125) & (radius <= 0.25)].sum() / power[f].sum()
        assert spectra.shares[f, 1] == pytest.approx(middle)
    assert spectra.shares.sum(1) == pytest.approx(1)


def test_directions_are_across_the_stripes() -> None:
    y, x = np.meshgrid(np.arange(11), np.arange(11), indexing="ij")
    stripes = [np.cos(2 * math.pi * 0.2 * x), np.cos(2 * math.pi * 0.2 * y), np.zeros((11, 11))]
    found = filter_spectra(np.stack(stripes)[:, None])
    assert found.direction[0] % math.pi == pytest.approx(0, abs=0.02)
    assert found.direction[1] == pytest.approx(math.pi / 2, abs=0.02)
    assert (found.oriented[:2] > 0.8).all()
    assert found.bands.tolist() == [1, 1, -1]
    assert np.isnan(found.shares[2]).all()


# --- aliasing


def wave(fy: float, fx: float, size: int = 64) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (0.5 + 0.4 * torch.cos(2 * math.pi * (fy * y + fx * x)))[None, None]


class Thin(nn.Module):
    """One pixel of every `stride`, and what it leaves."""

    def __init__(self, stride: Any, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.thin = layer if layer is not None else nn.Conv2d(1, 1, 1, stride=stride, bias=False)
        if layer is None:
            nn.init.ones_(self.thin.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.thin(x).flatten(1)[:, :3]
        return found


def share(module: nn.Module, image: Tensor) -> float:
    network = Network(module.eval(), InputSpec((int(image.shape[2]), int(image.shape[3])), 1))
    return aliasing(network, [image], strided(network))["thin"].mean


@pytest.mark.parametrize(
    ("stride", "frequency", "expected"),
    [
        (4, (0.0, 0.3), 1.0),
        (4, (0.2, 0.0), 1.0),
        (4, (0.05, 0.3), 1.0),
        (4, (0.06, 0.08), 0.0),
        (2, (0.06, 0.3), 1.0),
        (2, (0.2, 0.2), 0.0),
        ((1, 4), (0.4, 0.05), 0.0),
        ((1, 4), (0.05, 0.4), 1.0),
    ],
)
def test_a_wave_above_the_limit_is_folded_whole(stride: Any, frequency: tuple[float, float], expected: float) -> None:
    assert share(Thin(stride), wave(*frequency)) == pytest.approx(expected, abs=1e-3)


def test_a_folded_wave_comes_out_as_a_slower_one() -> None:
    """What the share stands for: at stride 4, 0.3 cycles a pixel look like 0.05."""
    thin, slow = wave(0, 0.3)[..., ::4], wave(0, 0.05)[..., ::4]
    assert torch.allclose(thin, slow, atol=1e-5)


def test_two_waves_share_by_their_power_and_white_noise_by_area() -> None:
    both = 0.5 + 2 * (wave(0, 0.05) - 0.5) / 3 + (wave(0, 0.3) - 0.5) / 3
    assert share(Thin(4), both) == pytest.approx(1 / 5, abs=2e-3)
    white = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert share(Thin(2), white) == pytest.approx(0.75, abs=0.01)
    assert share(Thin(4), white) == pytest.approx(1 - 1 / 16, abs=0.01)
    blurred = nn.Conv2d(1, 1, 9, stride=4, bias=False)
    nn.init.ones_(blurred.weight)
    assert share(Thin(4, blurred), white) < 0.6
    assert share(Thin(2, nn.AvgPool2d(2)), white) < share(Thin(2), white) - 0.1


def test_rounding_is_no_variation() -> None:
    noise = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    maps = torch.cat([0.3 * (1 + 1e-7 * noise), 0.3 * (1 + 1e-3 * noise)], dim=1)
    energies, power = folded(maps, (2, 2))
    assert (energies[:, 0] == 0).all()
    assert (power[0] == 0).all()
    assert energies[1, 1] > 0


def test_a_pooling_with_a_stride_is_measured_before_it() -> None:
    image = wave(0.0, 0.1)
    dense = F.max_pool2d(image, 3, 1)
    above, total = folded(dense, (3, 3))[0]
    assert share(Thin(3, nn.MaxPool2d(3)), image) == pytest.approx(above[0] / total[0])
    assert 0 < above[0] < total[0]


def test_a_large_stride_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    busy = torch.rand(8, 3, 64, 64)
    module = Functional(stride=4)
    with torch.no_grad():
        module.first.weight.copy_(gabors(10, 9, 0.14, 0.4))
    d = diagnose(net(module, 64), busy)
    assert ("aliasing", "first") in found_kinds(d)
    sentence = next(one["sentence"] for one in findings(d) if one["layer"] == "first" and one["kind"] == "aliasing")
    assert sentence.startswith("first: a stride of 4 folds ")
    assert d.transformed == 8
    d.save(tmp_path)
    assert np.load(tmp_path / "aliasing-first.npy").shape == (10,)
    assert json.loads((tmp_path / "manifest.json").read_text())["summary"]["aliasing"]["first"]["stride"] == [4, 4]


# --- as a whole


def test_results_do_not_depend_on_the_batch_size_and_leave_the_network_alone() -> None:
    network = net(Functional(stride=2))
    before = network.fingerprint()
    one, other = (diagnose(network, IMAGES, batch_size=size) for size in (2, 32))
    assert network.fingerprint() == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.module.modules())
    for name, array in one.arrays().items():
        assert np.array_equal(array, other.arrays()[name], equal_nan=True), name
    assert findings(one) == findings(other)


def test_mistakes() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    with pytest.raises(InputError, match="no two-dimensional convolution"):
        diagnose(net(flat), IMAGES)
    for threshold in (0.0, 1.5):
        with pytest.raises(InputError, match="accepted: above 0 and up to 1"):
            diagnose(net(Functional()), IMAGES, threshold=threshold)


FACTORY = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=2, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.png").write_bytes(encoded(noise(16, 16, seed=i)))
    model = ["--model", f"{tmp_path / 'net.py'}:tiny", "--size", "16", "--data", str(tmp_path / "images")]
    given = ["study", "filters", *model, "--device", "cpu"]
    assert cli.main([*given, "-o", str(tmp_path / "out")]) == 0
    out, _ = capsys.readouterr()
    assert (
        " ".join(out.splitlines()[0].split()) == "layer channels dead alike in weights alike in responses stride folded"
    )
    assert "0: a stride of 2 folds" in out
    assert (tmp_path / "out" / "filters.png").exists()
    assert cli.main([*given, "--json", "--first", "2"]) == 0
    assert json.loads(capsys.readouterr()[0])["images"] == 2
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    assert cli.main([*given, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "skipped broken.png: broken.png: not an image" in err
    assert json.loads(out)["skipped"] == {"broken.png": "broken.png: not an image"}
    assert cli.main([*given, "--threshold", "2"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "threshold 2 (accepted: above 0 and up to 1)" in err

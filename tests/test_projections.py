"""Projections of neurons to pixels, against a deconvnet written layer by layer, and the patches they stand beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_helpers import tiny_network, write_photos
from core_helpers import Fn
from netloupe.analysis.gradients import gradient
from netloupe.analysis.patches import PATCH_SIDE, project_patches, top_patches
from netloupe.analysis.unproject import Neuron, chains, project, projections, rectifies
from netloupe.cli.app import main
from netloupe.core import objectives as obj
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.rules import Rule
from netloupe.data.images import load_images
from netloupe.data.open import open_source
from netloupe.data.sources import pixel_reader
from netloupe.render.colors import relief

STD = (0.2, 0.25, 0.4)


def small() -> Network:
    """Convolutions (one strided), ReLU and max pooling, one after the other, in float64."""
    torch.manual_seed(3)
    parts = nn.Sequential()
    parts.add_module("conv1", nn.Conv2d(3, 6, 5, padding=2))
    parts.add_module("relu1", nn.ReLU(inplace=True))
    parts.add_module("pool1", nn.MaxPool2d(2))
    parts.add_module("conv2", nn.Conv2d(6, 8, 3, stride=2, padding=1))
    parts.add_module("relu2", nn.ReLU())
    parts.add_module("conv3", nn.Conv2d(8, 7, 3))
    parts.add_module("relu3", nn.ReLU())
    parts.add_module("pool3", nn.MaxPool2d(3))
    parts.add_module("flat", nn.Flatten())
    parts.add_module("fc", nn.Linear(14, 5))
    return Network(parts.double(), InputSpec((23, 30), mean=(0.4, 0.5, 0.6), std=STD))


def images(count: int = 4, size: tuple[int, int] = (23, 30)) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def deconvolved(net: Network, image: Tensor, layer: str, channel: int, y: int, x: int, rule: Rule) -> Tensor:
    """One neuron's projection (3, H, W), by Zeiler & Fergus's words: unpool, rectify, filter with the transposed."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in ((0.4, 0.5, 0.6), STD))
    signal = ((image - mean) / std)[None]
    way: list[tuple[Any, Tensor, Tensor | None]] = []  # part, its input, its switches
    for name, part in net.module.named_children():
        switches, before = None, signal
        if isinstance(part, nn.Conv2d):
            signal = F.conv2d(signal, part.weight, part.bias, part.stride, part.padding)
        elif isinstance(part, nn.ReLU):
            signal = torch.where(signal > 0, signal, torch.zeros_like(signal))
        elif isinstance(part, nn.MaxPool2d):
            signal, switches = F.max_pool2d(signal, part.kernel_size, return_indices=True)
        elif isinstance(part, nn.Flatten):
            signal = signal.reshape(1, -1)
        else:
            signal = signal @ part.weight.T + part.bias
        way.append((part, before, switches))
        if name == layer:
            break
    at = (0, channel, y, x)[: signal.ndim]
    value = signal[at]
    signal = torch.zeros_like(signal)
    signal[at] = value
    for part, before, switches in reversed(way):
        if isinstance(part, nn.Conv2d):
            filtered = F.conv_transpose2d(signal, part.weight, None, part.stride, part.padding)
            missing = [b - f for b, f in zip(before.shape[2:], filtered.shape[2:], strict=True)]
            signal = F.conv_transpose2d(signal, part.weight, None, part.stride, part.padding, missing)
        elif isinstance(part, nn.ReLU):
            signal = signal.clamp(min=0) * ((before > 0) if rule == "guided" else 1)
        elif isinstance(part, nn.MaxPool2d):
            assert switches is not None
            signal = F.max_unpool2d(signal, switches, part.kernel_size, output_size=before.shape)
        elif isinstance(part, nn.Flatten):
            signal = signal.reshape(before.shape)
        else:
            signal = signal @ part.weight
    return signal[0].detach() / std


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize("layer", ["conv1", "relu1", "pool1", "conv2", "relu2", "conv3", "relu3", "pool3", "fc"])
def test_projections_are_a_deconvnets(layer: str, rule: Rule) -> None:
    net, batch = small(), images()
    shape = net.layers[layer].shape
    maps = net.activations(batch, [layer])[layer]
    channels = [i % shape[0] for i in range(len(batch))]
    positions = [divmod(int(maps[i, c].argmax()), shape[-1]) for i, c in enumerate(channels)]
    found = project(net, batch, layer, channels, positions if len(shape) == 3 else None, rule)
    assert found.shape == batch.shape
    strong = 0
    for i, (c, (y, x)) in enumerate(zip(channels, positions, strict=True)):
        expected = deconvolved(net, batch[i], layer, c, y, x, rule)
        assert (found[i] - expected).abs().max() <= 1e-12 * max(1.0, float(expected.abs().max()))
        strong += bool(expected.abs().max() > 1e-3)
    assert strong >= 3


def test_the_rules_differ_but_not_before_the_first_relu() -> None:
    net, batch = small(), images()
    deep = {rule: project(net, batch, "conv3", [1, 2, 3, 4], [(0, 1)] * 4, rule) for rule in ("deconvnet", "guided")}
    assert (deep["deconvnet"] - deep["guided"]).abs().max() > 1e-3
    first = {r: project(net, batch, "conv1", [1, 2, 3, 4], [(5, 6)] * 4, r) for r in ("plain", "deconvnet", "guided")}
    assert first["plain"].abs().max() > 1e-3
    assert torch.equal(first["plain"], first["deconvnet"])
    assert torch.equal(first["plain"], first["guided"])


def test_a_projection_is_the_gradient_of_the_neurons_energy() -> None:
    net, batch = small(), images()
    found = project(net, batch, "conv3", [1, 2, 3, 4], torch.tensor([[0, 1], [1, 0], [2, 2], [0, 0]]))
    for i, (y, x) in enumerate([(0, 1), (1, 0), (2, 2), (0, 0)]):
        alone = gradient(net, batch[i : i + 1], obj.energy("conv3", i + 1, y, x), "deconvnet")[0]
        assert alone.abs().max() > 0
        assert torch.allclose(found[i], alone, atol=1e-12)
    joint = gradient(net, batch, obj.energy("conv3"), "deconvnet")
    assert joint.shape == batch.shape
    assert joint.abs().max() > found.abs().max() / 100


def neurons_of(net: Network, batch: Tensor, layers: list[str]) -> list[Neuron]:
    """Every channel's peak in every image, and as rank 1 its lowest response."""
    found = []
    for layer, maps in net.activations(batch, layers).items():
        for i in range(len(batch)):
            for c in range(maps.shape[1]):
                for rank, place in enumerate((maps[i, c].argmax(), maps[i, c].argmin())):
                    y, x = divmod(int(place), maps.shape[-1]) if maps.ndim == 4 else (0, 0)
                    found.append(Neuron(layer, c, rank, i, y, x))
    return found


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_many_at_once_are_the_same_as_one_by_one(rule: Rule, batch_size: int) -> None:
    net, batch = small(), images()
    layers = ["conv1", "relu1", "pool1"]
    neurons = neurons_of(net, batch, layers) + neurons_of(net, batch, ["fc"])
    found: dict[Neuron, np.ndarray] = {}
    passes = 0
    for sharing, pixels in projections(net, neurons, batch.__getitem__, rule, batch_size=batch_size):
        passes += 1
        for neuron in sharing:
            assert neuron not in found
            found[neuron] = pixels
    assert set(found) == set(neurons)
    assert passes < len(neurons)
    assert max(np.abs(pixels).max() for pixels in found.values()) > 1e-3
    silent = [n for n in neurons if n.layer == "relu1" and n.rank == 1]
    assert len(silent) > 10
    assert all(np.abs(found[n]).max() == 0 for n in silent)
    for neuron in neurons[::5]:
        expected = deconvolved(net, batch[neuron.image], *neuron[:2], neuron.y, neuron.x, rule)
        assert np.allclose(found[neuron], expected, atol=1e-12), neuron


def test_layers_that_hand_values_on_share_their_projections() -> None:
    net, batch = small(), images()
    layers = list(net.layers)
    assert chains(net, layers, "deconvnet") == [
        ["conv1", "relu1", "pool1"],
        ["conv2", "relu2"],
        ["conv3", "relu3", "pool3"],
        ["flat"],
        ["fc"],
    ]
    neurons = [n for n in neurons_of(net, batch, ["conv1", "relu1", "pool1"]) if n.rank == 0]
    shared = list(projections(net, neurons, batch.__getitem__, "deconvnet"))
    alive = [
        n
        for n in neurons
        if n.layer == "conv1" and net.activations(batch, ["relu1"])["relu1"][n.image, n.channel].max() > 0
    ]
    assert len(shared) < len(neurons) / 2
    assert sum({n.layer for n in sharing} == {"conv1", "relu1", "pool1"} for sharing, _ in shared) == len(alive) > 0


def test_bfloat16_is_nearly_the_same_and_shares_the_same() -> None:
    net, batch = tiny_network(), images(6, (24, 32)).float()
    neurons = [n for n in neurons_of(net, batch, ["conv1", "relu", "pool", "conv2"]) if n.rank == 0 and n.channel != 2]
    found: dict[torch.dtype, dict[Neuron, np.ndarray]] = {torch.float32: {}, torch.bfloat16: {}}
    shared = dict.fromkeys(found, 0)
    for dtype, pictures in found.items():
        for sharing, pixels in projections(net, neurons, batch.__getitem__, "deconvnet", dtype=dtype):
            pictures |= dict.fromkeys(sharing, pixels)
            shared[dtype] += len(sharing) > 1
    assert shared[torch.bfloat16] == shared[torch.float32] > 10
    agreement = [np.corrcoef(found[torch.float32][n].ravel(), found[torch.bfloat16][n].ravel())[0, 1] for n in neurons]
    assert 0.97 < np.mean(agreement) < 1


def test_a_relu_after_a_sum_keeps_its_own() -> None:
    """Its value may be that of one summand, when the other is zero; its projection is not."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.one(x))
            return self.relu(self.two(x) + x).mean((2, 3))

    torch.manual_seed(1)
    net = Network(Skip(), InputSpec((8, 9)))
    assert chains(net, list(net.layers), "guided") == [["one", "relu"], ["two"], ["relu~2"]]
    batch = images(3, (8, 9)).float()
    maps = net.activations(batch, ["two", "relu~2"])
    same = (maps["relu~2"] == maps["two"]) & (maps["two"] > 0)
    assert same.any()
    neurons = [Neuron(name, c, 0, i, y, x) for i, c, y, x in same.nonzero().tolist() for name in ("two", "relu~2")]
    for sharing, pixels in projections(net, neurons[:80], batch.__getitem__, "guided"):
        for n in sharing:
            alone = project(net, batch[n.image : n.image + 1], n.layer, [n.channel], [(n.y, n.x)], "guided")[0]
            assert np.allclose(pixels, alone, atol=1e-6)


def test_functional_calls_are_no_layers_but_act_all_the_same() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.max_pool2d(self.conv(x).relu_(), 2)).flatten(1)

    torch.manual_seed(0)
    net = Network(Block(), InputSpec((9, 9)))
    assert chains(net, list(net.layers), "deconvnet") == [["conv"], ["last"]]
    batch = images(3, (9, 9)).float()
    plain, rule = (project(net, batch, "last", [0, 1, 2], [(1, 1)] * 3, r) for r in ("plain", "deconvnet"))
    assert (plain - rule).abs().max() > 1e-3


def test_the_network_stays_as_it_is() -> None:
    net, batch = small(), images()
    before = {name: value.clone() for name, value in net.module.state_dict().items()}
    net.module.train()
    project(net, batch, "fc", [0, 1, 2, 3])
    assert net.module.training
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.module.parameters())
    assert not any(m._forward_hooks for m in net.module.modules())
    assert not batch.requires_grad
    with torch.inference_mode():
        inside = project(net, torch.rand(1, 3, 23, 30), "conv2", [0], [(0, 0)])
    assert inside.abs().max() > 0


def test_mistakes_are_one_plain_line() -> None:
    net, batch = small(), images()
    at = [(0, 0)] * 4
    with pytest.raises(UnknownName, match="no rule 'deconvnt'; did you mean 'deconvnet'"):
        project(net, batch, "conv2", [0] * 4, at, "deconvnt")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="no layer 'conv9'; did you mean 'conv"):
        project(net, batch, "conv9", [0] * 4, at)
    with pytest.raises(UnknownName, match=r"no channel 8 in layer 'conv2' \(accepted: 0 to 7\)"):
        project(net, batch, "conv2", [0, 1, 2, 8], at)
    with pytest.raises(UnknownName, match=r"no column 8 in layer 'conv2' \(accepted: 0 to 7\)"):
        project(net, batch, "conv2", [0] * 4, [(0, 0), (0, 0), (0, 8), (0, 0)])
    with pytest.raises(UnknownName, match=r"no channel 5 in layer 'fc' \(accepted: 0 to 4\)"):
        project(net, batch, "fc", [5] * 4)
    with pytest.raises(InputError, match="3 channels and 4 positions for 4 images"):
        project(net, batch, "conv2", [0] * 3, at)
    with pytest.raises(InputError, match="no positions for layer 'conv2' of shape"):
        project(net, batch, "conv2", [0] * 4)
    with pytest.raises(InputError, match="normalization happens inside"):
        project(net, batch * 255, "conv2", [0] * 4, at)
    with pytest.raises(InputError, match="batch size 0"):
        list(projections(net, neurons_of(net, batch, ["conv1"]), batch.__getitem__, "guided", batch_size=0))


def test_networks_that_can_not_be_projected() -> None:
    smooth = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten()), InputSpec((5, 5)), name="smooth")
    assert not rectifies(smooth)
    assert rectifies(small())
    batch = images(1, (5, 5)).float()
    with pytest.raises(NetworkError, match="rule 'guided' finds no ReLU in smooth"):
        project(smooth, batch, "0", [0], [(0, 0)], "guided")
    assert project(smooth, batch, "0", [0], [(0, 0)], "plain").abs().max() > 0
    constant = Network(
        nn.Sequential(Fn(lambda x: torch.ones(len(x), 2)), nn.ReLU()), InputSpec((5, 5)), name="constant"
    )
    with pytest.raises(NetworkError, match="layer '0' of constant does not depend on the image"):
        project(constant, batch, "0", [0], rule="plain")
    steep = Network(nn.Sequential(Fn(lambda x: (x - x).sqrt().mean(1, keepdim=True)), nn.Flatten()), InputSpec((5, 5)))
    with pytest.raises(NetworkError, match="projection of layer '0' of .* is not finite"):
        project(steep, batch, "0", [0], [(0, 0)], "plain")


# --- beside patches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("projections") / "photos", 5)


@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
def test_every_patch_gets_the_projection_of_its_neuron(folder: Path, rule: Rule) -> None:
    net, source = tiny_network(), open_source(folder)
    top = project_patches(net, top_patches(net, source, k=4), rule)
    batch = load_images(sorted(folder.iterdir()), (24, 32))
    assert top.projected is not None
    for layer, channel, rank in (("conv1", 3, 0), ("pool", 5, 2), ("conv2", 60, 3), ("fc", 1, 0)):
        image = int(top[layer].images[channel, rank])
        position = top[layer].positions[channel, rank].tolist()
        raw = project(net, batch[image : image + 1], layer, [channel], [position], rule)[0]
        t, left, b, r = top.box(layer, channel, rank)
        assert raw[:, t:b, left:r].abs().max() > 0
        outside = raw.clone()
        outside[:, t:b, left:r] = 0
        assert outside.abs().max() == 0  # nothing reaches what the neuron does not see
        shown = top.projected.tiles[layer, channel, rank].astype(int)
        assert np.abs(shown - relief(raw[:, t:b, left:r].numpy())).max() <= 1
        assert np.ptp(shown) > 50
        assert top.projection(layer, channel, rank, 40).shape == top.patch(layer, channel, rank, 40).shape
    plain = top_patches(net, source, ["conv1"], k=4).sheet("conv1", [3])
    beside = top.sheet("conv1", [3])
    assert beside.shape[0] == plain.shape[0]
    assert beside.shape[1] > 1.9 * plain.shape[1]
    assert (beside[: plain.shape[0], : 2 * PATCH_SIDE] == plain[:, : 2 * PATCH_SIDE]).mean() > 0.99


def test_one_channel_keeps_its_number_and_raw_projections(folder: Path) -> None:
    net, source = tiny_network(), open_source(folder)
    top = top_patches(net, source, ["conv2"], k=7)  # more than there are images
    one = project_patches(net, top.only("conv2", 41))
    raw = one.arrays()["projections-conv2"]
    assert raw.shape == (7, 3, 24, 32)
    batch = load_images(sorted(folder.iterdir()), (24, 32))
    for rank in range(5):
        image, position = int(top["conv2"].images[41, rank]), top["conv2"].positions[41, rank].tolist()
        expected = project(net, batch[image : image + 1], "conv2", [41], [position])[0]
        assert np.allclose(raw[rank], expected, atol=1e-6 * float(expected.abs().max()))
        assert expected.abs().max() > 0
        assert one.box("conv2", 41, rank) == top.box("conv2", 41, rank)
        assert (one.patch("conv2", 41, rank) == top.patch("conv2", 41, rank)).all()
    assert (raw[5:] == 0).all()
    settings = one.provenance["parameters"]
    assert (settings["project"], settings["unit"], settings["layers"]) == ("deconvnet", "conv2:41", None)
    assert (one.sheet("conv2") == one.sheet("conv2", [41])).all()
    assert "projections-conv2" not in project_patches(net, top).arrays()
    with pytest.raises(UnknownName, match=r"no channel 40 in layer 'conv2' \(accepted: 41 to 41\)"):
        one.only("conv2", 40)


def test_tensors_are_projected_too() -> None:
    net = tiny_network()
    batch = torch.rand(3, 3, 24, 32, generator=torch.Generator().manual_seed(2))
    top = project_patches(net, top_patches(net, batch, ["conv1"], k=2).only("conv1", 4))
    image, position = int(top["conv1"].images[0, 0]), top["conv1"].positions[0, 0].tolist()
    expected = project(net, batch[image : image + 1], "conv1", [4], [position])
    assert np.allclose(top.arrays()["projections-conv1"][0], expected[0], atol=1e-6)


def test_images_are_decoded_once(folder: Path) -> None:
    source = open_source(folder)
    opened: list[int] = []

    def opener(i: int) -> Any:
        opened.append(i)
        return source.opener(i)

    from dataclasses import replace

    read = pixel_reader(replace(source, opener=opener), (24, 32), 3)
    assert torch.equal(read(2), load_images(sorted(folder.iterdir())[2:3], (24, 32))[0])
    assert torch.equal(read(2), read(2))
    assert opened == [2]


# --- the command line


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(a) for a in arguments])
    return status, *capsys.readouterr()


MODEL = """
from torch import nn
def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.{act}(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.{act}(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
"""


@pytest.fixture
def model(tmp_path: Path) -> list[str]:
    for act in ("ReLU", "Tanh"):
        (tmp_path / f"{act}.py").write_text(MODEL.format(act=act))
    return ["--model", f"{tmp_path / 'ReLU.py'}:tiny", "--weights", "random", "--size", "16"]


def test_patches_project(model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["patches", *model, "--data", folder, "-k", 2, "--json"]
    status, out, err = run(capsys, *common, "--unit", "3:5", "--project", "guided", "-o", tmp_path / "unit")
    assert (status, err) == (0, "")
    raw = np.load(tmp_path / "unit" / "projections-3.npy")
    assert raw.shape == (2, 3, 16, 16)
    assert np.abs(raw).max() > 0
    manifest = json.loads((tmp_path / "unit" / "manifest.json").read_text())
    settings = manifest["provenance"]["parameters"]
    assert (settings["unit"], settings["project"], settings["k"]) == ("3:5", "guided", 2)
    status, out, err = run(capsys, *common, "--layer", "0", "--project", "deconvnet", "-o", tmp_path / "layer")
    assert (status, err) == (0, "")
    assert sorted(Path(f).name for f in json.loads(out)["files"]) == [
        "images-0.npy", "manifest.json", "patches-0.png", "positions-0.npy", "values-0.npy",
    ]  # fmt: skip


def test_patches_refuse_to_project(
    model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "patches", *model, "--data", folder, "--project", "plain")
    assert status == 2
    assert "no project 'plain'" in err
    assert "accepted: deconvnet, guided" in err
    model[1] = f"{tmp_path / 'Tanh.py'}:tiny"
    status, _, err = run(capsys, "patches", *model, "--data", folder, "--project", "guided")
    assert (status, err.count("\n")) == (2, 1)
    assert "finds no ReLU" in err

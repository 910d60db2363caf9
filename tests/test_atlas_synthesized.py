"""Synthesized images of an atlas: what they hold, what is told of them, and a build that is killed on the way."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.patches import top_patches
from netloupe.analysis.paths import likeness, profiles
from netloupe.atlas.build import build
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.cli.app import main
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.data.sources import pixel_reader
from netloupe.synthesis.visualize import visualize
from watch_helpers import Recorder

HOW: Any = {"synthesize": ("conv1", "conv2"), "facets": 2, "steps": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("synthesized") / "photos", 16)


@pytest.fixture(scope="module")
def pages(folder: Path) -> Pages:
    build(tiny_network(), open_source(folder), folder.parent / "atlas", **HOW, project=None)
    return Pages(Store.open(folder.parent / "atlas"))


@pytest.fixture(scope="module")
def photos(folder: Path) -> Tensor:
    read = pixel_reader(open_source(folder), (24, 32), 3)
    return torch.stack([read(i) for i in range(16)])


def document(pages: Pages, path: str) -> Any:
    found = pages.resource(path)
    assert found is not None, path
    return json.loads(found[0])


def picture(pages: Pages, path: str) -> np.ndarray:
    found = pages.resource(path)
    assert found is not None, path
    assert found[1] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(found[0]))).astype(float)


def peak(net: Network, image: np.ndarray, layer: str, channel: int) -> float:
    return float(net.activations(torch.from_numpy(image)[None], [layer])[layer][0, channel].max())


def test_a_channels_picture_is_what_visualize_makes_of_it(pages: Pages, photos: Tensor) -> None:
    net = tiny_network()
    top = top_patches(net, photos, ["conv2"])
    for channel in (3, 66):
        unit = document(pages, f"data/units/conv2/{channel // 64}.json")["units"][channel % 64]
        assert unit["channel"] == channel
        made = unit["synthesized"]
        (image,) = visualize(net, [f"conv2:{channel}"], steps=6).images
        shown = picture(pages, f"synthesized/conv2/{channel}.jpg")
        assert shown.shape == (24, 32 * (1 + len(made["facets"])), 3)
        assert np.abs(shown[:, :32] - 255 * image.transpose(1, 2, 0)).mean() < 6
        assert made["value"] == pytest.approx(peak(net, image, "conv2", channel), rel=1e-4)
        assert made["best"] == pytest.approx(float(top["conv2"].values[channel, 0]), rel=1e-4)
        sheet = picture(pages, f"synthesis/conv2/{channel // 64}.jpg")
        y, x = (120 * i for i in divmod(channel % 64, 8))
        color = sheet[y + 20 : y + 100, x + 20 : x + 100].mean((0, 1))
        assert np.abs(color - 255 * image[:, 4:20, 5:27].mean((1, 2))).max() < 12


def test_facets_hold_photographs_of_their_channel(pages: Pages, photos: Tensor) -> None:
    made = document(pages, "data/units/conv2/0.json")["units"][5]["synthesized"]
    assert 1 <= len(made["facets"]) <= 2
    responses = tiny_network().activations(photos, ["conv2"])["conv2"][:, 5].flatten(1).amax(1)
    exciting = int((responses > 0).sum())
    assert sum(facet["count"] for facet in made["facets"]) == exciting
    for facet in made["facets"]:
        shown = [patch["image"] for patch in facet["patches"]]
        assert len(set(shown)) == len(shown) == min(6, facet["count"])
        assert facet["best"] <= float(responses.max()) * 1.0001
        assert isinstance(facet["own"], bool)


def test_the_path_is_a_rank_correlation_with_the_best_photographs(pages: Pages, photos: Tensor) -> None:
    net, channel = tiny_network(), 7
    found = document(pages, "data/units/conv2/0.json")["units"][channel]["synthesized"]["path"]
    assert found["layers"] == ["conv1", "relu", "pool", "conv2"]
    best = top_patches(net, photos, ["conv2"])["conv2"].images[channel].tolist()
    (image,) = visualize(net, [f"conv2:{channel}"], steps=6).images
    for i, layer in enumerate(found["layers"]):
        means = net.activations(photos, [layer])[layer].mean((2, 3)).numpy()
        own = net.activations(torch.from_numpy(image)[None], [layer])[layer].mean((2, 3)).numpy()[0]
        rest = [j for j in range(16) if j not in best]

        def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
            return float(np.mean([spearmanr(a, b).statistic for a, b in pairs]))

        expected = {
            "synthesized": mean([(own, means[j]) for j in best]),
            "same": mean([(means[j], means[k]) for j in best for k in best if j < k]),
            "other": mean([(means[j], means[k]) for j in best for k in rest]),
        }
        assert {name: found[name][i] for name in expected} == pytest.approx(expected, abs=2e-3)
    below = [a < b for a, b in zip(found["synthesized"][:-1], found["other"][:-1], strict=True)]
    assert found["aside"] == sum(below)


def test_likeness_of_a_photograph_to_itself_is_one(photos: Tensor) -> None:
    known = profiles(tiny_network(), photos, ["conv2"])
    own = profiles(tiny_network(), photos[:1], ["conv2"])
    found = likeness(own, known, [0], [0])
    assert found.synthesized == pytest.approx([1.0])
    assert np.isnan(found.same).all()
    assert np.isnan(found.other).all()  # the best are left out of the rest
    assert found.aside == 0


def test_a_layer_of_one_channel_has_no_ranks_to_compare() -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 3), nn.Flatten()), InputSpec((8, 8)))
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    known = profiles(net, images, ["0", "1"])
    found = likeness(profiles(net, images[:1], ["0", "1"]), known, [1, 2], [0])
    assert np.isfinite([found.synthesized[0], found.same[0], found.other[0]]).all()
    assert np.isnan([found.synthesized[1], found.same[1], found.other[1]]).all()


def test_the_layer_tells_how_many_are_ahead(pages: Pages) -> None:
    network = document(pages, "data/network.json")
    assert network["synthesis"] == {"preset": "lucid", "steps": 6}
    told = {layer["name"]: layer["synthesized"] for layer in network["layers"]}
    assert [name for name, made in told.items() if made is not None] == ["conv1", "conv2"]
    for name, blocks in (("conv1", 1), ("conv2", 2)):
        units = [u for b in range(blocks) for u in document(pages, f"data/units/{name}/{b}.json")["units"]]
        made = [u["synthesized"] for u in units if u["synthesized"] is not None]
        assert told[name]["images"] == len(made)
        assert told[name]["facets"] == sum(len(one["facets"]) for one in made)
        compared = [one for one in made if one["best"] is not None]
        assert told[name]["compared"] == len(compared) > 0
        assert told[name]["ahead"] == sum(one["value"] > one["best"] for one in compared)
        assert told[name]["seconds"] > 0
        paths = [one["path"]["synthesized"] for one in made if one["path"] is not None]
        assert told[name]["path"]["synthesized"] == pytest.approx(np.mean(paths, axis=0).tolist(), abs=1e-3)


def test_a_dead_channel_has_none(pages: Pages) -> None:
    units = document(pages, "data/units/conv1/0.json")["units"]
    assert [u["synthesized"] is None for u in units] == [False, False, True, False, False, False]
    assert pages.resource("synthesized/conv1/2.jpg") is None
    for path in ("synthesized/conv1/6.jpg", "synthesized/fc/0.jpg", "synthesis/fc/0.jpg", "synthesis/conv1/1.jpg"):
        assert pages.resource(path) is None
    listed = list(pages.paths())
    assert len(listed) == len(set(listed))
    assert [p for p in listed if p.startswith("synthesized/conv1/")] == [
        f"synthesized/conv1/{channel}.jpg" for channel in (0, 1, 3, 4, 5)
    ]
    assert all(pages.resource(p) is not None for p in listed if p.startswith("synthe"))


def contents(folder: Path) -> dict[str, Any]:
    pages = Pages(Store.open(folder))
    found: dict[str, Any] = {path: pages.resource(path) for path in pages.paths()}
    network = json.loads(found.pop("data/network.json")[0])
    for layer in network["layers"]:
        if layer["synthesized"] is not None:
            layer["synthesized"]["seconds"] = None
    return {**found, "network": {**network, "created": None, "version": None}}


def test_a_killed_build_goes_on_with_the_next_block(pages: Pages, folder: Path, tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from atlas_helpers import tiny_network
from netloupe.atlas.build import build
from netloupe.data.open import open_source
from watch_helpers import Reacting
def react(stage, done):
    if stage == "synthesis" and done >= 70:
        os.kill(os.getpid(), signal.SIGKILL)
how = {"synthesize": ("conv1", "conv2"), "facets": 2, "steps": 6}
build(tiny_network(), open_source(sys.argv[1]), Path("out"), **how, project=None, watch=Reacting(react))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", script, folder], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    watch = Recorder()
    build(tiny_network(), open_source(folder), tmp_path / "out", **HOW, project=None, watch=watch)
    assert watch.told[-1] == ("synthesis", 76, 76)
    assert contents(tmp_path / "out") == contents(pages.store.path)


def test_without_being_asked_there_are_none(folder: Path, tmp_path: Path) -> None:
    build(tiny_network(), open_source(folder), tmp_path / "out", project=None)
    plain = Pages(Store.open(tmp_path / "out"))
    network = document(plain, "data/network.json")
    assert network["synthesis"] is None
    assert {layer["synthesized"] is None for layer in network["layers"]} == {True}
    assert document(plain, "data/units/conv2/0.json")["units"][0]["synthesized"] is None
    assert plain.resource("synthesized/conv2/0.jpg") is None
    assert not [path for path in plain.paths() if path.startswith("synthe")]


def test_mistakes_are_one_plain_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, source = tiny_network(), open_source(folder)
    with pytest.raises(UnknownName, match="conv9"):
        build(net, source, tmp_path / "out", synthesize=("conv9",))
    with pytest.raises(UnknownName, match="did you mean 'lucid'"):
        build(net, source, tmp_path / "out", synthesize=("conv1",), preset="lucidd")
    with pytest.raises(InputError, match="'conv2', which the atlas leaves out \\(accepted: conv1\\)"):
        build(net, source, tmp_path / "out", layers=["conv1"], synthesize=("conv2",))
    with pytest.raises(InputError, match="facets -1"):
        build(net, source, tmp_path / "out", synthesize=("conv1",), facets=-1)
    assert not list(tmp_path.iterdir())
    assert main(["atlas", "build", "--facets", "3", "-o", str(tmp_path / "out")]) == 2
    assert "without --synthesize" in capsys.readouterr().err
    command = ["atlas", "build", "--data", str(folder), "--synthesize", "cnv5", "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "did you mean 'conv5'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

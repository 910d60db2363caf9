"""Maps and neighbors of images: results, pictures, what is left out, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import netloupe
from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.layout.figure import MARK, densest, most_frequent
from netloupe.analysis.neighbors import neighbors
from netloupe.cli.app import main
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.network import Network
from netloupe.data.images import load_images
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import PAPER
from watch_helpers import Recorder


def labeled(folder: Path, counts: dict[str, int]) -> Path:
    for seed, (name, count) in enumerate(counts.items()):
        write_photos(folder / name, count, seed=seed)
    return folder


class Blinded(torch.nn.Module):
    """A layer that gives NaN for bright images."""

    def __init__(self, inner: torch.nn.Module, threshold: float) -> None:
        super().__init__()
        self.inner, self.threshold = inner, threshold

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        bright = x.mean((1, 2, 3)) > self.threshold
        return torch.where(bright[:, None, None, None], torch.nan, out)


def blinded(threshold: float) -> Network:
    net = tiny_network()
    net.module.conv1 = Blinded(net.module.conv1, threshold)
    return Network(net.module, net.inputs, net.labels, name="blinded")


def test_a_map_of_features(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(labeled(tmp_path / "in", {"a": 7, "b": 5, "c": 1}))
    watch = Recorder()
    found = netloupe.embed(net, source, "conv1", "pca", watch=watch)
    maps = net.activations(load_images([tmp_path / "in" / n for n in source.names], (24, 32)), ["conv1"])["conv1"]
    vectors = maps.mean((2, 3)).double().numpy()
    centered = vectors - vectors.mean(0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    expected = centered @ axes[:2].T
    for axis in range(2):
        signed = found.points[:, axis], expected[:, axis]
        assert min(np.abs(signed[0] - signed[1]).max(), np.abs(signed[0] + signed[1]).max()) < 1e-4
    assert np.abs(expected).max() > 1e-2
    assert found.ids.tolist() == list(range(13))
    assert found.labels == [0] * 7 + [1] * 5 + [2]
    assert {name for name, _, _ in watch.told} >= {"images", "accuracy"}
    summary = found.summary()
    json.dumps(summary)
    assert summary["layer"] == "conv1"
    assert summary["accuracy"]["space"]["classes_of_one_image"] == 1
    assert summary["notes"] == [
        "1 class has one image only, which is not counted in the accuracy: no neighbor shares its class"
    ]
    written = {path.name for path in found.save(tmp_path / "out")}
    assert written == {"map.png", "grid.png", "classes.png", "ids.npy", "points.npy", "cells.npy", "manifest.json"}


def test_a_map_of_pixels_with_a_placed_image_marked(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(write_photos(tmp_path, 9))
    new = load_images([tmp_path / "p04.png"], (24, 32))
    found = netloupe.embed(net, source, method="pca", pixels=True, place=new, thumbnail=40)
    assert found.layer is None
    assert np.abs(found.placed_points[0] - found.points[4]).max() < 0.15 * np.ptp(found.points, axis=0).max()
    assert found.arrangement.cells.shape == (10, 2)
    pictures = found.pictures()
    assert list(pictures) == ["map", "grid"]
    for picture in pictures.values():
        assert (picture == MARK).all(2).sum() > 50
        assert (picture[-1, -1] == PAPER).all()
    plain = netloupe.embed(net, source, method="pca", pixels=True, thumbnail=40)
    assert not any((picture == MARK).all(2).any() for picture in plain.pictures().values())
    assert "placed-points" in found.arrays()
    assert (plain.points == found.points).all()


def test_thumbnails_lie_on_their_cells(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    colors = [(20 * i, 255 - 20 * i, 60) for i in range(10)]
    for i, color in enumerate(colors):
        Image.new("RGB", (64, 48), color).save(folder / f"{i}.png")
    found = netloupe.embed(tiny_network(), open_source(folder), method="pca", pixels=True, thumbnail=32)
    picture = found.pictures()["grid"]
    top = picture.shape[0] - (found.arrangement.shape[0] * (24 + 2) + 2)
    for color, (row, column) in zip(colors, found.arrangement.cells.tolist(), strict=True):
        assert picture[top + 2 + row * 26 + 12, 2 + column * 34 + 16].tolist() == list(color)


def test_features_that_are_not_finite_are_left_out_and_listed(tmp_path: Path) -> None:
    folder = write_photos(tmp_path, 8)
    for i in (2, 5):
        Image.new("RGB", (64, 48), (255, 255, 255)).save(folder / f"p{i:02d}.png")
    (folder / "p07.png").write_bytes(b"nothing")
    net, source = blinded(0.9), open_source(folder)
    found = netloupe.embed(net, source, "conv1", "pca")
    assert found.ids.tolist() == [0, 1, 3, 4, 6]
    reasons = {one["name"]: one["reason"] for one in found.summary()["skipped"]}
    assert reasons["p02.png"] == reasons["p05.png"] == "features of layer conv1 that are not finite"
    assert set(reasons) == {"p02.png", "p05.png", "p07.png"}
    near = neighbors(net, load_images([folder / "p00.png"], (24, 32)), source, "conv1", k=7)
    assert sorted(near.features.ids[0].tolist()) == [-1, -1, 0, 1, 3, 4, 6]
    assert "only 5 images in the space of features, fewer than the 7 neighbors asked for" in near.notes
    with pytest.raises(InputError, match="given image 0: its features of layer 'conv1' are not finite"):
        neighbors(net, load_images([folder / "p02.png"], (24, 32)), source, "conv1", k=2)
    with pytest.raises(NetworkError, match="no image of .* has finite features in layer 'conv1'"):
        netloupe.embed(blinded(-1.0), source, "conv1", "pca")


def test_neighbors_by_cosine_with_accuracy(tmp_path: Path) -> None:
    net = tiny_network()
    source = open_source(labeled(tmp_path, {"a": 5, "b": 4}))
    query = load_images([tmp_path / "a" / "p01.png"], (24, 32))
    found = neighbors(net, query, source, "conv1", k=3, metric="cosine")
    assert found.features.ids[0, 0] == 1
    assert found.features.distances[0, 0] < 1e-6
    summary = found.summary()
    assert summary["metric"] == "cosine"
    assert summary["found"]["features"] == {"search": "exact"}
    assert {summary["accuracy"][space]["images"] for space in ("features", "pixels")} == {9}
    picture = found.pictures()["neighbors"]
    assert picture.shape[1] > 2 * 3 * 112


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "conv1", "pixels": True}, InputError, "layer 'conv1' and pixels both"),
        ({"layer": "conv9"}, UnknownName, "did you mean 'conv"),
        ({"method": "umpa"}, UnknownName, "did you mean 'umap'"),
        ({"thumbnail": 3}, InputError, r"thumbnail 3 \(accepted: 4 or more and up to 256\)"),
        ({"perplexity": -1}, InputError, "perplexity -1"),
    ],
)
def test_what_a_map_refuses(tmp_path: Path, options: dict[str, object], error: type[Exception], message: str) -> None:
    source = open_source(write_photos(tmp_path, 5))
    with pytest.raises(error, match=message):
        netloupe.embed(tiny_network(), source, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"method": "umpa"}, {"perplexity": 0}, {"method": "pca", "perplexity": 5}])
def test_mistakes_show_before_images_are_read(options: dict[str, object]) -> None:
    def opened(_: int) -> Image.Image:
        raise AssertionError("read")

    with pytest.raises((InputError, UnknownName), match="umpa|perplexity"):
        netloupe.embed(tiny_network(), ImageSource("few", list("abcdef"), opened), **options)  # type: ignore[arg-type]


def test_a_class_is_named_where_it_is_densest() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(60, 2)) * 5 + [30, 40]])
    assert np.abs(densest(points)).max() < 1


def test_most_frequent_classes() -> None:
    shown, counts = most_frequent([3, 1, 1, None, 2, 2, 5], 3)
    assert shown == [1, 2, 3]
    assert counts == {1: 2, 2: 2, 3: 1, 5: 1}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = labeled(tmp_path / "in", {"a": 4, "b": 4})
    options = ["map", "--weights", "random", "--data", str(folder), "--perplexity", "9"]
    assert main([*options, "--first", "7", "--place", str(folder / "b" / "p03.png"), "-o", str(tmp_path / "out")]) == 0
    text, said = capsys.readouterr()
    assert "note: perplexity 9 is more than 7 images allow; taken is (n - 1) / 3 = 2" in said
    assert "p03.png lies at" in text
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["summary"]["perplexity"] == 2
    assert manifest["summary"]["layer"] == "mean"
    assert main([*options, "--first", "3"]) == 2
    assert "3 images by tsne (accepted: 4 or more, or pca)" in capsys.readouterr().err
    assert main(["neighbors", str(folder / "a" / "p00.png"), "--data", str(folder), "--metric", "l3"]) == 2
    assert "no metric 'l3'" in capsys.readouterr().err

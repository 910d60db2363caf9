"""Atlases, maps, neighbors and studies of networks that give no classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netloupe
from atlas_helpers import write_photos
from netloupe.atlas.build import build
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import load_images
from netloupe.data.open import open_source
from netloupe.render.pictures import decode
from netloupe.studies.invariance.measure import invariance
from test_heads import Detector, Embedder, Labels, Regressor, Segmenter

HEADS: dict[str, tuple[type, dict[str, Any]]] = {
    "value": (Regressor, {}),
    "vector": (Embedder, {"head": "vector"}),
    "maps": (Segmenter, {"labels": ["sky", "tree", "road", "car"]}),
    "detections": (Detector, {"labels": ["none", "cat", "dog", "owl"]}),
    "none": (Embedder, {"head": "none"}),
    "sigmoid": (Labels, {"head": "sigmoid"}),
}


def network(name: str) -> Network:
    kind, options = HEADS[name]
    return Network(kind(), InputSpec(16, mean=(0, 0, 0), std=(1, 1, 1)), name=name, **options)


@pytest.mark.parametrize("name", HEADS)
def test_an_atlas_shows_what_the_network_says(name: str, tmp_path: Path) -> None:
    net, source = network(name), open_source(str(write_photos(tmp_path / "photos", 6)))
    build(net, source, tmp_path / "atlas", layers=[*net.layers], map_by="pca", project=None)
    pages = Pages(Store.open(tmp_path / "atlas"))
    found = {path: pages.resource(path) for path in pages.paths()}
    assert all(one is not None for one in found.values())

    def document(path: str) -> Any:
        content = found[path]
        assert content is not None
        return json.loads(content[0])

    images = load_images([tmp_path / "photos" / f"p{i:02d}.png" for i in range(6)], size=(16, 16))
    rows = document("data/images/0.json")["images"]
    image = document("data/image/3.json")
    units = document("data/units/conv/0.json")["units"]
    answers = [path for path in found if path.startswith("answers/")]
    drawn = name in ("maps", "detections")
    assert len(answers) == (6 if drawn else 0)
    assert {(row["prediction"] is None) for row in rows} == {name != "sigmoid"}
    assert all(unit["classes"] == [] for unit in units) == (name != "sigmoid")
    told = document("data/network.json")
    assert (told["accuracy"], told["head"]) == (None, name)
    assert bool(told["labels"]) == any(layer["classes"] for layer in told["layers"]) == (name == "sigmoid")
    if name == "sigmoid":
        expected = net.predict(images)[3]
        assert [guess["probability"] for guess in image["top"]] == pytest.approx([p for _, p in expected], abs=1e-5)
        assert image["said"] == []
    else:
        said = [(one["label"], one["number"]) for one in image["said"]]
        expected = [] if name in ("vector", "none") else net.predict(images)[3]
        assert [label for label, _ in said] == [label for label, _ in expected]
        assert [number for _, number in said] == pytest.approx([number for _, number in expected], abs=1e-5)
        assert image["top"] == []
    if drawn:
        content, photo = found["answers/3.webp"], found["img/3.webp"]
        assert content is not None
        assert photo is not None
        assert not np.array_equal(decode(content[0]), decode(photo[0]))
    points = np.frombuffer(found["data/map/points.bin"][0], dtype="<u2")[12:]  # type: ignore[index]
    assert set(points[6:12].tolist()) <= {0, 1, 2} if name == "sigmoid" else set(points[6:12].tolist()) == {65535}


@pytest.mark.parametrize("name", HEADS)
def test_maps_and_neighbors_need_no_classes(name: str, tmp_path: Path) -> None:
    net, source = network(name), open_source(str(write_photos(tmp_path / "photos", 6)))
    found = netloupe.embed(net, source, "conv", "pca")
    assert found.points.shape == (6, 2)
    photos = load_images(sorted((tmp_path / "photos").iterdir())[:2], size=(16, 16))
    near = netloupe.neighbors(net, photos, source, layer="conv", k=2)
    assert near.summary()["layer"] == "conv"


@pytest.mark.parametrize("name", ["none", "maps", "sigmoid"])
def test_invariance_of_features_needs_no_classes(name: str, tmp_path: Path) -> None:
    net, source = network(name), open_source(str(write_photos(tmp_path / "photos", 3)))
    found = invariance(net, source, ["conv"], steps=2)
    same = invariance(network("sigmoid"), source, ["conv"], steps=2)
    np.testing.assert_array_equal(found.distances["shift"] > 0, same.distances["shift"] > 0)
    without = name != "sigmoid"
    assert (found.probabilities is None) == without
    assert (found.summary()["motions"]["scale"]["probability"] is None) == without
    assert any("answer" in one["claim"] for one in found.summary()["claims"]) != without
    assert ("probability of" in found.task.words(found.summary())) != without
    assert found.pictures()["invariance"].ndim == 3
    assert ("shift-probabilities" in found.arrays()) != without

"""The map of units: the sweep's sample of peaks, and where it puts the units of a layer, against plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.layout.embedding import embed_vectors
from netloupe.atlas.build import build
from netloupe.atlas.pages import Pages
from netloupe.atlas.parts import unitmap
from netloupe.atlas.parts.unitmap import standardized
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError
from netloupe.data.images import load_images
from netloupe.data.open import open_source
from netloupe.sweep import blocks, engine
from netloupe.sweep.accumulator import make
from netloupe.sweep.engine import sweep
from netloupe.sweep.maps import Maps
from netloupe.sweep.sampled import SampledPeaks
from sweep_helpers import outputs, source_of, tiny_images
from sweep_helpers import tiny_network as exact_network

LAYERS = ["conv1", "block", "fc"]


def expected(ids: list[int], images: Any) -> dict[str, list[list[float]]]:
    """Layer -> for each image the highest value of each channel, one by one."""
    found = outputs(exact_network(), images[ids])
    return {
        layer: [[max(float(v) for v in np.ravel(channel)) for channel in image] for image in found[layer]]
        for layer in LAYERS
    }


def assert_found(taken: SampledPeaks, ids: list[int], images: Any) -> None:
    result = taken.result()
    assert list(result) == LAYERS
    for layer, peaks in expected(ids, images).items():
        assert result[layer].ids.tolist() == ids
        assert result[layer].peaks.tolist() == peaks
        assert np.ptp(result[layer].peaks) > 0


@pytest.mark.parametrize(("most", "ids"), [(5, [0, 13, 26, 39, 52]), (2, [0, 52]), (99, list(range(53)))])
def test_the_peaks_of_evenly_spread_images_are_kept(most: int, ids: list[int]) -> None:
    images = tiny_images(53)
    for batch_size in (3, 32):
        taken = SampledPeaks(53, most)
        sweep(exact_network(), images, {"taken": taken}, layers=LAYERS, batch_size=batch_size)
        assert_found(taken, ids, images)


def test_a_broken_image_is_left_out() -> None:
    pixels = (tiny_images(53) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    taken = SampledPeaks(53, 5)
    sweep(exact_network(), source_of(pixels, broken=[13, 14]), {"taken": taken}, layers=LAYERS)
    assert {tuple(found.ids) for found in taken.result().values()} == {(0, 26, 39, 52)}


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_shards_merge_in_any_order(monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]) -> None:
    images, whole = tiny_images(53), SampledPeaks(53, 20)
    net, parts = exact_network(), []
    maps = net.activations(images, LAYERS)
    for start in range(0, 53, 14):
        part = make(json.loads(json.dumps(whole.spec())))
        ids = np.arange(start, min(53, start + 14))
        for layer in LAYERS:
            part.update(layer, Maps(maps[layer][ids], ids, np.full(len(ids), -1)))
        part.end_batch()
        saved = make(part.spec())
        saved.load(part.state())
        parts.append(saved)
    for number in order:
        whole.merge(parts[number])
    assert_found(whole, [round(i * 52 / 19) for i in range(20)], images)


def test_one_that_was_given_none_of_its_images_is_saved_and_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(engine, "BLOCKS", 2)
    images = tiny_images(53)
    taken = SampledPeaks(53, 2)  # most shards have none of them
    sweep(exact_network(), images, {"taken": taken}, layers=LAYERS)
    assert_found(taken, [0, 52], images)
    with pytest.raises(InputError, match="can't be merged"):
        taken.merge(SampledPeaks(53, 3))


def test_the_distance_of_standardized_peaks_tells_the_correlation() -> None:
    peaks = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32) * [1, 100, 0.01, 1, 1, 1]
    peaks[:, 3] = 7  # the same in all images
    peaks[:, 4] = 3 * peaks[:, 0] + 5
    vectors, varied = standardized(peaks.astype(np.float32))
    assert varied.tolist() == [True, True, True, False, True, True]
    assert not vectors[3].any()
    for a, b in [(0, 1), (1, 2), (0, 4), (2, 5)]:
        correlation = np.corrcoef(peaks[:, a], peaks[:, b])[0, 1]
        assert ((vectors[a] - vectors[b]) ** 2).sum() == pytest.approx(2 - 2 * correlation, abs=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen photographs and their atlas."""
    folder = tmp_path_factory.mktemp("units")
    write_photos(folder / "photos", 14, seed=1)
    build(tiny_network(), open_source(folder / "photos"), folder / "atlas", layers=["conv1", "conv2"], project=None)
    return folder


@pytest.fixture(scope="module")
def pages(folder: Path) -> Pages:
    return Pages(Store.open(folder / "atlas"))


def document(pages: Pages, path: str) -> Any:
    found = pages.resource(path)
    assert found is not None, path
    return json.loads(found[0])


@pytest.mark.parametrize(("layer", "dead"), [("conv1", 1), ("conv2", 0)])
def test_units_lie_where_the_embedding_of_their_peaks_puts_them(
    folder: Path, pages: Pages, layer: str, dead: int
) -> None:
    found = document(pages, f"data/unitmap/{layer}.json")
    names = open_source(folder / "photos").names
    images = load_images([folder / "photos" / name for name in names], (24, 32))
    peaks = tiny_network().activations(images, [layer])[layer].numpy().max((2, 3))  # (14, C)
    place = document(pages, f"data/layer/{layer}.json")["place"]
    living = [c for c in range(peaks.shape[1]) if peaks[:, c].max() > 0]
    assert len(living) == peaks.shape[1] - dead
    assert found["channels"] == sorted(living, key=lambda c: place[c])
    assert (found["images"], found["dead"], found["constant"]) == (14, dead, 0)
    vectors = []
    for c in found["channels"]:
        own = peaks[:, c].astype(np.float64) - peaks[:, c].astype(np.float64).mean()
        vectors.append(own / np.sqrt((own**2).sum()))
    points = embed_vectors(np.array(vectors, np.float32)).points.astype(np.float64)
    extent = max(np.ptp(points[:, 0]), np.ptp(points[:, 1]))
    for axis, name in enumerate("xy"):
        middle = (points[:, axis].max() + points[:, axis].min()) / 2
        # what the network computed in other batches is the same but for its last bits
        assert np.array(found[name]) == pytest.approx(65535 * (0.5 + (points[:, axis] - middle) / extent), abs=700)
    assert max(np.ptp(found["x"]), np.ptp(found["y"])) == 65535
    assert found["about"]["method"] == "tsne"
    assert document(pages, "data/network.json")["unit_map"] == {"layers": ["conv1", "conv2"], "missing": {}}


def test_a_layer_whose_units_respond_as_those_of_another_has_its_map(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pooling keeps the highest response of each channel."""
    made = []

    def counted(vectors: np.ndarray, *rest: Any) -> dict[str, Any]:
        made.append(len(vectors))
        return laid_out(vectors, *rest)

    laid_out = unitmap._laid_out
    monkeypatch.setattr(unitmap, "_laid_out", counted)
    layers = ["relu", "pool", "conv2"]
    build(tiny_network(), open_source(folder / "photos"), folder / "shared", layers=layers, project=None)
    assert made == [5, 70]
    pages = Pages(Store.open(folder / "shared"))
    first, second, third = (document(pages, f"data/unitmap/{layer}.json") for layer in layers)
    assert "same_as" not in {**first["about"], **third["about"]}
    assert second["about"].pop("same_as") == "relu"
    assert second == first
    assert document(pages, "data/network.json")["unit_map"]["layers"] == layers


def test_the_export_has_the_maps(pages: Pages) -> None:
    assert {path for path in pages.paths() if path.startswith("data/unitmap/")} == {
        f"data/unitmap/conv{i}.json" for i in (1, 2)
    }


def test_without_a_map_there_is_none_of_units(folder: Path) -> None:
    source = open_source(folder / "photos")
    build(tiny_network(), source, folder / "none", layers=["conv1"], project=None, map_by=None)
    pages = Pages(Store.open(folder / "none"))
    assert document(pages, "data/network.json")["unit_map"] is None
    assert pages.resource("data/unitmap/conv1.json") is None


def test_of_one_image_no_unit_can_be_compared(folder: Path) -> None:
    source = open_source(folder / "photos").first(1)
    build(tiny_network(), source, folder / "one", layers=["conv1"], project=None)
    pages = Pages(Store.open(folder / "one"))
    why = "no channel responds to some images more than to others"
    assert document(pages, "data/network.json")["unit_map"] == {"layers": [], "missing": {"conv1": why}}
    assert document(pages, "data/unitmap/conv1.json")["constant"] == 5

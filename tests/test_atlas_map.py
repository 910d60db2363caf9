"""The map of an atlas: its resources against plain computations from the same photographs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atlas_helpers import thumbnails, tiny_network, write_photos
from netloupe.analysis.layout.embedding import embed_vectors
from netloupe.atlas.build import build
from netloupe.atlas.pages import Pages
from netloupe.atlas.parts.layout import in_grid, quantized
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError, UnknownName
from netloupe.data.images import load_images
from netloupe.data.open import open_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty labeled photographs with a broken one among them, and their atlas."""
    folder = tmp_path_factory.mktemp("map")
    write_photos(folder / "photos" / "cats", 11, seed=1)
    write_photos(folder / "photos" / "dogs", 9, seed=2)
    (folder / "photos" / "cats" / "p03.png").write_bytes(b"not a picture")
    build(tiny_network(), open_source(folder / "photos"), folder / "atlas", layers=["conv1"], project=None)
    return folder


@pytest.fixture(scope="module")
def pages(folder: Path) -> Pages:
    return Pages(Store.open(folder / "atlas"))


def document(pages: Pages, path: str = "data/map.json") -> Any:
    found = pages.resource(path)
    assert found is not None, path
    return json.loads(found[0])


def points(pages: Pages) -> dict[str, Any]:
    """`data/map/points.bin` taken apart byte by byte."""
    found = pages.resource("data/map/points.bin")
    assert found is not None
    assert found[1] == "application/octet-stream"
    data, count = found[0], document(pages)["count"]
    assert len(data) == count * (4 + 2 * 7 + 3)
    names = ["label", "prediction", "probability", "features x", "features y", "pixels x", "pixels y"]
    columns = {"id": [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(count)]}
    for c, name in enumerate(names):
        start = count * (4 + 2 * c)
        columns[name] = [int.from_bytes(data[start + 2 * i : start + 2 * i + 2], "little") for i in range(count)]
    columns["color"] = [list(data[18 * count + 3 * i : 18 * count + 3 * i + 3]) for i in range(count)]
    return columns


def seen(folder: Path) -> tuple[list[int], Any]:
    """Ids of the readable photographs, and them as the network sees them."""
    source = open_source(folder / "photos")
    ids = [i for i, name in enumerate(source.names) if name != "cats/p03.png"]
    return ids, load_images([folder / "photos" / source.names[i] for i in ids], (24, 32))


def test_points_tell_what_each_image_is(folder: Path, pages: Pages) -> None:
    found = points(pages)
    ids, images = seen(folder)
    assert sorted(found["id"]) == ids
    assert found["id"] != ids  # the places follow the map
    source = open_source(folder / "photos")
    assert found["label"] == [source.label(i) for i in found["id"]]
    assert set(found["label"]) == {0, 1}
    guesses = dict(zip(ids, tiny_network().predict(images), strict=True))
    labels = tiny_network().labels or ()
    means = dict(zip(ids, 255 * images.mean((2, 3)), strict=True))
    assert len({tuple(color) for color in found["color"]}) > 2
    assert np.allclose(found["color"], [means[i] for i in found["id"]], atol=2)
    assert [labels[p] for p in found["prediction"]] == [guesses[i][0][0] for i in found["id"]]
    chances = [guesses[i][0][1] for i in found["id"]]
    assert np.array(found["probability"]) / 65535 == pytest.approx(chances, abs=1e-4)


def test_points_lie_where_the_embedding_puts_them(folder: Path, pages: Pages) -> None:
    found = points(pages)
    ids, images = seen(folder)
    store = Store.open(folder / "atlas")
    thumbs = {i: thumb.ravel() for i, thumb in thumbnails(folder / "photos").items()}
    features = {row["id"]: row["vector"] for row in store.rows("features")}
    means = tiny_network().activations(images, [document(pages)["channels"]["layer"]])
    (layer,) = means.values()
    assert np.stack([features[i] for i in ids]) == pytest.approx(layer.mean((2, 3)).numpy(), abs=1e-4)
    spaces = {
        "features": np.array([features[i] for i in ids], np.float32),
        "pixels": np.stack([thumbs[i] for i in ids]).astype(np.float32) / 255,
    }
    for name, vectors in spaces.items():
        laid = embed_vectors(vectors).points.astype(np.float64)
        extent = max(laid[:, axis].max() - laid[:, axis].min() for axis in (0, 1))
        for place, image in enumerate(found["id"]):
            for axis, letter in enumerate("xy"):
                middle = (laid[:, axis].max() + laid[:, axis].min()) / 2
                share = 0.5 + (laid[ids.index(image), axis] - middle) / extent
                assert found[f"{name} {letter}"][place] == pytest.approx(65535 * share, abs=1)
        assert max(found[f"{name} x"] + found[f"{name} y"]) == 65535
    assert [space["about"]["method"] for space in document(pages)["spaces"]] == ["tsne", "tsne"]
    assert document(pages)["spaces"][0]["about"]["images"] == 19


def test_places_follow_mortons_curve(pages: Pages) -> None:
    found = points(pages)

    def place(x: int, y: int) -> int:
        return int("".join(b + a for a, b in zip(f"{x:016b}", f"{y:016b}", strict=True)), 2)

    along = [place(x, y) for x, y in zip(found["features x"], found["features y"], strict=True)]
    assert along == sorted(along)
    assert len(set(along)) > 15


def test_sheets_hold_the_thumbnails_in_the_order_of_places(folder: Path, pages: Pages) -> None:
    thumbs = {i: thumb.astype(float) for i, thumb in thumbnails(folder / "photos").items()}
    order = points(pages)["id"]
    for sprites in document(pages)["sprites"]:
        side, columns = sprites["side"], sprites["columns"]
        found = pages.resource(f"sprites/{side}/0.jpg")
        assert found is not None
        assert found[1] == "image/jpeg"
        sheet = np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB")).astype(float)
        assert sheet.shape[1] == 1024
        for place, image in enumerate(order):
            y, x = place // columns * side, place % columns * side
            step = 32 // side
            expected = np.array(
                [
                    [
                        thumbs[image][r * step : (r + 1) * step, c * step : (c + 1) * step].mean((0, 1))
                        for c in range(side)
                    ]
                    for r in range(side)
                ]
            )
            assert np.abs(sheet[y : y + side, x : x + side] - expected).mean() < 8, (side, place)
            assert np.ptp(expected) > 50
    assert pages.resource("sprites/32/1.jpg") is None
    assert pages.resource("sprites/16/0.jpg") is None


def test_features_come_back_from_their_blocks(folder: Path, pages: Pages) -> None:
    channels = document(pages)["channels"]
    found = pages.resource("data/map/features/0.bin")
    assert found is not None
    rows = {row["id"]: row["vector"] for row in Store.open(folder / "atlas").rows("features")}
    order = points(pages)["id"]
    width = len(rows[0])
    assert len(found[0]) == len(order) * width
    values = np.frombuffer(found[0], np.uint8).reshape(len(order), width)
    for c in range(width):
        column = [rows[i][c] for i in order]
        low, high = channels["low"][c], channels["high"][c]
        assert (low, high) == pytest.approx((min(column), max(column)), rel=1e-5)
        assert channels["mean"][c] == pytest.approx(sum(column) / len(column), rel=1e-4, abs=1e-6)
        spread = sum((v - channels["mean"][c]) ** 2 for v in column) / len(column)
        assert channels["deviation"][c] == pytest.approx(spread**0.5, rel=1e-3, abs=1e-6)
        for place, value in enumerate(column):
            assert low + (high - low) * values[place, c] / 255 == pytest.approx(value, abs=(high - low) / 500 + 1e-6)
    assert values.max() == 255
    assert pages.resource("data/map/features/1.bin") is None
    assert pages.resource("data/map/features/x.bin") is None


def test_every_resource_of_the_map_is_listed(pages: Pages) -> None:
    listed = [path for path in pages.paths() if path.startswith(("data/map", "sprites/"))]
    assert sorted(listed) == [
        "data/map.json", "data/map/features/0.bin", "data/map/points.bin", "sprites/32/0.jpg", "sprites/8/0.jpg",
    ]  # fmt: skip
    assert all(pages.resource(path) is not None for path in listed)


def test_an_atlas_without_a_map(tmp_path: Path) -> None:
    source = open_source(write_photos(tmp_path / "photos", 2))
    build(tiny_network(), source, tmp_path / "out", layers=["conv1"], project=None, map_by=None)
    pages = Pages(Store.open(tmp_path / "out"))
    assert document(pages, "data/network.json")["map"] is None
    for path in ("data/map.json", "data/map/points.bin", "data/map/features/0.bin", "sprites/8/0.jpg"):
        assert pages.resource(path) is None
    assert not [path for path in pages.paths() if path.startswith(("data/map", "sprites"))]


@pytest.mark.parametrize(("count", "method", "note"), [(1, "none", "one image"), (3, "pca", "needs 4 images")])
def test_few_images_have_a_map_that_says_how(tmp_path: Path, count: int, method: str, note: str) -> None:
    source = open_source(write_photos(tmp_path / "photos", count))
    build(tiny_network(), source, tmp_path / "out", layers=["conv1"], project=None)
    pages = Pages(Store.open(tmp_path / "out"))
    found = document(pages)
    assert found["count"] == count
    assert {space["about"]["method"] for space in found["spaces"]} == {method}
    assert note in found["spaces"][0]["about"]["notes"][0]
    if count == 1:
        assert points(pages)["features x"] == [32768]


def test_images_that_are_all_the_same_have_no_map_and_the_atlas_says_why(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(5):
        Image.new("RGB", (64, 48), (90, 120, 60)).save(tmp_path / "photos" / f"{i}.png")
    build(tiny_network(), open_source(tmp_path / "photos"), tmp_path / "out", layers=["conv1"], project=None)
    pages = Pages(Store.open(tmp_path / "out"))
    found = document(pages, "data/network.json")["map"]
    assert found["spaces"] == []
    assert "all 5 vectors are the same" in found["missing"]["features"]
    assert pages.resource("data/map.json") is None


def test_mistakes_are_found_before_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_photos(tmp_path / "photos", 2))
    with pytest.raises(UnknownName, match="no map by 'tsn'.*'tsne'"):
        build(tiny_network(), source, tmp_path / "out", map_by="tsn")
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(InputError, match="needs umap-learn"):
        build(tiny_network(), source, tmp_path / "out", map_by="umap")
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_of_many_images_some_are_laid_out_and_the_others_placed_among_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("netloupe.atlas.parts.layout.LAID", 8)
    monkeypatch.setattr("netloupe.atlas.parts.images._TOGETHER", 5)  # so that the others come in several parts
    build(tiny_network(), open_source(folder / "photos"), tmp_path / "out", layers=["conv1"], map_by=method)
    pages, store = Pages(Store.open(tmp_path / "out")), Store.open(tmp_path / "out")
    ids = sorted(row["id"] for row in store.rows("images", columns=["id"]))
    laid = [ids[round(i * 18 / 7)] for i in range(8)]
    features = {row["id"]: row["vector"] for row in store.rows("features")}
    thumbs = {i: (thumb.ravel() / 255).astype(np.float32) for i, thumb in thumbnails(folder / "photos").items()}
    rows = {row["space"]: row for row in store.rows("embeddings")}
    for space, vectors in (("features", features), ("pixels", thumbs)):
        made = embed_vectors(np.array([vectors[i] for i in laid], np.float32), method)
        found = dict(zip(rows[space]["ids"], zip(rows[space]["x"], rows[space]["y"], strict=True), strict=True))
        assert sorted(found) == ids
        assert np.array([found[i] for i in laid]) == pytest.approx(made.points, abs=1e-4)
        others = [i for i in ids if i not in laid]
        assert len(others) == 11
        placed = np.concatenate([made.place(np.array([vectors[i] for i in some], np.float32)) for some in (
            others[:5], others[5:10], others[10:]
        )])  # fmt: skip
        assert np.array([found[i] for i in others]) == pytest.approx(placed, abs=1e-3)
        assert np.ptp(placed, axis=0).min() > 0
    notes = [note for space in document(pages)["spaces"] for note in space["about"]["notes"]]
    assert notes.count("laid out are 8 of 19 images, evenly spread; the others are placed among them") == 2


def test_coordinates_keep_their_proportions() -> None:
    laid = in_grid(np.array([[-2.0, 1.0], [2.0, 2.0], [0.0, 1.5]], np.float32))
    assert laid.tolist() == [[0, 24576], [65535, 40959], [32768, 32768]]
    assert in_grid(np.zeros((2, 2), np.float32)).tolist() == [[32768, 32768]] * 2


def test_quantized_features_span_their_range() -> None:
    range_of = {"low": [0.0, 3.0], "high": [2.0, 3.0]}
    assert quantized(np.array([[0.0, 3.0], [1.0, 3.0], [2.0, 3.0]]), range_of).tolist() == [[0, 0], [128, 0], [255, 0]]


def test_images_are_laid_out_by_the_layers_that_were_named(folder: Path, tmp_path: Path) -> None:
    net, source = tiny_network(), open_source(folder / "photos")
    how: Any = {"map_layers": ("conv1", "conv2", "fc", "conv1"), "map_by": "pca", "layers": ["conv1"], "project": None}
    report = build(net, source, tmp_path / "out", **how)
    found = document(Pages(Store.open(report.path)))
    names = [space["name"] for space in found["spaces"]]
    assert names == ["features", "layer:conv1", "layer:fc", "pixels"]  # conv2 gives the features
    ids, images = seen(folder)
    expected = embed_vectors(net.activations(images, ["conv1"])["conv1"].mean((2, 3)).numpy(), "pca").points
    rows = {row["space"]: row for row in Store.open(report.path).rows("embeddings")}
    assert rows["layer:conv1"]["ids"] == ids
    ours = np.stack([rows["layer:conv1"][axis] for axis in "xy"], axis=1)
    assert np.abs(expected).max() > 0
    assert np.allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(ours, np.stack([rows["features"][axis] for axis in "xy"], axis=1), atol=1e-3)
    data = Pages(Store.open(report.path)).resource("data/map/points.bin")
    assert data is not None
    assert len(data[0]) == found["count"] * (4 + 2 * 11 + 3)
    assert build(net, source, tmp_path / "out", **how).fresh is False
    assert build(net, source, tmp_path / "out", **{**how, "map_layers": ()}).fresh is True
    with pytest.raises(UnknownName, match="conv7"):
        build(net, source, tmp_path / "other", **{**how, "map_layers": ("conv7",)})
    with pytest.raises(InputError, match="--map-layer without a map"):
        build(net, source, tmp_path / "other", **{**how, "map_by": None})

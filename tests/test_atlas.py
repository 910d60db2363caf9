"""The atlas from build to bytes, on a tiny network."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from atlas_helpers import tiny_network, write_photos
from netloupe.analysis.neighbors import neighbors
from netloupe.analysis.patches import top_patches
from netloupe.atlas import pictures
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.pages import Pages
from netloupe.atlas.parts import PARTS
from netloupe.atlas.parts.attention import Attention
from netloupe.atlas.parts.units import selectivity, unit_rows
from netloupe.atlas.server import application
from netloupe.atlas.sheets import typical
from netloupe.atlas.store import FORMAT, Store
from netloupe.core.errors import Cancelled, InputError, StoreError, UnknownName
from netloupe.core.identity import Identity
from netloupe.core.network import Network
from netloupe.data.images import load_images, open_image
from netloupe.data.open import open_source
from netloupe.sweep import blocks
from watch_helpers import Recorder


def photos(folder: Path) -> Path:
    """Twelve labeled photographs in two classes, and a broken one."""
    write_photos(folder / "cats", 6, seed=1)
    write_photos(folder / "dogs", 6, seed=2)
    (folder / "dogs" / "broken.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas")
    report = build(tiny_network(), open_source(photos(folder / "photos")), folder / "atlas", batch_size=5)
    assert (report.images, report.fresh) == (12, True)
    assert [s.name for s in report.skipped] == ["dogs/broken.png"]
    return folder / "atlas"


@pytest.fixture(scope="module")
def pages(atlas: Path) -> Pages:
    return Pages(Store.open(atlas))


def document(pages: Pages, path: str) -> Any:
    found = pages.resource(path)
    assert found is not None, path
    assert found[1] == "application/json"
    return json.loads(found[0])


def test_the_network_page_tells_what_is_there(pages: Pages) -> None:
    network = document(pages, "data/network.json")
    assert [layer["name"] for layer in network["layers"]] == ["conv1", "relu", "pool", "conv2", "fc"]
    assert network["images"] == 12
    assert network["input"] == {"size": [24, 32], "channels": 3}
    assert network["source_classes"] == ["cats", "dogs"]
    assert network["accuracy"] is None
    assert network["skipped"][0]["name"] == "dogs/broken.png"
    conv1 = network["layers"][0]
    assert conv1["shape"] == [6, 24, 32]
    assert conv1["receptive_field"] == {"size": [5, 5], "stride": [1, 1], "exact": True, "whole": False}
    assert conv1["dead"] == 1
    assert network["provenance"]["threads"] == torch.get_num_threads()
    assert 2 not in conv1["typical"]


def test_units_hold_the_patches_that_top_patches_finds(pages: Pages, atlas: Path) -> None:
    net, source = tiny_network(), open_source(atlas.parent / "photos")
    top = top_patches(net, source, ["conv1", "conv2"])
    for layer in ("conv1", "conv2"):
        channels = net.layers[layer].channels
        units = [u for b in range(-(-channels // 64)) for u in document(pages, f"data/units/{layer}/{b}.json")["units"]]
        assert [u["channel"] for u in units] == list(range(channels))
        for unit in units:
            c = unit["channel"]
            if (layer, c) == ("conv1", 2):
                assert unit["patches"] == []  # constant: no image excites it more than another
                continue
            assert [p["image"] for p in unit["patches"]] == top[layer].images[c].tolist()
            assert [p["value"] for p in unit["patches"]] == pytest.approx(top[layer].values[c].tolist())
            assert [tuple(p["box"]) for p in unit["patches"]] == [top.box(layer, c, r) for r in range(9)]
            assert sum(unit["histogram"]["counts"]) == 12
            assert {x["label"] for x in unit["classes"]} == {"cats", "dogs"}
            assert unit["classes"][0]["mean"] >= unit["classes"][1]["mean"]


def test_statistics_against_plain_loops(pages: Pages, atlas: Path) -> None:
    net = tiny_network()
    folder = atlas.parent / "photos"
    files = sorted(p for p in folder.rglob("p*.png"))
    peaks = net.activations(load_images(files, (24, 32)), ["conv2"])["conv2"].amax((2, 3)).numpy().astype(np.float64)
    columns = document(pages, "data/layer/conv2.json")
    assert columns["strength"] == pytest.approx(peaks.max(0).tolist(), abs=1e-5)
    assert columns["mean"] == pytest.approx(peaks.mean(0).tolist(), abs=1e-5)
    assert columns["sparsity"] == pytest.approx((peaks <= 0).mean(0).tolist(), abs=1e-6)
    cats, dogs = peaks[:6].mean(0), peaks[6:].mean(0)
    high, low = np.maximum(cats, dogs), np.minimum(cats, dogs)
    assert columns["selectivity"] == pytest.approx(((high - low) / (abs(high) + abs(low))).tolist(), abs=1e-4)
    assert columns["label"] == [
        None if d else ("cats" if c > g else "dogs") for c, g, d in zip(cats, dogs, columns["dead"], strict=True)
    ]


def test_classes_of_fewer_than_five_images_are_never_preferred() -> None:
    means = np.array([[9.0, 1.0], [2.0, 3.0], [1.0, 1.0], [np.nan, np.nan]])
    peaks = SimpleNamespace(
        maximum=np.array([9.0, 3.0]), mean=np.zeros(2), active=np.ones(2), low=np.zeros(2), high=np.ones(2),
        counts=np.zeros((2, 32), int),
    )  # fmt: skip
    first, second = unit_rows(0, peaks, means, np.array([4, 5, 6, 0]))
    assert (first["classes"], first["class_means"], first["class_counts"]) == ([1, 2], [2.0, 1.0], [5, 6])
    assert first["selectivity"] == pytest.approx((2 - 1) / (2 + 1))
    assert second["classes"] == [1, 2]
    few = unit_rows(0, peaks, means, np.array([4, 5, 1, 0]))[0]
    assert (few["classes"], few["selectivity"]) == ([1], None)  # nothing to compare it with
    assert unit_rows(0, peaks, means, np.array([4, 4, 4, 0]))[0]["classes"] == []


def sheet_of(pages: Pages, path: str) -> np.ndarray:
    found = pages.resource(path)
    assert found is not None
    assert found[1] == "image/webp"
    return np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB")).astype(int)


def test_tiles_show_the_patches_in_the_order_of_the_page(pages: Pages, atlas: Path) -> None:
    top = top_patches(tiny_network(), open_source(atlas.parent / "photos"), ["conv2"])
    columns = document(pages, "data/layer/conv2.json")
    order = sorted(range(70), key=lambda c: (columns["dead"][c], -columns["strength"][c], c))
    assert [columns["place"][c] for c in order] == list(range(70))
    assert order != list(range(70))
    for place in (0, 9, 31, 32, 69):
        sheet = sheet_of(pages, f"tiles/conv2/{place // 32}.webp")
        y, x = place % 32 // 8 * 120, place % 8 * 120
        expected = top.patch("conv2", order[place], 0, side=39).astype(int)
        assert np.abs(sheet[y + 4 : y + 35, x + 4 : x + 35] - expected[4:35, 4:35]).mean() < 8
    assert sheet_of(pages, "tiles/conv2/2.webp").shape == (120, 960, 3)
    typical = next(x for x in document(pages, "data/network.json")["layers"] if x["name"] == "conv2")["typical"]
    strip = sheet_of(pages, "strips/conv2.webp")
    assert strip.shape == (120, 120 * len(typical), 3)
    for place, channel in enumerate(typical):
        expected = top.patch("conv2", channel, 0, side=39).astype(int)
        assert np.abs(strip[4:35, 120 * place + 4 : 120 * place + 35] - expected[4:35, 4:35]).mean() < 8


def test_what_a_relu_repeats_is_kept_once(pages: Pages) -> None:
    store = pages.store
    for table in ("tiles", "projections"):
        rows = store.rows(table)
        own = {row["layer"] for row in rows if row["picture"] is not None}
        borrowed = [row for row in rows if row["picture"] is None]
        assert {row["layer"] for row in borrowed} >= {1}, table  # relu, of conv1
        assert 0 in own
        assert all(row["like"] in own and row["like"] != row["layer"] for row in borrowed)
    assert pages.resource("tiles/relu/0.webp") == pages.resource("tiles/conv1/0.webp") is not None
    assert pages.resource("projections/relu/3.webp") == pages.resource("projections/conv1/3.webp") is not None


def test_maps_are_kept_in_their_own_size_and_a_repeated_row_once(pages: Pages, atlas: Path) -> None:
    from netloupe.render.colors import heat

    net, folder = tiny_network(), atlas.parent / "photos"
    maps = document(pages, "data/network.json")["maps"]
    assert dict(zip(maps["layers"], maps["sizes"], strict=True)) == {
        "conv1": [24, 32], "relu": [24, 32], "pool": [12, 16], "conv2": [10, 14],
    }  # fmt: skip
    image, sheet = document(pages, "data/image/3.json"), sheet_of(pages, "maps/3.webp")
    tops = {row["layer"]: row["top"] for row in image["maps"]}
    assert tops == {"conv1": 0, "relu": 0, "pool": 24, "conv2": 36}
    assert sheet.shape == (46, 6 * 32, 3)
    pixels = load_images([sorted(folder.rglob("p*.png"))[3]], (24, 32))
    for row, (height, width) in zip(image["maps"], maps["sizes"], strict=True):
        found = net.activations(pixels, [row["layer"]])[row["layer"]][0].numpy()
        for column, channel in enumerate(row["channels"]):
            tile = sheet[row["top"] : row["top"] + height, column * width : (column + 1) * width]
            expected = heat(np.clip(found[channel], 0, None), row["peaks"][0]).astype(int)
            assert np.abs(tile - expected).max() <= 30  # half of one in fifteen steps, where colors change fastest


def test_an_image_page(pages: Pages, atlas: Path) -> None:
    net, source = tiny_network(), open_source(atlas.parent / "photos")
    image = document(pages, "data/image/3.json")
    files = sorted((atlas.parent / "photos").rglob("p*.png"))
    pixels = load_images([files[3]], (24, 32))
    assert [(t["label"], pytest.approx(t["probability"], abs=1e-5)) for t in image["top"]] == net.predict(pixels)[0]
    assert image["label"] == "cats"
    row = next(m for m in image["maps"] if m["layer"] == "conv1")
    peaks = net.activations(pixels, ["conv1"])["conv1"][0].amax((1, 2))
    assert row["channels"] == peaks.argsort(descending=True, stable=True).tolist()
    assert row["peaks"] == pytest.approx(sorted(peaks.tolist(), reverse=True), abs=1e-5)
    expected = neighbors(net, pixels, source, k=4)
    assert [n["id"] for n in image["neighbors"]["features"]][:3] == expected.features.ids[0, 1:].tolist()
    assert len(image["neighbors"]["pixels"]) == 11
    photo = pages.resource("img/3.webp")
    assert photo is not None
    assert Image.open(io.BytesIO(photo[0])).size == (64, 48)


def test_unknown_paths_have_no_resource(pages: Pages) -> None:
    for path in (
        "data/layer/nope.json", "data/image/99.json", "data/image/-1.json", "img/1.png", "data/units/conv1/7.json",
        "static/../build.py", "static/..%2fbuild.py", "../atlas.json", "data", "tiles/conv1/x.webp",
        "img/1 OR 1=1.webp", "data/images/99.json", "tiles/conv1/9.webp", "strips/no.webp", "img/1.jpg",
    ):  # fmt: skip
        assert pages.resource(path) is None, path


def test_a_cancelled_export_leaves_no_files(atlas: Path, tmp_path: Path) -> None:
    watch = Recorder(at=4)
    with pytest.raises(Cancelled):
        export(atlas, tmp_path / "site", watch=watch)
    assert watch.steps("files") == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_the_export_is_what_the_server_answers(atlas: Path, tmp_path: Path) -> None:
    count = export(atlas, tmp_path / "site")
    files = [p for p in (tmp_path / "site").rglob("*") if p.is_file()]
    assert len(files) == count
    client = TestClient(application(Store.open(atlas)), base_url="http://localhost")
    for file in files:
        path = file.relative_to(tmp_path / "site").as_posix()
        answer = client.get("/" + quote(path))
        assert answer.status_code == 200
        assert answer.content == file.read_bytes()
    assert client.get("/nothing").status_code == 404
    tag = client.get("/data/network.json").headers["etag"]
    assert client.get("/data/network.json", headers={"If-None-Match": tag}).status_code == 304
    with pytest.raises(StoreError, match="not empty"):
        export(atlas, tmp_path / "site")


def test_building_the_same_atlas_again_does_nothing(atlas: Path) -> None:
    before = (atlas / "atlas.json").stat().st_mtime_ns
    report = build(tiny_network(), open_source(atlas.parent / "photos"), atlas)
    assert report.fresh is False
    assert report.images == 12
    assert (atlas / "atlas.json").stat().st_mtime_ns == before


def contents(store: Path) -> dict[str, Any]:
    pages = Pages(Store.open(store))
    found = {path: pages.resource(path) for path in pages.paths()}
    network = json.loads(found.pop("data/network.json")[0])  # type: ignore[index]
    return {**found, "network": {**network, "created": None, "version": None}}


@pytest.mark.parametrize("stage", ["sweep:5", "sweep:13", "neighbors:1", "layers:3", "projections:200", "map:1000"])
def test_a_killed_build_goes_on_and_ends_the_same(atlas: Path, tmp_path: Path, stage: str) -> None:
    source = shutil.copytree(atlas.parent / "photos", tmp_path / "pictures")
    script = """
import os, signal, sys
from pathlib import Path
from atlas_helpers import tiny_network
from netloupe.atlas.build import build
from netloupe.data.open import open_source
from watch_helpers import Reacting
stage, least = sys.argv[1].split(":")
def react(now, done):
    if now == stage and done >= int(least):
        os.kill(os.getpid(), signal.SIGKILL)
build(tiny_network(), open_source("pictures"), Path("out"), batch_size=5, watch=Reacting(react))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", script, stage], cwd=source.parent, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        build(tiny_network(), open_source("pictures"), Path("out"), batch_size=5)
        build(tiny_network(), open_source("pictures"), Path("whole"), batch_size=5)
    finally:
        os.chdir(here)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


class Killed(BaseException):
    """Ends a build like a kill: what is on the disk stays as it is."""


@pytest.mark.parametrize("where", ["between", "inside"])
def test_killed_between_and_inside_all_steps_it_ends_the_same(
    atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(pictures, "_TOGETHER", 4)
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    put, note = Store.put, Store._note
    killed: set[tuple[str | None, int]] = set()
    inside: list[tuple[str | None, int]] = []

    def killing_put(self: Store, rows: Any, step: str | None = None) -> None:
        key = (step, self.count("images") + self.count("pictures"))
        if key not in killed and where == "between":
            killed.add(key)
            raise Killed
        inside.append(key)
        put(self, rows, step)
        inside.pop()

    def killing_note(self: Store) -> None:
        if inside and inside[-1] not in killed and where == "inside":
            killed.add(inside[-1])
            raise Killed  # the rows are written, the journal is not
        note(self)

    net, source = tiny_network(), open_source(atlas.parent / "photos")
    how: Any = {"synthesize": ("conv1",), "steps": 2, "map_layers": ("conv1",)}
    source = replace(source, photographs=[i // 3 for i in range(len(source))])  # pieces of photographs
    build(net, source, tmp_path / "whole", batch_size=3, **how)
    monkeypatch.setattr(Store, "put", killing_put)
    monkeypatch.setattr(Store, "_note", killing_note)
    for _ in range(200):
        try:
            inside.clear()
            build(net, source, tmp_path / "out", batch_size=3, **how)
            break
        except Killed:
            continue
    kinds = {step.partition(":")[0] for step, _ in killed if step is not None}
    made = [part for part in PARTS if part.tables and part is not Attention]  # which this network has none of
    assert kinds == {part.__name__ for part in made}
    assert len({count for step, count in killed if step is None}) == 3  # of twelve images, four written at once
    monkeypatch.undo()
    for table in {table for part in made for table in part.tables}:
        assert Store(tmp_path / "out").count(table) == Store(tmp_path / "whole").count(table) > 0
    ours, theirs = (contents(tmp_path / name) for name in ("out", "whole"))
    for found in (ours, theirs):
        for layer in found["network"]["layers"]:
            if layer["synthesized"] is not None:
                layer["synthesized"]["seconds"] = None
    assert ours == theirs


def test_photographs_are_decoded_once_and_pass_through_the_network_once(
    atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def opening(path: Path, name: str, *more: Any, **settings: Any) -> Any:
        decoded.append(name)
        return open_image(path, name, *more, **settings)

    monkeypatch.setattr("netloupe.data.open.open_image", opening)
    net, source, passed = tiny_network(), open_source(atlas.parent / "photos"), []
    build(net, source, tmp_path / "out", project=None, map_by=None)
    assert sorted(decoded) == sorted(source.names)
    decoded.clear()
    net.layers  # noqa: B018 has been found by now
    hook = net.module.register_forward_hook(lambda _module, given, _result: passed.append(len(given[0])))
    how: Any = {"synthesize": ("conv1",), "facets": 2, "steps": 2}
    build(net, source, tmp_path / "out", **how)
    hook.remove()
    assert sorted(decoded) == sorted(source.names)
    passed.clear()
    hook = net.module.register_forward_hook(lambda _module, given, _result: passed.append(len(given[0])))
    build(net, source, tmp_path / "out", project=None, map_by="pca")
    hook.remove()
    assert passed == [32]


def test_another_source_replaces_the_atlas(tmp_path: Path) -> None:
    net = tiny_network()
    build(net, open_source(write_photos(tmp_path / "a", 3)), tmp_path / "out")
    build(net, open_source(write_photos(tmp_path / "b", 4)), tmp_path / "out")
    assert Store.open(tmp_path / "out").network["images"] == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "out"]


def test_mistakes_are_one_plain_line(atlas: Path, tmp_path: Path) -> None:
    net, source = tiny_network(), open_source(write_photos(tmp_path / "p", 2))
    with pytest.raises(UnknownName, match="no layer 'conv3'; did you mean 'conv"):
        build(net, source, tmp_path / "out", layers=["conv3"])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="holds something that is no atlas"):
        build(net, source, tmp_path / "taken")
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "precious"
    with pytest.raises(StoreError, match="no atlas at"):
        Store.open(tmp_path / "p")
    other = shutil.copytree(atlas, tmp_path / "other")
    (other / "atlas.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match=f"has format 99, this version reads {FORMAT}"):
        Store.open(other)
    Store.begin(tmp_path / "cut", Identity(layers=["a"], k=9), {})  # and killed
    with pytest.raises(StoreError, match=r"\.cut\.partial is of another atlas, its k: 9, now: 5; delete it"):
        Store.begin(tmp_path / "cut", Identity(layers=["a"], k=5), {})
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 images of .*: x.jpg: not an image"):
        build(net, open_source(tmp_path / "bad"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_accuracy_where_the_labels_are_the_networks_classes(tmp_path: Path) -> None:
    net = tiny_network()
    for label in net.labels or ():
        write_photos(tmp_path / "p" / label.replace("/", "_"), 2, seed=hash(label) % 100)
    net = Network(net.module, net.inputs, sorted(p.name for p in (tmp_path / "p").iterdir()))
    source = open_source(tmp_path / "p")
    build(net, source, tmp_path / "out", layers=["conv1"])
    images = load_images([tmp_path / "p" / n for n in source.names], (24, 32))
    right = sum(int(net(images).argmax(1)[i]) == source.label(i) for i in range(8))
    assert Store.open(tmp_path / "out").network["accuracy"] == {"top1": right / 8, "top5": 1.0, "count": 8}


def test_selectivity_by_hand() -> None:
    means = np.array([[4.0, 1.0, 0.0], [np.nan] * 3, [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert selectivity(means).tolist() == pytest.approx([(4 - 0.5) / 4.5, 0.0, 0.0])
    assert np.isnan(selectivity(means[:2])).all()


def test_typical_channels_are_spread_over_the_living() -> None:
    strength, dead = np.arange(100.0), np.arange(100) % 2 == 0
    chosen = typical(strength, dead, 5)
    assert chosen == [99, 75, 51, 25, 1]
    assert typical(np.array([1.0, 3.0, 2.0]), np.array([False, False, True])) == [1, 0]


def test_the_first_page_shows_what_it_is_surest_of_and_where_it_is_so_in_error(tmp_path: Path) -> None:
    labels = ["ant", "bee", "cow", "doe"]
    for seed, name in enumerate(labels):
        write_photos(tmp_path / "photos" / name, 3, seed=seed)
    tiny = tiny_network()
    net, source = Network(tiny.module, tiny.inputs, labels), open_source(tmp_path / "photos")
    build(net, source, tmp_path / "atlas", layers=["conv1"], map_by=None, project=None)
    shown = document(Pages(Store.open(tmp_path / "atlas")), "data/examples.json")
    files = sorted((tmp_path / "photos").rglob("*.png"))
    chances, classes = (found.tolist() for found in net(load_images(files, net.inputs.size)).detach().softmax(1).max(1))
    wrong = [i for i in range(12) if labels[classes[i]] != files[i].parent.name]
    assert wrong
    for kind, images in (("surest", range(12)), ("mistaken", wrong)):
        best = {classes[i]: i for i in sorted(images, key=lambda i: chances[i])}
        assert [row["id"] for row in shown[kind]] == sorted(best.values(), key=lambda i: -chances[i])
    assert all(row["label"] != row["prediction"] for row in shown["mistaken"])

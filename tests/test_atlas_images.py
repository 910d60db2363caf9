"""Of which images an atlas keeps pictures: of all, of those that its pages show large, or of none."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atlas_helpers import thumbnails, tiny_network, write_photos
from netloupe.atlas.build import build
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.core.errors import InputError
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource

COUNT = 40
HOW: dict[str, Any] = {"layers": ["conv1", "relu"], "k": 1, "map_by": "pca", "batch_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photographs, one of them broken, and an atlas of them for each kind, named by it."""
    folder = tmp_path_factory.mktemp("kept")
    write_photos(folder / "photos", COUNT)
    (folder / "photos" / "p07.png").write_bytes(b"not a picture")
    for kind in ("all", "shown", "none"):
        build(tiny_network(), open_source(folder / "photos"), folder / kind, images=kind, **HOW)
    return folder


def contents(atlas: Path) -> dict[str, Any]:
    """By path what the page is told, JSON as it is meant."""
    pages = Pages(Store.open(atlas))
    found: dict[str, Any] = {}
    for path in pages.paths():
        answer = pages.resource(path)
        assert answer is not None, path
        found[path] = json.loads(answer[0]) if answer[1] == "application/json" else answer[0]
    return found


def pictured(found: dict[str, Any]) -> tuple[set[int], set[int]]:
    """The images that pages show large, by what they are told: those of patches, and the examples of the first page."""
    units = [unit for path, told in found.items() if path.startswith("data/units/") for unit in told["units"]]
    examples = {row["id"] for rows in found["data/examples.json"].values() for row in rows}
    return {patch["image"] for unit in units for patch in unit["patches"]}, examples


def plain(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What does not depend on which pictures are kept."""
    apart = ("img/", "maps/", "data/image/", "data/network.json")
    yield from ((path, told) for path, told in found.items() if not path.startswith(apart))


def test_pictures_of_what_pages_show_and_thumbnails_of_the_rest(folder: Path) -> None:
    whole, some = contents(folder / "all"), contents(folder / "shown")
    patches, examples = pictured(whole)
    assert patches - examples
    assert examples - patches
    shown = patches | examples
    assert len(shown) < 20
    assert dict(plain(some)) == dict(plain(whole))
    assert some["data/network.json"]["pictures"] == {"of": "shown", "kept": len(shown)}
    assert whole["data/network.json"]["pictures"] == {"of": "all", "kept": COUNT - 1}
    thumbs = thumbnails(folder / "photos")
    assert len(thumbs) == COUNT - 1
    for i, thumb in thumbs.items():
        told, picture = some[f"data/image/{i}.json"], some[f"img/{i}.webp"]
        if i in shown:
            assert told == whole[f"data/image/{i}.json"]
            assert told["kept"] == "picture"
            assert picture == whole[f"img/{i}.webp"]
            assert some[f"maps/{i}.webp"] == whole[f"maps/{i}.webp"]
        else:
            assert told == {**whole[f"data/image/{i}.json"], "kept": "thumbnail", "maps": []}
            assert f"maps/{i}.webp" not in some
            small = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)
            assert small.shape == (32, 32, 3)
            assert np.abs(small - thumb).mean() < 12
    assert sum(path.startswith("maps/") for path in some) == len(shown)


def test_none_keeps_no_picture_and_all_numbers(folder: Path) -> None:
    whole, none = contents(folder / "all"), contents(folder / "none")
    assert [path for path in none if path.endswith((".webp", ".jpg"))] == []
    assert Pages(Store.open(folder / "none")).resource("img/0.webp") is None
    pictures = ("img/", "maps/", "tiles/", "strips/", "sprites/", "projections/")
    own = {path: told for path, told in whole.items() if not path.startswith(pictures)}
    assert own.keys() == none.keys()
    for path in own.keys() - {"data/network.json", "data/map.json"}:
        expected = own[path]
        if path.startswith("data/image/"):
            expected = {**expected, "kept": None, "maps": []}
        if path == "data/map/points.bin":
            expected = expected[: -3 * own["data/map.json"]["count"]]  # without colors
        assert none[path] == expected, path
    assert none["data/map.json"] == {**own["data/map.json"], "sprites": []}
    network = none["data/network.json"]
    assert network["pictures"] == {"of": "none", "kept": 0}
    assert network["projections"]["rule"] is None
    assert network["projections"]["missing"].startswith("--images none")
    assert not list((folder / "none").rglob("*.bin"))


class Killed(BaseException):
    """Ends a build like a kill: what is on the disk stays as it is."""


@pytest.mark.parametrize("kept", [0, 1])
def test_killed_while_pictures_are_written_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    put, left = Store.put, [kept]

    def putting(self: Store, rows: Any, step: str | None = None) -> None:
        if rows.get("pictures"):
            if not left[0]:
                raise Killed
            left[0] -= 1
        put(self, rows, step)

    net, source = tiny_network(), open_source(folder / "photos")
    monkeypatch.setattr("netloupe.atlas.pictures._TOGETHER", 4)
    monkeypatch.setattr("netloupe.sweep.blocks._BLOCK", {"cpu": 4})
    build(net, source, tmp_path / "whole", images="shown", **HOW)
    monkeypatch.setattr(Store, "put", putting)
    with pytest.raises(Killed):
        build(net, source, tmp_path / "out", images="shown", **HOW)
    monkeypatch.setattr(Store, "put", put)
    build(net, source, tmp_path / "out", images="shown", **HOW)
    ours, theirs = contents(tmp_path / "out"), contents(tmp_path / "whole")
    for found in (ours, theirs):
        found["data/network.json"] |= {"created": None, "version": None}
    assert ours == theirs


def test_another_kind_is_another_atlas(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "none", tmp_path / "out")
    report = build(tiny_network(), open_source(folder / "photos"), tmp_path / "out", images="all", **HOW)
    assert report.fresh
    assert Store.open(tmp_path / "out").network["pictures"]["of"] == "all"


class Once:
    """Opens each image of a source once."""

    def __init__(self, source: ImageSource) -> None:
        self._source, self._opened = source, set[int]()

    def content(self, i: int) -> bytes:
        return self._source.content(i)

    def __call__(self, i: int) -> Any:
        if i in self._opened:
            raise InputError("it is gone")
        self._opened.add(i)
        return self._source.open(i)


def test_an_image_that_is_gone_when_its_picture_is_kept_is_one_line(folder: Path, tmp_path: Path) -> None:
    source = open_source(folder / "photos")
    with pytest.raises(InputError, match=r"^p\d\d.png was read at first, and then no more: it is gone$"):
        build(tiny_network(), replace(source, opener=Once(source)), tmp_path / "out", images="shown", **HOW)
    assert not (tmp_path / "out").exists()


def test_what_a_sweep_holds_does_not_grow_with_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it holds is in its saved state; of each image that has no more than the digits of its stamp."""
    finish, sizes = Store.finish, []

    def finishing(self: Store, *more: Any) -> Store:
        sizes.append((self.scratch / "sweep.safetensors").stat().st_size)
        return finish(self, *more)

    monkeypatch.setattr(Store, "finish", finishing)
    photos = open_source(write_photos(tmp_path / "photos", 8))
    for times in (8, 32):
        names = [f"{i}" for i in range(8 * times)]
        repeated = ImageSource("repeated", names, lambda i: photos.opener(i % 8))
        build(tiny_network(), repeated, tmp_path / str(times), images="none", map_by=None)
    grown = sizes[1] - sizes[0]
    assert 8 * 8 * 24 <= grown < 10 * 8 * 24, sizes


@pytest.mark.parametrize("most", [1000, 20])
def test_neighbors_are_found_some_images_at_a_time_and_among_very_many_by_an_index(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("netloupe.analysis.nearest.INDEX_ABOVE", most)
    monkeypatch.setattr("netloupe.atlas.parts.images._TOGETHER", 16)
    build(tiny_network(), open_source(folder / "photos"), tmp_path / "out", images="none", **HOW)
    whole, found = contents(folder / "none"), contents(tmp_path / "out")
    exact = {"search": "exact", "recall": None}
    assert whole["data/network.json"]["neighbors"] == {"features": exact, "pixels": exact}
    told = found["data/network.json"]["neighbors"]
    if most == 20:  # so few images that the index looks at all of them
        assert told == {"features": {"search": "index", "recall": 1.0}, "pixels": {"search": "none", "recall": None}}
    else:
        assert told == whole["data/network.json"]["neighbors"]
    for path in (path for path in whole if path.startswith("data/image/")):
        ours, theirs = found[path]["neighbors"], whole[path]["neighbors"]
        assert ours.keys() == ({"features"} if most == 20 else {"features", "pixels"})
        assert len(theirs["features"]) == 12
        for space, near in ours.items():
            assert [one["id"] for one in near] == [one["id"] for one in theirs[space]], (path, space)
            distances = [[one["distance"] for one in some] for some in (near, theirs[space])]
            assert distances[0] == pytest.approx(distances[1], rel=1e-5)

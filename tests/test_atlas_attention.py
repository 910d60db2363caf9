"""The attentions of an atlas: heads measured over the images, maps of a few photographs, as the library gives them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from atlas_helpers import tiny_network, write_photos
from attention_helpers import HEADS, PATCH, SIDE, fresh, vit
from netloupe.analysis.attention.measure import attention_maps
from netloupe.analysis.attention.record import ALIKE
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.pages import Pages
from netloupe.atlas.parts import attention as part
from netloupe.atlas.sheets import MAP_STEPS
from netloupe.atlas.store import Store
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import load_image
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.render.colors import heat
from netloupe.render.pictures import decode
from test_atlas import contents, document

GRID = SIDE // PATCH
COUNT = 10
LAYERS = ["blocks.0", "blocks.2", "head"]


def built(net: Network, source: ImageSource, out: Path) -> Pages:
    build(net, source, out, layers=[name for name in LAYERS if name in net.layers], map_by=None, project=None)
    return Pages(Store.open(out))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    return open_source(write_photos(tmp_path_factory.mktemp("photos"), COUNT, size=(SIDE, SIDE)))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, source: ImageSource) -> Path:
    out = tmp_path_factory.mktemp("atlas") / "vit"
    built(vit(prefix=2), source, out)
    return out


@pytest.fixture(scope="module")
def pages(atlas: Path) -> Pages:
    return Pages(Store.open(atlas))


def image(source: ImageSource, number: int) -> torch.Tensor:
    return load_image(Path(source.spec) / source.names[number], (SIDE, SIDE))[None].double()


def test_heads_are_measured_over_the_images(pages: Pages, source: ImageSource) -> None:
    net = vit(prefix=2)
    found = document(pages, "data/network.json")["attention"]
    expected = attention_maps(net, image(source, 0), data=source)
    assert (found["images"], found["alike"], found["skipped"]) == (COUNT, ALIKE, {})
    assert [one["name"] for one in found["layers"]] == list(net.attentions)
    for i, one in enumerate(found["layers"]):
        looks = expected.looks[one["name"]]
        assert (one["heads"], one["tokens"], one["prefix"], one["grid"]) == (HEADS, 2 + GRID**2, 2, [GRID, GRID])
        assert one["from"] == expected.origin
        assert one["distance"] == pytest.approx(looks.distance, rel=1e-4)
        assert one["entropy"] == pytest.approx(looks.entropy, rel=1e-4)
        likeness = document(pages, f"data/attention/{i}.json")["likeness"]
        assert np.array(likeness) == pytest.approx(looks.likeness, abs=1e-3)
        assert np.ptp(one["distance"]) > 0.01


@pytest.mark.parametrize("origin", [None, (0, 0), (2, 1)])
def test_each_row_of_a_sheet_is_what_a_place_attends_to(
    pages: Pages, source: ImageSource, origin: tuple[int, int] | None
) -> None:
    net = vit(prefix=2)
    shown = document(pages, "data/network.json")["attention"]["photographs"]
    row = 0 if origin is None else 1 + GRID * origin[0] + origin[1]
    for number in (shown[0], shown[-1]):
        for i, looks in enumerate(attention_maps(net, image(source, number), origin=origin).looks.values()):
            peaks = document(pages, f"data/attention/{i}/{number}.json")["peaks"]
            assert len(peaks) == 1 + GRID**2
            assert peaks[row] == pytest.approx(looks.maps.max((1, 2)), rel=1e-3)
            content = pages.resource(f"attention/{i}/{number}.webp")
            assert content is not None
            sheet = decode(content[0])
            assert sheet.shape == ((1 + GRID**2) * GRID, HEADS * GRID, 3)
            for head, values in enumerate(looks.maps):
                steps = np.round(values / values.max() * MAP_STEPS) / MAP_STEPS
                place = sheet[row * GRID : (row + 1) * GRID, head * GRID : (head + 1) * GRID]
                assert np.abs(place.astype(int) - heat(steps, 1.0).astype(int)).max() <= 1


def test_the_photographs_are_spread_over_all_and_of_pieces_the_first_of_each(
    pages: Pages, source: ImageSource, tmp_path: Path
) -> None:
    assert document(pages, "data/network.json")["attention"]["photographs"] == [0, 1, 3, 4, 5, 6, 8, 9]
    pieces = replace(source, photographs=[i // 4 for i in range(COUNT)])
    found = document(built(vit(), pieces, tmp_path / "out"), "data/network.json")
    assert found["attention"]["photographs"] == [0, 4, 8]


def test_all_of_it_is_exported(atlas: Path, tmp_path: Path) -> None:
    export(atlas, tmp_path / "pages")
    assert len(list((tmp_path / "pages" / "attention").rglob("*.webp"))) == 3 * 8
    assert len(list((tmp_path / "pages" / "data" / "attention").rglob("*.json"))) == 3 + 3 * 8


class Killed(BaseException):
    """Ends a build like a kill."""


def test_killed_before_each_step_it_ends_the_same(
    atlas: Path, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, killed = Store.put, set[str]()

    def killing(self: Store, rows: Any, step: str | None = None) -> None:
        if step is not None and step.startswith("Attention") and step not in killed:
            killed.add(step)
            raise Killed
        put(self, rows, step)

    monkeypatch.setattr(Store, "put", killing)
    for _ in range(20):
        try:
            built(vit(prefix=2), source, tmp_path / "out")
            break
        except Killed:
            continue
    assert killed == {"Attention: heads", *(f"Attention: image {i}" for i in (0, 1, 3, 4, 5, 6, 8, 9))}
    assert contents(tmp_path / "out") == contents(atlas)


def test_a_network_without_attention_has_none_of_it(source: ImageSource, tmp_path: Path) -> None:
    pages = Pages(None)
    build(tiny_network(), source, tmp_path / "out", map_by=None, project=None)
    store = Store.open(tmp_path / "out")
    pages = Pages(store)
    assert "attention" not in document(pages, "data/network.json")
    assert not [path for path in pages.paths() if path.startswith(("attention/", "data/attention/"))]
    assert not [folder for table in part.Attention.tables for folder in store.path.glob(f"{table}.lance")]
    assert "attentions" not in json.loads((store.path / "atlas.json").read_text())["identity"]


def test_an_atlas_from_before_attention_is_made_anew(source: ImageSource, tmp_path: Path) -> None:
    net = vit()
    built(net, source, tmp_path / "out")
    mark = json.loads((tmp_path / "out" / "atlas.json").read_text())
    assert mark["identity"].pop("attentions") == list(net.attentions)
    (tmp_path / "out" / "atlas.json").write_text(json.dumps(mark))
    assert build(net, source, tmp_path / "out", layers=LAYERS, map_by=None, project=None).fresh
    assert not build(net, source, tmp_path / "out", layers=LAYERS, map_by=None, project=None).fresh


class Pooled(nn.Module):
    """Attention inside windows, then a query of its own that pools all patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, PATCH, PATCH)
        self.query = nn.Parameter(torch.randn(1, 1, 8))
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.patch(x).flatten(2).transpose(1, 2)
        part = y.reshape(len(y) * 3, 1, -1, 8)
        y = y + nn.functional.scaled_dot_product_attention(part, part, part).reshape(y.shape)
        return self.head(self.pool(self.query.expand(len(y), -1, -1), y, y)[0][:, 0])


def test_what_pools_has_one_row_and_windows_are_left_out(source: ImageSource, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Network(Pooled().eval(), InputSpec(size=(SIDE, SIDE)), name="pooled")
    build(net, source, tmp_path / "out", layers=["patch"], map_by=None, project=None)
    pages = Pages(Store.open(tmp_path / "out"))
    told = document(pages, "data/network.json")["attention"]
    (layer,) = told["layers"]
    assert (layer["name"], layer["asks"], layer["distance"], layer["entropy"]) == ("pool", False, None, None)
    assert list(told["skipped"]) == ["~1"]
    assert "looks inside 3 windows" in told["skipped"]["~1"]
    assert document(pages, "data/attention/0.json")["likeness"] is None
    maps = attention_maps(net, image(source, 0).float(), ["pool"]).looks["pool"].maps
    assert document(pages, "data/attention/0/0.json")["peaks"] == [pytest.approx(maps.max((1, 2)), rel=1e-3)]


def test_of_many_patches_only_the_whole_is_kept(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "PLACES", GRID**2 - 1)
    pages = built(fresh(), source, tmp_path / "out")
    told = document(pages, "data/network.json")["attention"]["layers"]
    assert [layer["asks"] for layer in told] == [False] * 3
    assert len(document(pages, "data/attention/0/0.json")["peaks"]) == 1
    assert told[0]["distance"] is not None

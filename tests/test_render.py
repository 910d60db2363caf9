"""Pictures, pixel by pixel."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netloupe.core.errors import StoreError
from netloupe.core.perform import Provenance
from netloupe.render import pictures as pic
from netloupe.render.colors import SOFT, heat
from netloupe.render.result import Record, Result
from netloupe.render.sheet import Sheet, framed, paragraph


def test_heat_runs_from_black_to_pale_with_rising_lightness() -> None:
    ramp = heat(np.linspace(0, 2, 256)[None], 2.0)[0].astype(float)
    assert ramp[0].sum() < 10
    assert ramp[-1].min() > 150
    lightness = ramp @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) >= -0.6).all()
    assert lightness[-1] - lightness[0] > 200


def test_heat_shows_negative_and_zero_as_black_and_survives_an_all_zero_map() -> None:
    shown = heat(np.array([[-3.0, 0.0, 3.0]]))
    assert (shown[0, 0] == shown[0, 1]).all()
    assert shown[0, 2].sum() > shown[0, 1].sum()
    assert (heat(np.zeros((2, 2))) == heat(np.zeros((2, 2)), 1.0)).all()


def test_cropped_takes_exactly_the_box() -> None:
    photo = np.zeros((10, 20, 3), dtype=np.uint8)
    photo[2:6, 8:12] = (200, 100, 50)
    part = pic.cropped(photo, (2, 8, 6, 12), 4)
    assert part.shape == (4, 4, 3)
    assert (part == (200, 100, 50)).all()


def test_cropped_keeps_the_aspect_ratio_and_fills_with_background() -> None:
    photo = np.full((10, 20, 3), 9, dtype=np.uint8)
    part = pic.cropped(photo, (0, 0, 10, 20), 8, background=(1, 2, 3))
    assert (part[:2] == (1, 2, 3)).all()
    assert (part[6:] == (1, 2, 3)).all()
    assert (part[2:6] == 9).all()


def test_grid_places_tiles_in_rows() -> None:
    tiles = [np.full((2, 3, 3), i, dtype=np.uint8) for i in range(5)]
    sheet = pic.grid(tiles, 2, gap=1, background=(99, 99, 99))
    assert sheet.shape == (3 * 3 + 1, 2 * 4 + 1, 3)
    for i in range(5):
        y, x = 1 + i // 2 * 3, 1 + i % 2 * 4
        assert (sheet[y : y + 2, x : x + 3] == i).all()
    assert (sheet[7:9, 5:8] == 99).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_encode_decode(kind: str) -> None:
    picture = np.kron(np.arange(12).reshape(3, 4), np.ones((16, 16)))[..., None].repeat(3, 2).astype(np.uint8) * 20
    again = pic.decode(pic.encode(picture, kind))
    assert np.abs(again.astype(int) - picture).max() <= (0 if kind == "PNG" else 12)


@dataclass(frozen=True)
class Example(Result):
    values: np.ndarray

    def pictures(self) -> dict[str, pic.Picture]:
        return {"example": heat(self.values)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"values": self.values}

    def summary(self) -> dict[str, Any]:
        return {"sum": float(self.values.sum())}


def test_a_result_saves_picture_array_and_manifest(tmp_path: Path) -> None:
    result = Example(np.arange(6.0).reshape(2, 3), provenance=Provenance(technique="example"))
    paths = result.save(tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["example.png", "values.npy", "manifest.json"]
    assert (np.load(paths[1]) == result.values).all()
    assert (np.asarray(Image.open(paths[0])) == heat(result.values)).all()
    manifest = json.loads(paths[2].read_text())
    assert manifest["provenance"] == {"technique": "example"} == pic.about(paths[0].read_bytes())
    assert manifest["summary"] == {"sum": 15.0}
    assert manifest["files"] == ["example.png", "values.npy"]
    assert Image.open(__import__("io").BytesIO(result._repr_png_())).size == (3, 2)


def test_the_files_of_a_result_are_what_it_saves(tmp_path: Path) -> None:
    result = Example(np.arange(6.0).reshape(2, 3), provenance=Provenance(technique="example"))
    files = dict(result.files())
    assert {path.name: path.read_bytes() for path in result.save(tmp_path)} == files
    assert list(files)[-1] == "manifest.json"


@dataclass(frozen=True)
class Measured(Record):
    values: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        return {"values": self.values}

    def summary(self) -> dict[str, Any]:
        return {"sum": float(self.values.sum()), **self.tell(self)}


def draw(measured: Measured) -> dict[str, pic.Picture]:
    return {"measured": heat(measured.values)}


def write(measured: Measured) -> dict[str, str]:
    return {"measured.html": f"<p>{measured.summary()['sum']}</p>"}


def tell(measured: Measured) -> dict[str, str]:
    return {"verdict": f"{measured.values.size} numbers"}


def test_a_record_is_shown_by_the_functions_handed_in(tmp_path: Path) -> None:
    plain = Measured(np.arange(6.0).reshape(2, 3), draw=draw)
    assert [name for name, _ in plain.files()] == ["measured.png", "values.npy", "manifest.json"]
    assert plain.summary() == {"sum": 15.0}
    record = replace(plain, write=write, tell=tell)
    files = dict(record.files())
    assert files["measured.html"] == b"<p>15.0</p>"
    assert json.loads(files["manifest.json"])["summary"] == {"sum": 15.0, "verdict": "6 numbers"}
    assert dict(pickle.loads(pickle.dumps(record)).files()) == files
    assert "draw" not in repr(record)


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be written"):
        Example(np.ones((2, 2))).save(tmp_path / "file" / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_fitted_keeps_the_proportions_and_at_least_one_pixel() -> None:
    assert pic.fitted((480, 640), 64) == (48, 64)
    assert pic.fitted((7, 5), 14) == (14, 10)
    assert pic.fitted((1000, 1), 100) == (100, 1)


def test_cropped_takes_a_box_in_the_pixels_of_another_size() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert (pic.cropped(photo, (2, 3, 8, 9), 30, of=(20, 20)) == pic.cropped(photo, (4, 9, 16, 27), 30)).all()


def test_a_sheet_stacks_its_parts_and_leaves_out_what_is_empty() -> None:
    red = np.full((10, 30, 3), (200, 0, 0), dtype=np.uint8)
    made = Sheet("Title", 200, gap=7, margin=5).add(red, red, gap=4).add().say().notes("one", "two").picture()
    title, note = paragraph("Title", 200, 16), paragraph("one", 200, 12, SOFT)
    assert made.shape == (2 * 5 + len(title) + 7 + 10 + 7 + 2 * len(note) + 2, 210, 3)
    assert (made[5 : 5 + len(title), 5:-5] == title).all()
    top = 5 + len(title) + 7
    assert (made[top : top + 10, 5:35] == red).all()
    assert (made[top : top + 10, 35:39] == pic.PAPER).all()
    assert (made[top + 17 : top + 17 + len(note), 5:-5] == note).all()
    assert (Sheet("", 200).add(red).picture() == framed(red, 20)).all()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("stages.2.blocks.1.drop_path:16  2.48e-07", "…locks.1.drop_path:16  2.48e-07"),
        ("what is drawn from the mean of all images", "what is drawn from the mean of…"),
        ("conv1:3  0.5", "conv1:3  0.5"),
    ],
)
def test_captions_stay_within_their_pictures(text: str, same: str) -> None:
    """Of a name its end is kept, and the number behind it."""
    blank = np.zeros((20, 190, 3), dtype=np.uint8)
    found = pic.captioned(blank, text)
    assert (found == pic.captioned(blank, same)).all()
    assert found.shape == (38, 190, 3)
    assert (found[:18, -2:] == pic.PAPER).all()
    assert (found[:18] != np.array(pic.PAPER)).any()

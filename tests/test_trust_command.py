"""`netloupe study trust` and the boxes that it reads from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_helpers import encoded, noise, write_parquet
from netloupe.cli import app as cli
from netloupe.core.errors import InputError
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.studies.boxes import read_boxes

# --- boxes from a file


def source(folder: Path, sizes: dict[str, tuple[int, int]]) -> ImageSource:
    for name, (height, width) in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(noise(height, width)))
    return open_source(folder)


def written(folder: Path, content: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"a/one.png": [0, 1, 9, 15], "b/two.png": [2, 2, 2, 2]},
        {"one.png": [0, 1, 9, 15], "two.png": [2, 2, 2, 2]},
        {"0": [0, 1, 9, 15], "1": [2, 2, 2, 2]},
        [[0, 1, 9, 15], [2, 2, 2, 2], None],
    ],
    ids=["names", "last parts", "numbers", "list"],
)
def test_boxes_by_name_number_or_place(content: object, tmp_path: Path) -> None:
    images = source(tmp_path / "images", dict.fromkeys(("a/one.png", "b/two.png", "c/three.png"), (16, 16)))
    found = read_boxes(written(tmp_path, content), images, (16, 16))
    assert found[:2].tolist() == [[1, 0, 16, 10], [2, 2, 3, 3]]  # both ends belong to the object
    assert found[2].isnan().all()


def test_a_last_part_that_several_images_share_names_none(tmp_path: Path) -> None:
    images = source(tmp_path / "images", dict.fromkeys(("a/0.png", "b/0.png", "c/1.png"), (16, 16)))
    found = read_boxes(written(tmp_path, {"0.png": [0, 0, 3, 3], "1.png": [0, 0, 5, 5]}), images, (16, 16))
    assert found.isfinite().all(1).tolist() == [False, False, True]


def test_boxes_follow_the_image_to_the_network(tmp_path: Path) -> None:
    images = source(tmp_path / "images", {"wide.png": (20, 40), "tall.png": (32, 16), "far.png": (20, 40)})
    given = {"wide.png": [10, 0, 29, 9], "tall.png": [0, 10, 15, 12], "far.png": [0, 0, 9, 19]}
    by_name = dict(zip(images.names, read_boxes(written(tmp_path, given), images, (10, 10)), strict=True))
    assert by_name["wide.png"].tolist() == [0, 0, 5, 10]  # half the size, then columns 5 to 15 are left
    top, left, bottom, right = by_name["tall.png"].tolist()
    assert (top, left, bottom, right) == pytest.approx((10 * 0.625 - 5, 0, 13 * 0.625 - 5, 10))
    assert by_name["far.png"].isnan().all()  # all of it is cropped away


def test_boxes_by_the_names_in_a_parquet_file(tmp_path: Path) -> None:
    rows = {"image": [encoded(noise(16, 16, seed=i)) for i in range(3)], "name": ["x.JPEG", "y.JPEG", "z.JPEG"]}
    file = write_parquet(tmp_path / "val.parquet", rows)
    boxes = written(tmp_path, {"y.JPEG": [1, 2, 3, 4]})
    for spec in (file, tmp_path / "v*.parquet"):
        found = read_boxes(boxes, open_source(spec), (16, 16))
        assert found.isfinite().all(1).tolist() == [False, True, False]
        assert found[1].tolist() == [2, 1, 5, 4]
    assert read_boxes(boxes, open_source(file).first(2), (16, 16))[1].tolist() == [2, 1, 5, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "can't be read as JSON"),
        ("3", "unknown form"),
        ("{}", "unknown form"),
        ({"one.png": [0, 1, 2]}, r"one.png: the box is \[0, 1, 2\] \(accepted: \[x0, y0, x1, y1\]\)"),
        ({"one.png": "0123"}, "the box is '0123'"),
        ({"one.png": [0, 1, "2", 3]}, "the box is"),
        ({"one.png": {"x0": 1}}, "the box is"),
        ({"one.png": [5, 1, 4, 3]}, "is empty"),
        ({"one.png": [-1, 1, 4, 3]}, "is empty"),
        ([[0, 0, 1, 1]], "1 boxes for 2 images"),
        ([None, None], "no box for any of the 2 images"),
        (
            {"three.png": [0, 0, 1, 1]},
            "no box for any of the 2 images, such as 'one.png' \\(the file names 'three.png'\\)",
        ),
    ],
)
def test_boxes_files_that_are_none(content: object, message: str, tmp_path: Path) -> None:
    images = source(tmp_path / "images", {"one.png": (16, 16), "two.png": (16, 16)})
    with pytest.raises(InputError, match=message) as error:
        read_boxes(written(tmp_path, content), images, (16, 16))
    assert "\n" not in str(error.value)


def test_a_boxes_file_that_is_not_there(tmp_path: Path) -> None:
    images = source(tmp_path / "images", {"one.png": (16, 16)})
    with pytest.raises(InputError, match="boxes can't be read"):
        read_boxes(tmp_path / "none.json", images, (16, 16))


# --- the command line

FACTORY = """
from torch import nn

def tiny(classes=2):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, classes))
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`netloupe study trust` on five images of two classes and one that is broken."""
    (tmp_path / "tiny.py").write_text(FACTORY)
    (tmp_path / "labels.txt").write_text("a\nb\n")
    source(tmp_path / "images", {f"{'ab'[i % 2]}/{i}.png": (20, 24) for i in range(5)})
    (tmp_path / "images" / "b" / "broken.png").write_text("no image")

    def call(*arguments: object) -> tuple[int, str, str]:
        model = ["--model", f"{tmp_path / 'tiny.py'}:tiny", "--size", "16", "--device", "cpu", "--classes", 2]
        given = ["study", "trust", *model, "--data", tmp_path / "images", *arguments]
        status = cli.main([str(a) for a in given])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_command(run: Run, tmp_path: Path) -> None:
    short = ["--methods", "gradient,deconvnet", "--stages", 1, "--steps", 2]
    status, out, err = run(*short)
    assert status == 0
    assert "skipped b/broken.png" in err
    assert out.splitlines()[0].split()[:2] == ["method", "all"]
    assert "pointing" not in out
    assert sum(line.startswith(("Gradient: ", "Deconvnet: ")) for line in out.splitlines()) == 2
    boxes = written(tmp_path, {"a/0.png": [0, 0, 23, 19], "3.png": [0, 0, 5, 5]})
    status, out, err = run(
        *short, "--boxes", boxes, "--json", "-o", tmp_path / "out", "--labels", tmp_path / "labels.txt"
    )
    found = json.loads(out)
    assert status == 0
    assert (found["images"], found["boxes"]) == (5, 2)
    assert set(found["methods"]) == {"gradient", "deconvnet"}
    assert found["methods"]["gradient"]["pointing"] >= 0.5  # the first box is the whole image
    assert sorted(found["files"]) == sorted(str(path) for path in (tmp_path / "out").iterdir())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["summary"]["targets"] == ["a", "b"]  # the folders' names
    assert json.loads(run(*short, "--first", 2, "--json")[1])["images"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "gradeint"], "did you mean 'gradient'?"),
        (["--boxes", "none.json"], "none.json: boxes can't be read"),
        (["--stages", 0], "count 0 (accepted: 1 or more)"),
        (["--first", 0], "first 0"),
        (["--tolerance", -1], "tolerance -1"),
    ],
)
def test_command_mistakes(arguments: list[object], message: str, run: Run) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err

"""Whether hiding the same part changes features alike: signs, points from a file, the study."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from core_helpers import Fn
from data_helpers import encoded, noise
from netloupe.cli import app as cli
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import fit
from netloupe.data.open import open_source
from netloupe.data.photos import photos
from netloupe.data.sources import ImageSource
from netloupe.studies.correspondence.measure import correspondence
from netloupe.studies.correspondence.record import (
    Correspondence,
    by_chance,
    jackknife_error,
    pair_error,
    pair_mean,
    unlike,
)
from netloupe.studies.points import find_points, photo_faces, read_points

SIZE = (16, 20)


def network() -> Network:
    torch.manual_seed(2)
    body = nn.Sequential()
    body.add_module("conv1", nn.Conv2d(3, 4, 3, padding=1))
    body.add_module("relu1", nn.ReLU())
    body.add_module("conv2", nn.Conv2d(4, 6, 3, stride=2))
    body.add_module("mean", nn.AdaptiveAvgPool2d(1))
    body.add_module("flat", nn.Flatten())
    body.add_module("fc", nn.Linear(6, 3))
    return Network(body, InputSpec(SIZE, mean=(0.4,), std=(0.2,)), name="small")


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def parts(count: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.uniform((3, 3), (13, 17), (count, 2)) for name in ("left eye", "nose")}


# --- signs


def test_signs_against_loops() -> None:
    rng = np.random.default_rng(0)
    signs = rng.integers(-1, 2, (4, 50)).astype(np.int8)
    signs[3] = 0
    differ, opposite = unlike(signs)
    for i in range(4):
        for j in range(4):
            count = sum(int(a != b) for a, b in zip(signs[i], signs[j], strict=True))
            assert differ[i, j] == pytest.approx(count / 50)
            moved = [(a, b) for a, b in zip(signs[i], signs[j], strict=True) if a and b]
            if not moved:
                assert math.isnan(opposite[i, j])
                continue
            assert opposite[i, j] == pytest.approx(sum(int(a != b) for a, b in moved) / len(moved))
    assert 0.5 < differ[0, 1] < 0.9  # two thirds, by chance
    shuffled = [unlike(np.stack([signs[0], rng.permutation(signs[1])]))[0][0, 1] for _ in range(400)]
    assert by_chance(signs)[0, 1] == pytest.approx(np.mean(shuffled), abs=0.02)


def test_errors_against_loops() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.random((5, 5))
    matrix = (matrix + matrix.T) / 2
    pairs = [matrix[i, j] for i in range(5) for j in range(5) if i < j]
    assert pair_mean(matrix) == pytest.approx(np.mean(pairs))
    assert pair_error(matrix) == pytest.approx(np.std(pairs, ddof=1) / 10**0.5)
    without = [
        np.mean([matrix[i, j] for i in range(5) for j in range(5) if i < j and k not in (i, j)]) for k in range(5)
    ]
    wanted = (4 / 5 * sum((m - np.mean(without)) ** 2 for m in without)) ** 0.5
    assert jackknife_error(matrix) == pytest.approx(wanted)
    wide = np.full((7, 7), np.nan)  # the same with two images that lack the part
    wide[np.ix_([0, 1, 3, 5, 6], [0, 1, 3, 5, 6])] = matrix
    assert pair_mean(wide) == pytest.approx(np.mean(pairs))
    assert jackknife_error(wide) == pytest.approx(wanted)
    assert jackknife_error(matrix[:2, :2]) is None
    assert pair_error(matrix[:2, :2]) is None


# --- the study


@pytest.fixture(scope="module")
def found() -> Correspondence:
    return correspondence(network(), images(), parts(), ["relu1", "flat"], draws=3, square=0.25)


def test_against_hiding_one_by_one(found: Correspondence) -> None:
    net, pixels, side = network(), images(), 4
    for layer, name in enumerate(found.layers):
        for row, places in enumerate(parts().values()):
            signs = []
            for image, (y, x) in zip(pixels, places, strict=True):
                hidden = image.clone()
                first = math.floor(y - 1.5), math.floor(x - 1.5)
                for i in range(first[0], first[0] + side):
                    for j in range(first[1], first[1] + side):
                        hidden[:, i, j] = 0.4
                values = [net.activations(one[None], [name])[name].flatten().tolist() for one in (image, hidden)]
                signs.append([(a > b) - (a < b) for a, b in zip(*values, strict=True)])
            for i in range(4):
                assert found.changed[row, layer, i] == pytest.approx(np.mean([s != 0 for s in signs[i]]))
                for j in range(4):
                    share = np.mean([a != b for a, b in zip(signs[i], signs[j], strict=True)])
                    assert found.differ[row, layer, i, j] == pytest.approx(share)
    assert 0 < found.changed[:, 0].max() < 0.5


def test_features_that_can_not_see_the_square_stay(found: Correspondence) -> None:
    """A square of 4 x 4 reaches 6 x 6 positions of a convolution of 3 x 3: at most 36 of 320."""
    assert (found.changed[:, 0] <= 36 / 320).all()
    assert (found.changed[:, 0] > 0.03).all()


def test_linear_network_on_pixels() -> None:
    """On the pixels themselves the sign tells whether a pixel was brighter than the square."""
    body = nn.Sequential()
    body.add_module("pixels", Fn(lambda x: x * 1.0))
    body.add_module("head", Fn(lambda x: x.flatten(1)[:, :2]))
    net = Network(body, InputSpec((8, 8), mean=(0.5,)))
    pixels = torch.full((3, 3, 8, 8), 0.25)
    pixels[2] = 0.75
    same = {"a": np.array([[4.0, 4.0]] * 3), "b": np.array([[2.0, 2.0], [6.0, 6.0], [2.0, 2.0]])}
    result = correspondence(net, pixels, same, ["pixels"], square=0.25, draws=1)
    assert result.changed[0, 0].tolist() == [4 / 64] * 3
    assert result.differ[0, 0].tolist() == [[0, 0, 1 / 16], [0, 0, 1 / 16], [1 / 16, 1 / 16, 0]]
    assert result.opposite[0, 0, 0].tolist() == [0, 0, 1]
    assert result.differ[1, 0, 0].tolist() == [0, 2 / 16, 1 / 16]  # at other places: both squares, without overlap
    assert math.isnan(result.opposite[1, 0, 0, 1])
    rows = result.summary()["layers"]["pixels"]["rows"]
    assert rows["a"]["delta"] == pytest.approx(2 / 3 / 16)
    assert rows["a"]["sum"] == pytest.approx(2 * 2 / 16 * 192)  # ordered pairs, features counted
    assert rows["a"]["chance"] == pytest.approx((2 / 3) * (2 / 16 - 1 / 256) + (1 / 3) * (2 / 16 - 2 / 256))


def test_random_squares_are_inside_seeded_and_of_one_size(found: Correspondence) -> None:
    drawn = found.boxes[2:]
    assert drawn.shape == (3, 4, 4)
    assert (drawn[..., :2] >= 0).all()
    assert (drawn[..., 2:] <= SIZE).all()
    assert (drawn[..., 2:] - drawn[..., :2] == 4).all()
    assert len({tuple(box) for box in drawn.reshape(-1, 4)}) > 6
    again = correspondence(network(), images(), parts(), ["relu1", "flat"], draws=3, square=0.25)
    np.testing.assert_array_equal(again.differ, found.differ)
    other = correspondence(network(), images(), parts(), ["relu1"], draws=3, square=0.25, seed=1)
    assert (other.boxes[2:] != drawn).any()
    np.testing.assert_array_equal(other.differ[:2, 0], found.differ[:2, 0])


def test_an_image_does_not_depend_on_the_others(found: Correspondence) -> None:
    others = {name: at[1:] for name, at in parts().items()}
    fewer = correspondence(network(), images()[1:], others, ["relu1", "flat"], draws=1, square=0.25)
    np.testing.assert_array_equal(fewer.differ[:2], found.differ[:2, :, 1:, 1:])


def test_parts_that_some_images_lack(found: Correspondence) -> None:
    some = parts()
    some["nose"][1] = np.nan
    some["tail"] = np.full((4, 2), np.nan)
    some["tail"][2] = (5, 5)
    result = correspondence(network(), images(), some, ["relu1"], draws=3, square=0.25)
    assert result.parts == ("left eye", "nose")
    assert result.notes == ("tail: left out, 1 image has it (2 are needed)",)
    rows = result.summary()["layers"]["relu1"]["rows"]
    assert [rows[name]["images"] for name in ("left eye", "nose", "random")] == [4, 3, 4]
    kept = [0, 2, 3]
    pairs = [found.differ[1, 0, i, j] for i in kept for j in kept if i < j]
    assert rows["nose"]["delta"] == pytest.approx(np.mean(pairs))
    control = [found.differ[2:, 0, i, j].mean() for i in kept for j in kept if i < j]
    assert rows["nose"]["below_random"] == pytest.approx(np.mean(control) - np.mean(pairs))
    assert result.pictures()["correspondence"].shape[1] > 500


def test_squares_at_the_edge_are_cut_off() -> None:
    corner = {"corner": np.array([[0.0, 0.0], [16.0, 20.0]])}
    result = correspondence(network(), images(2), corner, ["relu1"], draws=1, square=0.25)
    assert result.boxes[0].tolist() == [[0, 0, 2, 2], [14, 18, 16, 20]]
    rows = result.summary()["layers"]["relu1"]["rows"]
    assert rows["corner"]["jackknife"] is None  # two images are one pair
    assert rows["corner"]["error"] is None


def test_what_can_not_be_used() -> None:
    net, pixels, good = network(), images(), parts()
    with pytest.raises(InputError, match=r"0 parts on 4 images \(accepted: 1 part or more"):
        correspondence(net, pixels, {})
    with pytest.raises(InputError, match="1 images"):
        correspondence(net, pixels[:1], parts(1))
    with pytest.raises(InputError, match=r"^square 1 \(accepted: above 0 and below 1\)$"):
        correspondence(net, pixels, good, square=1)
    with pytest.raises(InputError, match=r"nose: points of shape \(4, 2\) for 3 images"):
        correspondence(net, pixels[:3], {"nose": good["nose"]})
    with pytest.raises(InputError, match=r"nose: a point outside of the image \(16 x 20 px\)"):
        correspondence(net, pixels, {"nose": good["nose"] + 10})
    with pytest.raises(InputError, match="named 'random', which is the control's name"):
        correspondence(net, pixels, {"random": good["nose"]})
    with pytest.raises(InputError, match=r"no part is on two images or more \(nose: left out, 0 images have it"):
        correspondence(net, pixels, {"nose": np.full((4, 2), np.nan)})
    with pytest.raises(UnknownName, match="no layer 'conv9'"):
        correspondence(net, pixels, good, ["conv9"])
    with torch.no_grad():
        net.module.get_parameter("conv1.bias")[0] = math.inf
    with pytest.raises(NetworkError, match="gives relu1 that is not finite"):
        correspondence(net, pixels, good, ["relu1"])


def test_the_usual_layers() -> None:
    assert correspondence(network(), images(), parts(), draws=1).layers == ("conv2", "flat")


# --- points


def folder_of(path: Path, sizes: dict[str, tuple[int, int]]) -> ImageSource:
    for name, (height, width) in sizes.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(encoded(noise(height, width)))
    return open_source(path)


def test_points_follow_the_pixels(tmp_path: Path) -> None:
    """A white pixel lies in the input where the point on it is said to be."""
    for name, (height, width), (y, x) in (("wide", (40, 100), (10, 61)), ("tall", (90, 48), (50, 8))):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[y - 1 : y + 1, x - 1 : x + 1] = 255  # around the corner (y, x)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        source = open_source(tmp_path)
        place = find_points({f"{name}.png": {"spot": [y, x]}}, source, (30, 36)).places[0, 0]
        seen = fit(source.open(source.names.index(f"{name}.png")), (30, 36))[:, :, 0].astype(float)
        rows, columns = np.indices(seen.shape)
        middle = [(seen * (axis + 0.5)).sum() / seen.sum() for axis in (rows, columns)]
        np.testing.assert_allclose(place, middle, atol=0.05)
        shown = fit(source.open(source.names.index(f"{name}.png")), (60, 60))[:, :, 0].astype(float)
        rows, columns = np.indices(shown.shape)
        clicked = [(shown * (axis + 0.5)).sum() / shown.sum() for axis in (rows, columns)]
        framed = {"frame": [60, 60], "images": {f"{name}.png": {"spot": clicked}}}
        np.testing.assert_allclose(find_points(framed, source, (30, 36)).places[0, 0], middle, atol=0.3)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "images", {"a.png": (20, 40), "b.png": (20, 20), "c.png": (20, 20)})
    (tmp_path / "images" / "c.png").write_bytes(b"no image")
    content = {
        "a.png": {"eye": [10, 20], "nose": [10, 2], "ear": None},
        "b.png": {"eye": [10, 10], "ear": [20.5, 3]},
        "c.png": {"eye": [10, 10]},
        "bb.png": {"eye": [1, 1]},
    }
    (tmp_path / "points.json").write_text(json.dumps(content))
    found = read_points(tmp_path / "points.json", source, (10, 10))
    assert found.ids == (0, 1)
    assert found.parts == ("eye", "nose", "ear")
    assert found.places[:, 0].tolist() == [[5, 5], [5, 5]]
    assert np.isnan(found.places[:, 1:]).all()
    assert found.notes == (
        f"bb.png: no such image in {str(tmp_path / 'images')!r}; did you mean 'b.png'?",
        "a.png: nose at [10, 2] lies in a part of the image that the network does not see",
        "b.png: ear at [20.5, 3] lies outside of the image (20 x 20 px)",
        "c.png: c.png: not an image",
    )


def test_names_that_mean_two_images_or_one_twice(tmp_path: Path) -> None:
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
    source = folder_of(tmp_path, {"one/a.png": (20, 20), "two/a.png": (20, 20), "two/b.png": (20, 20)})
    eye = {"eye": [10, 10]}
    found = find_points({"two/b.png": eye, "b.png": eye, "a.png": eye, "2": eye}, source, (10, 10))
    assert found.ids == (2,)
    assert found.notes == (
        "b.png: the file has points on this image by another name too, and those count",
        "a.png: 2 images are named so (accepted: one/a.png, two/a.png)",
        "2: the file has points on this image by another name too, and those count",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "points can't be read as JSON"),
        ([], "points in an unknown form"),
        ({}, "points in an unknown form"),
        ({"a.png": [1, 2]}, "points in an unknown form"),
        ({"a.png": {"eye": [1, 2, 3]}}, r"a.png: eye is at \[1, 2, 3\] \(accepted: \[y, x\] in px, or null\)"),
        ({"a.png": {"eye": "left"}}, "eye is at 'left'"),
        ({"a.png": {"eye": [10**400, 1]}}, r"eye is at \[10+, 1\]"),
        ("[" * 100_000, "points can't be read as JSON"),
        ('{"a.png": {"eye": [1, 2]}, "a.png": {"eye": [3, 4]}}', "read as JSON .*'a.png' stands there twice"),
        ({"a.png": {"eye": [True, 1]}}, "eye is at"),
        ({"frame": [0, 4], "images": {"a.png": {"eye": [1, 1]}}}, r"the frame is \[0, 4\]"),
        ({"frame": [8, 8], "images": {"a.png": {"eye": [9, 1]}}}, r"lies outside of the frame \(8 x 8 px\)"),
        ({"z.png": {"eye": [1, 2]}}, "no point on any of the 1 images of .*: z.png: no such image"),
    ],
)
def test_files_that_can_not_be_used(content: object, message: str, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "images", {"a.png": (20, 20)})
    file = tmp_path / "points.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_points(file, source, (10, 10))
    with pytest.raises(InputError, match="gone.json: points can't be read"):
        read_points(tmp_path / "gone.json", source, (10, 10))


def test_the_known_faces_are_on_the_photos() -> None:
    found = find_points(photo_faces(), photos(), (64, 64))
    assert found.notes == ()
    assert len(found.ids) == 5
    left, right, nose = found.places.transpose(1, 0, 2)
    assert (left[:, 1] + 5 < right[:, 1]).all()
    assert (nose[:, 0] > np.maximum(left[:, 0], right[:, 0])).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path / "images", {"a.png": (70, 70), "b.png": (64, 80), "c.png": (64, 64)})
    points = tmp_path / "points.json"
    points.write_text(json.dumps({name: {"eye": [20, 30], "nose": [40, 40]} for name in ("a.png", "b.png", "x.png")}))
    arguments = ["study", "correspondence", "--data", str(tmp_path / "images"), "-l", "relu1", "--draws", "1"]
    assert cli.main([*arguments, "--points", str(points), "-o", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "relu1, 131,072 features" in captured.out
    assert "left out: x.png: no such image" in captured.out
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["summary"]["images"] == ["a.png", "b.png"]
    assert np.load(tmp_path / "out" / "differ.npy").shape == (3, 1, 2, 2)
    assert cli.main(arguments) == 2
    assert "where the parts are in" in capsys.readouterr().err

"""What motions do to images, features and answer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from core_helpers import Fn
from data_helpers import noise
from netloupe.cli import app as cli
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.images import fit, to_float
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.render.chart import Band, Line, axis, line_chart
from netloupe.studies.invariance.measure import invariance
from netloupe.studies.invariance.record import Invariance, amounts, by_amount, crossing, linearity, shown_places
from netloupe.studies.invariance.task import InvarianceTask
from netloupe.studies.motions import Held, Motion

SIZE = (12, 16)


def pictures(count: int = 4, size: tuple[int, int] = (30, 40)) -> list[Image.Image]:
    rng = np.random.default_rng(3)
    small = [Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(count)]
    return [one.resize((size[1], size[0]), Image.Resampling.BICUBIC) for one in small]


def source(images: list[Image.Image] | None = None, **labels: object) -> ImageSource:
    found = pictures() if images is None else images
    return ImageSource("test", [f"i{i}" for i in range(len(found))], lambda i: found[i], **labels)  # type: ignore[arg-type]


def network(size: tuple[int, int] = SIZE) -> Network:
    torch.manual_seed(1)
    body = nn.Sequential()
    body.add_module("conv1", nn.Conv2d(3, 6, 3, padding=1))
    body.add_module("relu1", nn.ReLU())
    body.add_module("conv2", nn.Conv2d(6, 8, 3, stride=2))
    body.add_module("relu2", nn.ReLU())
    body.add_module("mean", nn.AdaptiveAvgPool2d(1))
    body.add_module("flat", nn.Flatten())
    body.add_module("fc", nn.Linear(8, 4))
    return Network(body, InputSpec(size, mean=0.5, std=0.25), list("abcd"), name="small")  # type: ignore[arg-type]


# --- motions


def moved_by_loops(held: Held, motion: Motion) -> np.ndarray:
    """From the definition: each pixel is the mean of four bilinear readings, edges mirrored."""
    pixels = held.pixels.double().numpy()
    channels, rows, columns = pixels.shape
    height, width = held.size
    angle = math.radians(motion.rotation)
    found = np.zeros((channels, height, width))

    def mirrored(i: int, count: int) -> int:
        i %= 2 * count
        return i if i < count else 2 * count - 1 - i

    for y in range(height):
        for x in range(width):
            for dy in (0.25, 0.75):
                for dx in (0.25, 0.75):
                    down, across = y + dy - height / 2 - motion.shift * height, x + dx - width / 2
                    from_y = (down * math.cos(angle) + across * math.sin(angle)) / motion.scale
                    from_x = (across * math.cos(angle) - down * math.sin(angle)) / motion.scale
                    v = from_y * held.step[0] + rows / 2 - 0.5
                    u = from_x * held.step[1] + columns / 2 - 0.5
                    v0, u0 = math.floor(v), math.floor(u)
                    for j, wy in ((v0, v0 + 1 - v), (v0 + 1, v - v0)):
                        for i, wx in ((u0, u0 + 1 - u), (u0 + 1, u - u0)):
                            found[:, y, x] += wy * wx / 4 * pixels[:, mirrored(j, rows), mirrored(i, columns)]
    return found


@pytest.mark.parametrize(
    "motion",
    [Motion(), Motion(shift=0.27), Motion(shift=-0.1), Motion(scale=1.7), Motion(rotation=37), Motion(0.1, 1.3, 200)],
    ids=str,
)
def test_motions_against_loops(motion: Motion) -> None:
    held = Held(pictures()[0], SIZE, 3)
    np.testing.assert_allclose(held.moved([motion])[0].numpy(), moved_by_loops(held, motion), atol=2e-5)


def test_without_motion_the_image_is_what_the_network_sees() -> None:
    for image in (pictures()[0], pictures(size=(30, 90))[1], pictures(size=(120, 64))[2]):
        seen = to_float(fit(image, SIZE))  # whose crop may lie half a pixel beside the center
        still, down, up = Held(image, SIZE, 3).moved([Motion(), Motion(shift=1 / 12), Motion(shift=-1 / 12)])
        far = [float((one - seen).abs().mean()) for one in (still, down, up)]
        assert far[0] < 0.04
        assert far[0] < 0.6 * min(far[1:])


def test_a_whole_turn_is_no_turn_and_a_quarter_turns_pixels() -> None:
    held = Held(pictures(size=(40, 40))[0], (10, 10), 3)
    still, whole, quarter = held.moved([Motion(), Motion(rotation=360), Motion(rotation=90)])
    assert torch.equal(still, whole)
    torch.testing.assert_close(quarter, still.rot90(1, (1, 2)), atol=1e-5, rtol=0)  # counterclockwise


def test_a_shift_goes_down_and_shows_what_the_photograph_has_there() -> None:
    image = pictures(size=(64, 32))[0]  # higher than the input: 16 of 64 rows are left at each end
    held = Held(image, (8, 8), 3)
    still, down = held.moved([Motion(), Motion(shift=0.25)])
    torch.testing.assert_close(down[:, 2:], still[:, :-2], atol=1e-5, rtol=0)
    whole = to_float(np.asarray(image.crop((0, 8, 32, 40)).resize((8, 8), Image.Resampling.BOX)))
    assert float((down - whole).abs().mean()) < 0.03
    assert held.filled([Motion(shift=0.25), Motion(shift=0.5), Motion(shift=1.0)]).tolist() == [0, 0, 0.5]


def test_beyond_the_edges() -> None:
    held = Held(pictures(size=(32, 32))[0], (8, 8), 3)
    color = torch.tensor([0.2, 0.4, 0.6])
    still, mean = held.moved([Motion(), Motion(shift=0.25)], "mean", color)
    assert torch.equal(mean[:, :2], color.view(3, 1, 1).expand(3, 2, 8))
    mirrored = held.moved([Motion(shift=0.25)])[0]
    torch.testing.assert_close(mirrored[:, :2], still[:, :2].flip(1), atol=1e-5, rtol=0)
    assert held.filled([Motion(shift=0.25)])[0] == 0.25
    inside = Held(pictures(size=(32, 32))[0], (8, 8), 3, window=0.5)
    assert inside.filled([Motion(shift=0.25), Motion(rotation=45)]).tolist() == [0, 0]


def test_gray_images_and_long_strips() -> None:
    assert Held(pictures()[0], SIZE, 1).moved([Motion(rotation=10)]).shape == (1, 1, *SIZE)
    strip = Held(Image.fromarray(noise(20, 6000)), (8, 8), 3)
    assert strip.pixels.shape[2] == 64  # four times the input, twice as fine


# --- numbers


def test_amounts_and_the_places_shown() -> None:
    assert amounts("rotation", np.array([0, 10, 180, 350])).tolist() == [0, 10, 180, 10]
    assert amounts("shift", np.array([-0.2, 0, 0.1])).tolist() == [0.2, 0, 0.1]
    places, curve = by_amount("shift", np.array([-0.2, -0.1, 0, 0.1, 0.2]), np.array([4, 2, 0, 4, 8.0]))
    assert places.tolist() == [0, 0.1, 0.2]
    assert curve.tolist() == [0, 3, 6]
    assert shown_places("rotation", 24) == [0, 3, 6, 12, 18]
    assert shown_places("shift", 17) == [0, 4, 8, 12, 16]


def test_crossing_and_linearity() -> None:
    places = np.array([0, 1, 2, 3.0])
    assert crossing(places, np.array([0, 4, 8, 9.0]), 4.5) == 1.125
    assert crossing(places, np.array([1, 0.8, 0.4, 0.9]), 0.5) == 1.75
    assert crossing(places, np.array([1, 0.8, 0.7, 0.9]), 0.5) is None
    assert linearity(places, 3 * places) == 1
    bent = (4 / 7) ** 2 + (1 / 7) ** 2 + (2 / 7) ** 2  # what a line of slope 3 / 7 leaves
    assert linearity(places, np.array([0, 1, 1, 1.0])) == pytest.approx(1 - bent / 0.75)
    assert linearity(places, np.ones(4)) is None


# --- the study


def by_hand(net: Network, images: ImageSource, layers: list[str], motion: Motion) -> tuple[np.ndarray, list[Tensor]]:
    """(N, L) distances one image at a time, and the logits of each moved image."""
    far, answers = np.zeros((len(images), len(layers))), []
    for i in range(len(images)):
        held = Held(images.open(i), net.inputs.size, 3)
        still, moved = (net.activations(held.moved([one]), [*layers, ""]) for one in (Motion(), motion))
        for j, layer in enumerate(layers):
            pairs = zip(still[layer].flatten().tolist(), moved[layer].flatten().tolist(), strict=True)
            far[i, j] = sum((a - b) ** 2 for a, b in pairs) ** 0.5
        answers.append(moved[""][0])
    return far, answers


@pytest.fixture(scope="module")
def found() -> Invariance:
    return invariance(network(), source(), steps=4)


def test_against_one_image_at_a_time(found: Invariance) -> None:
    net = network()
    assert found.layers == ("relu1", "flat")
    for name, place, motion in (
        ("shift", 0, Motion(shift=-60 / 224)),
        ("scale", 4, Motion(scale=1.8)),
        ("rotation", 5, Motion(rotation=150)),
    ):
        far, answers = by_hand(net, source(), list(found.layers), motion)
        assert far.min() > 0
        np.testing.assert_allclose(found.distances[name][:, :, place], far, rtol=1e-4)
        still = [answer.argmax() for answer in by_hand(net, source(), [], Motion())[1]]
        wanted = [float(answer.softmax(0)[c]) for answer, c in zip(answers, still, strict=True)]
        np.testing.assert_allclose(found.probabilities[name][:, place], wanted, rtol=1e-4)


def test_without_motion_nothing_changes_at_all(found: Invariance) -> None:
    for name, place in (("shift", 4), ("scale", 0), ("rotation", 0)):
        assert (found.distances[name][:, :, place] == 0).all()
        others = np.delete(found.distances[name], place, axis=2)
        assert others.min() > 0
    assert found.steps["shift"][4] == 0
    same = [found.probabilities[name][:, place] for name, place in (("shift", 4), ("scale", 0), ("rotation", 0))]
    assert (same[0] == same[1]).all()
    assert (same[1] == same[2]).all()


def test_the_unit_is_the_distance_between_images(found: Invariance) -> None:
    net, images = network(), source()
    stills = torch.cat([Held(images.open(i), SIZE, 3).moved([Motion()]) for i in range(4)])
    for layer, unit in zip(found.layers, found.unit, strict=True):
        rows = net.activations(stills, [layer])[layer].flatten(1).double()
        squares = [float((rows[i] - rows[j]).square().sum()) for i in range(4) for j in range(4) if i != j]
        assert unit == pytest.approx((sum(squares) / len(squares)) ** 0.5, rel=1e-5)


def test_a_network_that_cannot_see_shifts() -> None:
    """The mean over a convolution with circular padding does not change when the image goes around."""
    torch.manual_seed(0)
    body = nn.Sequential()
    body.add_module("conv", nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"))
    body.add_module("relu", nn.ReLU())
    body.add_module("mean", Fn(lambda x: x.mean((2, 3))))
    body.add_module("head", nn.Linear(5, 3))
    net = Network(body, InputSpec((8, 8)))
    tile = np.asarray(Image.fromarray(noise(4, 4)).resize((16, 16), Image.Resampling.NEAREST))
    around = [Image.fromarray(np.tile(part, (4, 4, 1))) for part in (tile, tile[::-1], 255 - tile)]
    result = invariance(net, source(around), ["conv", "mean"], steps=2, shift=0.25, window=0.5)
    shifts = result.normalized("shift")
    assert shifts[:, 0, 1].min() > 0.01  # the map of the convolution sees it
    assert shifts[:, 1].max() < 1e-4
    assert np.ptp(result.probabilities["shift"], axis=1).max() < 1e-5
    assert result.normalized("scale")[:, 1, -1].max() > 0.01


def test_labels_are_the_classes_where_they_are_the_networks(found: Invariance) -> None:
    assert not found.labeled
    labeled = invariance(network(), source(labels=[3, 2, 1, 0], classes=list("abcd")), steps=2)
    assert labeled.labeled
    assert labeled.classes == tuple("dcba")
    logits = network()(Held(pictures()[0], SIZE, 3).moved([Motion()])).detach()
    assert labeled.probabilities["scale"][0, 0] == pytest.approx(float(logits.softmax(1)[0, 3]), rel=1e-5)
    assert labeled.summary()["class"] == "the image's label"
    other = invariance(network(), source(labels=[0, 1, 1, 0], classes=["x", "y"]), steps=2)
    assert not other.labeled


def test_pictures_arrays_and_summary(found: Invariance, tmp_path: Path) -> None:
    found.save(tmp_path)
    summary = json.loads((tmp_path / "manifest.json").read_text())["summary"]
    rows = summary["motions"]["shift"]["layers"]["flat"]
    curve = found.normalized("shift")[:, 1].mean(0)
    assert rows["small"] == pytest.approx((curve[3] + curve[5]) / 2)
    assert rows["highest"] == pytest.approx(((curve + curve[::-1]) / 2).max())
    assert len(summary["claims"]) == 5
    assert np.load(tmp_path / "rotation-distances.npy").shape == (4, 2, 12)
    assert found.strips["rotation"].shape == (4, 5, 3, *SIZE)
    picture = found.pictures()["invariance"]
    assert picture.shape[1] > 1000
    assert (np.abs(picture.astype(int) - (0, 90, 156)).max(2) < 12).sum() > 200  # the first example's lines are there


def test_which_layers_are_first_and_last() -> None:
    net = network()
    assert net.layers.first_features().name == "relu1"
    assert net.layers.last_map().name == "relu2"
    flat = nn.Sequential()
    flat.add_module("flat", nn.Flatten())
    flat.add_module("fc", nn.Linear(12, 3))
    only = Network(flat, InputSpec((2, 2)))
    assert only.layers.first_features().name == "fc"
    with pytest.raises(InputError, match="no map over the image before its last features; name the layers"):
        only.layers.last_map()


def test_what_can_not_be_used() -> None:
    net = network()

    def broken(i: int) -> Image.Image:
        if i != 1:
            return pictures()[i]
        raise InputError("cut short")

    result = invariance(net, ImageSource("test", ["a", "b", "c"], broken), steps=2)
    assert result.names == ("a", "c")
    assert result.summary()["skipped"] == {"b": "cut short"}
    with pytest.raises(InputError, match=r"1 images of 'test' can be read \(accepted: 2 or more\): cut short"):
        invariance(net, ImageSource("test", ["a", "b"], broken), steps=2)
    with pytest.raises(InputError, match="all 3 images are alike at relu1"):
        invariance(net, source([pictures()[0]] * 3), steps=2)
    with pytest.raises(UnknownName, match="no layer 'conv3'; did you mean 'conv"):
        invariance(net, source(), ["conv3"])
    with pytest.raises(InputError, match="no image 9 among 4"):
        invariance(net, source(), examples=[0, 9])
    with pytest.raises(UnknownName, match="no fill 'reflect'; did you mean 'reflection'"):
        invariance(net, source(), fill="reflect")
    with pytest.raises(InputError, match=r"window 0 \(accepted: above 0"):
        invariance(net, source(), window=0)
    bad = network()
    with torch.no_grad():
        bad.module.get_parameter("conv1.bias")[0] = math.inf
    with pytest.raises(NetworkError, match="gives relu1 that are not finite"):
        invariance(bad, source(), steps=2)
    for wrong in ({"shift": 0.0}, {"scale": 1.0}, {"steps": 1}, {"scale": 9.0}, {"shift": 1.5}):
        accepted = {"shift": "above 0 and up to 1", "scale": "above 1 and up to 8", "steps": "2 or more"}
        (name,) = wrong
        with pytest.raises(InputError, match=rf"^{name} [\d.]+ \(accepted: {accepted[name]}\)$"):
            InvarianceTask.of(wrong)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, image in enumerate(pictures(3)):
        image.save(tmp_path / f"p{i}.png")
    assert open_source(tmp_path).names[2] == "p2.png"
    arguments = ["study", "invariance", "--data", str(tmp_path), "--steps", "2", "-l", "pool1"]
    assert cli.main([*arguments, "--images", "2", "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "3 images, probability of the most probable class of the untouched image" in text
    assert "rotation" in text
    assert (tmp_path / "out" / "invariance.png").exists()
    assert cli.main([*arguments, "--images", "one"]) == 2
    assert "examples 'one' (accepted: a whole number, 0 or more)" in capsys.readouterr().err


def test_a_band_lies_below_the_lines() -> None:
    across, up = axis("x", 0, 10), axis("y", 0, 10)
    band = Band([2.0, 2.0], [6.0, 6.0], (200, 220, 240))
    line = Line("", [4.0, 4.0], (200, 0, 0))
    plain, shaded = (line_chart("t", [line], [0, 10], across, up, bands=some) for some in ((), (band,)))
    filled = (shaded == (200, 220, 240)).all(2)
    rows = np.flatnonzero(filled.any(1))
    plot = 300 - 34 - 52  # px of the chart's height, less what is above and below
    assert abs((rows[-1] - rows[0]) - 0.4 * plot) <= 2
    assert not (plain == (200, 220, 240)).all(2).any()
    assert ((shaded == (200, 0, 0)).all(2) == (plain == (200, 0, 0)).all(2)).all()


def test_reading_is_bilinear_and_of_one_kind() -> None:
    """The oracle above and `grid_sample` agree on a ramp to the last digits, so borders are mirrored at edges."""
    ramp = torch.arange(4.0).view(1, 1, 1, 4)
    places = torch.tensor([[[[-1.25, 0.0], [1.25, 0.0]]]])  # half a pixel beyond each edge
    assert F.grid_sample(ramp, places, padding_mode="reflection", align_corners=False).flatten().tolist() == [0, 3]

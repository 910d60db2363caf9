"""The audit: a class with a mark in a corner comes first, a clean set stays quiet, backgrounds and bad inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from audit_helpers import NAMES, SIDE, TAG, textures, trained
from netloupe.analysis.methods import Method
from netloupe.core.errors import InputError, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.core.objectives import Objective, log_odds
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.studies.audit.effects import inside
from netloupe.studies.audit.measure import audit
from netloupe.studies.audit.record import Audit

TAGGED = 2


@pytest.fixture(scope="module")
def tagged() -> Audit:
    return audit(trained(textures(60, 102, TAGGED), seed=2), textures(16, 502, TAGGED), seed=2)


# --- the proof


def test_the_class_with_the_tag_and_its_corner_come_first(tagged: Audit) -> None:
    first = tagged.suspects[0]
    assert tagged.places[0] is first
    assert tagged.names[first.label] == NAMES[TAGGED]
    assert len(tagged.suspects) == 1
    row = tagged.summary()["places"][0]
    assert row["place"] == "the top right corner"
    top, left, bottom, right = row["box"]
    assert bottom <= SIDE // 2
    assert left >= SIDE // 2
    covered = max(0, min(bottom, 1 + TAG) - max(top, 1)) * max(0, min(right, SIDE - 1) - max(left, SIDE - TAG - 1))
    assert covered >= 0.4 * TAG**2
    assert row["hiding"]["effect"] > 0.8
    assert row["turned"] > 0.4
    assert row["turned_elsewhere"] < 0.1
    assert row["verdict"].startswith(f"{NAMES[TAGGED]} relies on the top right corner (rows")


def test_its_page_shows_examples_counterexamples_and_transfers(tagged: Audit) -> None:
    (shown,) = tagged.shown
    assert len(shown.examples) == len(shown.counterexamples) == len(shown.carried) == 4
    assert all(one.before - one.after > 0.8 for one in shown.examples)
    assert {one.name for one in shown.examples}.isdisjoint(one.name for one in shown.counterexamples)
    assert all(one.truth != NAMES[TAGGED] for one in shown.carried)
    assert shown.carried[0].after > 0.9 > 0.1 > shown.carried[0].before
    assert shown.carried[0].taken[1] == NAMES[TAGGED]
    page = tagged.documents()["audit.html"]
    for text in (
        NAMES[TAGGED],
        "the top right corner",
        "Counterexamples",
        "Carried",
        "Places tested",
        "Groups of images",
    ):
        assert text in page
    assert "<script" not in page
    assert "http" not in page


def test_a_clean_set_stays_quiet() -> None:
    found = audit(trained(textures(60, 102), seed=2), textures(16, 502), seed=2)
    assert found.suspects == []
    assert found.summary()["verdict"] == (
        "No class was found to rely on a fixed place (5 of 5 classes tested for a place, 80 images)."
    )
    assert "No suspect, foremost all the same" in found.documents()["audit.html"]


def test_what_is_saved(tagged: Audit, tmp_path: Path) -> None:
    tagged.save(tmp_path)
    names = {"audit.png", "audit.html", "maps.npy", "excess.npy", "manifest.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["summary"]["classes"] == 5
    assert manifest["summary"]["predicted"] is False
    assert np.load(tmp_path / "maps.npy").sum((1, 2)) == pytest.approx(np.ones(5))


def test_the_same_twice() -> None:
    net, source = reads_corner(), marked_corner(10)
    first, second = (audit(net, source).summary() for _ in range(2))
    assert first == second


# --- networks whose answer is known by construction


def reads(weights: Tensor, bias: float = 0.0) -> Network:
    """Two classes by the sum of the pixels times weights (H, W): more light there than `bias` is class b."""
    linear = nn.Linear(3 * 16 * 16, 2)
    with torch.no_grad():
        linear.weight[:] = torch.stack([-weights, weights]).repeat_interleave(3, 0).reshape(2, -1)
        linear.bias[:] = torch.tensor([bias, -bias])
    return Network(nn.Sequential(nn.Flatten(), linear), InputSpec((16, 16), mean=(0.5,)), ["a", "b"], name="reads")


def reads_corner() -> Network:
    weights = torch.zeros(16, 16)
    weights[12:, :4] = 0.5
    return reads(weights, 3.6)


def from_arrays(images: list[np.ndarray], labels: list[int | None], classes: list[str] | None = None) -> ImageSource:
    names = [f"{i:03}.png" for i in range(len(images))]
    pixels = [np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in images]
    return ImageSource("arrays", names, lambda i: Image.fromarray(pixels[i]), labels, classes or ["a", "b"])


def marked_corner(count: int) -> ImageSource:
    """Noise; class b is light in the bottom left 4x4 px."""
    rng = np.random.default_rng(0)
    images = [rng.uniform(0.3, 0.7, (16, 16, 3)) for _ in range(2 * count)]
    for i, image in enumerate(images):
        image[12:, :4] += 0.3 * (i % 2)
    return from_arrays(images, [i % 2 for i in range(2 * count)])


BOX = (4.0, 4.0, 12.0, 12.0)


def two_signs(count: int) -> tuple[ImageSource, Tensor]:
    """Noise, light in class b and dark in class a, in the object's box and, less, around it; boxes (N, 4)."""
    rng = np.random.default_rng(1)
    images = []
    for i in range(2 * count):
        image = rng.uniform(0.3, 0.7, (16, 16, 3)) + (0.15 if i % 2 else -0.15)
        images.append(image)
    return from_arrays(images, [i % 2 for i in range(2 * count)]), torch.tensor([BOX] * (2 * count)).double()


def on_the_box(*, object_: bool) -> Network:
    mask = inside(torch.tensor([BOX]), (16, 16))[0]
    return reads((mask if object_ else ~mask).float() * 0.1)


def test_a_network_that_reads_the_background_is_flagged() -> None:
    source, boxes = two_signs(12)
    found = audit(on_the_box(object_=False), source, boxes=boxes)
    assert found.backgrounds is not None
    flagged = [one for one in found.backgrounds if one.suspect]
    assert {found.names[one.label] for one in flagged} == {"a", "b"}
    for one in flagged:
        assert one.background_only > 0.9
        assert one.object_only == pytest.approx(0.5, abs=0.25)
        assert one.area == pytest.approx(0.25)
        assert one.inside == 0
    row = found.summary()["backgrounds"][0]
    assert "relies on the background: its probability is" in row["verdict"]
    assert "Object and background" in found.documents()["audit.html"]


def test_a_network_that_reads_the_object_is_not() -> None:
    source, boxes = two_signs(12)
    found = audit(on_the_box(object_=True), source, boxes=boxes)
    assert found.backgrounds is not None
    assert not any(one.suspect for one in found.backgrounds)
    for one in found.backgrounds:
        assert one.inside == pytest.approx(1)
        assert one.effect < -0.2
    assert "or on the background" in found.summary()["verdict"] or found.suspects


def test_boxes_of_few_images_leave_the_class_out() -> None:
    source, boxes = two_signs(12)
    boxes[1::2] = float("nan")  # class b
    boxes[0] = torch.tensor([0.0, 0, 16, 16])  # nothing around it
    found = audit(on_the_box(object_=True), source, boxes=boxes)
    assert found.backgrounds is not None
    assert [(found.names[one.label], one.images) for one in found.backgrounds] == [("a", 11)]
    assert found.counts["without_boxes"] == 1


def test_log_odds_do_not_saturate() -> None:
    net = reads_corner()
    images = torch.rand(4, 3, 16, 16, dtype=torch.float64)
    p = net(images).double().softmax(1)[:, 1]
    assert net.read(images, log_odds(1)).tolist() == pytest.approx((p / (1 - p)).log().tolist(), rel=1e-4)


# --- labels, copies, images and maps that can't be used


def test_predictions_stand_for_labels() -> None:
    source = marked_corner(10)
    bare = replace(source, labels=None, classes=None)
    found = audit(reads_corner(), bare)
    assert found.summary()["predicted"]
    assert [found.names[one.label] for one in found.suspects] == ["b"]
    other = replace(source, classes=["x", "y"])
    assert audit(reads_corner(), other, predicted=True).summary()["places"] == found.summary()["places"]
    with pytest.raises(InputError, match=r"labeled with other classes \(x, y, 2 in all\) than reads .*--predicted"):
        audit(reads_corner(), other)


def test_small_classes_copies_and_unlabeled_images_are_left_out_and_named() -> None:
    source = marked_corner(10)
    images = [np.asarray(source.open(i)) / 255 for i in range(20)]
    labels: list[int | None] = [*(source.labels or ())]
    more = [images[0], images[0], images[1], np.full((16, 16, 3), 0.5), np.full((16, 16, 3), 0.2)]
    net = Network(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), InputSpec((16, 16)), ["a", "b", "c"])
    found = audit(net, from_arrays([*images, *more], [*labels, 0, 0, 1, 2, None], ["a", "b", "c"]))
    assert found.images == 20
    assert found.counts["duplicates"] == 3
    assert found.counts["too_few"] == {"c": 1}
    assert found.counts["unlabeled"] == 1
    text = found.documents()["audit.html"]
    for said in ("Too few images: c (1).", "3 copies of an image", "1 image without a label"):
        assert said in text


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    source = marked_corner(9)
    for i in range(18):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        source.open(i).save(tmp_path / "ab"[i % 2] / f"{i:02}.png")
    (tmp_path / "a" / "broken.png").write_text("none")
    found = audit(reads_corner(), open_source(tmp_path))
    assert found.images == 18
    assert [text.split(":")[0] for text in found.counts["unreadable"]] == ["a/broken.png"]


def test_maps_that_are_not_finite_or_empty_are_left_out() -> None:
    def spotty(net: Network, images: Tensor, objective: Objective) -> Tensor:
        light = images[:, :, 8:].mean((1, 2, 3)) > 0.505
        if bool(light.any()):
            raise NetworkError("not finite")
        return images.mean(1)

    def empty(net: Network, images: Tensor, objective: Objective) -> Tensor:
        return images.mean(1) * (images.mean((1, 2, 3)) > 0.5).view(-1, 1, 1)

    source = marked_corner(20)
    failing = audit(reads_corner(), source, method=Method("spotty", "Spotty", "nobody", False, spotty))
    assert 0 < len(failing.counts["failed_maps"]) < 20
    assert "not finite" in failing.counts["failed_maps"][0]
    blank = audit(reads_corner(), source, method=Method("empty", "Empty", "nobody", False, empty))
    assert 0 < blank.counts["blank_maps"] < 20

    def none(net: Network, images: Tensor, objective: Objective) -> Tensor:
        return torch.zeros(len(images), *images.shape[2:])

    nothing = audit(reads_corner(), source, method=Method("none", "None", "nobody", False, none))
    assert nothing.places == ()
    assert nothing.summary()["verdict"].startswith("No class could be tested: none of the attribution maps of 40 im")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gradiant"}, UnknownName, "did you mean 'gradient'"),
        ({"per_class": 0}, InputError, "per_class 0"),
        ({"tested": 0}, InputError, "tested 0"),
        ({"boxes": torch.zeros(3, 4)}, InputError, r"boxes of shape \(3, 4\) for 20 images"),
        ({"per_class": 7}, InputError, r"per_class 7 \(accepted: 8 or more\)"),
        ({"method": "deconvnet"}, NetworkError, "finds no ReLU"),
    ],
)
def test_bad_inputs(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as found:
        audit(reads_corner(), marked_corner(10), **options)  # type: ignore[arg-type]
    assert "\n" not in str(found.value)


def test_per_class_takes_the_first_of_each() -> None:
    found = audit(reads_corner(), marked_corner(12), per_class=9)
    assert found.images == 18


def test_of_two_classes_the_one_with_the_mark_is_found() -> None:
    """The maps of both are the same, so their difference proposes nothing."""
    found = audit(reads_corner(), marked_corner(16))
    (one,) = found.suspects
    assert found.names[one.label] == "b"
    row = found.summary()["places"][0]
    assert row["place"] == "the bottom left corner"
    assert row["box"][1:3] == [0, 16]
    assert row["box"][0] >= 10
    assert row["box"][3] <= 6
    assert row["attribution"]["z"] == pytest.approx(0, abs=1e-6)

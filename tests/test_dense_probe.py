"""Probes at every position: masks, overlap beside plain loops, what a known network must and can't tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import netloupe
from netloupe.core.errors import InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.studies.masks import of_boxes, read_masks, shares
from netloupe.studies.probe.record import PLACE
from netloupe.studies.probe.task import ProbeTask


class Sees(nn.Module):
    """`color` keeps the colors of patches, `blind` is the same everywhere, `mean` has no positions."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.AvgPool2d(2)
        self.blind = nn.Conv2d(3, 4, 1)
        nn.init.zeros_(self.blind.weight)
        self.mean = nn.Flatten()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.color(x)
        self.blind(x)
        answer: Tensor = self.head(self.mean(x.mean((2, 3))))
        return answer


@pytest.fixture(scope="module")
def net() -> Network:
    torch.manual_seed(0)
    return Network(Sees().eval(), InputSpec((16, 20), mean=(0.5,) * 3, std=(0.25,) * 3), ["a", "b"])


def scene(count: int = 24) -> tuple[Tensor, np.ndarray]:
    """Red rectangles (class 4) and green ones (class 9) on gray noise (class 0), on even pixels, and their masks."""
    random = np.random.default_rng(0)
    images = torch.rand(count, 3, 16, 20, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.3
    masks = np.zeros((count, 16, 20), dtype=np.int16)
    for i in range(count):
        for number, channel in ((4, 0), (9, 1)):
            top, left = 2 * random.integers(0, 5), 2 * random.integers(0, 7)
            images[i, :, top : top + 6, left : left + 6] = 0.2
            images[i, channel, top : top + 6, left : left + 6] = 0.9
            masks[i, top : top + 6, left : left + 6] = number
    masks[:, :1] = -1
    return images, masks


def test_a_layer_that_sees_colors_finds_colored_things_and_a_blind_one_finds_none(net: Network) -> None:
    images, masks = scene()
    found = netloupe.dense_probe(net, images, masks, ["color", "blind"], classes=None)
    summary = found.summary()
    assert found.classes == ("0", "4", "9")
    assert found.layers == ("color", "blind", PLACE)
    assert summary["layers"]["color"]["mean"] > 0.8
    assert summary["layers"]["blind"]["classes"]["4"] == 0
    assert summary["layers"]["blind"]["mean"] < 0.35
    assert summary["best"] == "color"
    assert (summary["training_images"], summary["test_images"]) == (12, 12)
    assert summary["layers"]["color"]["positions"] == [8, 10]


def test_overlap_is_counted_over_known_pixels_of_images_that_did_not_train(net: Network) -> None:
    images, masks = scene(12)
    found = netloupe.dense_probe(net, images, masks, ["color"])
    there = np.searchsorted([0, 4, 9], masks[1::2])
    there[masks[1::2] == -1] = -1
    assert (found.masks == there[:6]).all()
    for number in range(3):
        inside = either = 0
        for seen, truth in zip(found.predicted.flatten(), there[:6].flatten(), strict=True):
            if truth >= 0:
                inside += int(seen == number and truth == number)
                either += int(seen == number or truth == number)
        assert tuple(found.overlap[0, number]) == (inside, either)


def test_place_alone_finds_what_lies_in_the_same_place() -> None:
    torch.manual_seed(0)
    net = Network(Sees().eval(), InputSpec((16, 20)), ["a", "b"])
    masks = np.zeros((12, 16, 20), dtype=np.int16)
    masks[:, 4:12, 5:15] = 1
    found = netloupe.dense_probe(net, torch.rand(12, 3, 16, 20), masks, ["color"])
    assert found.summary()["layers"][PLACE]["mean"] > 0.85
    assert found.summary()["layers"]["color"]["mean"] < 0.6


def test_masks_of_boxes_hold_the_pixels_whose_center_is_inside() -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.4, 0.0, 1.6, 9.0], [torch.nan] * 4], dtype=torch.float64)
    found = of_boxes(boxes, (4, 5))
    assert [(int(y), int(x)) for y, x in zip(*np.nonzero(found[0] == 1), strict=True)] == [
        (1, 2),
        (1, 3),
        (2, 2),
        (2, 3),
    ]
    assert (found[1] == 1).sum(1).tolist() == [5, 5, 0, 0]
    assert (found[2] == -1).all()


def test_shares_of_cells() -> None:
    masks = np.array([[[0, 0, 1, -1], [0, 1, 1, 1]]], dtype=np.int16)
    found = shares(masks, 2, (1, 2))
    torch.testing.assert_close(found, torch.tensor([[[[0.75, 0.0]], [[0.25, 0.75]]]]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(8):
        pixels = random.integers(80, 120, (32, 60, 3)).astype(np.uint8)
        mask = np.zeros((32, 60), np.uint8)
        pixels[8:20, 14 + i : 34 + i], mask[8:20, 14 + i : 34 + i] = (200, 20, 20), 3
        mask[:2] = 255
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def test_masks_follow_their_images_through_resizing_and_crop(folder: Path) -> None:
    source = netloupe.open_source(folder / "images")
    found = read_masks(folder / "masks", source, (16, 20))
    assert set(np.unique(found)) == {-1, 0, 3}
    for i in range(8):
        image = netloupe.load_image(folder / "images" / f"{i}.png", size=(16, 20))
        red = (image[0] - image[1] > 0.35).numpy()
        agree = red == (found[i] == 3)
        assert agree.mean() > 0.95
        assert 30 < red.sum() < 100


def test_the_study_reads_masks_and_boxes_and_tells(folder: Path, net: Network) -> None:
    source = netloupe.open_source(folder / "images")
    found = netloupe.perform(ProbeTask(dense=True, layers=("color",)), net, {"data": source, "masks": folder / "masks"})
    assert found.summary()["layers"]["color"]["classes"]["3"] > 0.7
    boxes = folder / "boxes.json"
    boxes.write_text("{" + ", ".join(f'"{i}.png": [{14 + i}, 8, {33 + i}, 19]' for i in range(8)) + "}")
    boxed = netloupe.perform(ProbeTask(dense=True, layers=("color",)), net, {"data": source, "boxes": boxes})
    assert boxed.classes == ("around", "object")
    assert boxed.summary()["layers"]["color"]["classes"]["object"] > 0.7
    picture = boxed.pictures()["probe"]
    assert picture.shape[1] >= 900
    with pytest.raises(InputError, match=r"a probe needs what is where \(accepted: --boxes or --masks, one of them\)"):
        netloupe.perform(ProbeTask(dense=True), net, {"data": source})


def test_unusable_probes(folder: Path, net: Network) -> None:
    images, masks = scene(8)
    with pytest.raises(InputError, match=r"study probe without dense"):
        netloupe.perform(ProbeTask(), net, {"data": netloupe.open_source(folder / "images"), "masks": folder / "masks"})
    with pytest.raises(InputError, match=r"layer 'mean' has the shape \(3,\) \(accepted: maps over the image\)"):
        netloupe.dense_probe(net, images, masks, ["mean"])
    with pytest.raises(UnknownName, match="no layer 'colour'; did you mean 'color'"):
        netloupe.dense_probe(net, images, masks, ["colour"])
    with pytest.raises(InputError, match=r"masks \(8, 16, 19\) for images"):
        netloupe.dense_probe(net, images, masks[:, :, 1:])
    with pytest.raises(InputError, match="the masks hold class 0 alone"):
        netloupe.dense_probe(net, images, np.zeros((8, 16, 20), np.int16))
    with pytest.raises(InputError, match="3 images have a mask"):
        netloupe.dense_probe(net, images[:3], masks[:3])
    source = netloupe.open_source(folder / "images")
    with pytest.raises(InputError, match="no mask for any of the 8 images, such as 0.png"):
        read_masks(folder / "images" / "none", source, (16, 20))
    Image.new("RGB", (60, 32)).save(folder / "masks" / "0.png")
    with pytest.raises(InputError, match=r"0.png: a mask of mode RGB \(accepted: gray or palette"):
        read_masks(folder / "masks", source, (16, 20))
    Image.new("L", (6, 32)).save(folder / "masks" / "0.png")
    with pytest.raises(InputError, match=r"a mask of 32x6 px for an image of 32x60 px"):
        read_masks(folder / "masks", source, (16, 20))

"""Clicking points in the atlas, and the study that reads what it wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, chromium, needs_chromium, serving, until, webdriver
from netloupe.atlas.build import build
from netloupe.data.open import open_source
from netloupe.data.sources import pixel_reader
from netloupe.studies.correspondence.measure import correspondence
from netloupe.studies.points import read_points

pytestmark = needs_chromium

SIZE = (
    24,
    32,
)  # of the tiny network's input; the photographs are 48 x 80 px, so 8 px at the left and right are cut off


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs and an atlas of them."""
    found = tmp_path_factory.mktemp("points")
    write_photos(found / "photos", 4, seed=1, size=(48, 80))
    build(tiny_network(), open_source(found / "photos"), found / "atlas")
    return found


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    yield from serving(folder / "atlas")


@pytest.fixture(scope="module")
def browser(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"), folder / "downloads")


def one(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def opened(browser: Any, address: str) -> None:
    browser.get("about:blank")
    browser.get(address + "#/points")
    until(lambda: all_of(browser, "#view[data-view=points] .target img"))
    until(lambda: browser.execute_script("return document.querySelector('.target img').complete"))


def click_at(browser: Any, place: tuple[float, float]) -> None:
    """Click the picture at (y, x) in px of the network's input."""
    target = one(browser, ".target")
    height, width = target.size["height"], target.size["width"]
    offset = round(place[1] / SIZE[1] * width - width / 2), round(place[0] / SIZE[0] * height - height / 2)
    webdriver.ActionChains(browser).move_to_element_with_offset(target, *offset).click().perform()


def choose(browser: Any, image: int) -> None:
    one(browser, f"#points-images [data-image='{image}']").click()
    until(lambda: one(browser, f"#points-images [data-image='{image}']").get_attribute("aria-pressed") == "true")


def rename(browser: Any, part: str, name: str) -> None:
    keys = webdriver.Keys
    field = one(browser, f".part[data-part='{part}'] .part-name")
    field.send_keys(keys.CONTROL, "a", keys.NULL, name, keys.ENTER)


def downloaded(browser: Any, folder: Path) -> Path:
    file = folder / "downloads" / "points.json"
    file.unlink(missing_ok=True)
    one(browser, "#points-save").click()
    until(lambda: file.exists() and file.stat().st_size)
    return file


def test_a_click_is_masked_at_that_very_place(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address)
    clicked = {0: [(6, 8), (6, 24), (16, 12)], 1: [(8, 4), (7, 20), (20, 16)]}
    for image, places in clicked.items():
        choose(browser, image)
        for place in places:
            click_at(browser, place)  # the next part follows by itself
    assert len(all_of(browser, ".target .point")) == 3
    assert one(browser, "#points-images [data-image='1'] .value").text == "3 of 3"
    assert one(browser, "#points-count").text == "2 images with points."
    file = downloaded(browser, folder)
    written = json.loads(file.read_text())
    assert written["frame"] == list(SIZE)
    assert list(written["images"]) == ["p00.png", "p01.png"]
    assert list(written["images"]["p00.png"]) == ["left eye", "right eye", "nose"]
    source = open_source(folder / "photos")
    points = read_points(file, source, SIZE)
    assert points.notes == ()
    pixel = SIZE[1] / one(browser, ".target").size["width"]  # of the screen, in px of the input
    for row, places in zip(points.places, clicked.values(), strict=True):
        np.testing.assert_allclose(row, places, atol=pixel + 0.01)
    read = pixel_reader(source, SIZE, 3)
    images = torch.stack([read(i) for i in points.ids])
    parts = {name: points.places[:, i] for i, name in enumerate(points.parts)}
    found = correspondence(tiny_network(), images, parts, ["conv1"], square=4 / 24, draws=1)
    boxes = found.boxes[:3].transpose(1, 0, 2)  # by image and part
    wanted = [[(y - 2, x - 2, y + 2, x + 2) for y, x in places] for places in clicked.values()]
    np.testing.assert_array_equal(boxes, wanted)


def test_the_place_is_the_same_for_a_network_of_another_shape(folder: Path) -> None:
    """(12, 16) of 24 x 32 is the middle of the photograph, and of what any network sees of it."""
    content = {"frame": list(SIZE), "images": {"p00.png": {"nose": [12, 16], "edge": [0, 0]}}}
    file = folder / "middle.json"
    file.write_text(json.dumps(content))
    source = open_source(folder / "photos")  # 48 x 80: the frame is its columns 8 to 72
    assert read_points(file, source, (60, 60)).places[0, 0].tolist() == [30, 30]
    assert read_points(file, source, (48, 80)).places[0].tolist() == [[24, 40], [0, 8]]


def test_drag_undo_rename_remove_and_load(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address)
    choose(browser, 2)
    click_at(browser, (12, 8))
    point = one(browser, ".point[data-part='left eye']")
    width = one(browser, ".target").size["width"]
    webdriver.ActionChains(browser).drag_and_drop_by_offset(point, round(width / 4), 0).perform()  # 8 px of the input
    label = one(browser, ".point[data-part='left eye']").get_attribute("aria-label")
    y, x = (float(number) for number in label.removeprefix("left eye at ").split(", "))
    np.testing.assert_allclose((y, x), (12, 16), atol=0.2)
    one(browser, "#points-undo").click()
    assert one(browser, ".part[data-part='left eye'] .place").text.endswith(("x 7.9", "x 8.0", "x 8.1"))
    one(browser, "#points-undo").click()
    assert not all_of(browser, ".point")
    rename(browser, "nose", "left eye")
    until(lambda: "already" in one(browser, "#points-problem").text)
    rename(browser, "nose", "muzzle")
    until(lambda: all_of(browser, ".part[data-part='muzzle']"))
    one(browser, "[aria-label='Remove right eye']").click()
    one(browser, "#points-add").click()
    assert [row.get_attribute("data-part") for row in all_of(browser, ".part")] == ["left eye", "muzzle", "part 3"]
    file = folder / "given.json"
    file.write_text(
        json.dumps({"frame": [48, 64], "images": {"p02.png": {"ear": [10, 20]}, "gone.png": {"ear": [2, 2]}}})
    )
    one(browser, "#points-load").send_keys(str(file))
    until(lambda: all_of(browser, ".part[data-part='ear']"))
    assert one(browser, ".part[data-part='ear'] .place").text == "y 5.0, x 10.0"
    written = json.loads(downloaded(browser, folder).read_text())
    assert written["images"] == {"p02.png": {"ear": [5, 10]}, "gone.png": {"ear": [1, 1]}}
    file.write_text(json.dumps({"p02.png": {"ear": [10, 20]}}))
    one(browser, "#points-load").send_keys(str(file))
    until(lambda: "no “frame”" in one(browser, "#points-problem").text)
    file.write_text(json.dumps({"frame": [24, 32], "images": {"p02.png": {"ear": [10, 33]}}}))
    one(browser, "#points-load").send_keys(str(file))
    until(lambda: "outside of its frame, on “p02.png”" in one(browser, "#points-problem").text)
    assert one(browser, ".part[data-part='ear'] .place").text == "y 5.0, x 10.0"
    log = [
        entry
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]
    assert log == []

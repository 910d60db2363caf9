"""The map of an atlas in a real browser."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atlas_helpers import thumbnails, tiny_network, write_photos
from browser_helpers import (
    all_of,
    chromium,
    map_opened,
    needs_chromium,
    no_complaints,
    press,
    run,
    serving,
    until,
    webdriver,
)
from netloupe.atlas.build import build
from netloupe.atlas.store import Store
from netloupe.data.open import open_source

pytestmark = needs_chromium

COUNT = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty labeled photographs and their atlas, with the layer of features in it."""
    folder = tmp_path_factory.mktemp("map")
    for i, name in enumerate(("cats", "dogs", "owls & eels")):
        write_photos(folder / "photos" / name, COUNT // 4 + 10 * (i == 0), seed=i)
    net = tiny_network()
    build(
        net,
        open_source(folder / "photos"),
        folder / "atlas",
        layers=[net.layers.features().name, "conv1"],
        project=None,
    )
    build(net, open_source(folder / "photos"), folder / "none", layers=["conv1"], project=None, map_by=None)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    yield from serving(folder / "atlas")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def opened(browser: Any, address: str, query: str = "") -> None:
    map_opened(browser, address, f"map{query}")


def places(folder: Path) -> dict[int, tuple[float, float]]:
    """Where the store says each image lies, as x and y in [0, 65535], by id; apart from how the page is told."""
    (row,) = (r for r in Store.open(folder / "atlas").rows("embeddings") if r["space"] == "features")
    xs, ys = np.array(row["x"]), np.array(row["y"])
    extent = max(np.ptp(xs), np.ptp(ys))
    x = 65535 * (0.5 + (xs - (xs.max() + xs.min()) / 2) / extent)
    y = 65535 * (0.5 + (ys - (ys.max() + ys.min()) / 2) / extent)
    return {i: (float(a), float(b)) for i, a, b in zip(row["ids"], x, y, strict=True)}


def fitted(width: float, height: float, folder: Path) -> float:
    """Px of the page for one step of the coordinates: what is left of the shorter side beside one thumbnail."""
    xs, ys = np.array(list(places(folder).values())).T
    room = 0.95 * min(width, height)
    covering = float(np.sqrt(np.ptp(xs) * np.ptp(ys) / COUNT)) * room / 65535
    return (room - min(96, covering, 0.25 * min(width, height))) / 65535


def within(polygon: list[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point is inside, by the angle that the corners turn around it."""
    turned = 0.0
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        step = np.arctan2(by - y, bx - x) - np.arctan2(ay - y, ax - x)
        turned += (step + np.pi) % (2 * np.pi) - np.pi
    return bool(abs(turned) > np.pi)


def canvas_pixels(browser: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(all_of(browser, "#map")[0].screenshot_as_png)).convert("RGB")).astype(int)


def test_it_shows_every_image_as_a_thumbnail_where_it_lies(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address)
    assert run(browser, "[netloupe.map.count, netloupe.map.visible, netloupe.map.thumbnails]") == [COUNT, COUNT, True]
    assert 0 < run(browser, "netloupe.map.times.first") <= run(browser, "netloupe.map.times.sharp")
    found = places(folder)
    width, height = run(
        browser, "[document.getElementById('map').clientWidth, document.getElementById('map').clientHeight]"
    )
    scale = fitted(width, height, folder)
    for i, (x, y) in found.items():
        expected = [width / 2 + scale * (x - 32767.5), height / 2 + scale * (y - 32767.5)]
        assert run(browser, f"netloupe.map.where({i})") == pytest.approx(expected, abs=1)
    # an image that no other covers shows its own pixels
    thumbs = thumbnails(folder / "photos")
    alone = max(found, key=lambda i: min(np.hypot(*np.subtract(found[i], found[j])) for j in found if j != i))
    left, top = (round(v) for v in run(browser, f"netloupe.map.where({alone})"))
    middle = thumbs[alone][14:18, 14:18].mean((0, 1))

    def shown() -> bool:  # the browser may take a moment to put the frame on the screen
        pixels = canvas_pixels(browser)
        return bool(np.abs(pixels[top - 1 : top + 2, left - 1 : left + 2].mean((0, 1)) - middle).max() < 25)

    until(shown)
    pixels = canvas_pixels(browser)
    ground = np.array(run(browser, "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"))
    assert (pixels[3, 3] == ground).all()
    no_complaints(browser)


def test_drag_wheel_and_keys_move_the_view(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address)
    canvas = all_of(browser, "#map")[0]
    before = run(browser, "netloupe.map.view")
    assert before == {"x": 32767.5, "y": 32767.5, "zoom": 1}
    actions = webdriver.ActionChains(browser)
    actions.move_to_element(canvas).click_and_hold().move_by_offset(60, 0).move_by_offset(40, 50).release().perform()
    dragged = run(browser, "netloupe.map.view")
    scale = fitted(canvas.size["width"], canvas.size["height"], folder)
    assert (before["x"] - dragged["x"]) * scale == pytest.approx(100, abs=2)
    assert (before["y"] - dragged["y"]) * scale == pytest.approx(50, abs=2)
    # the wheel zooms, and what lies under the pointer stays there
    spot = run(browser, "netloupe.map.where(3)")
    wheel = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(
        canvas, round(spot[0] - canvas.size["width"] / 2), round(spot[1] - canvas.size["height"] / 2)
    )
    webdriver.ActionChains(browser).scroll_from_origin(wheel, 0, -400).perform()
    until(lambda: run(browser, "netloupe.map.view.zoom") > 1.5)
    assert run(browser, "netloupe.map.where(3)") == pytest.approx(spot, abs=2)
    until(
        lambda: (
            f",{run(browser, 'Number(netloupe.map.view.zoom.toPrecision(4))')}"
            in browser.current_url.replace("%2C", ",")
        )
    )
    at = run(browser, "netloupe.map.view")
    opened(browser, address, "?" + browser.current_url.partition("?")[2])
    assert run(browser, "netloupe.map.view") == pytest.approx(at, rel=1e-3)
    canvas = all_of(browser, "#map")[0]
    run(browser, "arguments[0].focus()", canvas)
    canvas.send_keys("0")
    assert run(browser, "netloupe.map.view") == before
    canvas.send_keys("+")
    assert run(browser, "netloupe.map.view.zoom") == 1.5
    canvas.send_keys("\ue014")  # right arrow
    assert run(browser, "netloupe.map.view.x") > before["x"]
    assert browser.current_url.split("?")[0].endswith("#/map")
    press(browser, "#zoom-all")
    webdriver.ActionChains(browser).move_to_element(canvas).double_click().perform()
    until(lambda: run(browser, "netloupe.map.view.zoom") == 2)
    no_complaints(browser)


def test_a_class_is_found_by_name(browser: Any, address: str, folder: Path) -> None:
    source = open_source(folder / "photos")
    opened(browser, address)
    field = all_of(browser, "#map-find")[0]
    field.send_keys("OWL")
    owls = sorted(i for i in range(COUNT) if source.label(i) == 2)
    until(lambda: sorted(run(browser, "netloupe.map.highlighted()")) == owls)
    assert len(owls) == 10
    assert "10 images of owls & eels" in all_of(browser, "#found")[0].text
    assert "find=OWL" in browser.current_url
    press(browser, "#select-found")
    until(lambda: sorted(run(browser, "netloupe.map.selected()")) == owls)
    until(lambda: "owls & eels" in all_of(browser, "#group-labels")[0].text)
    # the group is in the address
    until(lambda: "group=found" in browser.current_url)
    opened(browser, address, "?" + browser.current_url.partition("?")[2])
    until(lambda: sorted(run(browser, "netloupe.map.selected()")) == owls)
    press(browser, "#clear")
    until(lambda: "group=found" not in browser.current_url)
    field = all_of(browser, "#map-find")[0]
    field.clear()
    field.send_keys("dgos")
    until(lambda: "No class has “dgos” in its name" in all_of(browser, "#found")[0].text)
    assert run(browser, "netloupe.map.highlighted()") == []
    press(browser, "#near")
    until(lambda: len(run(browser, "netloupe.map.highlighted()")) == 10)
    assert run(browser, "document.getElementById('map-find').value") == "dogs"
    no_complaints(browser)


def test_a_map_that_was_left_is_let_go_of(browser: Any, address: str) -> None:
    opened(browser, address)
    run(browser, "void (window.gone = new WeakRef(document.getElementById('map')))")
    press(browser, "#sections a[data-section=images]")
    until(lambda: all_of(browser, "#view[data-view=images] #images"))

    def collected() -> bool:
        browser.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return bool(run(browser, "window.gone.deref() === undefined && window.netloupe?.map === undefined"))

    until(collected)
    no_complaints(browser)


def test_a_lasso_takes_what_lies_inside_and_tells_what_it_shares(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address)
    canvas = all_of(browser, "#map")[0]
    width, height = canvas.size["width"], canvas.size["height"]
    size = min(width, height)
    corners = [(0.47, 0.1), (0.15, 0.35), (0.4, 0.55), (0.2, 0.85), (0.75, 0.7)]  # not convex
    path = [(round(width / 2 + (x - 0.5) * size), round(height / 2 + (y - 0.5) * size)) for x, y in corners]
    press(browser, "#lasso")
    actions = webdriver.ActionChains(browser)
    actions.move_to_element_with_offset(canvas, path[0][0] - width // 2, path[0][1] - height // 2).click_and_hold()
    for x, y in path[1:]:
        actions.move_to_element_with_offset(canvas, x - width // 2, y - height // 2)
    actions.release().perform()
    selected = until(lambda: run(browser, "netloupe.map.selected()"))
    scale = fitted(width, height, folder)
    laid = {
        i: (width / 2 + scale * (x - 32767.5), height / 2 + scale * (y - 32767.5))
        for i, (x, y) in places(folder).items()
    }
    inside = sorted(i for i, (x, y) in laid.items() if within([(float(x), float(y)) for x, y in path], x, y))
    near = [i for i in laid if i not in inside]
    assert sorted(selected) == inside
    assert 3 < len(inside) < COUNT - 3
    assert near
    assert f"{len(inside)} images" in until(lambda: all_of(browser, "#group-title"))[0].text
    assert run(browser, "netloupe.map.view.zoom") == 1  # the drag drew and did not move

    found = browser.execute_async_script("const done = arguments[0]; netloupe.map.group().then(done)")
    store, source = Store.open(folder / "atlas"), open_source(folder / "photos")
    thumbs = {i: thumb.ravel() for i, thumb in thumbnails(folder / "photos").items()}
    values = found["mean"]["values"]
    mean = np.array([values[str(i)] for i in range(len(values))] if isinstance(values, dict) else values)
    expected = np.mean([thumbs[i] for i in inside], axis=0)
    assert np.abs(mean - expected).mean() < 2
    assert np.abs(expected - np.mean(list(thumbs.values()), axis=0)).mean() > 4  # it is not the mean of all

    features = {r["id"]: np.array(r["vector"], np.float64) for r in store.rows("features")}
    everything = np.stack(list(features.values()))
    above = (np.mean([features[i] for i in inside], axis=0) - everything.mean(0)) / everything.std(0)
    told = {c["channel"]: c["above"] for c in found["channels"]}
    assert [told[c] for c in range(len(above))] == pytest.approx(above.tolist(), abs=0.02)
    assert [c["above"] for c in found["channels"]] == sorted(told.values(), reverse=True)
    assert all_of(browser, f".group-tiles a[data-channel='{found['channels'][0]['channel']}']")

    labels = [source.label(i) for i in inside]
    for row in found["labels"]:
        assert row["members"] == labels.count(row["index"])
        everywhere = sum(source.label(i) == row["index"] for i in range(COUNT))
        assert row["lift"] == pytest.approx(labels.count(row["index"]) / len(inside) / (everywhere / COUNT))
    assert sum(row["members"] for row in found["labels"]) == len(inside)

    assert "lasso=" in browser.current_url
    opened(browser, address, "?" + browser.current_url.partition("?")[2])
    until(lambda: sorted(run(browser, "netloupe.map.selected()")) == inside)
    press(browser, "#clear")
    assert run(browser, "netloupe.map.selected()") == []
    assert "lasso=" not in browser.current_url
    no_complaints(browser)


def test_shift_and_drag_draw_without_the_button(browser: Any, address: str) -> None:
    opened(browser, address)
    canvas = all_of(browser, "#map")[0]
    reach = min(canvas.size["width"], canvas.size["height"]) // 2 - 4
    actions = webdriver.ActionChains(browser).key_down("\ue008")
    actions.move_to_element_with_offset(canvas, -reach, -reach).click_and_hold()
    for x, y in ((reach, -reach), (reach, reach), (-reach, reach)):
        actions.move_to_element_with_offset(canvas, x, y)
    actions.release().key_up("\ue008").perform()
    until(lambda: len(run(browser, "netloupe.map.selected()")) == COUNT)
    until(lambda: all_of(browser, "#group-labels"))
    assert "1.0×" in all_of(browser, "#group-labels")[0].text
    no_complaints(browser)


def test_colors_have_a_legend_and_those_that_can_not_be_say_why(browser: Any, address: str) -> None:
    opened(browser, address, "?color=label&show=dots")
    assert [item.text for item in all_of(browser, "#map-legend li")] == ["cats", "dogs", "owls & eels"]
    second = "getComputedStyle(document.querySelectorAll('#map-legend .swatch')[1])"
    swatch = f"{second}.backgroundColor.match(/\\d+/g).map(Number)"
    color = np.array(run(browser, swatch))
    assert (np.abs(canvas_pixels(browser) - color).max(2) < 6).sum() > 200
    assert run(browser, "netloupe.map.thumbnails") is False
    error = all_of(browser, "#map-color option[value=error]")[0]
    assert not error.is_enabled()
    assert "not the network’s classes" in error.text
    press(browser, "#map-legend li button", 2)
    until(lambda: len(run(browser, "netloupe.map.highlighted()")) == 10)
    no_complaints(browser)


def test_hovering_shows_an_image_and_a_click_opens_it(browser: Any, address: str) -> None:
    opened(browser, address)
    canvas = all_of(browser, "#map")[0]
    place = run(browser, "netloupe.map.where(7)")
    left, top = (round(v - s / 2) for v, s in zip(place, (canvas.size["width"], canvas.size["height"]), strict=True))
    webdriver.ActionChains(browser).move_to_element_with_offset(canvas, left, top).perform()
    card = until(lambda: all_of(browser, "#map-card:not([hidden])"))[0]
    link = card.find_element("css selector", "a").get_attribute("href")
    webdriver.ActionChains(browser).click().perform()
    until(lambda: browser.current_url == link)
    until(lambda: all_of(browser, "#predictions"))
    browser.back()
    until(lambda: all_of(browser, "#map"))
    no_complaints(browser)


def test_the_page_counts_its_frames(browser: Any, address: str) -> None:
    opened(browser, address)
    found = browser.execute_async_script("const done = arguments[0]; netloupe.map.pan(0.5).then(done)")
    assert found["frames"] > 3
    assert found["rate"] == pytest.approx(found["frames"] / found["seconds"])
    assert run(browser, "netloupe.map.view") == {"x": 32767.5, "y": 32767.5, "zoom": 1}


def test_it_fits_a_phone_and_both_themes(browser: Any, address: str) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, address, "?lasso=0.0.65535.0.65535.65535.0.65535")
        until(lambda: all_of(browser, ".group-tiles"))
        assert run(browser, "document.documentElement.scrollWidth") <= 360
        assert run(browser, "document.getElementById('map').clientHeight") > 300
        ground = canvas_pixels(browser)[4, 4]
        assert (canvas_pixels(browser)[:, [0, -1]] == ground).all()  # no thumbnail is cut off at a side
        light = canvas_pixels(browser)[4, 4]
        press(browser, "#theme")
        until(lambda: np.abs(canvas_pixels(browser)[4, 4] - light).max() > 60)
        press(browser, "#theme")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    no_complaints(browser)


def test_one_image_alone_is_large_enough_to_see(browser: Any, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    net = tiny_network()
    build(net, open_source(tmp_path / "photos"), tmp_path / "atlas", layers=[net.layers.features().name], project=None)
    for address in serving(tmp_path / "atlas"):
        opened(browser, address)
        assert run(browser, "[netloupe.map.visible, netloupe.map.thumbnails]") == [1, True]
        pixels = canvas_pixels(browser)
        assert (pixels != pixels[0, 0]).any(2).sum() > 2000
        no_complaints(browser)


def test_an_atlas_without_a_map_says_so(browser: Any, folder: Path) -> None:
    for address in serving(folder / "none"):
        browser.get(f"{address}#/map")
        assert "has no map" in until(lambda: all_of(browser, "#no-map"))[0].text
        assert all_of(browser, "#sections a[data-section=map][aria-current]")
        no_complaints(browser)


GROUPS = """
const [x, y, classes, names, done] = arguments;
const here = document.querySelector("script[type=module]").src.replace("main.js", "mapnames.js");
const space = { x: Uint16Array.from(x), y: Uint16Array.from(y) };
import(here).then(({ groupsOf }) => done(groupsOf(space, Uint16Array.from(classes), names, true)));
"""


def test_groups_are_named_by_the_classes_that_are_more_frequent_there(browser: Any, address: str) -> None:
    opened(browser, address)
    rng = np.random.default_rng(0)
    middles = np.array([[12000, 12000], [50000, 14000], [12000, 52000], [52000, 54000]])
    points = np.concatenate([rng.normal(middle, 2500, (100, 2)) for middle in middles]).clip(0, 65535).astype(int)
    classes = np.concatenate([np.repeat([0, 1], 50), np.repeat([2, 9], [80, 20]), rng.integers(3, 9, 200)])
    names = [f"class {i}" for i in range(10)]
    found = browser.execute_async_script(GROUPS, points[:, 0].tolist(), points[:, 1].tolist(), classes.tolist(), names)
    by_middle = {tuple(middles[np.abs(middles - [one["x"], one["y"]]).sum(1).argmin()]): one for one in found}
    assert by_middle[12000, 12000]["text"] in ("class 0, class 1", "class 1, class 0")
    assert by_middle[50000, 14000]["text"].startswith("class 2")
    places = set(by_middle[50000, 14000]["places"])  # without one that lies at the foot of another hill
    assert len(places) >= 98
    assert places <= set(range(100, 200))
    assert f"{len(places & set(range(100, 180)))} are class 2, " in by_middle[50000, 14000]["title"]
    unnamed = browser.execute_async_script(
        GROUPS, points[:, 0].tolist(), points[:, 1].tolist(), rng.integers(0, 10, 400).tolist(), names
    )
    assert unnamed == [], "classes that are as frequent everywhere name nothing"

"""The map of units in a real browser: where they lie, what they are, and what a click opens."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atlas_helpers import tiny_network, write_photos
from browser_helpers import (
    all_of,
    choose,
    chromium,
    map_opened,
    needs_chromium,
    no_complaints,
    press,
    run,
    serving,
    until,
    violations,
    webdriver,
)
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.data.open import open_source

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty labeled photographs and their atlas; one channel of conv1 is dead."""
    folder = tmp_path_factory.mktemp("units")
    for i, name in enumerate(("cats", "dogs", "owls & eels")):
        write_photos(folder / "photos" / name, 10 + 10 * (i == 0), seed=i)
    source = open_source(folder / "photos")
    build(tiny_network(), source, folder / "atlas", layers=["conv1", "conv2", "fc"], project=None)
    build(tiny_network(), source, folder / "bare", layers=["conv2"], project=None, map_by="pca", images="none")
    export(folder / "atlas", folder / "site")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    yield from serving(folder / "atlas")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def opened(browser: Any, address: str, path: str = "map/conv2") -> None:
    map_opened(browser, address, path)


def units(folder: Path, layer: int) -> dict[int, tuple[int, int]]:
    """Where the store says each unit lies, by channel; apart from how the page is told."""
    (row,) = Store.open(folder / "atlas").rows("unit_maps", f"layer = {layer}")
    return {c: (x, y) for c, x, y in zip(row["channels"], row["x"], row["y"], strict=True)}


def on_canvas(browser: Any, channel: int) -> tuple[float, float]:
    """The offset of a unit from the middle of the canvas, as the driver moves the pointer."""
    left, top = run(browser, "window.netloupe.map.where(arguments[0])", channel)
    canvas = browser.find_element("id", "map")
    return left - canvas.size["width"] / 2, top - canvas.size["height"] / 2


def point_at(browser: Any, channel: int) -> Any:
    """Moves the pointer over a unit, and gives the chain, with which it can be clicked."""
    left, top = on_canvas(browser, channel)
    chain = webdriver.ActionChains(browser)
    return chain.move_to_element_with_offset(browser.find_element("id", "map"), round(left), round(top))


def outermost(places: dict[int, tuple[int, int]]) -> int:
    """A unit that others do not lie over: the one farthest from its nearest."""

    def alone(channel: int) -> float:
        own = np.array(places[channel])
        return min(float(np.abs(own - np.array(other)).max()) for c, other in places.items() if c != channel)

    return max(places, key=alone)


def test_units_lie_where_the_store_says_and_open_their_pages(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address, "map/conv2?show=dots")
    places = units(folder, 1)
    assert run(browser, "window.netloupe.map.count") == len(places) == 70
    where = {c: run(browser, "window.netloupe.map.where(arguments[0])", c) for c in places}
    first, last = min(places), max(places)
    scale = np.subtract(where[last], where[first]) / np.subtract(places[last], places[first])
    for c in places:
        offset = scale * np.subtract(places[c], places[first])
        assert where[c] == pytest.approx(np.add(where[first], offset).tolist(), abs=0.01)
    channel = outermost(places)
    point_at(browser, channel).perform()
    until(lambda: all_of(browser, f"#map-card .tile[data-channel='{channel}'] .cut.there"))
    point_at(browser, channel).click().perform()
    until(lambda: browser.current_url.endswith(f"#/unit/conv2:{channel}"))
    press(browser, "#to-map")
    until(lambda: run(browser, "window.netloupe?.map?.highlighted()") == [channel])
    assert "stands out" in browser.find_element("id", "found").text
    no_complaints(browser)


def hidden_by_others(places: list[Any], side: float) -> list[float]:
    """Of squares around these places, in the order in which they are painted, the share that those after each hide."""
    found = []
    steps = (np.arange(20) + 0.5) / 20 - 0.5
    for i, own in enumerate(places):
        points = np.stack(np.meshgrid(*(steps * side + middle for middle in own)), -1)
        over = [np.abs(points - other).max(-1) < side / 2 for other in places[i + 1 :]]
        found.append(float(np.any(over, 0).mean()) if over else 0.0)
    return found


def test_thumbnails_do_not_hide_each_other_and_stay_where_they_belong(browser: Any, address: str, folder: Path) -> None:
    """On a wide screen and on a phone's."""
    channels = list(units(folder, 1))
    where = "arguments[0].map(window.netloupe.map.where)"
    for width in (1280, 390):
        browser.set_window_size(width, 1000)
        opened(browser, address)
        moved, side = run(browser, where, channels), run(browser, "window.netloupe.map.side")
        assert max(hidden_by_others(moved, side)) < 0.25
        opened(browser, address, "map/conv2?show=dots")
        exact = run(browser, where, channels)
        assert max(hidden_by_others(exact, side)) > 0.5, "where they belong some would be hidden"
        assert 0 < np.abs(np.subtract(moved, exact)).max() <= side + 0.01
    browser.set_window_size(1280, 1000)


def test_a_thumbnail_is_the_best_patch(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address, "map/conv1")
    pages = Pages(Store.open(folder / "atlas"))
    found = pages.resource("tiles/conv1/0.webp")
    assert found is not None
    tiles = np.asarray(Image.open(io.BytesIO(found[0])).convert("RGB")).astype(float)
    (row,) = Store.open(folder / "atlas").rows("unit_maps", "layer = 0")
    assert run(browser, "window.netloupe.map.thumbnails")
    means = []
    for place, channel in enumerate(row["channels"]):  # tiles are in the same order, and 120 px apart
        pixels = run(browser, "window.netloupe.map.thumbnail(arguments[0])", channel)
        rgb = [np.mean([pixel >> 8 * i & 255 for pixel in pixels]) for i in range(3)]
        assert rgb == pytest.approx(tiles[:39, 120 * place : 120 * place + 39].mean((0, 1)).tolist(), abs=6)
        means.append(rgb)
    assert np.ptp(means, axis=0).max() > 30


def test_dead_channels_are_left_out_and_told(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address, "map/conv1")
    assert set(units(folder, 0)) == {0, 1, 3, 4, 5}
    assert "5 of 6, 1 dead channel left out" in browser.find_element("id", "map-note").text


def test_the_layer_is_chosen_and_the_kind_of_map(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address, "map")
    press(browser, "#map-kinds a", 1)
    until(lambda: browser.current_url.endswith("#/map/conv2"))  # the last with positions
    choose(browser, "#map-layer", "fc")
    until(lambda: browser.current_url.endswith("#/map/fc"))
    until(lambda: run(browser, "window.netloupe?.map?.count") == len(units(folder, 2)))
    press(browser, "#map-kinds a", 0)
    until(lambda: run(browser, "window.netloupe?.map?.count") == 40)
    browser.get(f"{address}#/layer/conv1")
    press(browser, "#to-map")
    until(lambda: browser.current_url.endswith("#/map/conv1"))
    browser.get(f"{address}#/map/conv9")
    until(lambda: "There is no layer “conv9”" in browser.find_element("id", "problem").text)
    no_complaints(browser)


def test_color_and_search_go_by_the_preferred_class(browser: Any, address: str, folder: Path) -> None:
    opened(browser, address, "map/conv2?color=class&find=owls")
    rows = Store.open(folder / "atlas").rows("units", "layer = 1", ["channel", "classes", "dead"])
    prefers = {row["channel"]: row["classes"][0] for row in rows}
    owls = sorted(c for c, index in prefers.items() if index == 2)
    assert 0 < len(owls) < len(prefers)
    assert sorted(run(browser, "window.netloupe.map.highlighted()")) == owls
    colors: dict[int, set[int]] = {}
    for channel, index in prefers.items():
        colors.setdefault(index, set()).add(run(browser, "window.netloupe.map.color(arguments[0])", channel))
    assert all(len(found) == 1 for found in colors.values())
    assert len({next(iter(found)) for found in colors.values()}) == len(colors) > 1
    assert len(all_of(browser, "#map-legend li")) == len(colors)
    search = browser.find_element("id", "map-find")
    search.clear()
    search.send_keys("catz")
    until(lambda: all_of(browser, "#near"))
    press(browser, "#near")
    until(lambda: sorted(run(browser, "window.netloupe.map.highlighted()")) == [c for c in prefers if prefers[c] == 0])
    assert "find=cats" in browser.current_url


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_page_in_light_and_dark(browser: Any, address: str, width: int) -> None:
    browser.set_window_size(width, 1000)
    for theme in ("light", "dark"):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        opened(browser, address)
        assert violations(browser) == []
        assert run(browser, "document.documentElement.scrollWidth <= innerWidth")
        assert run(browser, "document.getElementById('map').clientHeight") > 300
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.set_window_size(1280, 1000)


def test_without_pictures_units_are_dots(browser: Any, folder: Path) -> None:
    for address in serving(folder / "bare"):
        opened(browser, address)
        assert not run(browser, "window.netloupe.map.thumbnails")
        browser.find_element("css selector", "#map-about summary").click()
        assert "PCA" in browser.find_element("id", "map-about").text
        no_complaints(browser)


def test_the_export_has_it(browser: Any, folder: Path) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened(browser, f"http://127.0.0.1:{server.server_address[1]}/", "map/conv1")
        assert run(browser, "window.netloupe.map.thumbnails")
        assert run(browser, "window.netloupe.map.count") == 5
        no_complaints(browser)
        server.shutdown()

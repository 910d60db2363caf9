"""Pages of atlases that keep pictures of some images or of none, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_helpers import tiny_network, write_photos
from browser_helpers import CHROMIUM, chromium, needs_chromium, serving, until
from netloupe.atlas.build import build
from netloupe.atlas.store import Store
from netloupe.data.open import open_source

pytestmark = needs_chromium
NONE = "This atlas keeps no pictures of images: it was built with --images none."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that keeps pictures of what it shows and one without any, of thirty photographs."""
    folder = tmp_path_factory.mktemp("kept")
    source = open_source(write_photos(folder / "photos", 30))
    for kind in ("shown", "none"):
        how: Any = {"layers": ["conv1", "fc"], "k": 1, "map_by": "pca"}
        build(tiny_network(), source, folder / kind, images=kind, **how)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    assert CHROMIUM is not None
    yield from chromium(tmp_path_factory.mktemp("profile"))


def read(browser: Any, address: str, route: str, selector: str) -> str:
    """The text of an element of a page, which has come up without a fault."""
    browser.get("about:blank")
    browser.get(f"{address}{route}")
    found = until(lambda: browser.execute_script("return document.querySelector(arguments[0])?.textContent", selector))
    log = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert log == [], (route, log)
    return str(found)


def test_without_pictures_every_page_says_so_and_asks_for_none(browser: Any, folder: Path) -> None:
    for address in serving(folder / "none"):
        for route in ("#/layer/conv1", "#/unit/conv1:0", "#/image/3", "#/images", "#/points", "#/map"):
            assert read(browser, address, route, "#unkept") == NONE, route
            asked = browser.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
            assert [one for one in asked if one.split("?")[0].endswith((".webp", ".jpg"))] == [], route
        assert NONE in read(browser, address, "#/", ".facts")
        assert read(browser, address, "#/unit/conv1:0", "#patches .value")  # the numbers are there
        read(browser, address, "#/map", "#map-bar")
        until(lambda: browser.execute_script("return window.netloupe?.map?.times.sharp"))
        assert browser.execute_script("return [netloupe.map.visible, netloupe.map.thumbnails]") == [30, False]


def test_an_image_of_which_a_thumbnail_is_kept_says_so(browser: Any, folder: Path) -> None:
    kept = {row["id"] for row in Store.open(folder / "shown").rows("pictures", columns=["id"])}
    some, other = min(kept), min(set(range(30)) - kept)
    for address in serving(folder / "shown"):
        assert f"keeps pictures of {len(kept)} of the 30 images" in read(browser, address, "#/images", "#unkept")
        assert "only a small thumbnail is kept" in read(browser, address, f"#/image/{other}", "#unkept")
        assert browser.execute_script("return document.querySelector('#maps')") is None
        until(lambda: browser.execute_script("return document.querySelector('.photo img').naturalWidth") == 32)
        assert read(browser, address, f"#/image/{some}", "#maps")
        assert browser.execute_script("return document.querySelector('#unkept')") is None

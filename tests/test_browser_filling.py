"""An atlas that fills itself while one looks at it, in a real browser."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, chromium, needs_chromium, no_complaints, serving_app, until, violations
from netloupe.atlas import build as building
from netloupe.atlas import filling as showing
from netloupe.atlas.filling import Filling, shown_in
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.data.open import open_source
from netloupe.sweep import blocks

pytestmark = needs_chromium


class Held(Filling):
    """Its build stops before the first image, once what it found in four is shown, and before each later step."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.sweep, self.steps = threading.Event(), threading.Event(), threading.Semaphore(0)

    def show(self, store: Store) -> None:
        super().show(store)
        if store.network["making"]["images"] == 0:
            self.start.wait(120)
        if store.network["making"]["images"] == 4:
            self.sweep.wait(120)

    def wanted(self) -> list[str]:
        self.steps.acquire(timeout=120)
        return super().wanted()


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setattr(blocks, "_BLOCK", {"cpu": 4})
    monkeypatch.setattr(showing, "EARLY", 0.0)
    where, source = Held(), open_source(write_photos(tmp_path / "photos", 12))

    def make() -> None:
        with shown_in(where):
            building.build(tiny_network(), source, tmp_path / "out", map_by="pca")

    thread = threading.Thread(target=make)
    thread.start()
    until(lambda: where.number >= 1)
    yield where
    where.start.set()
    where.sweep.set()
    where.steps.release(1000)
    thread.join()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    yield from chromium(tmp_path / "profile")


def get_json(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as answer:
        return json.load(answer)


def text(browser: Any, selector: str) -> str:
    return " ".join(one.text for one in all_of(browser, selector))


def test_a_page_fills_itself(held: Held, browser: Any) -> None:
    for address in serving_app(application(held)):
        walk(held, browser, address)
    no_complaints(browser)


def walk(held: Held, browser: Any, address: str) -> None:
    for page in ("layer/conv1", "unit/conv1:0", "images", "image/3", "map", "points"):
        browser.get(f"{address}#/{page}")
        until(lambda: "No image has gone through the network yet" in text(browser, "#view .coming"))
    browser.get(f"{address}#/")
    until(lambda: "This atlas begins" in text(browser, "#making"))
    until(lambda: len(all_of(browser, "#layers .layer")) == 5)
    assert not all_of(browser, "#view [role=alert]")
    held.start.set()
    until(lambda: "After 4 of 12 images" in text(browser, "#making"))
    until(lambda: "4 so far, of 12" in text(browser, "#view .facts"))
    until(lambda: len(all_of(browser, "#layers .strip .tile .cut.there")) > 0)  # pictures, and no step is made yet
    assert {"map", "unitmap/conv1"} <= set(get_json(address, "data/network.json")["making"]["missing"])
    for theme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        until(lambda theme=theme: browser.execute_script("return document.documentElement.dataset.theme") == theme)
        assert browser.find_element("id", "making").is_displayed()
        assert violations(browser) == []
    assert "being made" in text(browser, ".door[data-door=map]")
    assert not all_of(browser, "#attention")
    browser.execute_script("window.marker = 1")  # gone if the page were loaded again
    browser.execute_script("location.hash = '#/unit/conv1:0'")
    until(lambda: "projections of these patches are being made" in text(browser, "#view .coming"))
    assert 0 < len(all_of(browser, "#patches .patch")) <= 4
    browser.set_window_size(390, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")

    held.sweep.set()
    until(lambda: "All images are in" in text(browser, "#making"))
    until(lambda: len(all_of(browser, "#patches .patch")) == 9)
    until(lambda: "projections/conv1" in Filling.wanted(held))
    assert not all_of(browser, "#patches.projected")
    held.steps.release()
    until(lambda: len(all_of(browser, "#patches.projected .patch")) == 9)
    assert not all_of(browser, "#view .coming")

    browser.execute_script("location.hash = '#/map'")
    until(lambda: "map is being made" in text(browser, "#view .coming"))
    until(lambda: "map" in Filling.wanted(held))
    held.steps.release(3)
    until(lambda: all_of(browser, "canvas#map"))

    browser.execute_script("location.hash = '#/map/conv2'")
    until(lambda: "map of its units is being made" in text(browser, "#view .coming"))
    until(lambda: "unitmap/conv2" in Filling.wanted(held))
    held.steps.release()
    until(lambda: browser.execute_script("return window.netloupe?.map?.count") == 70)

    browser.execute_script("location.hash = '#/image/3'")
    until(lambda: "nearest images are being made" in text(browser, "#view .coming"))
    held.steps.release(1000)
    until(lambda: all_of(browser, "#neighbors"))
    until(lambda: not all_of(browser, "#making") or not all_of(browser, "#making")[0].is_displayed())
    assert browser.execute_script("return window.marker") == 1
    browser.execute_script("location.hash = '#/layer/conv2'")
    until(lambda: len(all_of(browser, "#tiles .tile")) == 70)

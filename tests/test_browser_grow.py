"""Growing, keeping and bringing back in a real browser: the studio beside an atlas, with a folder to keep in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, choose, chromium, needs_chromium, no_complaints, press, serving_app, until
from netloupe.atlas.build import build
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.data.open import open_source
from netloupe.render.pictures import from_pixels
from netloupe.studio.kept import Kept
from netloupe.studio.live import Live
from netloupe.studio.studio import Studio
from netloupe.synthesis.visualize import visualize
from studio_helpers import picture

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grow")


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    net = tiny_network()
    photos = open_source(write_photos(place / "photos", 6))
    build(net, photos, place / "atlas", map_by=None, project=None)
    studio = Studio(net, kept=Kept(place / "kept", {"model": "tiny"}), source=lambda: photos)
    yield from serving_app(application(Store.open(place / "atlas"), studio=Live(lambda: studio).router))
    studio.desk.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def text(browser: Any, selector: str) -> str:
    found: str = browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return found


def src(browser: Any) -> str:
    found: str = browser.execute_script("return document.querySelector('#grow-picture')?.src ?? ''")
    return found


def grown(browser: Any, address: str, unit: str) -> None:
    browser.get("about:blank")
    browser.get(f"{address}#/unit/{unit}")
    press(browser, "#grow-open")
    until(lambda: text(browser, "#grow-status").startswith("It answers "))


def test_it_climbs_and_one_can_go_back_through_the_climb(browser: Any, address: str) -> None:
    grown(browser, address, "conv2:3")
    last = src(browser)
    made = visualize(tiny_network(), "conv2:3", steps=64, every=2)
    assert np.array_equal(picture(last), from_pixels(made.images[0])), "the library's final image"
    frames = int(browser.execute_script("return document.querySelector('#grow-frame').max")) + 1
    assert frames >= 8
    assert "the best photograph" in text(browser, "#grow-status")
    assert all_of(browser, "#grow .curve.other")
    move = "const s = document.querySelector('#grow-frame'); s.value = 0; s.dispatchEvent(new Event('input'))"
    browser.execute_script(move)
    assert src(browser) != last
    press(browser, "#grow-another")
    until(lambda: "found with seed 1." in text(browser, "#grow-status"))
    assert src(browser) != last
    no_complaints(browser)


def test_what_has_grown_is_kept_and_its_picture_brings_it_back(browser: Any, address: str, place: Path) -> None:
    grown(browser, address, "fc:1")
    press(browser, "#grow .keep")
    press(browser, "#grow .keeping a")
    until(lambda: all_of(browser, "#view[data-view=kept] .kept-main"))
    assert "class:1" in text(browser, ".settings")
    assert "netloupe again" in text(browser, ".command code")
    loaded = "return [...document.querySelectorAll('.kept-one img')].every(i => i.loading === 'lazy' || i.naturalWidth)"
    until(lambda: browser.execute_script(loaded))
    kept = browser.current_url.rpartition("/")[2]
    browser.get(f"{address}#/kept")
    until(lambda: all_of(browser, f"[data-kept='{kept}']"))
    browser.get(f"{address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(place / "kept" / kept / "visualization.png"))
    until(lambda: "Made by netloupe visualize" in text(browser, "#try-made"))
    no_complaints(browser)


def test_facets_grow_beside_their_photographs_and_are_kept(browser: Any, address: str, place: Path) -> None:
    grown(browser, address, "conv2:3")
    choose(browser, "#grow-what", "facets")
    choose(browser, "#grow-count", "2")
    press(browser, "#grow-again")
    until(lambda: "found among the 6 images of photos" in text(browser, "#grow-status"))
    rows = all_of(browser, "#grow-facets .facet")
    assert len(rows) == 2
    for row in rows:
        pictures = row.find_elements("css selector", "img")
        assert len(pictures) >= 4, "the image, what it began with, and two photographs or more"
        assert all(one.get_attribute("src").startswith("data:image/png") for one in pictures)
    assert len({one.get_attribute("src") for one in all_of(browser, ".grow-facet")}) == 2
    press(browser, "#grow .keeping:not([hidden]) .keep")
    press(browser, "#grow .keeping:not([hidden]) a")
    until(lambda: all_of(browser, "#view[data-view=kept] .kept-main"))
    assert "/kept/facets-" in text(browser, ".command code")
    (folder,) = (place / "kept").glob("facets-*")
    browser.get("about:blank")
    browser.get(f"{address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(folder / "facets.png"))
    press(browser, "#try-back")
    until(lambda: "found among the 6 images of photos" in text(browser, "#grow-status"))
    assert len(all_of(browser, "#grow-facets .facet")) == 2
    no_complaints(browser)


def sheet_says(browser: Any, words: str) -> None:
    until(lambda: text(browser, "#sheet-status") == words)


def cells(browser: Any) -> list[str]:
    found: list[str] = browser.execute_script("return [...document.querySelectorAll('#sheet td img')].map(i => i.src)")
    return found


def test_a_sheet_fills_in_and_makes_only_what_changed(browser: Any, address: str) -> None:
    grown(browser, address, "conv2:3")
    press(browser, "#grow .to-sheet")
    choose(browser, "#sheet-across", "seed")
    choose(browser, "#sheet-across-values", "0, 1")
    press(browser, "#sheet-go")
    sheet_says(browser, "2 cells, all made now.")
    first = cells(browser)
    assert len(set(first)) == 2
    assert "score" in text(browser, "#sheet td .caption"), "what differs between the cells is said"
    choose(browser, "#sheet-down", "preset")
    assert len(all_of(browser, "#sheet-down-values input")) == 8, "as many as its schema has choices"
    press(browser, "#sheet-go")
    sheet_says(browser, "4 cells, 2 of them made now.")
    assert cells(browser)[:2] == first
    choose(browser, "#sheet-across-values", "1, 2")
    press(browser, "#sheet-go")
    until(lambda: cells(browser)[0] == first[1])
    sheet_says(browser, "4 cells, 2 of them made now.")
    before = cells(browser)
    browser.refresh()
    sheet_says(browser, "4 cells, 2 of them made now.")
    assert cells(browser) == before, "what was asked for survives a reload"
    press(browser, "#sheet-form .keep")
    press(browser, "#sheet-form .keeping a")
    until(lambda: all_of(browser, "#view[data-view=kept] .kept-main"))
    rows = [row.text.split("\n") for row in all_of(browser, ".settings div")]
    assert [row[-1] for row in rows if row[0] == "seed"] == ["1, 2"]
    press(browser, "#kept-sheet")
    press(browser, "#sheet-go")
    sheet_says(browser, "4 cells, none of them made anew.")
    assert cells(browser) == before
    no_complaints(browser)
    choose(browser, "#sheet-across-values", "1, 1.5")
    press(browser, "#sheet-go")
    until(lambda: text(browser, "#sheet-status").startswith("Seed '1.5'"))
    browser.get_log("browser")  # which tells of the refusal


def test_a_sheet_of_nothing_says_so(browser: Any, address: str) -> None:
    browser.get("about:blank")
    browser.get(address)
    until(lambda: all_of(browser, "#view[data-view=network]"))
    browser.execute_script("sessionStorage.clear()")
    browser.get("about:blank")
    browser.get(f"{address}#/sheet")
    until(lambda: "There is nothing to make one of yet" in text(browser, "#view"))
    no_complaints(browser)


def test_a_pages_picture_makes_its_unit_the_subject(browser: Any, address: str, place: Path) -> None:
    browser.get("about:blank")
    browser.get(f"{address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(place / "photos" / "p00.png"))

    def chosen() -> bool:  # the stage is built anew when the photo comes
        field = all_of(browser, "#about")[0]
        field.clear()
        field.send_keys("conv2:4\ue007")
        return text(browser, "#about-note").startswith("Or again")

    until(lambda: all_of(browser, "#try-predictions .bars li"))
    until(chosen)
    keep = "section[aria-labelledby=try-hide-title]"
    until(lambda: text(browser, "#try-then"))
    press(browser, f"{keep} .keep")
    until(lambda: all_of(browser, f"{keep} .keeping a"))
    (folder,) = (place / "kept").glob("occlude-*")
    picture = next(path for path in sorted(folder.glob("*.png")) if path.name != "photo.png")
    browser.get("about:blank")
    browser.get(f"{address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(picture))
    press(browser, "#try-back")
    until(lambda: all_of(browser, "#about")[0].get_attribute("value") == "conv2:4")
    no_complaints(browser)


def test_a_kept_page_opens_from_a_file_without_a_request(browser: Any, address: str, place: Path) -> None:
    folder = min((place / "kept").glob("visualize-*"))
    page = place / "page.html"
    page.write_text(Kept(place / "kept").page(folder.name))
    browser.get(page.as_uri())
    assert all_of(browser, "img")
    assert browser.execute_script("return [...document.images].every(i => i.naturalWidth > 0)")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    no_complaints(browser)


def test_the_buttons_that_keep_end_where_their_sections_do(browser: Any, address: str, place: Path) -> None:
    browser.get("about:blank")
    browser.get(f"{address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(place / "photos" / "p00.png"))
    until(lambda: all_of(browser, "#try-predictions .bars li"))
    ends = browser.execute_script("""return [...document.querySelectorAll(".try-sections > section")].map((section) => {
        const right = (element) => element.getBoundingClientRect().right;
        const buttons = [...section.querySelectorAll(".keeping button")];
        return buttons.length === 0 ? null : [Math.max(...buttons.map(right)), right(section)];
    }).filter((one) => one !== null)""")
    assert len(ends) > 5
    assert all(abs(button - section) < 1 for button, section in ends), ends


def test_what_it_found_keeps_its_columns(browser: Any, place: Path) -> None:
    """A table in plain text is scrolled on a phone, for what is wrapped is no table; commands are wrapped."""
    page = place / "columns.html"
    page.write_text(Kept(place / "kept").page(min((place / "kept").glob("visualize-*")).name))
    browser.get(page.as_uri())
    found = browser.execute_script(
        "return ['pre', 'pre.command'].map((one) => getComputedStyle(document.querySelector(one)).whiteSpace)"
    )
    assert found == ["pre", "pre-wrap"]


def test_a_class_is_called_by_its_name(browser: Any, address: str) -> None:
    grown(browser, address, "fc:1")
    press(browser, "#grow .keeping:not([hidden]) .keep")
    press(browser, "#grow .keeping:not([hidden]) a")
    until(lambda: all_of(browser, "#view[data-view=kept] .kept-main"))
    rows = [row.text.split("\n") for row in all_of(browser, ".settings div")]
    assert [row[-1] for row in rows if row[0] == "objective"] == ["class:1 (dog)"]
    press(browser, "#kept-sheet")
    until(lambda: all_of(browser, "#sheet-across"))
    assert browser.execute_script("return document.querySelector('#sheet-across-values').value"), "values to begin with"


def test_they_fit_a_phone(browser: Any, address: str, place: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    folder = min((place / "kept").glob("visualize-*"))
    try:
        for view in ("#/kept", f"#/kept/{folder.name}", f"#/sheet/{folder.name}"):
            browser.get("about:blank")
            browser.get(address + view)
            shown = f"#view[data-view={view.split('/')[1]}]:not([aria-busy=true])"
            until(lambda: all_of(browser, shown))  # noqa: B023
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

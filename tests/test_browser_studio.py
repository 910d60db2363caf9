"""The studio in a real browser: a photo comes in, and everything about it follows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, chromium, needs_chromium, no_complaints, press, serving_app, until, webdriver
from netloupe.analysis.methods import METHODS
from netloupe.atlas.build import build
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.core.network import Network
from netloupe.data.images import fit, to_float
from netloupe.data.open import open_source
from netloupe.studio.desk import Job
from netloupe.studio.live import Live
from netloupe.studio.sections import SECTIONS
from netloupe.studio.studio import Studio

pytestmark = needs_chromium


def decided() -> Network:
    """A tiny network that is surer of what it says."""
    net = tiny_network()
    with torch.no_grad():
        net.module.fc.weight *= 60
    return net


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("own"), 2, size=(96, 160)) / "p00.png"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The studio alone."""
    studio = Studio(decided())
    yield from serving_app(application(None, studio=Live(lambda: studio).router))
    studio.desk.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    yield from chromium(tmp_path_factory.mktemp("profile"), flags=flags)


def texts(browser: Any, selector: str) -> list[str]:
    """In one go, since the page replaces what it shows at any time."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
    found: list[str] = browser.execute_script(script, selector)
    return found


def bars(browser: Any) -> list[str]:
    return [row.replace("\n\n", "\n") for row in texts(browser, "#try-predictions .bars li")]


def expected(photo: Path, crop: tuple[int, int, int, int]) -> list[str]:
    """As the page writes what the network takes a crop for: (top, left, bottom, right)."""
    net, (top, left, bottom, right) = decided(), crop
    with Image.open(photo) as image:
        pixels = to_float(fit(image.convert("RGB").crop((left, top, right, bottom)), net.inputs.size, 3))[None]

    def percent(share: float) -> str:
        value = 100 * share
        return f"{value:.{1 if 0 < value < 10 or 99 < value < 100 else 0}f}%"

    return [f"{label}\n{percent(share)}" for label, share in net.predict(pixels)[0]]


WHOLE = (0, 16, 96, 144)  # the largest crop of 96 x 160 px in the proportions of 24 x 32, in the middle


def fresh(browser: Any, address: str) -> None:
    """The page as it is in a tab where it was not before."""
    browser.get(address + "static/icon.svg")
    browser.execute_script("sessionStorage.clear()")
    browser.get(address)


def opened(browser: Any, address: str, photo: Path) -> None:
    fresh(browser, address)
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(photo))
    until(lambda: bars(browser) == expected(photo, WHOLE))


def test_a_file_leads_to_what_predict_gives_and_to_all_sections(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    rows = until(lambda: all_of(browser, "#try-layers .map-row"))
    assert [row.get_attribute("data-layer") for row in rows] == ["conv1", "conv2"]
    until(lambda: "can’t explain this network" in "".join(texts(browser, "#try-pixels-status")), 60)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#try-pixels .method')].map(e => e.dataset.method)"
    )
    assert {"gradient", "grad_cam", "occlusion"} <= set(shown)
    assert shown == [name for name in METHODS if name in shown]
    until(lambda: texts(browser, "#try-then .bars li"), 60)
    assert texts(browser, "#try-hide-status") == [""]
    no_complaints(browser)


def test_the_crop_moves_by_pointer_and_keys_and_predictions_follow(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    box = all_of(browser, ".crop-box")[0]
    unit = 160 / all_of(browser, ".cropper > img")[0].size["width"]
    webdriver.ActionChains(browser).drag_and_drop_by_offset(box, -round(16 / unit) - 40, 0).perform()
    until(lambda: bars(browser) == expected(photo, (0, 0, 96, 128)))
    assert expected(photo, (0, 0, 96, 128)) != expected(photo, WHOLE)
    webdriver.ActionChains(browser).send_keys("-").perform()
    until(lambda: bars(browser) not in ([], expected(photo, (0, 0, 96, 128))))
    assert browser.current_url.endswith("/")
    no_complaints(browser)


def test_a_map_lies_over_the_photo_and_a_click_makes_it_the_subject(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    cell = until(lambda: all_of(browser, "#try-layers .map-row[data-layer=conv2] .map button"))[2]
    webdriver.ActionChains(browser).move_to_element(cell).perform()
    laid = until(lambda: [one for one in all_of(browser, ".crop-box .laid") if one.is_displayed()])[0]
    assert laid.value_of_css_property("background-image").startswith('url("data:image/png')
    channel = cell.get_attribute("data-channel")
    cell.click()
    until(lambda: all_of(browser, "#about")[0].get_attribute("value") == f"conv2:{channel}")
    until(lambda: f"About conv2:{channel}." in "".join(texts(browser, "section[aria-labelledby=try-pixels-title]")))
    all_of(browser, "#about")[0].clear()
    all_of(browser, "#about")[0].send_keys("nothing\ue007")
    assert "Nothing here is called “nothing”" in until(lambda: all_of(browser, "#about-note")[0].text)
    no_complaints(browser)


def test_hovering_hides_a_part_and_says_what_it_is_then_taken_for(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    before = until(lambda: texts(browser, "#try-then .bars li"), 60) and texts(browser, "#try-then")
    heat = all_of(browser, "#try-heat")[0]

    def hovered() -> list[str]:
        """What is said once the pointer lies there, which moves as sections above fill in."""
        webdriver.ActionChains(browser).move_to_element_with_offset(heat, -heat.size["width"] // 3, 0).perform()
        return texts(browser, "#try-then")

    until(lambda: hovered() != before)
    no_complaints(browser)


SYNTHETIC = """
const [kind, bytes, done] = arguments;
const file = new File([new Uint8Array(bytes)], "../../x.png", {type: "image/png"});
const data = new DataTransfer();
data.items.add(file);
const event = kind === "drop" ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
  : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
document.getElementById("view").dispatchEvent(event);
done();
"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_photo_is_dropped_or_pasted(browser: Any, address: str, photo: Path, kind: str) -> None:
    fresh(browser, address)
    until(lambda: all_of(browser, "#try-file"))
    browser.execute_async_script(SYNTHETIC, kind, list(photo.read_bytes()))
    until(lambda: bars(browser) == expected(photo, WHOLE))
    browser.execute_async_script(SYNTHETIC, kind, list(b"<svg/>"))
    problem = until(lambda: "".join(texts(browser, "#try-problem")))
    assert problem == "Not an image that can be read (accepted: JPEG, PNG, WebP)."
    browser.get_log("browser")  # which tells of the refusal too


def test_the_camera_takes_a_photo_and_its_light_goes_off(browser: Any, address: str) -> None:
    fresh(browser, address)
    press(browser, ".invitation button", 1)
    until(lambda: browser.execute_script("return document.querySelector('video')?.videoWidth > 0"))
    first = until(lambda: texts(browser, "#try-live .bars li"))
    until(lambda: texts(browser, "#try-live .bars li") not in ([], first))  # they move with what the camera sees
    browser.execute_script("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    browser.execute_script("document.querySelector('.camera button').click()")
    until(lambda: len(bars(browser)) == 4)
    assert browser.execute_script("return window.track.readyState") == "ended"
    assert not all_of(browser, "video")


LAYERS_FIRST = re.compile(r"Layer by layer 2 of 4, (about \d+ (s|min) left, )?\d more to follow")


class Gate:
    """Work of a section that goes on until the gate is opened or it is stopped. begun: how often it was begun."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0

    def __call__(self, net: Network, seen: Any, settings: Any, job: Job) -> dict[str, Any]:
        self.begun += 1
        told = job.part("places", 4)
        while not self.open.wait(0.02):
            told.at(2)
        told.at(4)
        return {"rows": []}


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setitem(SECTIONS, "layers", replace(SECTIONS["layers"], run=made))
    yield made
    made.open.set()


def test_sections_are_done_in_the_order_of_the_page(
    browser: Any, address: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noting(name: str, run: Any) -> Any:
        def noted(*given: Any) -> Any:
            done.append(name)
            return run(*given)

        return noted

    for name in ("layers", "colors", "pixels", "hide"):
        monkeypatch.setitem(SECTIONS, name, replace(SECTIONS[name], run=noting(name, SECTIONS[name].run)))
    opened(browser, address, photo)
    until(lambda: texts(browser, "#try-then .bars li"))
    assert done[-4:] == ["layers", "colors", "pixels", "hide"]
    no_complaints(browser)


def test_the_bar_tells_of_the_job_and_stops_it(browser: Any, address: str, photo: Path, gate: Gate) -> None:
    opened(browser, address, photo)
    until(lambda: all_of(browser, "#jobbar")[0].is_displayed())
    until(lambda: LAYERS_FIRST.fullmatch("".join(texts(browser, "#jobbar p"))))
    press(browser, "#jobbar button")
    until(lambda: texts(browser, "section[aria-labelledby=try-layers-title] [role=status]") == ["Stopped."])
    until(lambda: texts(browser, "#try-then .bars li"))  # the jobs that follow are done
    until(lambda: not all_of(browser, "#jobbar")[0].is_displayed())
    assert gate.begun == 1
    no_complaints(browser)


def test_a_job_goes_on_when_the_page_is_loaded_anew(browser: Any, address: str, photo: Path, gate: Gate) -> None:
    opened(browser, address, photo)
    until(lambda: all_of(browser, "#jobbar")[0].is_displayed())
    browser.refresh()
    until(lambda: bars(browser) == expected(photo, WHOLE))
    until(lambda: LAYERS_FIRST.fullmatch("".join(texts(browser, "#jobbar p"))))
    gate.open.set()
    until(lambda: texts(browser, "#try-then .bars li"))
    until(lambda: not all_of(browser, "#jobbar")[0].is_displayed())
    assert gate.begun == 1
    no_complaints(browser)


def test_it_fits_a_phone(browser: Any, address: str, photo: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, address, photo)
        until(lambda: all_of(browser, "#try-layers .map-row"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_beside_an_atlas_it_comes_first_and_leads_to_units(browser: Any, tmp_path: Path, photo: Path) -> None:
    net = decided()
    build(net, open_source(write_photos(tmp_path / "photos", 4)), tmp_path / "atlas", map_by=None, project=None)
    studio = Studio(net)
    for served in serving_app(application(Store.open(tmp_path / "atlas"), studio=Live(lambda: studio).router)):
        browser.get(served)
        links = until(lambda: [one for one in all_of(browser, "#sections a") if one.is_displayed()])
        assert [link.text for link in links][:2] == ["Try it", "Network"]
        links[0].click()
        until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(photo))
        press(browser, "#try-layers .map .caption a")
        until(lambda: "#/unit/conv1:" in browser.current_url)
        until(lambda: all_of(browser, "#view[data-view=unit]:not([aria-busy=true])"))
        browser.back()
        until(lambda: bars(browser) == expected(photo, WHOLE))
        no_complaints(browser)
    studio.desk.close()


def test_without_a_studio_nothing_is_asked_of_one(browser: Any, tmp_path: Path) -> None:
    build(
        tiny_network(), open_source(write_photos(tmp_path / "photos", 4)), tmp_path / "atlas", map_by=None, project=None
    )
    for served in serving_app(application(Store.open(tmp_path / "atlas"))):
        browser.get(served)
        until(lambda: all_of(browser, "#layers > li.layer"))
        assert not all_of(browser, "#sections [data-section=try]")[0].is_displayed()
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
        assert not [name for name in asked if "/live/" in name]
        browser.get(served + "#/try")
        assert "There is no page" in until(lambda: all_of(browser, "#problem"))[0].text


def test_the_expected_crops_differ(photo: Path) -> None:
    with Image.open(photo) as image:
        assert np.asarray(image).shape == (96, 160, 3)
    assert expected(photo, WHOLE) != expected(photo, (0, 32, 96, 160))

"""What the studio's page makes of a photo when it is asked to, and that it is what the library makes."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, choose, chromium, needs_chromium, no_complaints, serving_app, until
from netloupe.analysis.activations import activation_maps
from netloupe.analysis.explain.evidence import mapped_by
from netloupe.analysis.explain.figure import overlay_picture
from netloupe.analysis.methods import METHODS
from netloupe.analysis.occlusion import occlusion
from netloupe.atlas.build import build
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.core import objectives as obj
from netloupe.core.network import Network
from netloupe.data.images import as_seen, fit, to_float
from netloupe.data.open import open_source
from netloupe.render.colors import enlarged, heat, overlay
from netloupe.render.pictures import decode, from_pixels
from netloupe.studio import desk
from netloupe.studio.live import Live
from netloupe.studio.studio import Studio
from netloupe.stylenet.model import load_styles
from netloupe.synthesis.dream import dream
from netloupe.synthesis.fool import fool
from netloupe.synthesis.invert import invert

pytestmark = needs_chromium

WHOLE = (0, 16, 96, 144)  # the largest crop of 96 x 160 px in the proportions of 24 x 32, in the middle


@pytest.fixture(scope="module")
def net() -> Network:
    return tiny_network()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("own"), 2, size=(96, 160))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, net: Network) -> Iterator[str]:
    """An atlas with its studio."""
    folder = tmp_path_factory.mktemp("atlas")
    build(net, open_source(write_photos(folder / "photos", 4)), folder / "atlas", map_by=None, project=None)
    studio = Studio(tiny_network())
    yield from serving_app(application(Store.open(folder / "atlas"), studio=Live(lambda: studio).router))
    studio.desk.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, served: str, photos: Path) -> Iterator[Any]:
    """With a photo in the studio."""
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    for driver in chromium(tmp_path_factory.mktemp("profile"), flags=flags):
        driver.get(served + "#/try")
        until(lambda driver=driver: all_of(driver, "#try-file"))[0].send_keys(str(photos / "p00.png"))
        settled(driver)
        yield driver


def settled(browser: Any) -> None:
    """Once all is there that comes by itself."""
    until(lambda: texts(browser, "#try-then .bars li"))


def texts(browser: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())"
    found: list[str] = browser.execute_script(script, selector)
    return found


def press(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def shown(browser: Any, selector: str) -> np.ndarray:
    """The picture that an element shows."""
    src: str = browser.execute_script("return document.querySelector(arguments[0]).src", selector)
    return decode(base64.b64decode(src.partition(",")[2]))


def cut(photos: Path) -> Image.Image:
    top, left, bottom, right = WHOLE
    with Image.open(photos / "p00.png") as image:
        return image.convert("RGB").crop((left, top, right, bottom))


def pixels(photos: Path) -> torch.Tensor:
    return to_float(fit(cut(photos), (24, 32), 3))[None]


def test_every_layers_row_is_that_of_activation_maps(browser: Any, net: Network, photos: Path) -> None:
    rows = browser.execute_script("""
      return [...document.querySelectorAll("#try-layers .map-row")].map((row) => ({
        layer: row.dataset.layer,
        channels: [...row.querySelectorAll("button")].map((one) => Number(one.dataset.channel)),
        sheets: [...row.querySelectorAll(".cut")].map((one) => one.style.backgroundImage),
        places: [...row.querySelectorAll(".cut")].map((one) => parseFloat(one.style.backgroundPosition)),
      }));
    """)
    expected = activation_maps(net, pixels(photos), ["conv1", "conv2"], top=8)
    assert [row["layer"] for row in rows] == ["conv1", "conv2"]
    for row in rows:
        channels = expected.strongest(row["layer"], 0)
        assert row["channels"] == channels
        maps = expected.maps[row["layer"]][0]
        sheet = heat(np.concatenate(list(maps[channels]), axis=1), float(maps[channels[0]].max()))
        assert sheet.any()
        for shown_sheet in row["sheets"]:
            assert np.array_equal(decode(base64.b64decode(shown_sheet.partition(",")[2].rstrip('")'))), sheet)
        assert row["places"] == pytest.approx([100 * i / (len(channels) - 1) for i in range(len(channels))], abs=1e-3)


def test_every_methods_map_on_the_page_is_the_librarys(browser: Any, net: Network, photos: Path) -> None:
    until(lambda: "can’t explain" in texts(browser, "#try-pixels-status")[0])
    script = (
        "return [...document.querySelectorAll('.method')].map(e => [e.dataset.method, e.querySelector('.over').src])"
    )
    found = dict(browser.execute_script(script))
    image = pixels(photos)
    top = obj.logit(int(net.probabilities(image)[0].argmax()))
    assert {"gradient", "grad_cam", "occlusion"} <= found.keys()
    for name, src in found.items():
        one = mapped_by(METHODS[name], METHODS[name].attribution(net, image, top))
        expected = overlay_picture(one, as_seen(cut(photos), (24, 32)))
        assert np.array_equal(decode(base64.b64decode(src.partition(",")[2])), expected), name


def test_the_heat_of_hiding_grows_on_the_page_to_the_librarys(
    browser: Any, net: Network, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_BETWEEN", 0)
    monkeypatch.setattr("netloupe.core.trace.windows.BATCH", 64)
    browser.execute_script("""
      const heat = document.querySelector("#try-heat .over"), size = document.getElementById("try-window");
      window.frames_ = new Set();
      new MutationObserver(() => window.frames_.add(heat.src)).observe(heat, {attributeFilter: ["src"]});
      size.value = "2";
      size.dispatchEvent(new Event("change"));
    """)
    image = pixels(photos)
    found = occlusion(net, image, obj.probability(int(net.probabilities(image)[0].argmax())), 2, 1)
    photo = as_seen(cut(photos), (24, 32))
    expected = overlay(photo, enlarged(found.heat()[0], photo.shape[:2]), signed=True)
    until(lambda: np.array_equal(shown(browser, "#try-heat .over"), expected))
    assert browser.execute_script("return window.frames_.size") >= 6  # five that grow, and the last
    settled(browser)
    no_complaints(browser)


def test_fooling_shows_the_librarys_image_and_both_bars(browser: Any, net: Network, photos: Path) -> None:
    press(browser, "#try-fool-go")
    assert texts(browser, "#try-fool-status") == ["Name the class that it shall be taken for."]
    all_of(browser, "#try-target")[0].send_keys("nothing")
    press(browser, "#try-fool-go")
    assert texts(browser, "#try-fool-status") == ["There is no class “nothing”."]
    all_of(browser, "#try-target")[0].clear()
    all_of(browser, "#try-target")[0].send_keys("Eel")
    press(browser, "#try-fool-go")
    verdict = until(lambda: [one for one in texts(browser, "#try-fool-verdict") if one])[0]
    expected = fool(net, pixels(photos), "eel", method="pgd", epsilon=8 / 255)
    assert np.array_equal(shown(browser, "#try-fool .frame:nth-child(3) img"), from_pixels(expected.images[0]))
    assert verdict.startswith("Now taken for eel." if expected.fooled[0] else "Not fooled: it is taken for")
    names = texts(browser, "#try-fool-bars li .name")
    assert names[0] == "eel"
    assert texts(browser, "#try-fool-status") == [""]
    no_complaints(browser)


def test_what_layers_keep_lines_up(browser: Any, net: Network, photos: Path) -> None:
    for place, layer in ((1, "conv2"), (0, "conv1")):
        browser.execute_script(
            "const s = document.getElementById('try-layer'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input')); s.dispatchEvent(new Event('change'));",
            place,
        )
        until(lambda layer=layer: texts(browser, "#try-inverted figcaption")[0].startswith(f"{layer}: "))
        expected = invert(net, pixels(photos), layer, steps=100, quick=True)
        assert np.array_equal(shown(browser, "#try-inverted img"), from_pixels(expected.images[0]))
    assert texts(browser, "#try-inverted-line li") == ["conv1", "conv2"]
    no_complaints(browser)


def test_nothing_moves_when_a_section_says_how_far_it_is(browser: Any) -> None:
    tops = """
        const said = [...document.querySelectorAll(".try-sections p.note[role=status]")]
            .filter((one) => one.textContent === "");
        const below = () => [...document.querySelectorAll(".try-sections > section")]
            .map((one) => Math.round(one.getBoundingClientRect().top + scrollY));
        const before = below();
        for (const one of said) one.textContent = "1 of 100 …";
        const after = below();
        for (const one of said) one.textContent = "";
        return [said.length, before, after];"""
    count, before, after = browser.execute_script(tops)
    assert count > 4
    assert after == before


def test_a_dream_and_a_painting_are_the_librarys(browser: Any, net: Network, photos: Path) -> None:
    browser.execute_script("document.getElementById('try-dream-layer').value = 'conv2'")
    browser.execute_script("document.getElementById('try-octaves').value = '2'")
    press(browser, "#try-dream-go")
    until(lambda: "in the photo to" in texts(browser, "#try-dreamed figcaption")[0])
    whole = to_float(np.asarray(cut(photos)))[None]
    expected = dream(net, whole, "conv2", octaves=2, side=192)
    assert np.array_equal(shown(browser, "#try-dreamed img"), from_pixels(expected.images[0]))
    press(browser, "#try-paint-go")
    until(lambda: texts(browser, "#try-painted figcaption") == ["Scream 100%"])
    assert np.array_equal(shown(browser, "#try-painted img"), from_pixels(load_styles()(whole, "scream")[0].numpy()))
    no_complaints(browser)


def test_a_job_goes_on_elsewhere_and_is_there_when_one_comes_back(browser: Any, served: str, photos: Path) -> None:
    browser.execute_script("document.getElementById('try-keep-steps').value = '600'")
    press(browser, "#try-keep-go")
    until(lambda: "forming" in texts(browser, "#try-inverted figcaption")[0])
    browser.get(served + "#/images")
    until(lambda: all_of(browser, "#view[data-view=images]:not([aria-busy=true])"))
    until(lambda: not all_of(browser, "#jobbar")[0].is_displayed())
    browser.refresh()
    until(lambda: all_of(browser, "#view[data-view=images]:not([aria-busy=true])"))
    browser.get(served + "#/try")
    until(lambda: re.match(r"conv\d: ", "".join(texts(browser, "#try-inverted figcaption"))))
    settled(browser)
    no_complaints(browser)


def test_two_classes_stand_side_by_side(browser: Any) -> None:
    def subjects() -> list[str]:
        script = "return [...document.querySelectorAll('.method[data-method=gradient] .over')].map(e => e.alt)"
        found: list[str] = browser.execute_script(script)
        return found

    field = all_of(browser, "#try-rival")[0]
    field.send_keys("eel\ue007")
    until(lambda: len(subjects()) == 2)
    assert subjects()[1] == "Gradient of eel, over the photo"
    assert "on the right about eel" in texts(browser, "#try-pixels-subject")[0]
    field.clear()
    field.send_keys("\ue007")
    until(lambda: len(subjects()) == 1)
    no_complaints(browser)


def test_a_mask_is_painted_and_told_of(browser: Any) -> None:
    canvas = all_of(browser, "#try-mask")[0]
    browser.execute_script("arguments[0].focus()", canvas)
    canvas.send_keys("\ue007")
    until(lambda: ", then " in "".join(texts(browser, "#try-masked p")))
    assert len(texts(browser, "#try-masked .bars li")) == 4
    press(browser, "#try-own-mask button")
    until(lambda: not texts(browser, "#try-masked .bars li"))
    no_complaints(browser)


def test_the_photo_stands_on_a_units_page(browser: Any, served: str, net: Network, photos: Path) -> None:
    browser.get(served + "#/unit/conv2:7")
    value = until(lambda: texts(browser, "#yours-value"))[0]
    peak = float(net.activations(pixels(photos), ["conv2"])["conv2"][0, 7].max())
    assert float(value.replace("−", "-")) == pytest.approx(peak, rel=5e-3)
    until(lambda: all_of(browser, "#histogram .mark.own"))
    no_complaints(browser)
    browser.get(served + "#/try")
    settled(browser)


def test_the_camera_is_looked_at_live_and_its_light_goes_off(browser: Any, served: str) -> None:
    press(browser, "#try-field .invitation button:nth-of-type(2)")
    until(lambda: len(texts(browser, "#try-live .bars li")) == 4)
    browser.execute_script("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    looked = "return performance.getEntriesByType('resource').filter(e => e.name.endsWith('live/frame')).length >= 3"
    until(lambda: browser.execute_script(looked))
    browser.execute_script("location.hash = '#/images'")
    until(lambda: browser.execute_script("return window.track.readyState") == "ended")
    browser.get(served + "#/try")
    settled(browser)
    no_complaints(browser)


def thin() -> str:
    """A photo too thin to be one, as bytes in the page."""
    buffer = io.BytesIO()
    Image.new("RGB", (3, 90)).save(buffer, "PNG")
    return f"new Blob([new Uint8Array({list(buffer.getvalue())})])"


REFUSED = [
    (thin(), "90 x 3 px (accepted: sides of 4 or more)."),
    ("new Blob([new Uint8Array(21 * 2 ** 20)])", "That photo has more than 20 MB."),
    ("new Blob(['<svg/>'])", "Not an image that can be read (accepted: JPEG, PNG, WebP)."),
]


@pytest.mark.parametrize(("blob", "said"), REFUSED)
def test_what_is_refused_is_a_sentence_in_the_page(browser: Any, blob: str, said: str) -> None:
    browser.execute_script(
        f"const data = new DataTransfer(); data.items.add(new File([{blob}], 'x.png', {{type: 'image/png'}}));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));"
    )
    until(lambda: texts(browser, "#try-problem") == [said])
    browser.get_log("browser")  # which tells of the refusal too


def test_what_the_studio_finds_too_large_is_a_sentence_too(browser: Any) -> None:
    """The page looks at the size itself; here it is led to think that there is little to send."""
    browser.execute_script(
        "window.sized = Object.getOwnPropertyDescriptor(Blob.prototype, 'size');"
        "Object.defineProperty(Blob.prototype, 'size', {...window.sized, get: () => 1});"
        "const data = new DataTransfer();"
        "data.items.add(new File([new Uint8Array(21 * 2 ** 20)], 'x.png', {type: 'image/png'}));"
        "dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));"
    )
    until(lambda: texts(browser, "#try-problem") == ["More than 20 MB (accepted: up to that)."])
    browser.execute_script("Object.defineProperty(Blob.prototype, 'size', window.sized)")
    browser.get_log("browser")


def test_a_section_leads_to_a_contact_sheet_of_it(browser: Any, served: str) -> None:
    settled(browser)
    browser.execute_script("document.getElementById('try-keep-steps').value = '100'")
    press(browser, "#try-keep-go")
    until(lambda: re.match(r"conv\d: ", "".join(texts(browser, "#try-inverted figcaption"))))
    press(browser, "section[aria-labelledby=try-keep-title] .to-sheet")
    choose(browser, "#sheet-across", "steps")
    choose(browser, "#sheet-across-values", "2, 3")
    press(browser, "#sheet-go")
    until(lambda: texts(browser, "#sheet-status") == ["2 cells, all made now."])
    cells = browser.execute_script("return [...document.querySelectorAll('#sheet td img')].map(i => i.src)")
    assert len(set(cells)) == 2
    browser.get(served + "#/try")
    settled(browser)
    no_complaints(browser)


def test_a_copy_of_a_tab_has_a_name_of_its_own(browser: Any, served: str) -> None:
    name = browser.execute_script("return sessionStorage.getItem('netloupe-page')")
    browser.refresh()
    settled(browser)
    assert browser.execute_script("return sessionStorage.getItem('netloupe-page')") == name, "it is the same page still"
    browser.execute_script("window.open(location.href, '_blank')")  # which copies the storage
    first, second = until(lambda: len(browser.window_handles) == 2 and browser.window_handles)
    browser.switch_to.window(second)
    settled(browser)
    own = browser.execute_script("return sessionStorage.getItem('netloupe-page')")
    browser.close()
    browser.switch_to.window(first)
    assert own not in (None, name)
    no_complaints(browser)


def test_who_may_not_ask_is_told_so_in_the_page(browser: Any, photos: Path) -> None:
    browser.execute_script(
        "window.asking = window.fetch; window.fetch = (path, more) => window.asking(path, {...more, headers: {}});"
    )
    all_of(browser, "#try-file")[0].send_keys(str(photos / "p01.png"))
    until(lambda: texts(browser, "#try-problem") == ["Only the studio's own page may ask for that."])
    browser.execute_script("window.fetch = window.asking")
    browser.get_log("browser")

"""Where tokens look, and tokens in color, in a real browser."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atlas_helpers import tiny_network, write_photos
from attention_helpers import HEADS, SIDE, fresh
from browser_helpers import all_of, chromium, needs_chromium, no_complaints, press, serving_app, until, webdriver
from netloupe.analysis.attention.measure import attention_maps
from netloupe.analysis.tokens import tokens
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.server import application
from netloupe.core.network import Network
from netloupe.data.images import fit, to_float
from netloupe.data.open import open_source
from netloupe.render.colors import diverging, heat
from netloupe.render.pictures import Picture, decode
from netloupe.studio.live import Live
from netloupe.studio.studio import Studio

pytestmark = needs_chromium

LAYER = "blocks.2.attn"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("own"), 1, size=(96, 96)) / "p00.png"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def studio_of(net: Network) -> Iterator[str]:
    studio = Studio(net)
    yield from serving_app(application(None, studio=Live(lambda: studio).router))
    studio.desk.close()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An atlas of a transformer as plain files, from any web server."""
    folder = tmp_path_factory.mktemp("atlas")
    source = open_source(write_photos(folder / "photos", 5, size=(SIDE, SIDE)))
    build(fresh(), source, folder / "store", layers=["blocks.0", "blocks.2"], map_by=None, project=None)
    export(folder / "store", folder / "pages")
    handler = partial(Quiet, directory=str(folder / "pages"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The studio of a transformer."""
    yield from studio_of(fresh())


def pixels(photo: Path) -> Any:
    with Image.open(photo) as image:
        return to_float(fit(image.convert("RGB"), (SIDE, SIDE), 3))[None]


def opened(browser: Any, address: str, photo: Path) -> None:
    browser.get("about:blank")
    browser.get(address)
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(photo))
    until(lambda: browser.execute_script("return document.querySelector('#try-likeness')?.src.startsWith('data:')"))


def text(browser: Any, selector: str) -> str:
    found: str = browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return found


def decoded(address: str) -> Picture:
    return decode(base64.b64decode(address.partition(",")[2].rstrip('")')))


def cell(browser: Any, head: int, layer: str = LAYER) -> Any:
    return all_of(browser, f'[data-attention="{layer}"] button[data-head="{head}"]')[0]


def shown_sheet(browser: Any) -> Picture:
    style = cell(browser, 0).find_element("css selector", ".cut").value_of_css_property("background-image")
    return decoded(style)


def pointed(browser: Any, pad: Any, row: int, column: int, grid: int) -> None:
    """The pointer on the middle of a place of a pad, counted from its middle as the driver does."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", pad)
    across = [round((at + 0.5 - grid / 2) / grid * pad.size[side]) for at, side in ((column, "width"), (row, "height"))]
    webdriver.ActionChains(browser).move_to_element_with_offset(pad, *across).perform()


def test_heads_show_where_the_first_token_looks_and_then_the_place_pointed_at(
    browser: Any, address: str, photo: Path
) -> None:
    net = fresh()
    opened(browser, address, photo)
    until(lambda: text(browser, "#try-looks-from") == "from the first token, which stands before the patches")
    rows = [row.get_attribute("data-attention") for row in all_of(browser, "#try-looks .head-cells")]
    assert rows == list(net.attentions)
    for origin in (None, (0, 2)):
        if origin is not None:
            pointed(browser, all_of(browser, ".pad-pair .pad")[0], *origin, 3)
            until(lambda: text(browser, "#try-looks-from") == "from the patch in row 0, column 2")
        maps = attention_maps(net, pixels(photo), origin=origin).looks[LAYER].maps
        assert np.array_equal(shown_sheet(browser), np.concatenate([heat(one) for one in maps], axis=1))
        for head in range(HEADS):
            peak = float(maps[head].max())
            wanted = f"{LAYER}, head {head}, at most {peak:.{2 if peak >= 0.0995 else 3}f} to one patch"
            assert cell(browser, head).get_attribute("aria-label").startswith(wanted)
    frame = all_of(browser, ".pad-pair .place")[0]
    assert frame.is_displayed()
    press(browser, "#try-looks-first")
    until(lambda: text(browser, "#try-looks-from") == "from the first token, which stands before the patches")
    assert not frame.is_displayed()
    no_complaints(browser)


def test_a_heads_map_lies_over_the_photo_and_follows_the_place(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    pad = until(lambda: text(browser, "#try-looks-from") and all_of(browser, ".pad-pair .pad"))[0]
    laid = all_of(browser, ".pad-pair .laid")[0]
    assert not laid.is_displayed()
    cell(browser, 1).click()
    before = laid.value_of_css_property("background-image")
    assert laid.is_displayed()
    assert laid.value_of_css_property("background-position") == "50% 0%"
    assert np.array_equal(decoded(before), shown_sheet(browser))
    pad.send_keys("\ue015")  # down, from the middle
    until(lambda: text(browser, "#try-looks-from") == "from the patch in row 2, column 1")
    assert laid.value_of_css_property("background-image") != before
    assert [one.get_attribute("aria-pressed") for one in (cell(browser, 1), cell(browser, 0))] == ["true", "false"]
    cell(browser, 0, "blocks.0.attn").click()
    assert cell(browser, 1).get_attribute("aria-pressed") == "false"
    cell(browser, 0, "blocks.0.attn").click()
    assert not laid.is_displayed()
    no_complaints(browser)


def test_positions_are_colored_and_compared_with_the_place_pointed_at(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    chosen = all_of(browser, "#try-colored")[0]
    browser.execute_script("arguments[0].value = 'blocks.1'; arguments[0].dispatchEvent(new Event('change'))", chosen)
    pointed(browser, all_of(browser, ".color-trio .pad")[0], 2, 0, 3)
    expected = tokens(fresh(), pixels(photo), "blocks.1", at=(2, 0))
    assert expected.likeness is not None
    colors = (expected.colors[0] * 255).round().astype(np.uint8)

    def source(of: str) -> Picture:
        return decoded(all_of(browser, of)[0].get_attribute("src"))

    until(lambda: np.array_equal(source("#try-likeness"), diverging(expected.likeness[0], 1.0)))  # type: ignore[index]
    assert np.array_equal(source("#try-colors"), colors)
    assert text(browser, "#try-colors-told").startswith("3 × 3 positions. The components hold ")
    no_complaints(browser)


def test_long_names_of_layers_break_where_they_have_dots(browser: Any, address: str, photo: Path) -> None:
    opened(browser, address, photo)
    names = "return [...document.querySelectorAll('#try-layers h3')].map(e => e.innerHTML)"
    until(lambda: browser.execute_script(names) == [f"blocks.<wbr>{i}" for i in range(3)])


def test_without_attention_there_is_no_such_section(browser: Any, photo: Path) -> None:
    for address in studio_of(tiny_network()):
        opened(browser, address, photo)
        assert not all_of(browser, "#try-looks-title")
        assert all_of(browser, "#try-colored")[0].get_attribute("value") == "conv2"
        no_complaints(browser)


def test_it_fits_a_phone(browser: Any, address: str, photo: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened(browser, address, photo)
        until(lambda: all_of(browser, "#try-looks .head-row"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def get_json(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as answer:
        return json.load(answer)


def test_an_atlas_leads_to_its_attentions_and_each_place_looks_where_the_store_says(
    browser: Any, exported: str
) -> None:
    told = get_json(exported, "data/network.json")["attention"]
    peaks = get_json(exported, "data/attention/1/3.json")["peaks"]
    browser.get("about:blank")
    browser.get(exported)
    links = until(lambda: all_of(browser, ".attentions a"))
    assert [link.text for link in links] == [one["name"] for one in told["layers"]] == list(fresh().attentions)
    dots = until(lambda: all_of(browser, "#attention .head-dot"))
    assert len(dots) == 2 * 3 * HEADS
    at = [(4 * y, 4 * x) for y in range(3) for x in range(3)]
    alike = np.mean([np.hypot(a[0] - b[0], a[1] - b[1]) for a in at for b in at])  # SIDE is 3 patches of 4 px
    titles = browser.execute_script(
        "return [...document.querySelectorAll('#attention .evenly')].map(e => e.textContent)"
    )
    assert titles == [f"everywhere alike: {alike:.2f} px"] * 3 + [f"everywhere alike: {np.log2(10):.2f} bits"] * 3
    links[1].click()
    until(lambda: text(browser, "h1") == "blocks.1.attn")
    assert [bar.split("\n")[0] for bar in text(browser, "#heads").split("head ")[1:]] == ["0", "1", "2"]
    assert len(all_of(browser, "#likeness td")) == HEADS**2
    press(browser, ".choice[data-image='3']")
    until(lambda: "image=3" in browser.current_url)
    pad = all_of(browser, ".pad")[0]
    pointed(browser, pad, 2, 1, 3)
    until(lambda: text(browser, "#from") == "from the patch in row 2, column 1")
    row = 1 + 3 * 2 + 1
    for head in range(HEADS):
        peak = peaks[row][head]
        wanted = f"blocks.1.attn, head {head}, at most {peak:.{2 if peak >= 0.0995 else 3}f} to one patch"
        assert cell(browser, head, "blocks.1.attn").get_attribute("aria-label").startswith(wanted)
    cut = cell(browser, 2, "blocks.1.attn").find_element("css selector", ".cut")
    assert "attention/1/3.webp" in cut.value_of_css_property("background-image")
    across, down = cut.value_of_css_property("background-position").split()
    assert across == "100%"
    assert float(down.rstrip("%")) == pytest.approx(100 * row / 9, abs=0.01)
    assert browser.current_url.endswith("?image=3&from=2%2C1")
    browser.refresh()
    until(lambda: text(browser, "#from") == "from the patch in row 2, column 1")
    press(browser, "#from-first")
    assert text(browser, "#from") == "from the first token, which stands before the patches"
    webdriver.ActionChains(browser).send_keys("\ue014").perform()  # right: the next attention
    until(lambda: text(browser, "h1") == "blocks.2.attn")
    no_complaints(browser)


def test_an_attention_that_is_not_there_says_so(browser: Any, exported: str) -> None:
    browser.get("about:blank")
    browser.get(exported + "#/attention/blocks.7.attn")
    problem = until(lambda: text(browser, "#problem"))
    assert problem == "There is no attention “blocks.7.attn” in ViT."
    assert all_of(browser, "#view a")[0].get_attribute("href").endswith("#/attention/blocks.0.attn")


def test_the_pages_of_attention_fit_a_phone(browser: Any, exported: str) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for path, there in (("#/", "#attention .head-dot"), ("#/attention/blocks.1.attn", "#likeness td")):
            browser.get("about:blank")
            browser.get(exported + path)
            until(lambda there=there: all_of(browser, there))  # type: ignore[misc]
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

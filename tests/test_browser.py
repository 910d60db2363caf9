"""A walk through the atlas in a real browser."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atlas_helpers import tiny_network, write_photos
from browser_helpers import all_of, chromium, needs_chromium, no_complaints, press, serving, until, webdriver
from netloupe.atlas.build import build
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource, pixel_reader

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny atlas: twelve labeled photographs, 70 channels in the second convolution."""
    folder = tmp_path_factory.mktemp("browser")
    write_photos(folder / "photos" / "cats", 6, seed=1)
    write_photos(folder / "photos" / "dogs", 6, seed=2)
    how: Any = {"synthesize": ("conv2",), "facets": 2, "steps": 4}
    build(tiny_network(), open_source(folder / "photos"), folder / "atlas", **how)
    return folder / "atlas"


@pytest.fixture(scope="module")
def address(atlas: Path) -> Iterator[str]:
    yield from serving(atlas)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield from chromium(tmp_path_factory.mktemp("profile"))


def shown(browser: Any, view: str) -> None:
    settled = "return document.getElementById('view').dataset.address === location.hash"
    until(lambda: browser.execute_script(settled) and all_of(browser, f"#view[data-view={view}]:not([aria-busy=true])"))


def keys(browser: Any, text: str) -> None:
    webdriver.ActionChains(browser).send_keys(text).perform()


def test_from_the_network_to_a_patch_and_its_photograph(browser: Any, address: str) -> None:
    browser.get(address)
    shown(browser, "network")
    rows = until(lambda: all_of(browser, "#layers > li.layer"))
    assert [row.get_attribute("data-layer") for row in rows] == ["conv1", "conv2", "fc"]
    assert "1 dead" in rows[0].text
    press(browser, ".layer[data-layer=conv2] .strip .tile")
    shown(browser, "unit")
    patches = until(lambda: all_of(browser, "#patches > .patch"))
    assert len(patches) == 9
    assert len(all_of(browser, "#patches .photo .box")) == 9
    assert all_of(browser, "#histogram svg .column")
    assert {row.text.split("\n")[0] for row in all_of(browser, "#classes .bars li")} == {"cats", "dogs"}
    plates = all_of(browser, "#patches .plate")
    script = "return [...arguments[0].querySelectorAll('.window')].map(w => [w.offsetWidth, w.offsetHeight])"
    for plate in plates:
        patch, projection = browser.execute_script(script, plate)
        assert patch == projection
        assert min(patch) > 10
    source = "return arguments[0].querySelectorAll('img')[1]"
    channel = browser.current_url.rpartition(":")[2]
    assert (
        browser.execute_script(source, plates[0])
        .get_attribute("src")
        .split("?")[0]
        .endswith(f"/projections/conv2/{channel}.webp")
    )
    until(
        lambda: (
            browser.execute_script(f"const i = ({source.replace('return ', '')}); return i.naturalWidth", plates[8])
            == 192
        )
    )
    note = all_of(browser, "#projections-note")[0].text
    assert "by deconvnet" in note
    assert "With random weights the projections of this layer look 0." in note
    image = patches[0].get_attribute("data-image")
    patches[0].find_element("css selector", "a").click()
    shown(browser, "image")
    assert browser.current_url.endswith(f"#/image/{image}")
    assert len(all_of(browser, "#predictions .bars li")) == 4
    assert len(all_of(browser, ".nearest[data-space=features] .thumbnail")) == 11
    until(lambda: all_of(browser, "#maps .map-row[data-layer=conv1] .map"))
    no_complaints(browser)


def test_the_first_page_says_what_it_recognizes_and_where_to_begin(browser: Any, address: str) -> None:
    browser.get(address)
    shown(browser, "network")
    lead = all_of(browser, ".opening .lead")[0]
    assert lead.text.startswith(
        "A network that looks at an image of 24 × 32 pixels and says which of 4 classes it is, as "
    )
    assert lead.text.endswith("was not measured here: these images bear no labels of its classes.")
    assert "/unit/fc:" in lead.find_element("css selector", "a").get_attribute("href")
    said = [one.text.split("\n")[1] for one in all_of(browser, "#surest .thumbnail")]
    assert said
    assert all(text.startswith("taken for ") for text in said)
    assert "name other classes than it knows" in all_of(browser, "#surest .note")[0].text
    assert not all_of(browser, "#mistaken")
    assert [door.get_attribute("data-door") for door in all_of(browser, "#doors a")] == ["layers", "map"]
    assert not all_of(browser, "#sections a[href='#/points']")
    press(browser, "#doors a[data-door=layers]")
    shown(browser, "layer")
    assert all_of(browser, "h1")[0].text == "conv1"
    browser.get(address + "#/images")
    shown(browser, "images")
    press(browser, "#images-tools a")
    shown(browser, "points")
    no_complaints(browser)


def test_a_layer_sorts_and_its_address_keeps_it(browser: Any, address: str) -> None:
    browser.get(address + "#/layer/conv2?sort=channel")
    shown(browser, "layer")

    def order() -> list[int]:
        return [int(tile.get_attribute("data-channel")) for tile in all_of(browser, "#tiles .tile")]

    until(lambda: order() == list(range(70)))
    assert "those of different channels at one place 0." in all_of(browser, "#likeness")[0].text
    press(browser, "[data-sort=selectivity]")
    until(lambda: "sort=selectivity" in browser.current_url and order() != list(range(70)))
    assert sorted(order()) == list(range(70))
    by_selectivity = order()
    browser.get("about:blank")
    browser.back()
    until(lambda: order() == by_selectivity)
    no_complaints(browser)


def test_a_channel_shows_its_synthesized_image_and_facets(browser: Any, address: str) -> None:
    browser.get(address + "#/layer/conv2?sort=channel")
    shown(browser, "layer")
    until(lambda: all_of(browser, "#looks a"))
    assert "synthesized images and" in all_of(browser, "#synthesis")[0].text
    picture = "return getComputedStyle(document.querySelector('#tiles .tile .cut')).backgroundImage"
    until(lambda: "tiles/conv2/0.webp" in browser.execute_script(picture))
    press(browser, "#looks [data-tiles=synthesized]")
    until(lambda: "synthesis/conv2/0.jpg" in browser.execute_script(picture))
    assert "tiles=synthesized" in browser.current_url
    assert "sort=channel" in browser.current_url
    press(browser, "#tiles .tile", 3)
    shown(browser, "unit")
    until(lambda: all_of(browser, "#synthesized .climbed figure img"))
    loaded = "return [...document.querySelectorAll('#synthesized img')].every(i => i.complete && i.naturalWidth > 0)"
    until(lambda: browser.execute_script(loaded))
    facets = all_of(browser, "#facets > .facet")
    assert 1 <= len(facets) <= 2
    assert len(all_of(browser, "#facets .plate")) >= len(facets)
    assert len(all_of(browser, "#synthesized .curve")) == 3
    assert len(all_of(browser, "#synthesized .dot")) == 12
    assert "earlier layer" in all_of(browser, "#path-note")[0].text
    browser.get(address + "#/unit/conv1:3")
    shown(browser, "unit")
    until(lambda: all_of(browser, "#patches > .patch"))
    assert not all_of(browser, "#synthesized")
    no_complaints(browser)


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an atlas of images without labels, four pieces of each photograph; some classes come up often."""
    folder = write_photos(tmp_path_factory.mktemp("unlabeled") / "photos", 24, seed=3)
    net, source = tiny_network(), replace(open_source(folder), photographs=[i // 4 for i in range(24)])
    logits = net(source_pixels(source))
    with torch.no_grad():
        net.module.fc.bias -= logits.mean(0)  # type: ignore[union-attr,operator]
    build(net, source, folder.parent / "atlas", project=None, map_by=None)
    yield from serving(folder.parent / "atlas")


def source_pixels(source: ImageSource) -> Tensor:
    return torch.stack([pixel_reader(source, (24, 32), 3)(i) for i in range(len(source))])


def get_json(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path) as answer:
        return json.load(answer)


def test_without_labels_channels_are_told_what_their_images_are_taken_for(browser: Any, unlabeled: str) -> None:
    columns = get_json(unlabeled, "data/layer/conv2.json")
    named = [c for c, count in enumerate(columns["count"]) if count is not None]
    assert named
    assert min(columns["count"][c] for c in named) >= 5
    channel = named[0]
    label, count = columns["label"][channel], columns["count"][channel]
    browser.get(unlabeled + "#/layer/conv2?sort=channel")
    shown(browser, "layer")
    tile = until(lambda: all_of(browser, f"#tiles .tile[data-channel='{channel}'] .label"))[0]
    assert tile.get_attribute("textContent") == f"taken for {label} ({count})"
    browser.get(f"{unlabeled}#/unit/conv2:{channel}")
    shown(browser, "unit")
    facts = until(lambda: all_of(browser, ".facts"))[0].text
    assert f"Prefers images taken for\n{label} ({count} images)" in facts
    assert all_of(browser, "#classes-title")[0].text == "It prefers images taken for"
    rows = all_of(browser, "#classes .bars li small")
    assert min(int(row.text.split()[0]) for row in rows) >= 5
    assert all_of(browser, "#patches .label")[0].text.endswith(".png")  # images are called by their names
    no_complaints(browser)


def test_patches_are_of_many_photographs_and_the_strictly_best_one_click_away(browser: Any, unlabeled: str) -> None:
    browser.get(unlabeled + "#/unit/conv2:3")
    shown(browser, "unit")

    def images() -> list[int]:
        return [int(p.get_attribute("data-image")) for p in all_of(browser, "#patches > .patch")]

    varied = until(images)
    photographs = [i // 4 for i in varied]
    assert len(varied) == 9
    assert max(photographs.count(i) for i in photographs) == 2
    assert "at most 2 from one photograph" in all_of(browser, "#choice")[0].text
    press(browser, "#choice [data-best=strict]")
    until(lambda: browser.current_url.endswith("?best=strict") and images() != varied)
    units = get_json(unlabeled, "data/strictest/conv2/0.json")["units"]
    assert images() == [p["image"] for p in units[3]["patches"]]
    values = [p["value"] for p in units[3]["patches"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 9
    keys(browser, "\ue014")  # the neighbors show theirs too
    until(lambda: browser.current_url.endswith("#/unit/conv2:4?best=strict"))
    until(lambda: images() == [p["image"] for p in units[4]["patches"]])
    press(browser, "#choice [data-best=varied]")
    until(lambda: browser.current_url.endswith("#/unit/conv2:4"))
    no_complaints(browser)


def test_output_units_bear_the_names_of_their_classes(browser: Any, unlabeled: str) -> None:
    browser.get(unlabeled + "#/unit/fc:1")
    shown(browser, "unit")
    assert until(lambda: all_of(browser, "h1"))[0].text == "dog fc channel 1"
    assert browser.title.startswith("dog (fc:1)")
    facts = all_of(browser, ".facts")[0].text
    assert "Answers for\ndog" in facts
    assert "Prefers" not in facts
    assert "Selectivity" not in facts
    browser.get(unlabeled + "#/layer/fc?sort=channel")
    shown(browser, "layer")
    captions = until(lambda: all_of(browser, "#tiles .tile .label"))
    assert [c.get_attribute("textContent") for c in captions] == ["cat", "dog", "<b>'owl'</b>", "eel"]
    browser.get(unlabeled + "#/image/0")
    shown(browser, "image")
    links = until(lambda: all_of(browser, "#predictions a"))
    found = {link.text: link.get_attribute("href").partition("#")[2] for link in links}
    assert found == {name: f"/unit/fc:{i}" for i, name in enumerate(["cat", "dog", "<b>'owl'</b>", "eel"])}
    browser.get(unlabeled + "#/images?class=1")
    shown(browser, "images")
    assert until(lambda: all_of(browser, "#class-unit"))[0].get_attribute("href").endswith("#/unit/fc:1")
    no_complaints(browser)


def test_layers_that_repeat_the_one_before_share_its_row(browser: Any, unlabeled: str) -> None:
    layers = get_json(unlabeled, "data/network.json")["layers"]
    units = {
        layer["name"]: [u["patches"] for u in get_json(unlabeled, f"data/units/{layer['name']}/0.json")["units"]]
        for layer in layers
    }
    same = [
        all(
            [p["image"] for p in a] == [p["image"] for p in b] for a, b in zip(units["conv1"], units[name], strict=True)
        )
        for name in ("relu", "pool")
    ]
    assert same == [True, True]
    assert [layer["repeats"] for layer in layers] == [None, "conv1", "conv1", None, None]
    browser.get(unlabeled)
    shown(browser, "network")
    rows = until(lambda: all_of(browser, "#layers > li.layer"))
    assert [row.get_attribute("data-layer") for row in rows] == ["conv1", "conv2", "fc"]
    assert [link.text for link in all_of(browser, ".again a")] == ["relu", "pool"]
    press(browser, ".again a", 1)
    until(lambda: browser.current_url.endswith("#/layer/pool"))
    assert "null" not in all_of(browser, "#view")[0].text


def test_the_order_and_the_filter_stay_from_layer_to_layer_and_unit_to_unit(browser: Any, address: str) -> None:
    browser.get(address + "#/layer/conv2?sort=selectivity&filter=cats")
    shown(browser, "layer")
    until(lambda: all_of(browser, "#tiles .tile"))
    listed = [int(t.get_attribute("data-channel")) for t in all_of(browser, "#tiles .tile:not([hidden])")]
    assert 3 < len(listed) < 70
    assert listed != sorted(listed)
    press(browser, f"#tiles .tile[data-channel='{listed[1]}']")
    shown(browser, "unit")
    slow = {"offline": False, "latency": 150, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    browser.execute_script("window.seen = []; addEventListener('hashchange', e => seen.push(e.newURL))")
    keys(browser, "\ue014\ue014\ue012")  # right, right, left: faster than the pages come
    visited = until(lambda: seen if len(seen := browser.execute_script("return seen")) == 3 else None)
    assert [int(part.split("conv2:")[1].split("?")[0]) for part in visited] == [listed[2], listed[3], listed[2]]
    shown(browser, "unit")
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", slow | {"latency": 0})
    keys(browser, "\ue012")
    until(lambda: f"#/unit/conv2:{listed[1]}?" in browser.current_url)
    shown(browser, "unit")
    keys(browser, "\ue012")
    until(lambda: f"#/unit/conv2:{listed[0]}?" in browser.current_url)
    until(lambda: all_of(browser, "a[rel=up]") and not all_of(browser, "a[rel=prev]"))
    keys(browser, "u")
    until(lambda: browser.current_url.endswith("#/layer/conv2?sort=selectivity&filter=cats"))
    shown(browser, "layer")
    until(lambda: all_of(browser, "#tiles .tile"))
    keys(browser, "\ue012")
    until(lambda: browser.current_url.endswith("#/layer/pool?sort=selectivity&filter=cats"))
    no_complaints(browser)


def test_a_filter_that_no_channel_passes_says_so(browser: Any, address: str) -> None:
    browser.get(address + "#/layer/conv2?filter=dgos")
    shown(browser, "layer")
    empty = until(lambda: all_of(browser, "#none"))[0]
    until(
        lambda: "No channel of conv2 prefers a class with “dgos” in its name. The nearest name is dogs." in empty.text
    )
    press(browser, "#none button")
    until(lambda: not empty.is_displayed())
    assert len(all_of(browser, "#tiles .tile:not([hidden])")) == 70


def test_search_finds_images_by_name_and_answers_before_enter(browser: Any, unlabeled: str) -> None:
    browser.get(unlabeled)
    shown(browser, "network")
    box = all_of(browser, "#goto")[0]

    def answers(text: str) -> list[str]:
        box.clear()
        box.send_keys(text)
        until(lambda: all_of(browser, "#goto-list li") and "Looking" not in all_of(browser, "#goto-list")[0].text)
        return [row.text.replace("\n", " | ") for row in all_of(browser, "#goto-list li")]

    assert answers("p07") == ["p07.png | image 7"]
    assert answers("dog") == ["dog | images of the class", "dog | fc:1"]
    many = answers(".png")
    assert len(many) == 9
    assert many[-1] == "There are more images of such a name."
    assert answers("zebra") == ["Nothing here is called “zebra”."]
    box.clear()
    box.send_keys("p11\ue007")
    until(lambda: browser.current_url.endswith("#/image/11"))
    no_complaints(browser)


def test_the_keyboard_leads_everywhere(browser: Any, address: str) -> None:
    browser.get(address + "#/unit/conv2:3")
    shown(browser, "unit")
    until(lambda: all_of(browser, "#patches > .patch"))
    keys(browser, "\ue014")  # right arrow
    until(lambda: browser.current_url.endswith("#/unit/conv2:4"))
    keys(browser, "/")
    until(lambda: browser.switch_to.active_element.get_attribute("id") == "goto")
    keys(browser, "conv1:5\ue007")
    until(lambda: browser.current_url.endswith("#/unit/conv1:5"))
    keys(browser, "?")
    until(lambda: all_of(browser, "dialog#keys[open]"))
    keys(browser, "\ue00c")
    until(lambda: not all_of(browser, "dialog#keys[open]"))
    no_complaints(browser)


def test_a_dead_channel_and_an_unknown_address_say_so(browser: Any, address: str) -> None:
    browser.get(address + "#/unit/conv1:2")
    shown(browser, "unit")
    assert until(lambda: all_of(browser, ".notice"))
    assert not all_of(browser, "#patches > .patch")
    browser.get(address + "#/layer/conv9")
    assert "conv9" in until(lambda: all_of(browser, "#problem"))[0].text


def test_it_fits_a_phone(browser: Any, address: str) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for route, view in (
            ("", "network"),
            ("layer/conv2", "layer"),
            ("unit/conv2:3", "unit"),
            ("images", "images"),
            ("image/3", "image"),
        ):
            browser.get("about:blank")
            browser.get(f"{address}#/{route}")
            shown(browser, view)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 360, route
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_labels_are_text_not_markup(browser: Any, address: str) -> None:
    browser.get(address + "#/image/0")
    shown(browser, "image")
    assert "<b>'owl'</b>" in until(lambda: all_of(browser, "#predictions"))[0].text
    assert not all_of(browser, "#predictions b")


def test_the_theme_is_remembered(browser: Any, address: str) -> None:
    browser.get(address)
    shown(browser, "network")
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    press(browser, "#theme")
    until(lambda: browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before)
    after = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.refresh()
    shown(browser, "network")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == after


class Prefixed:
    """A proxy as notebooks have it: what stands under the prefix is handed on without it, all else is not there."""

    prefix = "/proxy/8400"

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", self.prefix)
        raw = scope.get("raw_path", b"").removeprefix(self.prefix.encode())
        inside = path.startswith(self.prefix + "/") or scope["type"] != "http"
        await self.app(
            {
                **scope,
                "path": path.removeprefix(self.prefix) if inside else "/no",
                "raw_path": raw if inside else b"/no",
            },
            receive,
            send,
        )


def test_it_works_behind_a_proxy_under_a_prefix(browser: Any, address: str, atlas: Path) -> None:
    for served in serving(atlas, Prefixed):
        for route, view in (
            ("", "network"),
            ("#/layer/conv2", "layer"),
            ("#/unit/conv2:3", "unit"),
            ("#/image/3", "image"),
            ("#/map", "map"),
        ):
            browser.get("about:blank")
            browser.get(f"{served}proxy/8400/{route}")
            shown(browser, view)
            until(lambda: browser.execute_script("return [...document.images].every(i => i.complete)"))
            asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
            assert len(asked) > 20
            assert [name for name in asked if not name.startswith(f"{served}proxy/8400/")] == []
        no_complaints(browser)


def test_an_export_needs_no_server_of_ours(tmp_path: Path, browser: Any) -> None:
    import http.server
    from functools import partial

    from atlas_mock import write_mock

    write_mock(tmp_path / "under" / "a path")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(f"http://127.0.0.1:{server.server_address[1]}/under/a%20path/#/layer/features.3.relu~2")
        shown(browser, "layer")
        until(lambda: len(all_of(browser, "#tiles .tile")) == 512)
        until(lambda: len(all_of(browser, "#tiles .tile .cut.there")) >= 8)
        address = f"http://127.0.0.1:{server.server_address[1]}/under/a%20path/"
        browser.get(f"{address}#/unit/mixed%2F5b%20pool:3")
        shown(browser, "unit")
        assert len(all_of(browser, "#patches.projected .plate .crop")) == 18
        until(
            lambda: browser.execute_script(
                "return [...document.querySelectorAll('.plate img')].every(i => i.naturalWidth)"
            )
        )
        no_complaints(browser)
        document = tmp_path / "under" / "a path" / "data" / "network.json"
        network = json.loads(document.read_text())
        network |= {"head": "detections"}
        network["projections"] |= {"rule": None, "missing": "rule 'deconvnet' finds no ReLU"}
        network["layers"] = [{**layer, "alike": None} for layer in network["layers"]]
        document.write_text(json.dumps(network))
        picture = document.parent / "image" / "0.json"
        picture.write_text(json.dumps(json.loads(picture.read_text()) | {"top": [], "said": []}))
        for changed in (document, picture):
            os.utime(changed, (time.time() + 10,) * 2)  # or the browser is told that nothing changed
        browser.get("about:blank")
        browser.get(f"{address}#/unit/conv1:3")
        shown(browser, "unit")
        assert len(all_of(browser, "#patches:not(.projected) .plate .crop")) == 9
        assert not all_of(browser, "#projections-note")
        browser.get(address)
        shown(browser, "network")
        assert "finds no ReLU" in all_of(browser, ".facts")[0].text
        assert "finds boxes in them" in all_of(browser, ".opening")[0].text
        browser.get(f"{address}#/image/0")
        shown(browser, "image")
        assert all_of(browser, "#predictions")[0].text == "No box: the network finds nothing in this image."
        server.shutdown()


@pytest.mark.parametrize(
    "script",
    [
        "location.hash = '#/image/1'",
        "document.querySelector('#view img').src = document.querySelector('#view img').src.replace('img/0', 'maps/1')",
        "import('/static/' + MODULE).then((api) => api.getSheet(api.mapsUrl(1)).catch(() => {}))",
    ],
    ids=["document", "picture", "sheet"],
)
def test_a_page_whose_atlas_was_replaced_loads_itself_again(browser: Any, tmp_path: Path, script: str) -> None:
    write_photos(tmp_path / "first" / "cats", 3, seed=1)
    write_photos(tmp_path / "second" / "owls", 4, seed=2)
    build(tiny_network(), open_source(tmp_path / "first"), tmp_path / "atlas", layers=["conv1"], map_by=None)
    for address in serving(tmp_path / "atlas"):
        browser.get("about:blank")
        browser.get(address + "#/image/0")
        shown(browser, "image")
        assert "cats" in browser.find_element("id", "view").text
        browser.execute_script("window.first = true")
        build(tiny_network(), open_source(tmp_path / "second"), tmp_path / "atlas", layers=["conv1"], map_by=None)
        api = "performance.getEntriesByType('resource').map(e => e.name).find(name => name.endsWith('/api.js'))"
        browser.execute_script(script.replace("'/static/' + MODULE", api))
        until(lambda: browser.execute_script("return window.first === undefined"))
        until(lambda: "owls" in browser.find_element("id", "view").text)
        shown(browser, "image")
        assert "cats" not in browser.find_element("id", "view").text
        log = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        own = [line for line in log if address in line]  # the log may hold what came of another test's server
        assert own
        assert [line for line in own if "409" not in line] == []

"""What holds of every page of the studio: axe finds nothing, it fits a phone, and a page that was left is let go of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from atlas_helpers import tiny_network, write_photos
from attention_helpers import SIDE, fresh
from browser_helpers import all_of, chromium, needs_chromium, no_complaints, press, serving_app, until, violations
from netloupe.atlas.build import build
from netloupe.atlas.export import export
from netloupe.atlas.server import application
from netloupe.atlas.store import Store
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.studio import desk
from netloupe.studio.kept import Kept
from netloupe.studio.live import Live
from netloupe.studio.photos import Photo, opened
from netloupe.studio.studio import Studio

pytestmark = needs_chromium

WIDTHS = (1440, 390)
THEMES = ("light", "dark")
LONG = "models.py:another_network_of_a_long_name"


@dataclass(frozen=True)
class Served:
    """A studio beside its atlas. kept: the id of a result, where some are kept."""

    address: str
    atlas: Path
    photo: Path
    kept: str | None = None


def with_studio(folder: Path, net: Network, studio: Studio, **options: Any) -> Iterator[str]:
    source = open_source(write_photos(folder / "photos", 5, size=net.inputs.size))
    build(net, source, folder / "atlas", map_by=None, project=None, **options)
    yield from serving_app(application(Store.open(folder / "atlas"), studio=Live(lambda: studio).router))
    studio.desk.close()


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With two results kept and another network to compare with."""
    folder = tmp_path_factory.mktemp("convolutional")
    photo, net = write_photos(folder / "own", 1, size=(96, 160)) / "p00.png", tiny_network()
    first = Photo("first", opened(photo.read_bytes()))
    kept, others = Kept(folder / "kept", {"model": "tiny"}), {LONG: tiny_network(seed=1)}
    studio = Studio(net, first, kept, others, source=lambda: open_source(folder / "photos"))
    name = kept_of(studio, "hide", {"about": None, "window": 12}, photo="first", crop=[0, 0, 90, 120])
    kept_of(studio, "grow", {"unit": "conv2:5", "steps": 8, "preset": "none"})
    studio.first = None
    for address in with_studio(folder, tiny_network(), studio):
        yield Served(address, folder / "atlas", photo, name)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("transformer")
    photo = write_photos(folder / "own", 1, size=(SIDE, SIDE)) / "p00.png"
    for address in with_studio(folder, fresh(), Studio(fresh()), layers=["blocks.0", "blocks.2"]):
        yield Served(address, folder / "atlas", photo)


def kept_of(studio: Studio, section: str, settings: dict[str, Any], **photo: Any) -> str:
    """The id of what a section shows of a photo, once it is kept."""
    posted = studio.post({"section": "save", "settings": {"section": section, "settings": settings}, **photo})
    job = studio.desk.job(posted["job"])
    assert job is not None
    told = [one for one in job.listen() if one is not None][-1][1]
    assert told.kind == "done", told.data
    name: str = told.data["kept"]
    return name


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    for driver in chromium(tmp_path_factory.mktemp("profile")):
        driver.set_script_timeout(120)
        yield driver


@pytest.fixture(autouse=True)
def plain(browser: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs that a busy machine lets wait are not given up; and the browser is as it was, after each test."""
    monkeypatch.setattr(desk, "ABANDONED", 1e4)
    monkeypatch.setattr(desk, "LONGEST", 1e4)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def text(browser: Any, selector: str) -> str:
    found: str = browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    return found


def tried(browser: Any, served: Served) -> None:
    """The studio with a photo of one's own, and all that comes by itself."""
    browser.get("about:blank")
    browser.get(f"{served.address}#/try")
    until(lambda: all_of(browser, "#try-file"))[0].send_keys(str(served.photo))
    until(lambda: text(browser, "#try-then") and text(browser, "#try-pixels-status"))


def asked(browser: Any, served: Served) -> None:
    """The same, with what comes when it is asked for."""
    tried(browser, served)
    all_of(browser, "#try-target")[0].send_keys("eel")
    press(browser, "#try-fool-go")
    until(lambda: text(browser, "#try-fool-verdict"))
    press(browser, "#try-trust")
    until(lambda: all_of(browser, ".figures dl"))
    all_of(browser, "#try-mask")[0].send_keys("\ue007")
    until(lambda: ", then " in text(browser, "#try-masked"))


def led(browser: Any, served: Served, route: str, there: Callable[[], Any]) -> None:
    """Another page of a tab in which a photo was tried."""
    if not browser.current_url.startswith(served.address):
        tried(browser, served)
    browser.execute_script("location.hash = arguments[0]", route)
    until(there)


def view(browser: Any, name: str) -> Callable[[], Any]:
    return lambda: all_of(browser, f"#view[data-view={name}]:not([aria-busy=true])")


def grown(browser: Any, served: Served) -> None:
    led(browser, served, "#/unit/conv2:3?grow=none.8.0", lambda: text(browser, "#yours-value"))
    until(lambda: text(browser, "#grow-status").startswith("It answers "))


def faceted(browser: Any, served: Served) -> None:
    led(browser, served, "#/unit/conv2:3?grow=none.8.0.2", lambda: "found among" in text(browser, "#grow-status"))


def sheeted(browser: Any, served: Served) -> None:
    grown(browser, served)
    press(browser, "#grow .keeping:not([hidden]) .to-sheet")
    until(lambda: all_of(browser, "#sheet-across-values"))
    browser.execute_script("""
      for (const [id, name] of [["sheet-across", "seed"], ["sheet-down", "preset"]]) {
        document.getElementById(id).value = name;
        document.getElementById(id).dispatchEvent(new Event("change"));
      }""")
    press(browser, "#sheet-go")
    until(lambda: text(browser, "#sheet-status") == "6 cells, all made now.")


def compared(browser: Any, served: Served) -> None:
    led(browser, served, "#/compare", lambda: all_of(browser, ".compare-row"))


def listed(browser: Any, served: Served) -> None:
    led(browser, served, "#/kept", lambda: len(all_of(browser, "[data-kept]")) == 2)


def one_kept(browser: Any, served: Served) -> None:
    led(browser, served, f"#/kept/{served.kept}", lambda: all_of(browser, ".kept-main"))


def opening(browser: Any, served: Served) -> None:
    led(browser, served, "#/", view(browser, "network"))


def attended(browser: Any, served: Served) -> None:
    led(browser, served, "#/attention/blocks.1.attn", lambda: all_of(browser, "#likeness td"))


PAGES: dict[str, tuple[str, Callable[[Any, Served], None]]] = {
    "try": ("convolutional", asked),
    "grow": ("convolutional", grown),
    "facets": ("convolutional", faceted),
    "contact sheet": ("convolutional", sheeted),
    "compare": ("convolutional", compared),
    "kept": ("convolutional", listed),
    "one kept": ("convolutional", one_kept),
    "network": ("convolutional", opening),
    "try a transformer": ("transformer", tried),
    "attention": ("transformer", attended),
}


def look_at(browser: Any, width: int, theme: str) -> None:
    """The page as it lies on a screen so wide, in light or dark."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    until(lambda: browser.execute_script("return document.documentElement.dataset.theme") == theme)
    until(lambda: browser.execute_script("return innerWidth") == width)


STICKING_OUT = """
  const wide = (one) => one.clientWidth > 1 && one.scrollWidth > one.clientWidth + 1;
  return [...document.querySelectorAll("figcaption")].filter(wide).map((one) => one.innerText);
"""


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(browser: Any, page: str, request: pytest.FixtureRequest) -> None:
    kind, open_page = PAGES[page]
    open_page(browser, request.getfixturevalue(kind))
    for width in WIDTHS:
        for theme in THEMES:
            look_at(browser, width, theme)
            assert violations(browser) == [], (width, theme)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.execute_script(STICKING_OUT) == []
    no_complaints(browser)


def test_what_is_focused_does_not_lie_under_the_bars(browser: Any, convolutional: Served) -> None:
    """Going back through a page by keys, as going forth."""
    tried(browser, convolutional)
    bar, covered = browser.execute_script("""
      const bar = document.getElementById("masthead").getBoundingClientRect().bottom, covered = [];
      const reached = "button, input, select, a[href], [tabindex='0']";
      const all = [...document.getElementById("view").querySelectorAll(reached)];
      for (const one of [...all, ...all.reverse()]) {
        one.focus();
        if (document.activeElement !== one || one.closest("#stage") !== null) continue;
        const { top, height } = one.getBoundingClientRect();
        if (height < innerHeight / 2 && scrollY > 0 && top < bar) covered.push(one.outerHTML.slice(0, 80));
      }
      return [bar, covered];
    """)
    assert bar > 40
    assert covered == []


def test_axe_finds_what_is_planted(browser: Any, convolutional: Served) -> None:
    opening(browser, convolutional)
    planted = (
        "const i = new Image(); i.src = 'static/icon.svg'; i.id = 'planted'; document.querySelector('h1').append(i)"
    )
    browser.execute_script(planted)
    assert [one.partition(":")[0] for one in violations(browser) if "planted" in one] == ["image-alt"]


def test_no_rule_of_a_style_sheet_lies_inside_another(browser: Any, convolutional: Served) -> None:
    """As happens where a brace is missing; the rules inside then mean something else."""
    browser.get(convolutional.address)
    until(view(browser, "network"))
    script = """
      const styles = (one) => one.selectorText === undefined ? rules(one.cssRules ?? []) : [one];
      const rules = (list) => [...list].flatMap(styles);
      const all = [...document.styleSheets].flatMap((sheet) => rules(sheet.cssRules));
      return [all.length, all.filter((rule) => rule.cssRules?.length > 0).map((rule) => rule.selectorText)];
    """
    count, nested = browser.execute_script(script)
    assert count > 300
    assert nested == []


def test_an_export_has_no_studio(convolutional: Served, tmp_path: Path) -> None:
    export(convolutional.atlas, tmp_path / "pages")
    assert "netloupe-studio" in urlopen(convolutional.address).read().decode()
    assert "netloupe-studio" not in (tmp_path / "pages" / "index.html").read_text()
    assert not (tmp_path / "pages" / "live").exists()


def held(browser: Any) -> dict[str, float]:
    """What is in memory once what nobody needs is gone."""
    browser.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {one["name"]: one["value"] for one in metrics}


def test_a_page_that_was_left_is_let_go_of(browser: Any, convolutional: Served) -> None:
    tried(browser, convolutional)
    browser.execute_cdp_cmd("Performance.enable", {})

    def visited(times: int) -> dict[str, float]:
        for _ in range(times):
            browser.execute_script("location.hash = '#/kept'")
            until(view(browser, "kept"))
            browser.execute_script("location.hash = '#/try'")
            until(view(browser, "try"))
            until(lambda: text(browser, "#try-then") and text(browser, "#try-pixels-status"))
        return held(browser)

    before, after = visited(3), visited(10)
    page = browser.execute_script("return document.querySelectorAll('#view *').length")
    assert after["Nodes"] - before["Nodes"] < page
    assert after["JSEventListeners"] - before["JSEventListeners"] < page / 10
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 10 * 50_000, "bytes; of a page more would be left"
    no_complaints(browser)

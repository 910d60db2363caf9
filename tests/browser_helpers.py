"""Chromium without a window, and a server of an atlas to look at in it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from netloupe.atlas.server import application, configured
from netloupe.atlas.store import Store

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
_faults: Any = pytest.importorskip("selenium.common.exceptions", reason="selenium is not installed")
StaleElementReferenceException: type[Exception] = _faults.StaleElementReferenceException
COVERED: tuple[type[Exception], ...] = (
    _faults.ElementClickInterceptedException,
    _faults.ElementNotInteractableException,
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium or its driver is not installed"
)


def serving(atlas: Path, wrapped: Callable[[Any], Any] = lambda app: app) -> Iterator[str]:
    """The address of a server of an atlas, which ends with the iterator. wrapped: puts something before it."""
    yield from serving_app(wrapped(application(Store.open(atlas))))


def serving_app(app: Any) -> Iterator[str]:
    """The address of a server of an application, which ends with the iterator."""
    server = uvicorn.Server(configured(app))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=10)


def chromium(profile: Path, downloads: Path | None = None, flags: tuple[str, ...] = ()) -> Iterator[Any]:
    """A driver of Chromium with a fresh profile, which ends with the iterator."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--no-first-run", "--window-size=1280,1000", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(flag)
    for flag in flags:
        options.add_argument(flag)
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def run(browser: Any, script: str, *arguments: Any) -> Any:
    """What an expression of the page gives."""
    return browser.execute_script(f"return {script}", *arguments)


def map_opened(browser: Any, address: str, path: str) -> None:
    """The map at this path is open and drawn as sharp as it gets."""
    browser.get("about:blank")
    browser.get(f"{address}#/{path}")
    until(lambda: run(browser, "window.netloupe?.map?.times.sharp"))


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    """What `holds` returns once it is true; long, as the machine may do other things."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = holds()
        except StaleElementReferenceException:  # the page was drawn anew meanwhile
            continue
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def all_of(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def press(browser: Any, selector: str, number: int = 0) -> None:
    """Click what is there by then, once nothing lies over it and it is not drawn anew meanwhile."""

    def pressed() -> bool:
        found = all_of(browser, selector)
        if len(found) <= number:
            return False
        try:
            found[number].click()
        except COVERED:  # as by the bar at the top, under which the driver scrolls
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found[number])
            return False
        return True

    until(pressed)


def choose(browser: Any, selector: str, value: str) -> None:
    """Set a select or a field, once it is there, as a hand would."""
    until(lambda: all_of(browser, selector))
    script = """const one = document.querySelector(arguments[0]);
        one.value = arguments[1];
        one.dispatchEvent(new Event("input"));
        one.dispatchEvent(new Event("change"));
        return one.value === arguments[1];"""
    assert browser.execute_script(script, selector, value), "a value that it has"


def violations(browser: Any) -> list[str]:
    """What axe has against the page, a line each."""
    selenium = pytest.importorskip("axe_core_python.selenium", reason="axe-core-python is not installed")
    found = selenium.Axe().run(browser)
    assert len(found["passes"]) > 10, "it looked at something"
    return [f"{one['id']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]]


def no_complaints(browser: Any) -> None:
    """Nothing went wrong on the page; what the log holds of a server that a test before has ended is not of it."""
    here = urlsplit(browser.current_url).netloc
    log = [e for e in browser.get_log("browser") if e["level"] == "SEVERE" and "favicon" not in e["message"]]
    own = [e for e in log if here in e["message"] or "127.0.0.1" not in e["message"]]
    assert not own, own

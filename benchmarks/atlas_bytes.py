"""How many bytes do an atlas's pages load, and how much room does it take?

python benchmarks/atlas_bytes.py [--atlas FOLDER]

Chromium opens the pages of the served atlas, each with an empty cache. Counted is what comes over the wire.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import chromium, publish

from netloupe.atlas.store import Store

SCREEN = (1440, 900)
PAGES = {
    "the network, scrolled to its end": ("", True),
    "a layer, first screen": ("#/layer/conv5", False),
    "a layer, scrolled to its end": ("#/layer/conv5", True),
    "a unit": ("#/unit/conv5:17", False),
    "an image": ("#/image/3", False),
    "the images, first screen": ("#/images", False),
}


def measured(atlas: Path) -> dict[str, int]:
    """Bytes by page."""
    serving = [sys.executable, "-m", "netloupe", "atlas", "serve", str(atlas), "--port", "0"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        browser = _browser()
        try:
            return {name: _loaded(browser, address + route, scrolled) for name, (route, scrolled) in PAGES.items()}
        finally:
            browser.quit()
            server.terminate()


def _browser() -> Any:
    browser = chromium(SCREEN, log=True)
    browser.execute_cdp_cmd("Network.enable", {})
    return browser


def _loaded(browser: Any, address: str, scrolled: bool) -> int:
    browser.get("about:blank")
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.get_log("performance")
    browser.get(address)
    total = _quiet(browser)
    while scrolled:
        browser.execute_script("scrollBy(0, innerHeight / 2)")
        total += _quiet(browser)
        if browser.execute_script("return scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
            break
    return total


def _quiet(browser: Any) -> int:
    """The bytes that arrive until none are awaited, and none were asked for in three seconds: the page may be busy."""
    total, open_, end = 0, set(), time.monotonic() + 3
    while open_ or time.monotonic() < end:
        for entry in browser.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            told = event["params"]
            if event["method"] == "Network.requestWillBeSent" and told["request"]["url"].startswith("http"):
                open_.add(told["requestId"])
            if event["method"] in ("Network.loadingFinished", "Network.loadingFailed"):
                open_.discard(told["requestId"])
                total += int(told.get("encodedDataLength", 0))
            if event["method"].startswith("Network."):
                end = time.monotonic() + 3
        time.sleep(0.05)
    return total


def room(atlas: Path) -> dict[str, int]:
    """Bytes on disk by table."""
    found = {p.stem: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in atlas.glob("*.lance")}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, help="of lenslet over the embedded photos; without one, it is built")
    atlas = parser.parse_args().atlas
    with tempfile.TemporaryDirectory() as folder:
        if atlas is None:
            atlas = Path(folder) / "atlas"
            subprocess.run([sys.executable, "-m", "netloupe", "atlas", "build", "-o", str(atlas)], check=True)
        pages, tables = measured(atlas), room(atlas)
        about = Store.open(atlas).network
    whole = sum(tables.values())
    loaded = [{"page": name, "MB": f"{n / 1e6:.2f}"} for name, n in pages.items()]
    kept = [{"on disk": "all", "MB": f"{whole / 1e6:.1f}"}]
    kept += [{"on disk": name, "MB": f"{n / 1e6:.1f}"} for name, n in tables.items() if n > whole / 100]
    text = (
        f"What pages of an atlas of {about['name']} over {about['images']:,} images ({about['source']}) load over "
        f"the wire, each with an empty cache, in Chromium, {SCREEN[0]} x {SCREEN[1]} px. Wanted: 2.5 MB for the "
        "network page scrolled to its end (0.1: 21.3), 0.5 MB for the first screen of a layer (0.1: 2.8), "
        "70 MB on disk (0.1: 162)."
    )
    publish(
        "atlas_bytes",
        "Bytes of an atlas",
        text,
        loaded,
        {"pages": pages, "tables": tables},
        ("And what it takes:", kept),
    )


if __name__ == "__main__":
    main()

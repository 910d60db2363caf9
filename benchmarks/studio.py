"""How live is the studio: how soon does a photo's answer stand in the page, and how soon all that follows?

python benchmarks/studio.py [--atlas FOLDER] [--rounds N]

A studio of lenslet is served beside an atlas. Chromium drops the embedded cat on its page, round after round, and
notes in the page itself when what is there; then jobs are asked for without a browser, and heard.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common import chromium, publish

from netloupe.data.photos import photograph

SCREEN = (1440, 900)
WHOLE = (60, 0, 260, 200)  # of the cat: about what the page chooses
CLIMB = {"section": "grow", "settings": {"unit": "class:100", "steps": 512, "preset": "lucid", "seed": 0}}
LONG = {
    "a climb": CLIMB,
    "what a layer keeps": {"section": "keep", "settings": {"layer": "conv4", "steps": 600}},
    "fooling": {"section": "fool", "settings": {"target": 100, "method": "pgd", "epsilon": "1/255"}},
    "a dream": {"section": "dream", "settings": {"layer": "conv5", "octaves": 6, "lr": 0.006}},
}

DROP = """
const [bytes, done] = arguments;
const file = new File([new Uint8Array(bytes)], "photo.jpg", {type: "image/jpeg"});
const data = new DataTransfer();
data.items.add(file);
const count = (selector) => document.querySelectorAll(selector).length;
const wanted = {
  "five bars": () => count("#try-predictions .bars li") === 5,
  "the maps of all layers": () => count("#try-layers .map-row") > 0,
  "five methods": () => count("#try-pixels .over[src]") >= 5,
  "all methods": () => document.getElementById("try-pixels-status")?.textContent.includes("can’t explain"),
  "the heat of hiding": () => count("#try-then .bars li") > 0,
};
const found = {}, begun = performance.now();
const watch = () => {
  for (const [name, there] of Object.entries(wanted)) {
    if (!(name in found) && there()) found[name] = performance.now() - begun;
  }
  if (Object.keys(found).length === Object.keys(wanted).length) done(found);
  else setTimeout(watch, 4);
};
const event = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
document.getElementById("view").dispatchEvent(event);
watch();
"""

MOVE = """
const done = arguments[1];
const begun = performance.now();
const seen = new MutationObserver(() => { seen.disconnect(); done(performance.now() - begun); });
seen.observe(document.getElementById("try-predictions"), {childList: true});
document.querySelector(".crop-box").dispatchEvent(new KeyboardEvent("keydown", {key: arguments[0], bubbles: true}));
"""


def cat(quality: int) -> bytes:
    """The embedded cat as a photo that the studio has not met before."""
    buffer = io.BytesIO()
    photograph("cat").convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class Studio:
    """A served studio, asked without a browser."""

    def __init__(self, address: str) -> None:
        self.place = urlsplit(address).netloc

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        there = http.client.HTTPConnection(self.place, timeout=300)
        there.request(method, path, body, {"X-Netloupe": "1"})
        answer = there.getresponse()
        found = answer.read()
        there.close()
        assert answer.status == 200, found
        return json.loads(found)

    def timed(self, method: str, path: str, body: bytes | None = None) -> float:
        begun = time.perf_counter()
        self.ask(method, path, body)
        return time.perf_counter() - begun

    def post(self, asked: dict[str, Any]) -> int:
        number: int = self.ask("POST", "/live/jobs", json.dumps(asked).encode())["job"]
        return number

    def events(self, number: int) -> Iterator[str]:
        """The kinds of what a job tells, as they come."""
        there = http.client.HTTPConnection(self.place, timeout=300)
        there.request("GET", f"/live/jobs/{number}/events")
        for line in there.getresponse():
            if line.startswith(b"event: "):
                yield line[7:].decode().strip()
        there.close()


def dropped(address: str, rounds: int) -> dict[str, list[float]]:
    """ms from a photo's drop until what it leads to is in the page; from a move of its frame until the bars follow."""
    browser = chromium(SCREEN)
    browser.set_script_timeout(300)
    found: dict[str, list[float]] = {}
    try:
        for i in range(rounds + 1):
            browser.get(address + "static/icon.svg")
            browser.execute_script("sessionStorage.clear()")
            browser.get(address + "#/try")
            while not browser.find_elements("id", "try-file"):
                time.sleep(0.02)
            times = browser.execute_async_script(DROP, list(cat(95 - i)))
            moves = [browser.execute_async_script(MOVE, key) for key in ["-"] * 5]
            if i == 0:
                continue  # it warms up
            for name, value in times.items():
                found.setdefault(name, []).append(value)
            found.setdefault("the bars after a move", []).extend(moves)
    finally:
        browser.quit()
    return found


def asked(studio: Studio, rounds: int) -> dict[str, list[float]]:
    """ms of the first pictures of a climb, of a stop, and of what is asked meanwhile."""
    photo = studio.ask("PUT", "/live/photo", cat(90))["id"]
    seen = {"photo": photo, "crop": list(WHOLE), "page": "benchmark"}
    look = json.dumps({"photo": photo, "crop": list(WHOLE)}).encode()
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(1000 * seconds)

    for name, order in LONG.items():
        for _ in range(rounds):
            begun = time.perf_counter()
            number = studio.post({**seen, **order})
            told = studio.events(number)
            until(told, "picture")
            if name == "a climb":
                note("its first picture", time.perf_counter() - begun)
                for _ in range(5):
                    note("a look meanwhile", studio.timed("POST", "/live/look", look))
                    note("data/network.json meanwhile", studio.timed("GET", "/data/network.json"))
            begun = time.perf_counter()
            studio.ask("DELETE", f"/live/jobs/{number}")
            until(told, "cancelled")
            note(f"stopping {name}", time.perf_counter() - begun)
    return found


def until(kinds: Iterator[str], wanted: str) -> None:
    for kind in kinds:
        if kind == wanted:
            return
    raise AssertionError(f"ended without {wanted}")


WANTED = {
    "five bars": "1,500",
    "five methods": "1,000 after the bars",
    "a look meanwhile": "500",
    "data/network.json meanwhile": "200",
    **{f"stopping {name}": "1,000" for name in LONG},
}


def row(what: str, times: Sequence[float]) -> dict[str, str]:
    spread = f"{statistics.median(times):,.0f} ({min(times):,.0f} to {max(times):,.0f})"
    return {"what": what, "ms": spread, "wanted": WANTED.get(what, ""), "times": str(len(times))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, help="of lenslet; without one, a small one is built")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        atlas = given.atlas or Path(folder) / "atlas"
        if given.atlas is None:
            build = ["atlas", "build", "--first", "64", "--map", "none", "--project", "none", "-o", str(atlas)]
            subprocess.run([sys.executable, "-m", "netloupe", *build], check=True)
        serving = [sys.executable, "-m", "netloupe", "atlas", "serve", str(atlas), "--port", "0"]
        with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            try:
                page, jobs = dropped(address, given.rounds), asked(Studio(address), given.rounds)
            finally:
                server.terminate()
    text = (
        "A photo dropped on the page of lenslet's studio, served beside its atlas, in Chromium on the same machine, "
        f"{SCREEN[0]} x {SCREEN[1]} px: ms from the drop until each is in the page, where one is made after "
        "the other; and from a move of its frame."
    )
    more = (
        "And without a browser, while an image of a class climbs over 512 steps: what is asked meanwhile, and how "
        "soon a stop acts on it and on others that take long."
    )
    publish(
        "studio",
        "The studio",
        text,
        [row(name, times) for name, times in sorted(page.items(), key=lambda item: statistics.median(item[1]))],
        {"page": page, "jobs": jobs},
        (more, [row(name, times) for name, times in jobs.items()]),
    )


if __name__ == "__main__":
    main()

"""How soon does the map of an atlas show its thumbnails, and how smoothly does it pan, without a graphics card?

python benchmarks/atlas_map.py [--counts N ...] [--rounds N] [--atlas FOLDER]

Atlases of made-up images are written, served on this machine and opened in headless Chromium; the page itself counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import chromium, publish

from netloupe.atlas.parts.images import SPACES
from netloupe.atlas.parts.layout import Layout
from netloupe.atlas.sheets import THUMB
from netloupe.atlas.shelf import thumbs_in
from netloupe.atlas.store import FORMAT, Store
from netloupe.core.identity import Identity
from netloupe.render.pictures import encode

CLASSES = 200
CHANNELS = 64
WINDOW = (1400, 900)
CHUNK = 10_000  # images written at once


def write_atlas(folder: Path, count: int) -> Path:
    """An atlas of `count` made-up images of 200 classes, whose points are scattered around their classes' centers."""
    rng = np.random.default_rng(0)
    store = Store.begin(folder, Identity(made_up=count), Layout.tables)
    centers = rng.normal(0, 1, (CLASSES, 2))
    looks = rng.integers(0, 256, (CLASSES, 4, 4, 3))
    points = np.empty((count, 2), np.float32)
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        labels = rng.integers(0, CLASSES, size)
        guesses = np.where(rng.random(size) < 0.6, labels, rng.integers(0, CLASSES, size))
        points[first : first + size] = centers[labels] + rng.normal(0, 0.15, (size, 2))
        coarse = np.clip(looks[labels] + rng.integers(-60, 60, (size, 4, 4, 3)), 0, 255).astype(np.uint8)
        thumbs = coarse.repeat(THUMB // 4, 1).repeat(THUMB // 4, 2)
        features = rng.random((size, CHANNELS), np.float32)
        _write_images(store, first, labels, guesses, thumbs, features)
    layout = Layout(store)
    for space in SPACES:
        row = {"space": space, "ids": list(range(count)), "x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
        about = json.dumps({"method": "none", "notes": ["made up"]})
        store.put({"embeddings": [{**row, "about": about, "missing": None}]})
        points = points[:, ::-1]
    store.put(layout.sheets("made up"))
    store.put({"provenance": pa.table({"network": [json.dumps(_document(count))]})})
    store.finish(folder, {})
    return folder


def _write_images(
    store: Store, first: int, labels: np.ndarray, guesses: np.ndarray, thumbs: np.ndarray, features: np.ndarray
) -> None:
    ids = range(first, first + len(labels))
    picture = encode(thumbs[0], "WEBP")
    columns = {
        "id": pa.array(ids, pa.int64()),
        "name": [str(i) for i in ids],
        "label": pa.array(labels, pa.int32()),
        "classes": pa.array(guesses[:, None].tolist(), pa.list_(pa.int32())),
        "probabilities": pa.array([[0.5]] * len(labels), pa.list_(pa.float32())),
    }
    shown = pa.table({"id": columns["id"], "picture": pa.array([picture] * len(labels), pa.binary())})
    store.put({"images": pa.table(columns), "pictures": shown})
    shelf = thumbs_in(store)
    for i, thumb in zip(ids, thumbs, strict=True):
        shelf.put(i, thumb)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), features.shape[1])
    store.put({"features": pa.table({"id": pa.array(ids, pa.int64()), "vector": vectors})})


def _document(count: int) -> dict[str, Any]:
    return {
        "format": FORMAT, "name": "made up", "source": "made up", "images": count, "images_per_block": 200,
        "units_per_block": 64, "input": {"size": [64, 64], "channels": 3}, "labels": [str(i) for i in range(CLASSES)],
        "source_classes": None, "labeled": True, "skipped": [], "layers": [], "synthesis": None,
        "pictures": {"of": "all", "kept": count},
        "projections": {"rule": None, "missing": None, "columns": 3, "size": 64}, "per_photograph": None,
        "unit_map": None,
        "neighbors": {}, "tile": {"count": 64, "size": 64, "columns": 8}, "attention": None, "accuracy": None,
        "created": "2026-01-01T00:00:00Z", "maps": {"columns": 8, "layers": [], "sizes": []}, "parameters": 0,
        "provenance": {"network": {"name": "made up"}},
        "map": {"method": "none", "layer": "made up", "spaces": list(SPACES), "missing": {}},
    }  # fmt: skip


def measured(atlas: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds from opening to all thumbnails, and frames a second when panning, of each round."""
    serving = [sys.executable, "-m", "netloupe", "atlas", "serve", str(atlas), "--port", "0"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        browser = _browser()
        try:
            found = [_round(browser, address) for _ in range(rounds)]
        finally:
            browser.quit()
            server.terminate()
    return {key: [one[key] for one in found] for key in found[0]}


def _browser() -> Any:
    browser = chromium(WINDOW)
    browser.set_script_timeout(60)
    return browser


def _round(browser: Any, address: str) -> dict[str, Any]:
    browser.get("about:blank")
    browser.get(f"{address}#/map")
    end = time.monotonic() + 60
    while not browser.execute_script("return window.netloupe?.map?.times.sharp"):
        assert time.monotonic() < end, "the map was not drawn"
        time.sleep(0.2)
    time.sleep(1)
    pan = "const done = arguments[0]; netloupe.map.pan(3).then(done)"
    state = browser.execute_script("return [netloupe.map.times.sharp, netloupe.map.visible, netloupe.map.thumbnails]")
    zoom = "for (let i = 0; i < 4; i += 1) document.getElementById('zoom-in').click()"
    whole = browser.execute_async_script(pan)
    browser.execute_script(zoom)
    time.sleep(2)
    closer = browser.execute_script("return [netloupe.map.visible, netloupe.map.thumbnails]")
    near = browser.execute_async_script(pan)
    return {
        "opening": state[0], "visible": state[1], "thumbnails": state[2], "pan": whole["rate"],
        "slowest": whole["slowest5"], "closer visible": closer[0],
        "closer thumbnails": closer[1], "closer pan": near["rate"],
    }  # fmt: skip


def row_of(name: str, found: dict[str, Any]) -> dict[str, object]:
    def of(key: str, digits: int = 0, scale: float = 1) -> str:
        values = [scale * v for v in found[key]]
        low, high = min(values), max(values)
        return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def what(thumbnails: str, visible: str) -> str:
        return f"{found[visible][0]:,} {'thumbnails' if found[thumbnails][0] else 'dots'}"

    return {
        "atlas": name,
        "opening shows": what("thumbnails", "visible"),
        "after, s": of("opening", 2, 0.001),
        "pan, frames/s": of("pan"),
        "zoomed in four steps": what("closer thumbnails", "closer visible"),
        "pan there, frames/s": of("closer pan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--atlas", type=Path, action="append", default=[], help="measure this atlas too")
    options = parser.parse_args()
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        atlases = {
            f"{count:,} made-up images": write_atlas(Path(place) / str(count), count) for count in options.counts
        }
        atlases |= {Store.open(path).network["source"]: path for path in options.atlas}
        for name, path in atlases.items():
            raw[name] = measured(path, options.rounds)
            print(row_of(name, raw[name]), file=sys.stderr)
    text = (
        f"The map of an atlas in headless Chromium without a graphics card, window of {WINDOW[0]} x {WINDOW[1]} px, "
        "served on the same machine. The page itself counts: the time from the start of the navigation to the frame in "
        "which every thumbnail in view (or dot, in the color of its image) is drawn as sharp as the screen is, and the "
        "frames while the view moves in a circle for three seconds."
    )
    publish("atlas_map", "Map of an atlas", text, [row_of(*pair) for pair in raw.items()], {"rounds": raw})


if __name__ == "__main__":
    main()

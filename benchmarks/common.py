"""What all benchmarks share: the machine's record, interleaved timing, and where results are written.

A benchmark times several ways of doing the same work in turn, round after round, so that whatever else the machine
does falls on all of them, and reports medians with their spread. Results go to `benchmarks/results/NAME.json` and
into a section of their own in `docs/benchmarks.md`.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.zoo.load import load

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
SHARED = Path(os.environ.get("NETLOUPE_SHARED", ROOT.parent / "shared"))
"""Where data and networks lie that some benchmarks need."""

HEAD = """# Benchmarks

Each section is written by the script it names; run it to check the numbers. Times are medians over rounds in which
all ways are timed in turn, with the range in brackets.
"""


def mobilenet() -> Network:
    """MobileNet v2 with its trained weights."""
    folder = SHARED / "models"
    if not folder.is_dir():
        sys.exit(f"no networks at {folder} (fix: set NETLOUPE_SHARED)")
    half = (128 / 255,) * 3  # to [-1, 1], as its own `normalize`
    return load(
        f"{folder / 'mobilenet.py'}:mobilenet_v2_100",
        weights=folder / "mobilenet_v2_1.0_224.safetensors",
        inputs=InputSpec((224, 224), mean=half, std=half),
    )


@dataclass(frozen=True)
class Timing:
    """Seconds of each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def rate(self, count: int) -> str:
        """`count` things per second: median and range."""
        low, high = count / max(self.rounds), count / min(self.rounds)
        return f"{count / self.median:.1f} ({low:.1f} to {high:.1f})"


def time_interleaved(
    ways: Mapping[str, Callable[[], object]], *, rounds: int = 7, warm: bool = True
) -> dict[str, Timing]:
    """Run each way once to warm up, then all in turn, `rounds` times; the order is reversed every other round.

    warm: False where each has run before.
    """
    for way in ways.values() if warm else ():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        for name in list(ways)[:: -1 if i % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}


def ratios(reference: Timing, other: Timing) -> tuple[float, float, float]:
    """How fast `other` is in terms of `reference`, round by round: median, lowest, highest."""
    each = [r / o for r, o in zip(reference.rounds, other.rounds, strict=True)]
    return statistics.median(each), min(each), max(each)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def resident_mb() -> float:
    """Resident memory of this process in MiB; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table whose columns are the keys of the first row."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[h]) for h in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def chromium(screen: tuple[int, int], *, log: bool = False) -> Any:
    """A headless browser whose page has (width, height) px. log: it writes down what it asks for."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    size = f"--window-size={screen[0]},{screen[1] + 143}"  # of the outer window: headless Chromium has a bar of 143 px
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", size):
        options.add_argument(flag)
    if log:
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def publish(
    name: str,
    title: str,
    text: str,
    rows: Sequence[Mapping[str, object]],
    numbers: Mapping[str, Any],
    *more: tuple[str, Sequence[Mapping[str, object]]],
    command: str | None = None,
) -> None:
    """Print the table, keep the raw numbers as JSON, and replace this benchmark's section of the page.

    more: further texts and tables of the section. command: what makes it, by default the script of that name.
    """
    record = machine()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": record, **numbers}, indent=1) + "\n", encoding="utf-8")
    where = ", ".join(f"{key} {value}" for key, value in record.items() if value is not None)
    parts = "\n\n".join(f"{words}\n\n{table(some)}" for words, some in [(text, rows), *more])
    section = f"## {title}\n\n{parts}\n\n`python benchmarks/{command or f'{name}.py'}`; {where}.\n"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else HEAD
    sections = [part for part in re.split(r"(?m)^(?=## )", page) if not part.startswith(f"## {title}\n")]
    PAGE.write_text("\n".join(part.rstrip() + "\n" for part in [*sections, section]), encoding="utf-8")
    print(parts)

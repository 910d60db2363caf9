"""A short form of `tools/campaign.py`, and that it sees a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))

from apart import Ended  # noqa: E402
from campaign import MARK  # noqa: E402
from hostile_lines import commands, judged  # noqa: E402


def test_a_short_campaign_finds_nothing() -> None:
    command = [
        sys.executable,
        str(ROOT / "tools" / "campaign.py"),
        "--kills",
        "0",
        "--clusters",
        "0",
        "--lines",
        "6",
        "--calls",
        "4",
    ]
    found = subprocess.run([*command, "--requests", "0"], capture_output=True, text=True)
    assert "FAILED" not in found.stdout
    assert found.returncode == 0
    assert "| hostile command lines | 6 |" in found.stdout
    assert "| hostile Python calls | 4 |" in found.stdout


@pytest.mark.parametrize(
    ("status", "told", "new", "fault"),
    [
        (0, "", ["out/a.png"], None),
        (2, "skipped a.png: broken\nnetloupe: no such file\n", [], None),
        (None, "", ["out"], None),
        (1, "Traceback (most recent call last)", [], "ended with 1"),
        (2, "netloupe: one\nand another\n", [], "not one line"),
        (2, "netloupe: no such file\n", ["out/a.png"], "refused, but wrote"),
        (0, "", [".out.lock", "out"], "left"),
    ],
)
def test_what_is_a_fault(status: int | None, told: str, new: list[str], fault: str | None) -> None:
    found = judged(Ended(status, "", told, 1.0), new)
    assert found is None if fault is None else str(found).startswith(fault)


def test_lines_are_drawn_from_all_verbs_and_the_page_has_the_table() -> None:
    assert {"atlas build", "train", "study trust", "fool"} <= {" ".join(path) for path, _ in commands()}
    assert MARK in (ROOT / "docs" / "reliability.md").read_text()

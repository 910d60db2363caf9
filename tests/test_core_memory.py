"""What keeping memory changes for the system, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = """
import resource
import sys
import torch
from netloupe.core.memory import keep_memory

kept = sys.argv[1] == "keep" and keep_memory()
fill = lambda: torch.empty(16 * 2**20).fill_(1)
for _ in range(16):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def told(way: str, **environment: str) -> tuple[str, int]:
    """What `keep_memory` says, and how many pages were asked for anew by eight blocks of 64 MiB."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", COUNT, way]
    said = subprocess.run(command, env={**plain, **environment}, check=True, capture_output=True, text=True).stdout
    kept, pages = said.split()
    return kept, int(pages)


def test_what_a_pass_needed_is_kept_for_the_next() -> None:
    pytest.importorskip("resource", reason="needs a system that counts pages")
    kept, few = told("keep")
    if kept == "False":
        pytest.skip("needs the GNU C library")
    _, many = told("not")
    assert many > 8  # one a block at the least, however large a page is
    assert 10 * few < many


def test_what_the_environment_says_of_memory_stays() -> None:
    pytest.importorskip("resource", reason="needs a system that counts pages")
    assert told("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"

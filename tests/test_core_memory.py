"""What keeping memory changes for the system, in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import resource
import sys
import torch
from netloupe.cli.app import main
from netloupe.core.memory import keep_memory

kept = {"keep": keep_memory, "command": lambda: main(["--version"]) == 0, "not": bool}[sys.argv[1]]()
fill = lambda: torch.empty(16 * 2**20).fill_(1)
for _ in range(16):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def told(way: str, **environment: str) -> tuple[str, int]:
    """What that way of keeping says, and how many pages were asked for anew by eight blocks of 64 MiB."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", COUNT, way]
    said = subprocess.run(command, env={**plain, **environment}, check=True, capture_output=True, text=True).stdout
    kept, pages = said.split()[-2:]
    return kept, int(pages)


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")


@pytest.mark.parametrize("way", ["keep", "command"])
def test_what_a_pass_needed_is_kept_for_the_next(way: str) -> None:
    kept, few = told(way)
    _, many = told("not")
    assert kept == "True"
    assert many > 8  # one a block at the least, however large a page is
    assert 10 * few < many


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "1000000", "False"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1000000", "False"),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4", "True"),
    ],
)
def test_what_the_environment_says_of_memory_stays(name: str, value: str, kept: str) -> None:
    assert told("keep", **{name: value})[0] == kept

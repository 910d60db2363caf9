"""Kills, hostile command lines, calls and requests, drawn by a seed: nothing is lost, half-written or a traceback.

    python tools/campaign.py [--seed N] [--kills N] [--clusters N] [--lines N] [--calls N] [--requests N]
                             [--log FILE] [--again] [--write docs/reliability.md]

Half of the kills come at a random moment, half at one of the moments at which the run changes something on disk. Each
run that was killed, up to three times, is begun again, and must end with what an undisturbed one ends with. With Ray,
runs on a cluster are killed too, and its workers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from hostile_calls import calls
from hostile_lines import lines
from hostile_requests import requested
from killed_clusters import clusters
from killed_runs import kills
from trials import Log, Trial
from workplace import preload, prepare

COUNTS = {"kills": 200, "clusters": 20, "lines": 500, "calls": 500, "requests": 3000}
MARK = "<!-- what tools/campaign.py found -->"
HEAD = "| class | tries | refused in one line | cut off | failures |\n|---|--:|--:|--:|--:|"


def campaign(place: Path, counts: dict[str, int], log: Log) -> Iterator[Trial]:
    """The rows of the table, as they are found."""
    preload()
    prepare(place)
    yield from kills(place, counts["kills"], log)
    yield from clusters(place, counts["clusters"], log)
    for name, run in (("lines", lines), ("calls", calls), ("requests", requested)):
        if counts[name]:
            yield run(place, counts[name], log)


def table(rows: list[Trial], seed: int) -> str:
    """Markdown."""
    killed = Trial("kills, all together")
    for row in rows:
        if row.kind.startswith("kills"):
            killed.add(row)
    body = [f"| {row.kind} | {row.tries:,} | {_refused(row)} | {row.cut} | {len(row.failures)} |" for row in rows]
    body += [f"| {killed.kind} | {killed.tries} | | 0 | {len(killed.failures)} |"] if killed.tries else []
    return "\n".join([MARK, "", f"Seed {seed}, PyTorch {torch.__version__}.", "", HEAD, *body, ""])


def _refused(row: Trial) -> str:
    return "" if row.kind.startswith("kills") else f"{row.kept:,}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in {"seed": 0, **COUNTS}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--log", type=Path, help="what ran is written there, and not run again")
    parser.add_argument("--again", action="store_true", help="but for what failed")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    place = Path(tempfile.mkdtemp(prefix="campaign"))
    log = Log(given.log, given.seed, given.again, lambda text: print(text, file=sys.stderr, flush=True))
    try:
        rows = list(campaign(place, {name: getattr(given, name) for name in COUNTS}, log))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = table(rows, given.seed)
    print(text, *(f"FAILED {row.kind}: {failure}" for row in rows for failure in row.failures), sep="\n")
    if given.write is not None:
        page = given.write.read_text()
        given.write.write_text(page[: page.index(MARK)] + text)
    return int(any(row.failures for row in rows))


if __name__ == "__main__":
    sys.exit(main())

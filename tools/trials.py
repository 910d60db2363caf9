"""Trials of a campaign: each drawn by its own seed, and written down as it ends."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Trial:
    """One trial, or the sum of many, which is a row of the table.

    tries: kills that came, or lines, calls and requests. kept: of those, how many were refused in one line. cut: how
    many took too long and were cut off. failures: what was wrong, in words.
    """

    kind: str
    tries: int = 0
    kept: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Trial) -> None:
        self.tries, self.kept, self.cut = self.tries + other.tries, self.kept + other.kept, self.cut + other.cut
        self.failures += other.failures


class Log:
    """Trials that ran, a line of JSON each, so that a campaign which was stopped goes on.

    A trial is known by its kind and number, and drawn by these and the seed alone, whatever ran before it. again: what
    failed is tried again. say: is told of each failure.
    """

    def __init__(self, path: Path | None, seed: int, again: bool, say: Callable[[str], None]) -> None:
        self.path, self.seed, self.say = path, seed, say
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        read = [json.loads(line) for line in lines]
        self.known = {
            (one["kind"], one["number"]): Trial(**one["trial"])
            for one in read
            if one["seed"] == seed and not (again and one["trial"]["failures"])
        }

    def trial(self, kind: str, number: int, run: Callable[[random.Random], Trial]) -> Trial:
        """The trial of that number, from what ran before, or run now."""
        if (kind, number) not in self.known:
            found = self.known[kind, number] = run(random.Random(f"{self.seed} {kind} {number}"))
            for failure in found.failures:
                self.say(f"FAILED {kind} {number}: {failure}")
            if self.path is not None:
                with self.path.open("a") as file:
                    told = {"seed": self.seed, "kind": kind, "number": number, "trial": asdict(found)}
                    file.write(json.dumps(told) + "\n")
        return self.known[kind, number]

    def kills(self, kind: str, least: int, run: Callable[[random.Random], Trial]) -> Trial:
        """The row of as many trials as it takes until at least so many kills came."""
        row, number = Trial(kind), 0
        while row.tries < least:
            row.add(self.trial(kind, number, run))
            number += 1
        self.say(f"{kind}: {row.tries} in {number} runs, {len(row.failures)} failures")
        return row

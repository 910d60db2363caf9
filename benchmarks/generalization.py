"""Linear probes on Caltech-101 beside training from scratch, and the figures of Zeiler & Fergus (2013, Tables 4 and 7).

    python benchmarks/generalization.py [--network lenslet] [--scratch 1] [--folds 5] [--parts FOLDER]

Needs the shared data (NETLOUPE_SHARED or ../shared). About an hour on two cores: most of it is training from scratch.
--parts keeps what has been computed of each network in a folder, so that a run can be cut and taken up.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from common import SHARED, mobilenet, publish

from netloupe.cli.watch import Bars
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.studies.generalization.measure import generalization
from netloupe.studies.generalization.task import percent
from netloupe.zoo.load import load

PER_CLASS = (15, 30)
PAPER = {  # accuracy in % on Caltech-101, by images per class: Table 4
    "features of ImageNet, softmax": {15: "83.8 ± 0.5", 30: "86.5 ± 0.5"},
    "from scratch": {15: "22.8 ± 1.5", 30: "46.5 ± 1.7"},
}
PAPER_LAYERS = {  # Table 7, 30 per class
    "SVM": {1: "44.8 ± 0.7", 2: "66.2 ± 0.5", 3: "72.3 ± 0.4", 4: "76.6 ± 0.4", 5: "86.2 ± 0.8", 7: "85.5 ± 0.4"},
    "softmax": {5: "82.9 ± 0.4", 7: "85.4 ± 0.4"},
}
TITLE = "Generalization: linear probes on Caltech-101"


def network(name: str) -> Network:
    return load("lenslet") if name == "lenslet" else mobilenet()


def measured(name: str, folds: int, scratch: int, parts: Path | None) -> dict[str, Any]:
    """The summary of the study for a network."""
    kept = None if parts is None else parts / f"generalization-{name}.json"
    if kept is not None and kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    source = open_source(SHARED / "data" / "caltech-101-*.parquet")
    with Bars() as watch:
        result = generalization(network(name), source, per_class=PER_CLASS, folds=folds, scratch=scratch, watch=watch)
    found = result.summary()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def overview(found: dict[str, dict[str, Any]]) -> list[dict[str, object]]:
    """The best probes beside training from scratch and the paper."""
    rows: list[dict[str, object]] = []
    for name, one in found.items():
        for kind, title in (("logistic", "logistic"), ("svm", "linear SVM")):
            row: dict[str, object] = {"": f"{name}, best layer, {title}"}
            for count in PER_CLASS:
                probes = one["per_class"][str(count)]["probes"]
                layer = max(probes, key=lambda each: probes[each][kind]["mean"])
                row[f"{count} per class"] = f"{percent(probes[layer][kind])} ({layer})"
            rows.append(row)
        scratch = {count: one["per_class"][str(count)]["scratch"] for count in PER_CLASS}
        if any(each is not None for each in scratch.values()):
            folds = max(each["folds"] for each in scratch.values() if each is not None)
            text = f"{name}, from scratch ({folds} fold{'s' if folds > 1 else ''})"
            rows.append({"": text} | {f"{count} per class": percent(each) for count, each in scratch.items()})
    for title, values in PAPER.items():
        rows.append({"": f"Zeiler & Fergus, {title}"} | {f"{count} per class": values[count] for count in PER_CLASS})
    return rows


def by_layer(one: dict[str, Any]) -> list[dict[str, object]]:
    """All layers of a network; the paper's beside them by number."""
    rows: list[dict[str, object]] = []
    for i, layer in enumerate(one["layers"], 1):
        row: dict[str, object] = {"layer": f"{i} {layer}"}
        for count in PER_CLASS:
            probe = one["per_class"][str(count)]["probes"][layer]
            row |= {f"logistic, {count}": percent(probe["logistic"]), f"SVM, {count}": percent(probe["svm"])}
        row["paper's layer, SVM, 30"] = PAPER_LAYERS["SVM"].get(i, "-")
        row["paper's layer, softmax, 30"] = PAPER_LAYERS["softmax"].get(i, "-")
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", choices=("lenslet", "MobileNet v2"), help="default: both")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--scratch", type=int, default=1, help="folds trained from scratch, of lenslet only")
    parser.add_argument("--parts", type=Path, default=None)
    given = parser.parse_args()
    names = given.network or ["lenslet", "MobileNet v2"]
    found = {
        name: measured(name, given.folds, given.scratch if name == "lenslet" else 0, given.parts) for name in names
    }
    text = (
        f"Mean accuracy per class in % over {given.folds} random folds, ± standard deviation: 15 or 30 images of each "
        "of the 101 classes train, the rest (1 to 35) test. The study is `netloupe study generalization`; "
        "`docs/generalization.md` says how it works."
    )
    more = [(f"{name} by layer:", by_layer(one)) for name, one in found.items()]
    publish("generalization", TITLE, text, overview(found), found, *more)


if __name__ == "__main__":
    main()

"""Does the highest importance lie on the object? All attribution methods over boxed images of tiny-imagenet.

python benchmarks/pointing.py [--model NAME] [--first N] [--costly N] [--methods NAME ...] [--state FOLDER]

Goes on where it was after a kill: the points of each method are kept under build/pointing.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from common import ROOT, SHARED, publish

import netloupe
from netloupe.analysis.fidelity import center_map, pointing_hit, points, random_map
from netloupe.analysis.methods import Method, quick_methods
from netloupe.analysis.tasks import left_out
from netloupe.core.errors import NetworkError
from netloupe.core.files import write_atomically
from netloupe.data.images import to_float
from netloupe.data.sources import ImageSource, read_batches

SAMPLES, STEPS = 5, 6  # of SmoothGrad and integrated gradients
SETTINGS = {"occlusion": "16 px, 8 px", "smooth_grad": f"{SAMPLES} samples", "integrated_gradients": f"{STEPS} steps"}
COSTLY = (
    f"SmoothGrad with {SAMPLES} samples, integrated gradients with {STEPS} steps, occlusion with a window of 16 px and "
    "a stride of 8 px. "
)
BATCH = 50
SAVE_EVERY = 20.0  # seconds
UNDONE = -2  # a point that is not computed yet
DIFFICULT = 1 / 3  # a box that covers less of its image is a small target

PUBLISHED = {  # VOC07 test, VGG-16, tolerance 15 px: Zhang et al. (2018); the last two as listed by Fong et al. (2019)
    "center": 69.6,
    "gradient": 76.3,
    "deconvnet": 67.5,
    "guided_backprop": 75.9,
    "grad_cam": 86.6,
}
GRADED = [("rollout", "relevance"), ("rollout", "legrad")]
"""Of methods by attention, the second is published as better: Chefer et al. (2021), Bousselham et al. (2024)."""


def load_data() -> tuple[ImageSource, np.ndarray]:
    """The validation images and their boxes (N, 4): top, left, bottom, right, in px, bottom and right excluded."""
    import pyarrow.parquet as pq

    folder = SHARED / "data" / "tiny-imagenet"
    files = sorted(folder.glob("val-*.parquet"))
    if not files or not (folder / "val_boxes.json").is_file():
        sys.exit(f"no tiny-imagenet with boxes at {folder} (fix: set NETLOUPE_SHARED)")
    named = json.loads((folder / "val_boxes.json").read_text())
    names = [name for file in files for name in pq.read_table(file, columns=["name"]).column("name").to_pylist()]
    boxes = np.array([[y0, x0, y1 + 1, x1 + 1] for x0, y0, x1, y1 in (named[name] for name in names)])
    return netloupe.open_source(folder / "val-*.parquet"), boxes


def by_class(labels: np.ndarray, ids: np.ndarray) -> Iterator[np.ndarray]:
    """The ids in batches of one class, since those share an objective."""
    for label in np.unique(labels[ids]):
        same = ids[labels[ids] == label]
        yield from np.array_split(same, -(-len(same) // BATCH))


class Points:
    """The points (y, x) of one method in a file, so that a run goes on where it was."""

    def __init__(self, path: Path, identity: str, count: int) -> None:
        self.path, self.identity = path, identity
        self.found = np.full((count, 2), UNDONE, dtype=np.int16)
        self.saved = time.monotonic()
        if path.exists():
            with np.load(path) as file:
                if str(file["identity"]) != identity:
                    sys.exit(f"{path}: points of another network, data or settings (fix: delete it)")
                self.found = file["points"]

    def save(self) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, points=self.found, identity=np.array(self.identity))
        write_atomically(self.path, buffer.getvalue())
        self.saved = time.monotonic()


def point_all(
    net: netloupe.Network, method: Method, pixels: np.ndarray, labels: np.ndarray, ids: np.ndarray, kept: Points
) -> None:
    """Fill in the points of `ids` that are not there yet."""
    left = ids[kept.found[ids, 0] == UNDONE]
    done, start = len(ids) - len(left), time.monotonic()
    for some in by_class(labels, left):
        images = to_float(pixels[some])
        attribution = method.attribution(net, images, netloupe.objectives.logit(int(labels[some[0]])))
        kept.found[some] = points(method.importance(attribution)).numpy()
        done += len(some)
        if time.monotonic() - kept.saved > SAVE_EVERY or done == len(ids):
            kept.save()
            speed = (done - len(ids) + len(left)) / (time.monotonic() - start)
            print(f"{method.name}: {done:,} of {len(ids):,}, {speed:.1f} images/s", file=sys.stderr, flush=True)


def applicable(
    net: netloupe.Network, methods: Sequence[Method], image: torch.Tensor
) -> tuple[list[Method], dict[str, str]]:
    """The methods that can explain this network, tried on one image (1, C, H, W), and why others can't."""
    able: list[Method] = []
    reasons: dict[str, str] = {}
    for method in methods:
        try:
            method.attribution(net, image, netloupe.objectives.logit(0))
            able.append(method)
        except NetworkError as error:
            reasons[method.name] = str(error)
    return able, reasons


def predicted(net: netloupe.Network, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([net(to_float(part)).argmax(1).numpy() for part in np.array_split(pixels, 50)])


def hits(found: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return pointing_hit(torch.from_numpy(found.astype(np.int64)), torch.from_numpy(boxes)).numpy()


def compare(hit: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Each pair of published methods: in the same order here, the other way round, or too near to tell."""
    found: dict[str, list[str]] = {"same": [], "other": [], "near": []}
    there = [name for name in PUBLISHED if name in hit]
    for a, b in combinations(sorted(there, key=lambda name: -PUBLISHED[name]), 2):
        difference = hit[a].astype(float) - hit[b].astype(float)
        error = difference.std() / len(difference) ** 0.5
        kind = "near" if abs(difference.mean()) < 2 * error else "same" if difference.mean() > 0 else "other"
        found[kind].append(f"{TITLES[a]} over {TITLES[b]}")
    return found


def by_attention(hit: dict[str, np.ndarray]) -> str:
    """Where the published order of methods by attention is found here, or nothing of a network without them."""
    said = []
    for worse, better in GRADED:
        if worse in hit and better in hit:
            difference = hit[better].astype(float) - hit[worse].astype(float)
            error = difference.std() / len(difference) ** 0.5
            said.append(
                f"{TITLES[better]} {100 * difference.mean():+.1f} points against {TITLES[worse].lower()} "
                f"(standard error {100 * error:.1f})"
            )
    return f" Published is that gradients help attention: {', '.join(said)}." if said else ""


def verdict(hit: dict[str, np.ndarray]) -> str:
    """Where the order of the published numbers is found here, computed from the hits."""
    kinds = compare(hit)
    total = sum(map(len, kinds.values()))
    parts = [f"Of the {total} pairs of published methods {len(kinds['same'])} come in the published order"]
    parts += [f"the other way round: {', '.join(kinds['other'])}"] if kinds["other"] else []
    parts += [f"within two standard errors of each other: {', '.join(kinds['near'])}"] if kinds["near"] else []
    return "; ".join(parts) + "."


TITLES = {method.name: method.title for method in quick_methods()} | {"center": "center", "random": "random"}


def title(net: netloupe.Network) -> str:
    return "Pointing game" if net.name == "lenslet" else f"Pointing game of {net.name}"


def report(
    net: netloupe.Network,
    hit: dict[str, np.ndarray],
    used: dict[str, np.ndarray],
    difficult: np.ndarray,
    right: np.ndarray,
    reasons: dict[str, str],
    costly: int | None,
) -> None:
    n, few = len(difficult), int(difficult.sum())
    rows = [
        {
            "method": TITLES[name],
            "all images": f"{found.mean():.1%}",
            "small boxes": f"{found[difficult[used[name]]].mean():.1%}",
            "images": f"{len(found):,}",
            "VOC07, VGG-16 (published)": f"{PUBLISHED[name]}%" if name in PUBLISHED else "",
        }
        for name, found in hit.items()
    ]
    spread = [50 / count**0.5 for count in (n, few)]
    small = {name: found[difficult] for name, found in hit.items() if len(found) == n}
    fewest = min(len(found) for found in hit.values())
    fewer = f" Over {fewest:,} images, of the methods of many passes, it is up to {50 / fewest**0.5:.1f} points."
    text = (
        f"The share of images whose highest importance for the labeled class's logit lies in the object's box "
        f"(tolerance 0 px), over {n:,} validation images of tiny-imagenet with {net.name} ({right.mean():.1%} top-1 "
        f"on them), standard error at most {spread[0]:.1f} points; and over the {few:,} whose box covers under a third "
        f"of the image (at most {spread[1]:.1f} points), because most objects fill the frame, so that the center is "
        f"hard to beat.{fewer if fewest < n else ''} "
        f"{COSTLY if SETTINGS.keys() & hit.keys() else ''}Beside them what was published for VGG-16 on the test "
        "images of VOC07 with 15 px of tolerance (Zhang et al. 2018; guided backprop and Grad-CAM as listed by Fong et "
        "al. 2019): another network, other images and larger ones, so only the order can be compared.\n\n"
        f"All images: {verdict(hit)}{by_attention(hit)}\n\n"
        f"Small boxes: {verdict(small)}{by_attention(small)}"
    )
    if reasons:
        text += "\n\nLeft out: " + " ".join(f"{names}: {reason}." for names, reason in left_out(reasons))
    numbers = {
        "images": n,
        "small boxes": few,
        "top1": float(right.mean()),
        "hits": {name: [int(found.sum()), int(found[difficult[used[name]]].sum())] for name, found in hit.items()},
        "of": {name: [len(found), int(difficult[used[name]].sum())] for name, found in hit.items()},
        "published": PUBLISHED,
    }
    own = net.name == "lenslet"
    command = "pointing.py" if own else f"pointing.py --model {net.name}"
    command += "" if costly is None else f" --costly {costly}"
    publish("pointing" if own else f"pointing-{net.name}", title(net), text, rows, numbers, command=command)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenslet", help="the network, by its name")
    parser.add_argument("--first", type=int, help="only the first N images, for a trial that publishes nothing")
    parser.add_argument("--costly", type=int, help="only N images, evenly spread, for the methods of many passes")
    parser.add_argument("--methods", nargs="*", help="these and no more; of lenslet nothing is published")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "pointing", help="where points are kept")
    options = parser.parse_args(arguments)
    source, boxes = load_data()
    net = netloupe.load(options.model)
    state = options.state if options.model == "lenslet" else options.state / net.name
    state.mkdir(parents=True, exist_ok=True)
    assert source.labels is not None
    labels, ids = np.array(source.labels), np.arange(len(source))[: options.first]
    pixels = np.concatenate([batch.pixels for batch in read_batches(source.first(options.first), net.inputs.size)])
    methods, reasons = applicable(net, quick_methods(samples=SAMPLES, steps=STEPS), to_float(pixels[:1]))
    every = 1 if options.costly is None else max(1, len(ids) // options.costly)
    used = {method.name: ids[::every] if method.name in SETTINGS else ids for method in methods}
    found = {}
    for method in sorted(methods, key=lambda method: method.name in SETTINGS):  # the costly ones last
        if options.methods is not None and method.name not in options.methods:
            continue
        identity = f"{net.fingerprint()} {source.fingerprint()} {method.name} {SETTINGS.get(method.name, '')}"
        kept = Points(state / f"{method.name}.npz", identity, len(source))
        point_all(net, method, pixels, labels, used[method.name], kept)
        found[method.name] = kept.found[used[method.name]]
    if options.methods is not None and options.model == "lenslet":
        return
    used = {name: used[name] for name in used if name in found}
    found = {name: found[name] for name in used}
    found["center"] = points(center_map(len(ids), *net.inputs.size)).numpy()
    found["random"] = points(random_map(len(ids), *net.inputs.size)).numpy()
    used |= {"center": ids, "random": ids}
    hit = {name: hits(at, boxes[used[name]]) for name, at in found.items()}
    area = (boxes[ids, 2] - boxes[ids, 0]) * (boxes[ids, 3] - boxes[ids, 1]) / np.prod(net.inputs.size)
    if options.first is None:
        report(net, hit, used, area < DIFFICULT, predicted(net, pixels) == labels[ids], reasons, options.costly)
    else:
        for name, one in hit.items():
            print(f"{name:22} {one.mean():6.1%} {one[area[used[name]] < DIFFICULT].mean():6.1%}")
        print(verdict(hit))


if __name__ == "__main__":
    main()

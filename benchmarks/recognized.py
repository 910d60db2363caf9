"""Are class images recognizable? Images made on one network are shown to another, which was trained apart from it.

Those of MobileNet v2, by each preset, to lenslet; with --plain those of lenslet and lenslet-robust, by nothing but
steps up the gradient in pixels, to MobileNet v2. Needs the MobileNet v2 and the class lists beside the design page.
Goes on where it was after a kill: the images of each preset are kept under build/recognized. `--quick` publishes
nothing.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from common import ROOT, SHARED, mobilenet, publish
from torch import Tensor
from torch.nn.functional import interpolate

import netloupe
from netloupe import Network
from netloupe.synthesis.presets import PRESETS

SIZE = 128  # px


def load_networks() -> tuple[Network, Network, list[tuple[int, int]]]:
    """MobileNet v2, lenslet, and the pairs of indices of the classes that both know."""
    maker = mobilenet()
    known = json.loads((SHARED / "data" / "imagenet-samples" / "labels.json").read_text())
    shared = json.loads((SHARED / "data" / "tiny-imagenet" / "classes.json").read_text())
    return maker, netloupe.load(), [(known[c["wnid"]]["index"], c["index"]) for c in shared]


def make(maker: Network, classes: list[int], preset: str) -> Tensor:
    """(N, 3, SIZE, SIZE), a block of classes at a time."""
    blocks = []
    for first in range(0, len(classes), 16):
        path = ROOT / "build" / "recognized" / f"{preset}-{SIZE}-{len(classes)}-{first}-{maker.fingerprint()}.npy"
        if not path.exists():
            addresses = [f"class:{index}" for index in classes[first : first + 16]]
            found = netloupe.visualize(maker, addresses, preset=preset, size=SIZE)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, found.images)
        blocks.append(torch.from_numpy(np.load(path)))
    return torch.cat(blocks)


def ranks(judge: Network, images: Tensor, classes: list[int], among: list[int] | None = None) -> np.ndarray:
    """(N,) the place of each image's class in the judge's order, 0 for the first; `among`: of those classes alone."""
    seen = interpolate(images, judge.inputs.size, mode="bilinear", antialias=True).clamp(0, 1)
    with torch.no_grad():
        logits = judge(seen)
    own = logits[torch.arange(len(classes)), classes]
    return np.asarray((logits[:, among or slice(None)] > own[:, None]).sum(1))


def plain(quick: bool) -> None:
    """Images of every fourth class by plain ascent, made on lenslet and its robust twin, shown to MobileNet v2."""
    judge, _, pairs = load_networks()
    among = [index for index, _ in pairs]
    chosen = pairs[::4]
    rows, raw = [], {}
    for name, settings, seeds in WAYS:
        net = netloupe.load(name)
        orders = []
        for seed in range(seeds):
            found = netloupe.visualize(net, [f"class:{own}" for _, own in chosen], size=64, seed=seed, **settings)
            orders.append(ranks(judge, torch.as_tensor(found.images), [index for index, _ in chosen], among))
        order, way = np.stack(orders), f"{name}, {settings['preset']}"
        raw[way] = order.tolist()
        shares = {f"among MobileNet's first {most}": _spread((order < most).mean(1)) for most in (1, 5)}
        rows.append({"made on, preset": way, **shares})
        print(rows[-1], flush=True)
    if not quick:
        text = PLAIN.format(len(chosen))
        title, command = "Class images without any prior", "recognized.py --plain"
        publish("recognized-plain", title, text, rows, {"ranks": raw}, command=command)


def _spread(shares: np.ndarray) -> str:
    return (
        f"{shares.mean():.0%}"
        if len(shares) == 1
        else f"{shares.mean():.0%} ({shares.min():.0%} to {shares.max():.0%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=100, help="how many, spread evenly over the 200 shared ones")
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--plain", action="store_true", help="lenslet and lenslet-robust, judged by MobileNet v2")
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
    if options.plain:
        plain(options.quick)
        return
    maker, judge, pairs = load_networks()
    chosen = [pairs[i] for i in np.linspace(0, len(pairs) - 1, options.classes).astype(int)]
    rows, raw = [], {}
    for preset in options.presets:
        images = make(maker, [index for index, _ in chosen], preset)
        order = ranks(judge, images, [index for _, index in chosen])
        own = ranks(maker, images, [index for index, _ in chosen])
        raw[preset] = order.tolist()
        rows.append(
            {
                "preset": preset,
                "lenslet's first": f"{(order == 0).mean():.0%}",
                "among lenslet's first five": f"{(order < 5).mean():.0%}",
                "MobileNet's own first": f"{(own == 0).mean():.0%}",
            }
        )
        print(rows[-1], flush=True)
    if not options.quick:
        publish("recognized", "Recognizable class images", TEXT.format(options.classes), rows, {"ranks": raw})


STEP = 0.5 / (3 * 64 * 64) ** 0.5  # root mean square of a step of Euclidean length 0.5
CLIMB = {"preset": "none", "steps": 60, "lr": STEP}
WAYS: list[tuple[str, dict[str, Any], int]] = [
    ("lenslet", CLIMB, 3),
    ("lenslet-robust", CLIMB, 3),
    ("lenslet", {"preset": "lucid"}, 1),
]
"""Networks, settings, and from how many seeds."""
PLAIN = """Images of {} classes (every fourth) of 64 px, made on lenslet and on its robust twin, shown to MobileNet v2,
which chooses among the 200 classes that all know (2.5 % are right among five by chance): where there is a range,
means over three seeds. Preset none: 60 steps of Euclidean length 0.5 along the gradient of the class's logit from
nearly gray noise, pixels in [0, 1], with no regularization at all."""
TEXT = f"""Images of {{}} classes made on MobileNet v2 at {SIZE} px with each preset's own settings, shown to lenslet
(64 px, 200 classes, 2.5 % are right among five by chance), which was trained apart from it."""


if __name__ == "__main__":
    main()

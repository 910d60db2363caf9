"""Are class images recognizable? Images made on MobileNet v2 are shown to lenslet, which was trained apart from it.

Needs the MobileNet v2 and the class lists beside the design page. Goes on where it was after a kill: the images of
each preset are kept under build/recognized. `--quick` publishes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from common import ROOT, publish
from torch import Tensor
from torch.nn.functional import interpolate

import netloupe
from netloupe import Network
from netloupe.synthesis.presets import PRESETS

SHARED = Path(os.environ.get("NETLOUPE_SHARED", ROOT.parent / "shared"))
SIZE = 128  # px


def load_networks() -> tuple[Network, Network, list[tuple[int, int]]]:
    """MobileNet v2, lenslet, and the pairs of indices of the classes that both know."""
    folder = SHARED / "models"
    if not folder.is_dir():
        sys.exit(f"no networks at {folder} (fix: set NETLOUPE_SHARED)")
    weights = folder / "mobilenet_v2_1.0_224.safetensors"
    wants = netloupe.InputSpec((224, 224), mean=(128 / 255,) * 3, std=(128 / 255,) * 3)
    maker = netloupe.load(f"{folder / 'mobilenet.py'}:mobilenet_v2_100", weights=str(weights), inputs=wants)
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


def ranks(judge: Network, images: Tensor, classes: list[int]) -> np.ndarray:
    """(N,) the place of each image's class in the judge's order, 0 for the first."""
    seen = interpolate(images, judge.inputs.size, mode="bilinear", antialias=True).clamp(0, 1)
    with torch.no_grad():
        logits = judge(seen)
    own = logits[torch.arange(len(classes)), classes]
    return np.asarray((logits > own[:, None]).sum(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=100, help="how many, spread evenly over the 200 shared ones")
    parser.add_argument("--presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
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


TEXT = f"""Images of {{}} classes made on MobileNet v2 at {SIZE} px with each preset's own settings, shown to lenslet
(64 px, 200 classes, 2.5 % are right among five by chance), which was trained apart from it."""


if __name__ == "__main__":
    main()

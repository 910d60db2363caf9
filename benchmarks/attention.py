"""What reading attention costs: a ViT-S/16 of timm, bare and read, with class-token rows or whole weights.

Random weights. `--quick` publishes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from common import publish, ratios, time_interleaved
from torch import Tensor

import netloupe
from netloupe import Network
from netloupe.zoo.load import load

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from torchvision_operators import define_operators

define_operators()

NAME, BOUND = "vit_small_patch16_224", 1.3


def ways(net: Network, images: Tensor) -> dict[str, Any]:
    """The same pass, bare and with the weights of all layers read."""
    layers = list(net.attentions)

    def bare() -> None:
        with torch.no_grad():
            net(images)

    def rows() -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        netloupe.attention(net, images, layers, queries=[0]).each(kept.__setitem__)
        return kept

    def whole() -> None:
        netloupe.attention(net, images, layers).each(lambda *_: None)

    return {"bare": bare, "class-token rows": rows, "whole": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
    net = load(f"timm:{NAME}", weights="random", seed=0)
    rows, numbers = [], {}
    for count in options.batches:
        images = torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        times = time_interleaved(ways(net, images), rounds=options.rounds)
        shown: dict[str, object] = {"images": count, "bare, ms": f"{1000 * times['bare'].median:.1f}"}
        for name in ("class-token rows", "whole"):
            middle, low, high = (1 / ratio for ratio in ratios(times["bare"], times[name]))
            shown[f"{name} / bare"] = f"{middle:.2f} ({high:.2f} to {low:.2f})"
        rows.append(shown)
        numbers[str(count)] = {name: timing.rounds for name, timing in times.items()}
    if options.quick:
        for row in rows:
            print(row)
        return
    publish("attention", "Attention", TEXT, rows, {"network": NAME, "seconds": numbers})


TEXT = f"""The attention of all 12 layers of a ViT-S/16 at 224 px (timm, fused attention, float32, random weights), read
without gradients, over the bare pass: where only the class token's rows are kept, (N, 6, 1, 197) a layer, at most
{BOUND} times was asked for; whole, (N, 6, 197, 197) a layer, each layer's let go before the next."""


if __name__ == "__main__":
    main()

"""Gradient ascent: what a step costs, whether images beat photographs, and how near fooling images stay.

Reads tiny-imagenet's validation images, found as `benchmarks/pointing.py` finds them. Goes on where it was after a
kill: rows that took long are kept under build/synthesis. `--quick` publishes nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import ROOT, publish, ratios, time_interleaved
from pointing import load_data
from torch import Tensor

import netloupe
from netloupe import Network
from netloupe import objectives as obj
from netloupe.data.images import to_float
from netloupe.data.sources import read_batches
from netloupe.synthesis.climb import climb
from netloupe.synthesis.fool import fool
from netloupe.synthesis.parameterizations import Fourier, Pixels
from netloupe.synthesis.presets import robust
from netloupe.synthesis.recipe import Recipe
from netloupe.synthesis.starts import start_images
from netloupe.synthesis.visualize import visualize

STEPS = 8  # of a timed climb
FEWER, DEEP = 64, ("conv5", "conv6", "conv7")  # steps and layers whose channels need no more to get ahead
WANTED_STEP, WANTED_SHARE, WANTED_FOOLED = 1.15, 0.95, 0.99


def step_costs(net: Network, rounds: int) -> list[dict[str, object]]:
    """A step of `climb` beside the bare pass forward and back of the network cut at the layer."""
    rows = []
    for layer, size in (("conv3", 64), ("conv5", 96), ("conv7", 96)):
        count = 16
        x = start_images(net, "noise", count, (size, size), 0).clone().requires_grad_()
        objectives = [obj.channel(layer, c) for c in range(count)]
        picked = torch.arange(count)

        def bare(layer: str = layer, x: Tensor = x, picked: Tensor = picked) -> None:
            for _ in range(STEPS):
                maps = net.reading(x, [layer]).layer(layer)
                torch.autograd.grad(maps[picked, picked].mean((1, 2)).sum(), x)

        def ours(x: Tensor = x, objectives: Any = objectives, **options: Any) -> None:
            climb(net, objectives, x.detach(), Recipe(steps=STEPS, **options))

        ways = {
            "bare": bare,
            "pixels": lambda ours=ours: ours(parameterization=Pixels()),
            "lucid": lambda ours=ours, size=size: ours(parameterization=Fourier(), transforms=robust((size, size))),
        }
        times = time_interleaved(ways, rounds=rounds)
        shares = {name: ratios(times[name], times["bare"]) for name in ("pixels", "lucid")}
        rows.append(
            {
                "layer": f"{layer}, {count} channels, {size} px",
                "bare step, ms": f"{1e3 * times['bare'].median / STEPS:.1f}",
                **{f"{name} / bare": f"{r[0]:.2f} ({r[1]:.2f} to {r[2]:.2f})" for name, r in shares.items()},
                "wanted": f"at most {WANTED_STEP}",
            }
        )
    return rows


def kept(name: str, net: Network, find: Callable[[], dict[str, object]]) -> dict[str, object]:
    """The row of that name for this network, from the last run if it got so far."""
    path = ROOT / "build" / "synthesis" / f"{name}-{net.fingerprint()}.json"
    if not path.exists():
        row = find()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row))
    found: dict[str, object] = json.loads(path.read_text())
    print(found, flush=True)
    return found


def beaten(net: Network, layers: list[str]) -> list[dict[str, object]]:
    """How many channels are excited more by their image than by any photograph, at their strongest position."""
    source, _ = load_data()

    def find(layer: str) -> dict[str, object]:
        top = netloupe.top_patches(net, source, layers=[layer], k=1)
        best = np.asarray(top[layer].values)[:, 0]
        live = [int(c) for c in np.nonzero(best > 0)[0]]
        steps = FEWER if layer in DEEP else None
        found = visualize(net, [f"{layer}:{c}" for c in live], steps=steps)
        with torch.no_grad():
            maps = [net.activations(part, [layer])[layer] for part in torch.from_numpy(found.images).split(64)]
        peaks = torch.cat(maps).flatten(2).amax(2).numpy()[np.arange(len(live)), live]
        ahead = peaks > best[live]
        return {
            "layer": layer,
            "live channels": len(live),
            "steps": len(found.history),
            "beat their best patch": f"{ahead.mean():.1%}",
            "median of synthesized / real": f"{np.median(peaks / best[live]):.2f}",
            "wanted": f"{WANTED_SHARE:.0%}",
        }

    return [kept(f"beaten-{layer}", net, lambda layer=layer: find(layer)) for layer in layers]


def fooled(net: Network, pairs: int) -> list[dict[str, object]]:
    """Random validation images and targets, within 8/255, as eight-bit files store them."""
    source, _ = load_data()
    draw = np.random.default_rng(0)
    pixels = np.concatenate([batch.pixels for batch in read_batches(source, net.inputs.size)])
    ids, targets = draw.integers(len(pixels), size=pairs), draw.integers(net.head.count, size=pairs)
    images = to_float(pixels[ids])

    def find(method: str) -> dict[str, object]:
        found = fool(net, images, [int(t) for t in targets], method=method, sure=0.5, batch_size=50)
        assert float(np.abs(found.images - found.originals).max()) <= 8 / 255 + 1e-6
        return {
            "method": method,
            "pairs": pairs,
            "fooled": f"{found.fooled.mean():.1%}",
            "median PSNR, dB": f"{np.median(found.psnr[np.isfinite(found.psnr)]):.1f}",
            "median steps": int(np.median(found.steps)),
            "wanted": f"{WANTED_FOOLED:.0%}" if method == "pgd" else "",
        }

    methods = ("fgsm", "iterated", "pgd")
    return [kept(f"fooled-{method}-{pairs}", net, lambda method=method: find(method)) for method in methods]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--layers", nargs="*", default=["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "conv7"])
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
    net = netloupe.load()
    attacks, ahead = fooled(net, options.pairs), beaten(net, options.layers)
    costs = step_costs(net, options.rounds)
    if options.quick:
        print(*costs, sep="\n")
        return
    publish(
        "synthesis",
        "Synthesis",
        STEP_TEXT,
        costs,
        {"steps": costs, "beaten": ahead, "fooled": attacks},
        (BEATEN_TEXT, ahead),
        (FOOLED_TEXT, attacks),
    )


STEP_TEXT = """A step of `climb` on lenslet beside the bare pass forward and back of the network cut at the same layer,
same batch: the pixels themselves, and frequencies under the transforms of the preset lucid."""

BEATEN_TEXT = """Channels that their image (preset lucid, the network's input size) excites more, at its strongest
position, than any of the 10,000 validation images of tiny-imagenet does; channels that no photograph excites are left
out."""

FOOLED_TEXT = """Random validation images of tiny-imagenet with random targets, within 8/255 of the original, as
eight-bit files store them; an image counts as fooled if the target is the most probable class."""


if __name__ == "__main__":
    main()

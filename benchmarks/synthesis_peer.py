"""Feature visualization beside torch-lucent: the same network, layer, size, number of steps and of channels.

    pip install --no-deps torchvision==0.28.0 torch-lucent==0.1.8 kornia==0.4.1
    pip install -c constraints.txt tqdm decorator future packaging ipython

Weights are random: they don't change how long a step takes. Both climb frequencies with Adam under random transforms.
The peer is measured as its documentation uses it, a channel at a time, and with all channels in one batch.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import publish, ratios, time_interleaved

import netloupe
from netloupe import InputSpec, Network

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from torchvision_operators import define_operators

define_operators()
import torchvision.models  # noqa: E402
from lucent.optvis import objectives, param, render  # noqa: E402

CHANNELS, STEPS, WANTED = 16, 32, 3.0
CASES = (("vgg16", "features.19", 112), ("googlenet", "inception4a", 112), ("resnet18", "layer3", 112))


def load(name: str) -> Network:
    """With random weights."""
    torch.manual_seed(0)
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    module = getattr(torchvision.models, name)(weights=None, **options).eval()
    return Network(module, InputSpec((224, 224)), name=name)


def one_by_one(module: Any, layer: str, size: int) -> None:
    """As the peer's documentation does it."""
    for channel in range(CHANNELS):
        climbed(module, f"{layer}:{channel}", size, 1)


def together(module: Any, layer: str, size: int) -> None:
    """All channels in one batch."""
    climbed(
        module,
        objectives.Objective.sum([objectives.channel(layer, c, batch=c) for c in range(CHANNELS)]),
        size,
        CHANNELS,
    )


def climbed(module: Any, objective: Any, size: int, batch: int) -> None:
    """A call of the peer."""
    render.render_vis(
        module,
        objective,
        param_f=lambda: param.image(size, batch=batch),
        thresholds=(STEPS,),
        show_image=False,
        progress=False,
        fixed_image_size=size,
    )


def ours(net: Network, layer: str, size: int) -> None:
    """All channels, in the batches that `visualize` makes."""
    netloupe.visualize(net, [f"{layer}:{c}" for c in range(CHANNELS)], size=size, steps=STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name, layer, size in CASES:
        net = load(name)
        known = layer.replace(".", "_")
        ways = {
            "netloupe": partial(ours, net, layer, size),
            "one by one": partial(one_by_one, net.module, known, size),
            "together": partial(together, net.module, known, size),
        }
        times = time_interleaved(ways, rounds=options.rounds)
        single, batch = (ratios(times[way], times["netloupe"]) for way in ("one by one", "together"))
        rows.append(
            {
                "network": f"{name}, {layer}, {size} px",
                "netloupe, images/s of 256 steps": times["netloupe"].rate(CHANNELS * STEPS / 256),
                "torch-lucent / netloupe, time": f"{single[0]:.1f} ({single[1]:.1f} to {single[2]:.1f})",
                "the same, channels in one batch": f"{batch[0]:.1f} ({batch[1]:.1f} to {batch[2]:.1f})",
                "wanted": f"{WANTED:g}",
            }
        )
        print(rows[-1], flush=True)
    if not options.quick:
        publish("synthesis_peer", "Synthesis beside a peer", TEXT, rows, {"cases": rows})


TEXT = f"""Images of {CHANNELS} channels with `visualize` and with torch-lucent 0.1.8, random weights, {STEPS} steps
each round: the peer as its documentation uses it, a channel at a time, and with all channels in one batch. The peer
runs the whole network, differentiates the weights too, and multiplies in float32; we in bfloat16 where the hardware
can."""


if __name__ == "__main__":
    main()

"""How much slower than the bare forward pass is a sweep that feeds all accumulators of an atlas, and what does it hold?

python benchmarks/sweep.py [--images N] [--rounds N] [--skip-memory]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

import numpy as np
import torch
from common import mobilenet, publish, ratios, resident_mb, time_interleaved
from PIL import Image
from torch import Tensor, nn

from netloupe.core.inputs import InputSpec
from netloupe.core.memory import keep_memory
from netloupe.core.network import Network
from netloupe.data.sources import ImageSource
from netloupe.sweep.accumulator import Accumulator
from netloupe.sweep.classes import ClassMeans
from netloupe.sweep.engine import sweep
from netloupe.sweep.peaks import Peaks
from netloupe.sweep.top import Strongest
from netloupe.sweep.vectors import Features, Predictions
from netloupe.zoo.architectures import Lenslet

SIDE = 64
LARGE = 224
KINDS = {"lenslet": SIDE, "resnet": SIDE, "resnet-224": LARGE}  # side of their images
BATCH_SIZES = (8, 16, 32)  # the forward pass is timed at its best


class Residual(nn.Module):
    """Two convolutions with batch norm and a shortcut, as in ResNet-18 (He et al. 2015)."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = (
            nn.Identity() if stride == 1 and inside == out else nn.Conv2d(inside, out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


def resnet(side: int) -> nn.Sequential:
    """A ResNet-18 but for batch norm in its shortcuts; its stem keeps images of 64 px at half size, without pooling."""
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    pool = [nn.MaxPool2d(3, 2, 1)] if side == LARGE else []
    widths = [(64, 64), (64, 128), (128, 256), (256, 512)]
    body = [Residual(a, b, s) for i, o in widths for a, b, s in ((i, o, 1 if i == o else 2), (o, o, 1))]
    classes = 1000 if side == LARGE else 200
    return nn.Sequential(*stem, *pool, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def network(kind: str) -> tuple[Network, str]:
    """A network with random weights, and its layer of features."""
    torch.manual_seed(0)
    side = KINDS[kind]
    module = Lenslet() if kind == "lenslet" else resnet(side)
    net = Network(
        module.eval(), InputSpec(size=(side, side), mean=(0.48, 0.45, 0.4), std=(0.27, 0.26, 0.28)), name=kind
    )
    return net, "mean" if kind == "lenslet" else str(len(module) - 2)


def accumulators(features: str) -> dict[str, Accumulator]:
    return {
        "patches": Strongest(9),
        "peaks": Peaks(),
        "classes": ClassMeans(),
        "features": Features(features),
        "predictions": Predictions(),
    }


def speed(kind: str, count: int, rounds: int) -> tuple[dict[str, object], dict[str, object]]:
    """A row of the table, and the raw seconds."""
    net, features = network(kind)
    units = sum(layer.channels for layer in net.layers.values())
    images = torch.rand(count, 3, *net.inputs.size, generator=torch.Generator().manual_seed(0))

    def forward(batch_size: int) -> None:
        with torch.no_grad():
            for batch in images.split(batch_size):
                net.module(net.inputs.normalize(batch))

    ways = {f"forward {b}": lambda b=b: forward(b) for b in BATCH_SIZES}
    timings = time_interleaved({**ways, "sweep": lambda: sweep(net, images, accumulators(features))}, rounds=rounds)
    best = min(ways, key=lambda name: timings[name].median)
    middle, low, high = ratios(timings[best], timings["sweep"])
    row = {
        "network": kind,
        "layers": len(net.layers),
        "units": units,
        "images": f"{count} of {KINDS[kind]} px",
        "forward, images/s": f"{timings[best].rate(count)}, batches of {best.split()[1]}",
        "sweep, images/s": timings["sweep"].rate(count),
        "sweep / forward": f"{middle:.3f} ({low:.3f} to {high:.3f})",
    }
    return row, {name: timing.rounds for name, timing in timings.items()}


def noise_source(count: int) -> ImageSource:
    def opener(i: int) -> Image.Image:
        return Image.fromarray(np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))

    return ImageSource("noise", [str(i) for i in range(count)], opener)


def memory(count: int) -> float:
    """Resident MiB at the end of a sweep over `count` images in a process of its own."""
    command = [sys.executable, __file__, "--measure-memory", str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def must_keep() -> None:
    if not keep_memory():
        raise SystemExit("memory is kept by the GNU C library only, with no other word of it in the environment")


def passed(keep: bool, count: int = 48) -> float:
    """Milliseconds an image of MobileNet v2 in batches of 16, as the sweep has them: the median of five."""
    if keep:
        must_keep()
    net = mobilenet()
    images = torch.rand(count, 3, LARGE, LARGE, generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        with torch.no_grad():
            for batch in images.split(16):
                net.module(net.inputs.normalize(batch))

    return 1000 * time_interleaved({"forward": forward}, rounds=5)["forward"].median / count


def kept(rounds: int) -> tuple[str, dict[str, list[float]]]:
    """What keeping memory saves, and the raw milliseconds; each is a process of its own, in turns."""
    found: dict[str, list[float]] = {"kept": [], "given back": []}
    for _ in range(rounds):
        for way, times in found.items():
            command = [sys.executable, __file__, "--measure-kept", way]
            times.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    shares = [one / other for one, other in zip(found["kept"], found["given back"], strict=True)]
    middle = {way: statistics.median(times) for way, times in found.items()}
    text = (
        f" Commands keep the memory of a pass for the next, as these passes do: MobileNet v2 takes {middle['kept']:.1f}"
        f" ms an image of {LARGE} px, in batches of 16, instead of {middle['given back']:.1f},"
        f" {statistics.median(shares):.2f} of it ({min(shares):.2f} to {max(shares):.2f})."
    )
    return text, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--measure-memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--measure-kept", choices=["kept", "given back"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_kept is not None:
        print(passed(options.measure_kept == "kept"))
        return
    if options.measure_memory is not None:
        net, features = network("lenslet")
        found = accumulators(features)
        sweep(net, noise_source(options.measure_memory), found)
        print(resident_mb())
        return
    saved, milliseconds = kept(options.rounds)
    must_keep()
    counts = {kind: options.images if side == SIDE else options.images // 2 for kind, side in KINDS.items()}
    found_rows = [speed(kind, count, options.rounds) for kind, count in counts.items()]
    text = (
        "All layers, k = 9, with every accumulator that an atlas needs, against the bare forward pass over the same "
        "images in memory at the batch size that suits it best; random weights, float32." + saved
    )
    held: dict[str, float] = {}
    if not options.skip_memory:
        held = {str(count): memory(count) for count in (1_000, 10_000)}
        grown = held["10000"] - held["1000"]
        text += (
            f" Without that, resident memory after a sweep of lenslet over 1,000 images is {held['1000']:.0f} MiB, "
            f"after 10,000 images {held['10000']:.0f} MiB: it grows by {grown:.0f} MiB."
        )
    seconds = {str(row["network"]): raw for row, raw in found_rows}
    raw = {"seconds": seconds, "resident MiB": held, "milliseconds of MobileNet v2": milliseconds}
    publish("sweep", "Sweep", text, [row for row, _ in found_rows], raw)


if __name__ == "__main__":
    main()

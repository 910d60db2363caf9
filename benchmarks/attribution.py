"""Attribution against Captum: occlusion, exact and approximate, and the methods that differentiate.

Random weights; batch normalization gets the statistics of the embedded photos, so that scores are neither nil nor
alike. `--quick` publishes nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
from common import Timing, publish, ratios, time_interleaved
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import netloupe
from netloupe import InputSpec, Network
from netloupe import objectives as obj
from netloupe.data.images import fit, to_float

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from torchvision_operators import define_operators

define_operators()
import torchvision.models  # noqa: E402

WINDOW, STRIDE, SIDE = 16, 8, 224
BOUNDS = {"vgg16": 8.9, "resnet18": 2.8, "googlenet": 4.05}  # multiplications, full over incremental, by the design
APPROXIMATE = {"vgg16": 16.0, "resnet18": 6.0}
TARGETS = {"vgg16": 9.0, "resnet18": 2.5, "googlenet": 3.5}
SIMILAR = 0.9


def photos(count: int) -> Tensor:
    source = netloupe.photos()
    return torch.stack([to_float(fit(source.open(i), SIDE)) for i in range(count)])


def network(name: str) -> Network:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    module = getattr(torchvision.models, name)(weights=None, **options)
    net = Network(module, InputSpec((SIDE, SIDE), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), name=name)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
        if isinstance(part, nn.ReLU):
            part.inplace = False  # Captum's hooks fail on it
    with torch.no_grad():
        module.train()(net.inputs.normalize(photos(16)))
    module.eval()
    return net


def pixels_in(net: Network) -> nn.Module:
    """The module on images in [0, 1], as Captum needs it."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = net.module

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.module(net.inputs.normalize(x))
            return logits

    return Whole()


def best_batch(run: Callable[[int, int, int], object]) -> int:
    """Captum's fastest `perturbations_per_eval`, found with few large windows."""
    seconds = {}
    for batch in (1, 8, 16, 32):
        ways = {"one": lambda batch=batch: run(batch, 2 * WINDOW, 2 * WINDOW)}
        seconds[batch] = time_interleaved(ways, rounds=1, warm=False)["one"].median
    return min(seconds, key=lambda batch: seconds[batch])


def occlusion_of(name: str, rounds: int) -> tuple[dict[str, object], dict[str, Any]]:
    net = network(name)
    x = photos(4)[3:4]
    with torch.no_grad():
        index = int(net(x).argmax())
    score = obj.logit(index)
    mean = net.inputs.mean_color().view(1, 3, 1, 1)
    theirs = captum.attr.Occlusion(pixels_in(net))

    def captums(batch: int, window: int = WINDOW, stride: int = STRIDE) -> Tensor:
        sizes = (3, window, window), (3, stride, stride)
        with torch.no_grad():
            return theirs.attribute(x, *sizes, baselines=mean.expand_as(x), target=index, perturbations_per_eval=batch)

    def ours(stride: int = STRIDE, **options: Any) -> Any:
        return netloupe.occlusion(net, x, score, WINDOW, stride, **options)

    exact = ours()
    similar = {}
    for growth in (0.8, 0.7, 0.67, 0.6):
        scores = ours(growth=growth, bfloat16=True).scores[0]
        similar[growth] = structural_similarity(exact.scores[0], scores, data_range=float(np.ptp(exact.scores)))
    growth = min((g for g, s in similar.items() if s >= SIMILAR), default=max(similar))
    batch = best_batch(captums)
    found: dict[str, Any] = {}
    ways: dict[str, Callable[[], object]] = {
        "captum": lambda: found.update(captum=captums(batch)),
        "full": lambda: found.update(full=ours(2 * STRIDE, incremental=False, batch_size=batch)),
        "exact": lambda: found.update(exact=ours()),
        "approximate": lambda: ours(growth=growth, bfloat16=True),
    }
    times = time_interleaved(ways, rounds=rounds, warm=False)  # all have run by now
    scale = np.abs(exact.scores).max()
    off = float(np.abs(found["exact"].scores[0, ::2, ::2] - found["full"].scores[0]).max() / scale)
    peer = float(np.abs(found["exact"].heat()[0] - found["captum"][0, 0].numpy()).max() / scale)
    full = times["full"].median * exact.scores.size / found["full"].scores.size
    speed, near = ratios(times["captum"], times["exact"]), ratios(times["captum"], times["approximate"])
    counted = bound(net, x, score)
    row = {
        "network": name,
        "Captum, s": f"{times['captum'].median:.1f}, {batch} at once",
        "full passes, s": f"{full:.1f}",
        "exact, s": f"{times['exact'].median:.2f}",
        "Captum / exact": between(speed),
        "wanted": f"{TARGETS[name]:g}",
        "full / exact": f"{full / times['exact'].median:.1f}",
        "bound": f"{counted:.2f} ({BOUNDS[name]:g})",
        "off by, of the scale": f"{off:.1e}, Captum {peer:.1e}",
        "Captum / approximate": between(near),
        "wanted ": f"{APPROXIMATE[name]:g}" if name in APPROXIMATE else "",
        "similarity": f"{similar[growth]:.3f} at growth {growth:g}",
    }
    return row, {
        "seconds": {key: time.rounds for key, time in times.items()},
        "similarity": similar,
        "error": off,
        "error_captum": peer,
        "bound": counted,
        "captum_batch": batch,
    }


def between(values: tuple[float, float, float]) -> str:
    return f"{values[0]:.1f} ({values[1]:.1f} to {values[2]:.1f})"


def bound(net: Network, x: Tensor, score: obj.Objective) -> float:
    """Multiplications of full passes over those that the incremental passes make."""
    with FlopCounterMode(display=False) as one, torch.no_grad():
        net.read(x, score)
    with FlopCounterMode(display=False) as all_of_them:
        found = netloupe.occlusion(net, x, score, WINDOW, STRIDE)
    return one.get_total_flops() * found.scores.size / all_of_them.get_total_flops()


def methods(rounds: int) -> list[tuple[dict[str, object], dict[str, Any]]]:
    """On a network that Captum's hooks can handle: no ReLU module is used twice."""
    net = network("vgg11")
    x = photos(8)
    score = obj.logit(3)
    module = pixels_in(net)
    last = [m for m in net.module.modules() if isinstance(m, nn.Conv2d)][-1]
    layer = next(name for name, m in net.module.named_modules() if m is last)
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "gradient": (
            lambda: netloupe.gradient(net, x, score),
            lambda: captum.attr.Saliency(module).attribute(x.clone().requires_grad_(), target=3, abs=False),
        ),
        "guided backprop": (
            lambda: netloupe.gradient(net, x, score, "guided"),
            lambda: captum.attr.GuidedBackprop(module).attribute(x.clone().requires_grad_(), target=3),
        ),
        "deconvnet": (
            lambda: netloupe.gradient(net, x, score, "deconvnet"),
            lambda: captum.attr.Deconvolution(module).attribute(x.clone().requires_grad_(), target=3),
        ),
        "integrated gradients": (
            lambda: netloupe.integrated_gradients(net, x[:1], score, steps=20),
            lambda: captum.attr.IntegratedGradients(module).attribute(
                x[:1], 0.0, target=3, n_steps=20, internal_batch_size=32
            ),
        ),
        "Grad-CAM": (
            lambda: netloupe.grad_cam(net, x, score, layer=layer, upsample=False)[:, None],
            lambda: captum.attr.LayerGradCam(module, last).attribute(x, target=3, relu_attributions=True),
        ),
    }
    found = []
    for name, (mine, theirs) in pairs.items():
        times = time_interleaved({"ours": mine, "captum": theirs}, rounds=rounds)
        other = theirs().detach()
        assert float(other.abs().max()) > 0
        off = float((mine() - other).abs().max() / other.abs().max())
        speed = ratios(times["captum"], times["ours"])
        row = {
            "method": name,
            "ours, s": f"{times['ours'].median:.3f}",
            "Captum, s": f"{times['captum'].median:.3f}",
            "Captum / ours": f"{speed[0]:.2f} ({speed[1]:.2f} to {speed[2]:.2f})",
            "off by, of the scale": f"{off:.1e}",
        }
        found.append(
            (row, {"method": name, "ours": times["ours"].rounds, "captum": times["captum"].rounds, "error": off})
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=2, help="of the occlusion; the other methods take three times as many"
    )
    parser.add_argument("--networks", nargs="*", default=list(BOUNDS), choices=list(BOUNDS))
    parser.add_argument("--quick", action="store_true", help="print, but publish nothing")
    options = parser.parse_args()
    each = [occlusion_of(name, options.rounds) for name in options.networks]
    others = methods(2 * options.rounds)
    if options.quick:
        for row, _ in [*each, *others]:
            print(row)
        return
    faster = statistics.geometric_mean([Timing(n["captum"]).median / Timing(n["ours"]).median for _, n in others])
    publish(
        "attribution",
        "Attribution",
        OCCLUSION_TEXT,
        [row for row, _ in each],
        {"occlusion": {row["network"]: numbers for row, numbers in each}, "methods": [n for _, n in others]},
        (METHODS_TEXT.format(faster=faster), [row for row, _ in others]),
    )


OCCLUSION_TEXT = f"""Occlusion at {SIDE} px, window {WINDOW}, stride {STRIDE}, 729 positions, float32, random weights,
the top logit, against Captum's `Occlusion` at its fastest `perturbations_per_eval`. "Full passes" are ours over whole
images, timed at a quarter of the positions. The bound is full over incremental multiplications, counted in this run (in
brackets by the design, without Winograd's algorithm, by which incremental passes take wide 3 x 3 convolutions); full
over exact can differ from it, because windows are gathered first and computed in channels-last order, which suits
convolutions better. The approximate mode lets windows grow by the share given and computes in bfloat16; similarity is
the structural similarity of its score map with the exact one, at least {SIMILAR:g} where a growth reaches it."""

METHODS_TEXT = """The methods that differentiate, on VGG-11 with eight photos at 224 px (integrated gradients: one photo
and 20 steps), against Captum with ReLUs not in place, which its hooks need. In the geometric mean Captum takes
{faster:.2f} times as long."""


if __name__ == "__main__":
    main()

"""Training a style network: a content loss and a style loss, both of which another network sees (Johnson et al. 2016).

What is drawn at random depends on the seed and the step alone, so a run that is killed and started again goes on from
its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netloupe.core.errors import InputError, NetworkError, StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.network import Network
from netloupe.core.objectives import Reading, total_variation
from netloupe.core.precision import fast_dtype
from netloupe.core.taps import evaluating
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import encode, from_pixels, grid
from netloupe.stylenet.network import StyleNet
from netloupe.synthesis.statistics import PIXELS, Statistics, measured
from netloupe.training.crops import crops, turns


@dataclass(frozen=True)
class Recipe:
    """What decides a training run, beside the photos, the styles and the network that judges.

    The defaults are for training from random weights. Gradients are cut to a norm of 1.

    sizes: (side of the crops in px, steps at it), in order. batch: crops in a step. rate: the highest learning rate of
    Adam, reached after `warmup` of the steps and falling to zero along a cosine. content: weight of the content loss;
    smoothness: of the total variation, per pixel. layers, content_layer, statistic: what the judge reads, see
    `synthesis.statistics`. style_size: px, the shorter side of the style images.
    """

    sizes: tuple[tuple[int, int], ...] = ((128, 4000), (192, 500))
    batch: int = 4
    rate: float = 2e-3
    warmup: float = 0.02
    content: float = 0.05
    smoothness: float = 0.5
    layers: tuple[str, ...] = ("relu1", "relu2", "relu3", "relu4", "relu5", PIXELS)
    content_layer: str = "relu4"
    statistic: str = "gram"
    style_size: int = 256
    widths: tuple[int, int, int] = (24, 48, 96)
    blocks: int = 5
    norm: str = "instance"
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = {
            "sizes (PX:STEPS, 32 px or more, 1 step or more)": not self.sizes
            or any(side < 32 or steps < 1 for side, steps in self.sizes),
            "batch (1 or more)": self.batch < 1,
            "rate (above 0)": not 0 < self.rate < math.inf,
            "warmup (0 to 1)": not 0 <= self.warmup <= 1,
            "content and smoothness (0 or more)": not all(0 <= w < math.inf for w in (self.content, self.smoothness)),
            "style size (32 px or more)": self.style_size < 32,
            "seed (0 or more)": self.seed < 0,
        }
        if any(wrong.values()):
            raise InputError(f"a training recipe with unusable {', '.join(k for k, v in wrong.items() if v)}")

    @property
    def steps(self) -> int:
        return sum(steps for _, steps in self.sizes)

    def side(self, step: int) -> int:
        """The side of the crops at a step, counted from 0."""
        for side, steps in self.sizes:
            if step < steps:
                return side
            step -= steps
        return self.sizes[-1][0]

    def learning_rate(self, step: int) -> float:
        """At a step, counted from 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))) / 2


@dataclass(frozen=True)
class Progressed:
    """What the log holds of the steps up to `step`: mean losses, and of each style the mean of its style loss."""

    step: int
    side: int
    content: float
    style: float
    by_style: tuple[float | None, ...]
    seconds: float


class Judge:
    """The losses of painted images, as another network sees them."""

    def __init__(self, net: Network, recipe: Recipe, styles: Statistics) -> None:
        self.net, self.recipe, self.styles = net, recipe, styles
        self.layout = torch.channels_last if net.runs_channels_last else torch.contiguous_format
        self.dtype = fast_dtype(net.device)

    def __call__(self, painted: Tensor, photos: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The content and the style losses (N,) of images for the styles of the given numbers, (N,)."""
        content = self.recipe.content_layer
        with torch.no_grad():
            wanted = self._read(photos, [content]).layer(content)
        names = [name for name in self.recipe.layers if name != PIXELS]
        reading = self._read(painted, list(dict.fromkeys([*names, content])))
        found = measured(reading, self.recipe.layers, self.recipe.statistic)
        distances = found.distances(self.styles.chosen(chosen)).values()
        away = (reading.layer(content) - wanted).flatten(1).square().sum(1)
        return away / wanted.flatten(1).square().sum(1).clamp(min=1e-12), torch.stack(list(distances)).mean(0)

    def _read(self, images: Tensor, layers: list[str]) -> Reading:
        with torch.autocast(self.net.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.net.reading(images.contiguous(memory_format=self.layout), layers)


def train(
    network: StyleNet,
    judge: Judge,
    photos: ImageSource,
    out: Path,
    *,
    first: int = 0,
    every: int = 250,
    samples: Tensor | None = None,
    about: Mapping[str, Any] | None = None,
    watch: Watch = SILENT,
) -> list[Progressed]:
    """Train a style network in place, on the device of the judge's; gives the log.

    first: the styles before this one are kept, and with them all that styles share: only the scales and shifts of the
    others are trained (Dumoulin et al. 2017, section 3). about: what tells these styles from others, JSON-able; by
    default the sums of their moments. `out` receives `checkpoint.pt`, `metrics.jsonl` and pictures of `samples`
    (N, 3, H, W) in all trained styles after `every` steps; a run that finds a checkpoint there goes on from it.
    Raises NetworkError where the loss is no finite number, InputError for photos that can't be read, StoreError for a
    checkpoint of another run, or a disk that can't be written.
    """
    recipe, device = judge.recipe, judge.net.device
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if first:  # running means are shared by the styles too
        for module in network.modules():
            module.training = module.training and not isinstance(module, torch.nn.BatchNorm2d)
    trained = list(network.parameters()) if first == 0 else network.own()
    optimizer = torch.optim.Adam(trained, recipe.rate)
    identity = _identity(network, judge, photos, first, about)
    log, done = _resume(network, optimizer, out / "checkpoint.pt", identity, device)
    sums, since = _Sums(network.styles), time.monotonic()
    part = watch.part("training", recipe.steps, done)
    while done < recipe.steps:
        side = recipe.side(done)
        until = next(s for s in range(done + 1, recipe.steps + 1) if s == recipe.steps or recipe.side(s) != side)
        for photo in crops(photos, side, recipe.batch, recipe.seed, range(done, until)):
            chosen = turns(range(first, network.styles), recipe.batch, done)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate(done)
            sums.add(chosen, *_step(network, judge, optimizer, photo.to(device), chosen.to(device), done))
            done += 1
            part.at(done, f"style {sums.style:.3f}, content {sums.content:.3f}")
            if done % every == 0 or done == recipe.steps:
                seconds = (log[-1].seconds if log else 0.0) + time.monotonic() - since
                log.append(sums.progressed(done, side, round(seconds, 1)))
                sums, since = _Sums(network.styles), time.monotonic()
                _keep(network, optimizer, out, identity, log, done)
                if samples is not None:
                    picture = sheet(network, samples.to(device), range(first, network.styles))
                    write_atomically(out / "samples" / f"{done:06}.jpg", encode(picture, "JPEG"))
    network.eval()
    return log


def _step(
    network: StyleNet, judge: Judge, optimizer: torch.optim.Optimizer, photos: Tensor, chosen: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    blend = torch.nn.functional.one_hot(chosen, network.styles).to(photos)
    with torch.autocast(photos.device.type, judge.dtype, enabled=judge.dtype != torch.float32):
        painted = network(photos.contiguous(memory_format=torch.channels_last), blend)
    painted = painted.float()
    content, style = judge(painted, photos, chosen)
    reading = Reading(None, partial(_itself, painted), {})
    rough = total_variation().score(reading) / painted[0].numel()
    loss = (judge.recipe.content * content + style + judge.recipe.smoothness * rough).mean()
    if not math.isfinite(float(loss.detach())):
        raise NetworkError(f"the loss is {float(loss.detach())} at step {step + 1}; try a lower rate or content weight")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()
    return content.detach().cpu(), style.detach().cpu()


@torch.no_grad()
def sheet(network: StyleNet, photos: Tensor, styles: range) -> Any:
    """A picture of photos (N, 3, H, W), a row each: the photo, then painted in each of the styles."""
    rows = []
    with evaluating(network):
        for photo in photos:
            rows.append(from_pixels(photo.cpu().numpy()))
            for style in styles:
                blend = torch.nn.functional.one_hot(torch.tensor([style], device=photos.device), network.styles)
                rows.append(from_pixels(network(photo[None], blend.to(photos))[0].cpu().numpy()))
    return grid(rows, len(styles) + 1)


class _Sums:
    """Losses since the last entry of the log."""

    def __init__(self, styles: int) -> None:
        self.counts, self.styles = torch.zeros(styles), torch.zeros(styles)
        self.contents = 0.0

    def add(self, chosen: Tensor, content: Tensor, style: Tensor) -> None:
        self.counts.index_add_(0, chosen, torch.ones(len(chosen)))
        self.styles.index_add_(0, chosen, style)
        self.contents += float(content.sum())

    @property
    def content(self) -> float:
        return self.contents / float(self.counts.sum())

    @property
    def style(self) -> float:
        return float(self.styles.sum() / self.counts.sum())

    def progressed(self, step: int, side: int, seconds: float) -> Progressed:
        pairs = zip(self.styles.tolist(), self.counts.tolist(), strict=True)
        by_style = tuple(round(total / count, 5) if count else None for total, count in pairs)
        return Progressed(step, side, round(self.content, 5), round(self.style, 5), by_style, seconds)


def _identity(network: StyleNet, judge: Judge, photos: ImageSource, first: int, about: Mapping[str, Any] | None) -> str:
    sums = [float(m.double().sum()) for each in judge.styles.moments.values() for m in each]
    facts: Mapping[str, Any] = {
        "recipe": asdict(judge.recipe),
        "judge": judge.net.fingerprint(),
        "photos": photos.fingerprint(),
        "styles": sums if about is None else dict(about),
        "shapes": {name: list(value.shape) for name, value in network.state_dict().items()},
        "first": first,
    }
    return json.dumps(facts, sort_keys=True)


def _keep(
    network: StyleNet, optimizer: torch.optim.Optimizer, out: Path, identity: str, log: list[Progressed], done: int
) -> None:
    lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in log)
    write_atomically(out / "metrics.jsonl", lines.encode())
    buffer = io.BytesIO()
    state = {
        "identity": identity,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "log": [asdict(entry) for entry in log],
        "done": done,
    }
    torch.save(state, buffer)
    write_atomically(out / "checkpoint.pt", buffer.getvalue())


def _resume(
    network: StyleNet, optimizer: torch.optim.Optimizer, path: Path, identity: str, device: torch.device
) -> tuple[list[Progressed], int]:
    if not path.exists():
        return [], 0
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        known = state["identity"]
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise StoreError(
            f"{path}: can't be read as a checkpoint ({first_line(error)}); remove it to start anew"
        ) from None
    if known != identity:
        raise StoreError(f"{path} is of another recipe, style, network or photos; give another --out or remove it")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return [Progressed(**{**e, "by_style": tuple(e["by_style"])}) for e in state["log"]], int(state["done"])


def _itself(images: Tensor) -> Tensor:
    return images

"""Training a style network: a content loss and a style loss, both of which another network sees (Johnson et al. 2016).

What is drawn at random depends on the seed and the step alone, so a run that is killed and started again goes on from
its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netloupe.core.device import fast_dtype
from netloupe.core.files import write_atomically
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.objectives import Reading, total_variation
from netloupe.core.taps import evaluating
from netloupe.core.watch import SILENT, Watch
from netloupe.data.sources import ImageSource
from netloupe.render.pictures import encode, from_pixels, grid
from netloupe.stylenet.network import StyleNet
from netloupe.synthesis.statistics import PIXELS, Statistics, measured
from netloupe.training.crops import crops, turns
from netloupe.training.loop import Checkpoint, Learner, stretches
from netloupe.training.recipes import StylizerRecipe, side_at


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

    def __init__(self, net: Network, recipe: StylizerRecipe, styles: Statistics) -> None:
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


class Stylizer(Learner[Tensor]):
    """A style network that learns from what a judge says, on the judge's device. Batches are photos (N, 3, H, W).

    first: the styles before this one are kept, and with them all that styles share: only the scales and shifts of the
    others are trained (Dumoulin et al. 2017, section 3). every: steps of a stretch.
    """

    longest = 1.0

    def __init__(self, network: StyleNet, judge: Judge, photos: ImageSource, first: int, every: int) -> None:
        self.judge, self.photos, self.first, self.device = judge, photos, first, judge.net.device
        self.recipe, self.steps, self.stretch = judge.recipe, judge.recipe.turns, every
        self.network: StyleNet = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = list(network.parameters()) if first == 0 else network.own()
        self.optimizer = torch.optim.Adam(trained, judge.recipe.rate)
        self.sums = _Sums(network.styles)

    def rate(self, step: int) -> float:
        return self.recipe.learning_rate(step)

    def batches(self, steps: range) -> Iterator[Tensor]:
        self.network.train()
        if self.first:  # running means are shared by the styles too
            for module in self.network.modules():
                module.training = module.training and not isinstance(module, torch.nn.BatchNorm2d)
        self.sums = _Sums(self.network.styles)
        for side, alike in groupby(steps, lambda step: side_at(self.recipe.sizes, step)):
            for photos in crops(self.photos, side, self.recipe.batch, self.recipe.seed, [*alike]):
                yield photos.to(self.device)

    def loss(self, step: int, batch: Tensor) -> Tensor:
        chosen = turns(range(self.first, self.network.styles), self.recipe.batch, step)
        blend = torch.nn.functional.one_hot(chosen, self.network.styles).to(batch)
        dtype = self.judge.dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            painted = self.network(batch.contiguous(memory_format=torch.channels_last), blend)
        painted = painted.float()
        content, style = self.judge(painted, batch, chosen.to(self.device))
        reading = Reading(None, partial(_itself, painted), {})
        rough = total_variation().score(reading) / painted[0].numel()
        self.sums.add(chosen, content.detach().cpu(), style.detach().cpu())
        each: Tensor = self.recipe.content * content + style + self.recipe.smoothness * rough
        return each.mean()

    def note(self, step: int, loss: float) -> str:
        return f"style {self.sums.style:.3f}, content {self.sums.content:.3f}"


@holding("out", "stylenet train")
def train(
    network: StyleNet,
    judge: Judge,
    photos: ImageSource,
    out: Path,
    *,
    about: Mapping[str, Any],
    first: int = 0,
    every: int = 250,
    samples: Tensor | None = None,
    watch: Watch = SILENT,
) -> list[Progressed]:
    """Train a style network in place, on the device of the judge's; gives the log.

    about: what tells these styles from others, JSON-able; of the pictures, not of what a network computed from them,
    whose last digits change with the threads. first: of the styles that are trained, see `Stylizer`. `out` receives
    `checkpoint.pt`, `metrics.jsonl` and pictures of `samples` (N, 3, H, W) in all trained styles after `every` steps;
    a run that finds a checkpoint there goes on from it.
    Raises NetworkError where the loss is no finite number, InputError for photos that can't be read, StoreError for a
    checkpoint of another run, or a disk that can't be written.
    """
    learner = Stylizer(network, judge, photos, first, every)
    checkpoint = Checkpoint(
        out,
        learner,
        recipe=asdict(judge.recipe),
        judge=judge.net.fingerprint(),
        photos=photos.stamped(),
        styles=dict(about),
        first=first,
    )
    done, entries = checkpoint.load()
    log = [Progressed(**{**entry, "by_style": tuple(entry["by_style"])}) for entry in entries]
    for stretch in stretches(learner, watch, done):
        seconds = (log[-1].seconds if log else 0.0) + stretch.seconds
        side = side_at(judge.recipe.sizes, stretch.done - 1)
        log.append(learner.sums.progressed(stretch.done, side, round(seconds, 1)))
        if samples is not None:  # before the checkpoint, so that a kill loses none
            picture = sheet(network, samples.to(learner.device), range(first, network.styles))
            write_atomically(out / "samples" / f"{stretch.done:06}.jpg", encode(picture, "JPEG"))
        checkpoint.save(stretch.done, log)
    network.eval()
    return log


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


def _itself(images: Tensor) -> Tensor:
    return images

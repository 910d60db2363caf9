"""Training a classifier from scratch: cross-entropy, SGD on one cycle, images growing with the epochs.

What is drawn at random depends on the seed and the epoch alone, so a run that is killed and started
again goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.precision import fast_dtype
from netloupe.core.watch import SILENT, Watch
from netloupe.training.labeled import Images, random_crops
from netloupe.training.recorder import Recorder
from netloupe.training.score import Score, score
from netloupe.zoo.state import as_stored


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run, beside the data and the architecture.

    sizes: (image side in px, epochs at it), in order, over which the learning rate goes through one cycle. crop:
    smallest share of the image's area that a random crop keeps. size: side at which images are stored and validated.
    rate: the highest learning rate. warmup: share of the cycle in which it rises. mean, std: per channel, of pixels
    in [0, 1].
    finish: epochs after the cycle at the side `size`, with crops of at least `finish_crop` and a rate that falls from
    `finish_rate` to zero: crops enlarge what they show, so a network trained on them expects larger objects than
    it meets in whole images, and a few epochs without mend that (Touvron et al. 2019).
    """

    sizes: tuple[tuple[int, int], ...] = ((40, 7), (48, 7), (56, 5))
    size: int = 64
    batch: int = 128
    rate: float = 0.1
    warmup: float = 0.2
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    crop: float = 0.35
    finish: int = 0
    finish_crop: float = 0.75
    finish_rate: float = 0.01
    seed: int = 0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        sides = [side for side, _ in self.sizes] + [self.size]
        wrong = {
            "sizes": not self.sizes or min(sides) < 1 or min(epochs for _, epochs in self.sizes) < 1,
            "batch (1 or more)": self.batch < 1,
            "rate (above 0)": not self.rate > 0,
            "warmup (0 to 1)": not 0 <= self.warmup <= 1,
            "momentum (above 0, below 1)": not 0 < self.momentum < 1,
            "decay (0 or more)": not self.decay >= 0,
            "smoothing (0 up to 1)": not 0 <= self.smoothing < 1,
            "crop (above 0, up to 1)": not all(0 < share <= 1 for share in (self.crop, self.finish_crop)),
            "finish (0 or more epochs at a rate above 0)": self.finish < 0 or not self.finish_rate > 0,
            "seed (0 or more)": self.seed < 0,
            "mean and std (one value a channel, std above 0)": len(self.mean) != len(self.std) or not min(self.std) > 0,
        }
        if any(wrong.values()):
            raise InputError(f"a training recipe with unusable {', '.join(k for k, v in wrong.items() if v)}: {self}")

    @property
    def epochs(self) -> int:
        """How often each image is seen."""
        return self.cycle + self.finish

    @property
    def cycle(self) -> int:
        """The epochs over which the learning rate goes through its cycle."""
        return sum(epochs for _, epochs in self.sizes)

    def side(self, epoch: int) -> int:
        """The side in px of the training images in an epoch, counted from 0."""
        for side, epochs in self.sizes:
            if epoch < epochs:
                return side
            epoch -= epochs
        return self.size


@dataclass(frozen=True)
class Epoch:
    """What the metrics log holds of one epoch; seconds are of training alone, on `machine`."""

    epoch: int
    side: int
    loss: float
    top1: float
    top5: float
    seconds: float
    machine: str = ""


class _Session:
    """One training run: the network with its optimizer, and how they step."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, device: torch.device, dtype: torch.dtype, steps: int
    ) -> None:
        self.network: nn.Module = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.device, self.dtype, self.steps = recipe, device, dtype, steps
        shape = (1, len(recipe.mean), 1, 1)
        self.mean = torch.tensor(recipe.mean, device=device).view(shape) * 255
        self.std = torch.tensor(recipe.std, device=device).view(shape) * 255
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(
            [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
                {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.rate,
            momentum=recipe.momentum,
            nesterov=True,
        )

    def logits(self, pixels: Tensor) -> Tensor:
        images = ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            logits: Tensor = self.network(images)
        return logits.float()

    def rate(self, step: int) -> float:
        """One cycle: linear up over the first `warmup` share of its steps, then linear down; then down once more."""
        recipe = self.recipe
        cycle = self.steps // recipe.epochs * recipe.cycle
        if step >= cycle:
            return recipe.finish_rate * (1 - (step - cycle) / max(self.steps - cycle, 1))
        share, warmup = step / cycle, recipe.warmup
        return recipe.rate * (share / warmup if share < warmup else (1 - share) / (1 - warmup))

    def try_sizes(self, channels: int, classes: int) -> None:
        """Run the network once at every size the recipe has; raise NetworkError unless it gives (1, classes)."""
        self.network.eval()
        for side in sorted({side for side, _ in self.recipe.sizes} | {self.recipe.size}):
            try:
                with torch.no_grad():
                    shape = tuple(self.logits(torch.zeros((1, channels, side, side), device=self.device)).shape)
            except (RuntimeError, ValueError, TypeError, AttributeError) as error:
                name = type(self.network).__name__
                raise NetworkError(f"{name} can't be trained on images of {side} px: {first_line(error)}") from error
            if shape != (1, classes):
                raise NetworkError(f"the network gives {shape} for one image (accepted: (1, {classes}), the classes)")

    def epoch(self, epoch: int, train: Images) -> Iterator[tuple[int, float]]:
        """Train for one epoch; yields (images seen, loss) after each step."""
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)  # dropout
        order = torch.randperm(len(train.labels), generator=generator)
        per_epoch = len(order) // recipe.batch
        self.network.train()
        for i in range(per_epoch):
            chosen = order[i * recipe.batch : (i + 1) * recipe.batch].to(self.device)
            crop = recipe.crop if epoch < recipe.cycle else recipe.finish_crop
            images = random_crops(train.pixels[chosen], recipe.side(epoch), crop, generator)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(epoch * per_epoch + i)
            loss = F.cross_entropy(self.logits(images), train.labels[chosen], label_smoothing=recipe.smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            value, seen = float(loss.detach()), (i + 1) * recipe.batch
            if not value < float("inf"):
                raise NetworkError(f"the loss is {value} in epoch {epoch} after {seen} images; try a lower rate")
            yield seen, value


def train(
    network: nn.Module,
    train_images: Images,
    val_images: Images,
    classes: int,
    out: Path,
    *,
    recipe: Recipe | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    watch: Watch = SILENT,
    recorder: Recorder | None = None,
) -> tuple[nn.Module, Score, list[Epoch]]:
    """Train `network` in place and return it in the form that ships, with its validation score and log.

    A network with a method `folded()` ships what that returns. `out` receives `checkpoint.pt` and
    `metrics.jsonl` after every epoch; a run that finds a checkpoint there goes on from it, and one that is
    finished only scores. dtype: for the multiplications, by default `fast_dtype(device)`.
    The caller's random state stays as it was.
    recorder: writes snapshots of `network` as it is trained, each before the checkpoint, so that a kill loses none.

    Raises InputError if the images don't suit (fewer than a batch, labels that are no classes, other channels),
    NetworkError if the network doesn't take them or diverges, StoreError if the checkpoint is of another
    recipe, data set or architecture, can't be read, or can't be written.
    """
    recipe = recipe if recipe is not None else Recipe()
    device = torch.device(device)
    dtype = dtype if dtype is not None else fast_dtype(device)
    _check(train_images, val_images, classes, recipe)
    steps = recipe.epochs * (len(train_images.labels) // recipe.batch)
    session = _Session(network, recipe, device, dtype, steps)
    session.try_sizes(train_images.pixels.shape[1], classes)
    data = train_images.fingerprint()
    train_images, val_images = train_images.to(device), val_images.to(device)
    log = _resume(session, out / "checkpoint.pt", data)
    if recorder is not None and not log:
        recorder.epoch_done(0)
    each, last = len(train_images.labels), ""
    part = watch.part("training", recipe.epochs * each, len(log) * each)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for epoch in range(len(log), recipe.epochs):
            start, total, count = time.monotonic(), 0.0, 0
            for seen, loss in session.epoch(epoch, train_images):
                total, count = total + loss, count + 1
                part.at(epoch * each + seen, f"epoch {epoch + 1} of {recipe.epochs}, loss {loss:.3f}{last}")
            seconds = round(time.monotonic() - start, 1)
            network.eval()
            now = score(session.logits, val_images, classes)
            log.append(Epoch(epoch, recipe.side(epoch), total / count, now.top1, now.top5, seconds, machine()))
            lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in log)
            write_atomically(out / "metrics.jsonl", lines.encode())
            if recorder is not None:
                recorder.epoch_done(epoch + 1)
            _checkpoint(session, out / "checkpoint.pt", log, data)
            last = f", top-1 {now.top1:.1%}"
    shipped = _shipped(network)
    shipped.load_state_dict(as_stored(shipped))
    session.network, session.dtype = shipped.to(device).eval(), torch.float32
    return shipped, score(session.logits, val_images, classes), log


def fit(
    network: nn.Module,
    images: Images,
    classes: int,
    recipe: Recipe,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    watch: Watch = SILENT,
) -> nn.Module:
    """Train `network` in place, writing and scoring nothing; return it in the form that ships, in eval mode.

    The arguments and what is raised are as for `train`; an interrupted run is lost.
    """
    device = torch.device(device)
    dtype = dtype if dtype is not None else fast_dtype(device)
    _check(images, None, classes, recipe)
    session = _Session(network, recipe, device, dtype, recipe.epochs * (len(images.labels) // recipe.batch))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        session.try_sizes(images.pixels.shape[1], classes)
        images = images.to(device)
        each = len(images.labels)
        part = watch.part("training", recipe.epochs * each)
        for epoch in range(recipe.epochs):
            for seen, loss in session.epoch(epoch, images):
                part.at(epoch * each + seen, f"epoch {epoch + 1} of {recipe.epochs}, loss {loss:.3f}")
        part.at(part.total)
    return _shipped(network.eval()).to(device).eval()


def _shipped(network: nn.Module) -> nn.Module:
    fold: Callable[[], nn.Module] | None = getattr(network, "folded", None)
    return fold() if fold is not None else network


def _check(train_images: Images, val_images: Images | None, classes: int, recipe: Recipe) -> None:
    both = [train_images] if val_images is None else [train_images, val_images]
    for images, what in zip(both, ("training", "validation"), strict=False):
        images.check(classes, what)
    if len(train_images.labels) < recipe.batch:
        count = len(train_images.labels)
        raise InputError(f"{count} training images are fewer than one batch of {recipe.batch}; give a smaller batch")
    channels = {images.pixels.shape[1] for images in both}
    if channels != {len(recipe.mean)}:
        given = " and ".join(str(count) for count in sorted(channels))
        raise InputError(f"images of {given} channels, but the recipe's mean and std have {len(recipe.mean)} values")


def _identity(session: _Session) -> str:
    shapes = {name: list(value.shape) for name, value in session.network.state_dict().items()}
    return json.dumps({"recipe": asdict(session.recipe), "steps": session.steps, "shapes": shapes}, sort_keys=True)


def _checkpoint(session: _Session, path: Path, log: list[Epoch], data: str) -> None:
    state = {
        "identity": _identity(session),
        "data": data,
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "log": [asdict(entry) for entry in log],
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def _resume(session: _Session, path: Path, data: str) -> list[Epoch]:
    if not path.exists():
        return []
    try:
        state: dict[str, Any] = torch.load(path, map_location=session.device, weights_only=True)
        identity, known_data = state["identity"], state.get("data", data)
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise StoreError(
            f"{path}: can't be read as a checkpoint ({first_line(error)}); remove it to start anew"
        ) from None
    if identity != _identity(session) or known_data != data:
        raise StoreError(f"{path} is of another recipe, data set or architecture; give another --out or remove it")
    session.network.load_state_dict(state["network"])
    session.optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**entry) for entry in state["log"]]


def machine() -> str:
    """Processor, threads and PyTorch version, for model cards and benchmarks."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"

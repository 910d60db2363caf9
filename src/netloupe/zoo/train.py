"""Training a classifier from scratch: cross-entropy, SGD on one cycle, images growing with the epochs.

What is drawn at random depends on the seed and the epoch alone, so a run that is killed and started
again goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from netloupe.core.errors import InputError, StoreError
from netloupe.data.images import fit
from netloupe.data.sources import ImageSource


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result of a training run, beside the data and the architecture.

    `sizes`: (image side in px, epochs at it), in order. `crop`: smallest share of the image's area
    that a random crop keeps. `size`: side at which images are stored and validated.
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
    seed: int = 0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @property
    def epochs(self) -> int:
        return sum(epochs for _, epochs in self.sizes)

    def side(self, epoch: int) -> int:
        """The side in px of the training images in an epoch, counted from 0."""
        for side, epochs in self.sizes:
            if epoch < epochs:
                return side
            epoch -= epochs
        raise ValueError("no such epoch")


@dataclass(frozen=True)
class Score:
    """Accuracy on a labeled set, shares in [0, 1]; `by_class` is the top-1 share of each class."""

    loss: float
    top1: float
    top5: float
    by_class: list[float] = field(repr=False)


@dataclass(frozen=True)
class Images:
    """A labeled set in memory: pixels (N, C, H, W) uint8, labels (N,) int64."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))


def read_labeled(source: ImageSource, size: int, progress: Callable[[int, int], None] = lambda _done, _all: None) -> Images:
    """All labeled images of a source, decoded. Broken images and images without a label are left out."""
    if source.labels is None:
        raise InputError(f"{source.spec!r} has no labels to train on (accepted: a folder of class folders, Parquet with a label column)")

    def read(i: int) -> tuple[Tensor, int] | None:
        label = source.label(i)
        if label is None:
            return None
        try:
            return torch.from_numpy(fit(source.open(i), size).copy()).permute(2, 0, 1), label
        except InputError:
            return None

    pixels = torch.empty((len(source), 3, size, size), dtype=torch.uint8)
    labels: list[int] = []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        for done, pair in enumerate(pool.map(read, range(len(source)), chunksize=64), 1):
            if pair is not None:
                pixels[len(labels)] = pair[0]
                labels.append(pair[1])
            if done % 1000 == 0 or done == len(source):
                progress(done, len(source))
    return Images(pixels[: len(labels)], torch.tensor(labels))


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        capability = torch.backends.cpu.get_cpu_capability()
        return torch.bfloat16 if "AVX512" in capability else torch.float32
    return torch.float32


def random_crops(pixels: Tensor, side: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Random crops of (N, C, H, W) uint8, resized to (N, C, side, side) float in [0, 255], half of them mirrored.

    Area share uniform in [smallest, 1], aspect ratio log-uniform in [3/4, 4/3], place uniform inside the image
    (the crop of Szegedy et al. 2014), bilinear.
    """
    count = len(pixels)
    draw = torch.rand((5, count), generator=generator)
    area = smallest + (1 - smallest) * draw[0]
    aspect = ((draw[1] * 2 - 1) * math.log(4 / 3)).exp()
    height, width = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros((count, 2, 3))
    theta[:, 0, 0] = width * torch.where(draw[4] < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = (draw[2] * 2 - 1) * (1 - width)
    theta[:, 1, 2] = (draw[3] * 2 - 1) * (1 - height)
    grid = F.affine_grid(theta.to(pixels.device), [count, pixels.shape[1], side, side], align_corners=False)
    return F.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False)


class _Session:
    """One training run: the network with its optimizer, and how they step."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device, dtype: torch.dtype, steps: int) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)
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
        """One cycle: linear up over the first `warmup` share of steps, then linear down to zero."""
        share = step / self.steps
        warmup = self.recipe.warmup
        return self.recipe.rate * (share / warmup if share < warmup else (1 - share) / (1 - warmup))

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
            images = random_crops(train.pixels[chosen], recipe.side(epoch), recipe.crop, generator)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(epoch * per_epoch + i)
            loss = F.cross_entropy(self.logits(images), train.labels[chosen], label_smoothing=recipe.smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            yield (i + 1) * recipe.batch, float(loss.detach())


def score(logits: Callable[[Tensor], Tensor], images: Images, classes: int, *, batch_size: int = 250) -> Score:
    """Loss and accuracy of `logits` (pixels (N, C, H, W) uint8 -> (N, classes)) on a labeled set."""
    with torch.no_grad():
        out = torch.cat([logits(part).cpu() for part in images.pixels.split(batch_size)])
    labels = images.labels.cpu()
    best = out.topk(min(5, classes)).indices == labels[:, None]
    right, count = torch.zeros(classes), torch.zeros(classes)
    right.index_add_(0, labels, best[:, 0].float())
    count.index_add_(0, labels, torch.ones(len(labels)))
    return Score(
        loss=float(F.cross_entropy(out, labels)),
        top1=float(best[:, 0].float().mean()),
        top5=float(best.any(1).float().mean()),
        by_class=(right / count.clamp(min=1)).tolist(),
    )


@dataclass(frozen=True)
class Epoch:
    """What the metrics log holds of one epoch; seconds are of training alone."""

    epoch: int
    side: int
    loss: float
    top1: float
    top5: float
    seconds: float


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
    on_step: Callable[[int, int, float], None] = lambda _epoch, _seen, _loss: None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> tuple[nn.Module, Score, list[Epoch]]:
    """Train `network` in place and return it in the form that ships, with its validation score and log.

    A network with a method `folded()` ships what that returns. `out` receives `checkpoint.pt` after
    every epoch and `metrics.jsonl`; a run that finds a checkpoint there goes on from it.
    Raises StoreError if the checkpoint is of another recipe or architecture.
    """
    recipe = recipe or Recipe()
    device = torch.device(device)
    dtype = dtype or fast_dtype(device)
    out.mkdir(parents=True, exist_ok=True)
    steps = max(1, recipe.epochs * (len(train_images.labels) // recipe.batch))
    session = _Session(network, recipe, device, dtype, steps)
    train_images, val_images = train_images.to(device), val_images.to(device)
    log = _resume(session, out / "checkpoint.pt")
    for epoch in range(len(log), recipe.epochs):
        start, total, count = time.monotonic(), 0.0, 0
        for seen, loss in session.epoch(epoch, train_images):
            total, count = total + loss, count + 1
            on_step(epoch, seen, loss)
        seconds = time.monotonic() - start
        network.eval()
        now = score(session.logits, val_images, classes)
        log.append(Epoch(epoch, recipe.side(epoch), total / max(count, 1), now.top1, now.top5, round(seconds, 1)))
        _checkpoint(session, out / "checkpoint.pt", log)
        write_atomically(out / "metrics.jsonl", "".join(json.dumps(asdict(e)) + "\n" for e in log).encode())
        on_epoch(log[-1])
    shipped = network.eval()
    if hasattr(network, "folded"):
        shipped = network.folded()
    shipped = shipped.half().float()  # as the file will hold it
    session.network, session.dtype = shipped.to(device), torch.float32
    return shipped, score(session.logits, val_images, classes), log


def _identity(session: _Session) -> str:
    shapes = {name: list(value.shape) for name, value in session.network.state_dict().items()}
    return json.dumps({"recipe": asdict(session.recipe), "steps": session.steps, "shapes": shapes}, sort_keys=True)


def _checkpoint(session: _Session, path: Path, log: list[Epoch]) -> None:
    state = {
        "identity": _identity(session),
        "network": session.network.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "log": [asdict(e) for e in log],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def _resume(session: _Session, path: Path) -> list[Epoch]:
    if not path.exists():
        return []
    try:
        state: dict[str, Any] = torch.load(path, map_location=session.device, weights_only=True)
    except Exception as error:
        raise StoreError(f"{path}: can't be read as a checkpoint ({str(error).splitlines()[0]})") from None
    if state.get("identity") != _identity(session):
        raise StoreError(f"{path} is of another recipe, data set or architecture; give another --out or remove it")
    session.network.load_state_dict(state["network"])
    session.optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**entry) for entry in state["log"]]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file or none of it."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path}: can't be written ({error.strerror})") from None


def save_weights(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """The state of `network` as an fp16 safetensors file."""
    state = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    save_file(state, partial, metadata=metadata)
    os.replace(partial, path)


def machine() -> str:
    """Processor, cores and PyTorch version, for model cards and benchmarks."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"

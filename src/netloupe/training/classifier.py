"""Training a classifier: cross-entropy, one cycle of the rate, images growing with the epochs.

Each image may be replaced by the worst within a ball around it, and a teacher may say what the answer shall be.
What is drawn at random depends on the seed and the epoch alone, so a run that is killed and started
again goes on from its last checkpoint as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from netloupe.core.device import fast_dtype, machine
from netloupe.core.errors import InputError, NetworkError, first_line
from netloupe.core.lock import holding
from netloupe.core.network import Network
from netloupe.core.watch import SILENT, Watch
from netloupe.training.labeled import Images, Score, random_crops, score
from netloupe.training.loop import Checkpoint, Learner, stretches
from netloupe.training.optimizers import optimizer
from netloupe.training.recipes import ClassifierRecipe
from netloupe.training.recorder import Recorder
from netloupe.training.robust import PIXELS, Robustness, robustness, worst
from netloupe.zoo.state import as_stored

LOGGED, ATTACKED = 200, 2000  # validation images that are attacked after each epoch, and at the end


@dataclass(frozen=True)
class Epoch:
    """What the metrics log holds of one epoch; seconds are of training alone, on `machine`.

    robust: {size of the ball: accuracy under attack} of some validation images, where adversaries are trained on.
    """

    epoch: int
    side: int
    loss: float
    top1: float
    top5: float
    seconds: float
    machine: str = ""
    robust: dict[str, float] | None = None


class Classifier(Learner[tuple[Tensor, Tensor]]):
    """A network that learns to name labeled images, an epoch a stretch. Batches are crops in [0, 255], and labels.

    dtype: of the multiplications, by default `fast_dtype(device)`. Raises InputError if the images don't suit (fewer
    than a batch, labels that are no classes, other channels), NetworkError if the network doesn't take them.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Images,
        classes: int,
        recipe: ClassifierRecipe,
        device: str | torch.device,
        dtype: torch.dtype | None,
        teacher: Network | None = None,
    ) -> None:
        _check(images, classes, "training", recipe)
        if len(images.labels) < recipe.batch:
            raise InputError(
                f"{len(images.labels)} training images are fewer than one batch of {recipe.batch}; give a smaller batch"
            )
        self.device, self.classes, self.recipe = torch.device(device), classes, recipe
        self.dtype = dtype if dtype is not None else fast_dtype(self.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stretch = len(images.labels) // recipe.batch
        self.steps = recipe.epochs * self.stretch
        shape = (1, len(recipe.mean), 1, 1)
        self.mean = torch.tensor(recipe.mean, device=self.device).view(shape) * 255
        self.std = torch.tensor(recipe.std, device=self.device).view(shape) * 255
        self.optimizer = optimizer(network, recipe)
        self.teacher = teacher
        self.top1: float | None = None
        self._try_sizes()
        self.images = images.to(self.device)

    def rate(self, step: int) -> float:
        return self.recipe.learning_rate(step, self.stretch)

    def batches(self, steps: range) -> Iterator[tuple[Tensor, Tensor]]:
        recipe, epoch = self.recipe, steps.start // self.stretch
        seed = recipe.seed * 1_000_003 + epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        self.network.train()
        crop = recipe.crop if epoch < recipe.turns else recipe.finish_crop
        order = torch.randperm(len(self.images.labels), generator=generator)
        for chosen in order.split(recipe.batch)[: len(steps)]:
            chosen = chosen.to(self.device)
            images = random_crops(self.images.pixels[chosen], recipe.side(epoch), crop, generator)
            yield images, self.images.labels[chosen]

    def loss(self, step: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        recipe, shown = self.recipe, images
        if recipe.robust is not None:
            self.network.eval()
            steps = recipe.attack_steps(step // self.stretch)
            shown = worst(self.logits, images, labels, recipe.robust, steps)
            self.network.train()
        logits = self.logits(shown)
        own = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        if self.teacher is None or shown.shape[-1] < recipe.teacher_side:
            return own
        return recipe.distill * self._taught(logits, images) + (1 - recipe.distill) * own

    def _taught(self, logits: Tensor, images: Tensor) -> Tensor:
        """Cross-entropy to what the teacher says of the unchanged images; its gradient has the same size at any T."""
        assert self.teacher is not None
        heat = self.recipe.temperature
        with torch.no_grad(), self._fast():
            shown = (images / PIXELS).clamp(0, 1).contiguous(memory_format=torch.channels_last)
            said = self.teacher(shown)
        return F.cross_entropy(logits / heat, (said.float() / heat).softmax(1)) * heat**2

    def note(self, step: int, loss: float) -> str:
        right = "" if self.top1 is None else f", top-1 {self.top1:.1%}"
        return f"epoch {step // self.stretch + 1} of {self.recipe.epochs}, loss {loss:.3f}{right}"

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, classes) in float32, of pixels (N, C, H, W) in [0, 255]."""
        images = ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with self._fast():
            logits: Tensor = self.network(images)
        return logits.float()

    @contextmanager
    def _fast(self) -> Iterator[None]:
        """Multiplications in `dtype`; on a CPU without the fused attention, whose gradient in bfloat16 is slow."""
        fast = self.dtype is not torch.float32
        plain = sdpa_kernel(SDPBackend.MATH) if fast and self.device.type == "cpu" else nullcontext()
        with torch.autocast(self.device.type, self.dtype, enabled=fast), plain:
            yield

    def score(self, images: Images) -> Score:
        """How often the network, as it now is, is right on labeled images."""
        self.network.eval()
        found = score(self.logits, images, self.classes)
        self.top1 = found.top1
        return found

    def attacked(self, images: Images, most: int, watch: Watch = SILENT) -> Robustness | None:
        """What of the accuracy is left under attack, on at most `most` of the images; None without adversaries."""
        if not self.recipe.balls:
            return None
        small, middle, large = self.recipe.balls
        some = images.some(most)
        self.network.eval()
        return robustness(self.logits, some, (small, middle, large), seed=self.recipe.seed, watch=watch)

    def shipped(self) -> nn.Module:
        """The network in the form that ships, in eval mode: what its method `folded()` returns, if it has one."""
        fold: Callable[[], nn.Module] | None = getattr(self.network.eval(), "folded", None)
        self.network = self.network if fold is None else fold().to(self.device).eval()
        return self.network

    def _try_sizes(self) -> None:
        """Run the network once at every size the recipe has; raise NetworkError unless it gives (1, classes)."""
        self.network.eval()
        for side in sorted({side for side, _ in self.recipe.sizes} | {self.recipe.size}):
            try:
                with torch.no_grad():
                    blank = torch.zeros((1, len(self.recipe.mean), side, side), device=self.device)
                    shape = tuple(self.logits(blank).shape)
            except (RuntimeError, ValueError, TypeError, AttributeError) as error:
                name = type(self.network).__name__
                raise NetworkError(f"{name} can't be trained on images of {side} px: {first_line(error)}") from error
            if shape != (1, self.classes):
                wanted = f"(1, {self.classes})"
                raise NetworkError(f"the network gives {shape} for one image (accepted: {wanted}, the classes)")


@dataclass(frozen=True)
class Trained:
    """A network in the form that ships, its scores on the validation images, and the log of its training."""

    network: nn.Module
    score: Score
    log: list[Epoch]
    robustness: Robustness | None = None


@holding("out", "train")
def train(
    network: nn.Module,
    train_images: Images,
    val_images: Images,
    classes: int,
    out: Path,
    *,
    recipe: ClassifierRecipe | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    recorder: Recorder | None = None,
    teacher: Network | None = None,
    watch: Watch = SILENT,
) -> Trained:
    """Train `network` in place and give it in the form that ships, with its validation score and log.

    A network with a method `folded()` ships what that returns. `out` receives `checkpoint.pt` and
    `metrics.jsonl` after every epoch; a run that finds a checkpoint there goes on from it, and one that is
    finished only scores. The caller's random state stays as it was.
    recorder: writes snapshots of `network` as it is trained, each before the checkpoint, so that a kill loses none.
    teacher: a network of the same classes, which the recipe's `distill` learns from.

    Raises InputError and NetworkError as `Classifier` does, NetworkError too if the loss diverges, StoreError if the
    checkpoint is of another recipe, data set or architecture, can't be read, or can't be written.
    """
    recipe = recipe if recipe is not None else ClassifierRecipe()
    learner = Classifier(network, train_images, classes, recipe, device, dtype, teacher)
    _check(val_images, classes, "validation", recipe)
    val_images = val_images.to(learner.device)
    facts: dict[str, Any] = {"recipe": asdict(recipe), "steps": learner.steps, "data": train_images.stamped()}
    if teacher is not None:
        facts["teacher"] = teacher.fingerprint()
    checkpoint = Checkpoint(out, learner, **facts)
    done, entries = checkpoint.load()
    log = [Epoch(**entry) for entry in entries]
    if recorder is not None and not log:
        recorder.epoch_done(0)
    for stretch in stretches(learner, watch, done):
        now = learner.score(val_images)
        side, seconds = recipe.side(len(log)), round(stretch.seconds, 1)
        left = learner.attacked(val_images, LOGGED)
        shares = None if left is None else {size: round(share, 4) for size, share in left.shares.items()}
        log.append(Epoch(len(log), side, stretch.loss, now.top1, now.top5, seconds, machine(), shares))
        if recorder is not None:
            recorder.epoch_done(len(log))
        checkpoint.save(stretch.done, log)
    shipped = learner.shipped()
    shipped.load_state_dict(as_stored(shipped))
    learner.dtype = torch.float32
    return Trained(shipped, learner.score(val_images), log, learner.attacked(val_images, ATTACKED, watch))


def fit(
    network: nn.Module,
    images: Images,
    classes: int,
    recipe: ClassifierRecipe,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    watch: Watch = SILENT,
) -> nn.Module:
    """Train `network` in place, writing and scoring nothing; return it in the form that ships, in eval mode.

    The arguments and what is raised are as for `train`; an interrupted run is lost.
    """
    learner = Classifier(network, images, classes, recipe, device, dtype)
    for _ in stretches(learner, watch):
        pass
    return learner.shipped()


def _check(images: Images, classes: int, what: str, recipe: ClassifierRecipe) -> None:
    images.check(classes, what)
    channels = images.pixels.shape[1]
    if channels != len(recipe.mean):
        raise InputError(f"images of {channels} channels, but the recipe's mean and std have {len(recipe.mean)} values")

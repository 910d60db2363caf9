"""Recipes of trainings: all that decides what becomes of a network, beside its images.

Nothing here imports PyTorch, so that the command line can show its help at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netloupe.core.errors import InputError, unknown
from netloupe.core.settings import Kind, setting

SMALLEST = 32  # px of the images and pictures that styles are learned from
_SEEDS = 2**32


def _pair(value: Any) -> tuple[int, int]:
    side, times = value.split(":") if isinstance(value, str) else value
    return int(side), int(times)


def _three(value: Any) -> tuple[int, int, int]:
    full, half, quarter = value.split(",") if isinstance(value, str) else value
    return int(full), int(half), int(quarter)


OPTIMIZERS = ("sgd", "adamw", "muon")
NORMS = ("L2", "Linf")


@dataclass(frozen=True)
class Ball:
    """All images that differ from one by at most `size` in a norm, pixels in [0, 1], of images of any number of pixels.

    norm: "L2", the Euclidean, or "Linf", the largest change of a value. amount: the size as it was written, as "8/255".
    """

    norm: str
    amount: str

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        over, slash, under = self.amount.partition("/")
        try:
            size = float(over) / float(under) if slash else float(over)
        except (ValueError, ZeroDivisionError):
            size = math.nan
        if not 0 < size < math.inf:
            raise InputError(f"a ball of size {self.amount} (accepted: a number above 0, as 0.6 or 8/255)")
        object.__setattr__(self, "_size", size)

    @property
    def size(self) -> float:
        found: float = vars(self)["_size"]
        return found

    def __str__(self) -> str:
        return f"{self.norm}:{self.amount}"

    def resized(self, size: float) -> Ball:
        return Ball(self.norm, f"{size:g}")


def _ball(value: Any) -> Ball:
    if isinstance(value, Ball):
        return value
    norm, colon, amount = str(value).partition(":")
    if not colon:
        raise ValueError
    return Ball(norm, amount)


BALL = Kind("NORM:SIZE of pixels in [0, 1], as L2:0.6 or Linf:2/255", "NORM:SIZE", _ball, {"type": "string"})


def _sizes(metavar: str, example: str) -> Kind:
    return Kind(f"{metavar} as in {example}", metavar, _pair, {"type": "array", "items": {"type": "integer"}})


_WIDTHS = Kind("three numbers, as in 24,48,96", "A,B,C", _three, {"type": "array", "items": {"type": "integer"}})


@dataclass(frozen=True)
class Schedule:
    """What every recipe has: which images a training sees, how many at once, and how fast it goes.

    sizes: (side of the images in px, turns at it), in order; what a turn is, an epoch or a step, the recipe says.
    batch: images in a step. rate: the highest learning rate. warmup: share of the turns in which it rises.
    """

    sizes: tuple[tuple[int, int], ...]
    batch: int
    rate: float
    warmup: float
    seed: int

    @property
    def turns(self) -> int:
        return sum(turns for _, turns in self.sizes)

    def check(self, smallest: int, own: Mapping[str, tuple[bool, str]]) -> None:
        """Raise InputError naming the fields with unusable values; own: {field: (usable, what is accepted)}."""
        usable = bool(self.sizes) and all(side >= smallest and turns >= 1 for side, turns in self.sizes)
        checks = {
            "sizes": (usable, f"PX:TIMES, {smallest} px or more, 1 time or more"),
            "batch": (self.batch >= 1, "1 or more"),
            "rate": (0 < self.rate < math.inf, "above 0"),
            "warmup": (0 <= self.warmup <= 1, "0 to 1"),
            "seed": (0 <= self.seed < _SEEDS, f"0 to {_SEEDS - 1}"),
            **own,
        }
        wrong = [
            f"{name.replace('_', ' ')} {getattr(self, name)} (accepted: {accepted})"
            for name, (usable, accepted) in checks.items()
            if not usable
        ]
        if wrong:
            raise InputError(f"a training recipe with unusable {', '.join(wrong)}")


def side_at(sizes: tuple[tuple[int, int], ...], turn: int) -> int:
    """The side in px at a turn, counted from 0; after the last, as in it."""
    for side, turns in sizes:
        if turn < turns:
            return side
        turn -= turns
    return sizes[-1][0]


@dataclass(frozen=True)
class ClassifierRecipe(Schedule):
    """Everything that decides the result of a training run, beside the data and the architecture.

    Turns are epochs; over those of `sizes` the learning rate goes through one cycle. crop: smallest share of the
    image's area that a random crop keeps. size: side at which images are stored and validated. mean, std: per channel,
    of pixels in [0, 1].
    optimizer: "sgd" with Nesterov momentum, "adamw" (Loshchilov & Hutter 2019), whose decay is times the rate, or
    "muon", see `training.optimizers`.
    robust: each image is replaced by the worst found in this ball around it by `robust_steps` steps, see
    `training.robust`; `finish_steps` in the epochs of the finish. measured: three sizes of balls in which the accuracy
    that is left is measured, by default half, once and twice the one trained in.
    distill: share of the loss that is the cross-entropy to the probabilities of a teacher, both divided by
    `temperature` as logits (Hinton et al. 2015; as Touvron et al. 2021, whose soft distillation this is);
    teacher_side: not on smaller images, of which a teacher that learned from larger ones knows little.
    finish: epochs after the cycle at the side `size`, with crops of at least `finish_crop` and a rate that falls from
    `finish_rate` to zero: crops enlarge what they show, so a network trained on them expects larger objects than
    it meets in whole images, and a few epochs without mend that (Touvron et al. 2019).
    """

    sizes: tuple[tuple[int, int], ...] = setting(
        ((40, 7), (48, 7), (56, 5)),
        "Sides of the training images and epochs at each.",
        kind=_sizes("PX:EPOCHS,...", "40:7,48:7,56:5"),
        commas=True,
    )
    size: int = setting(64, "Side at which images are stored and validated.", metavar="PX")
    batch: int = setting(128, "Images in a step.")
    rate: float = setting(0.1, "Highest learning rate.")
    warmup: float = setting(0.2, "Share of the steps in which it rises.")
    optimizer: str = setting("sgd", "What takes the steps.", choices=OPTIMIZERS)
    momentum: float = setting(0.9, "Nesterov momentum; of adamw the first beta.")
    decay: float = setting(5e-4, "Weight decay.")
    smoothing: float = setting(0.1, "Label smoothing.")
    crop: float = setting(0.35, "Smallest share of the area that a crop keeps.")
    robust: Ball | None = setting(None, "Train on the worst images within this change.", kind=BALL)
    robust_steps: int = setting(1, "Steps to the worst image.")
    measured: tuple[float, ...] = setting(
        (), "Three sizes of changes to measure accuracy under.", metavar="SIZE,...", commas=True
    )
    distill: float = setting(0.9, "Share of the loss that the teacher decides, where there is one.")
    temperature: float = setting(1.0, "What logits are divided by before the teacher's are compared.")
    teacher_side: int = setting(0, "Side from which on the teacher is asked.", metavar="PX")
    finish: int = setting(0, "Epochs after the cycle, at full size and on nearly whole images.")
    finish_crop: float = 0.75
    finish_rate: float = setting(0.01, "Learning rate at their start.")
    finish_steps: int = setting(3, "Steps to the worst image in them.")
    seed: int = setting(0, "Seed of all that is drawn at random.")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        alike = len(self.mean) == len(self.std) > 0
        self.check(
            1,
            {
                "size": (self.size >= 1, "1 or more"),
                "momentum": (0 < self.momentum < 1, "above 0, below 1"),
                "decay": (self.decay >= 0, "0 or more"),
                "smoothing": (0 <= self.smoothing < 1, "0 up to 1"),
                "crop": (0 < self.crop <= 1, "above 0, up to 1"),
                "optimizer": (self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS)),
                "robust_steps": (self.robust_steps >= 1, "1 or more"),
                "finish_steps": (self.finish_steps >= 1, "1 or more"),
                "measured": (len(self.measured) in (0, 3) and all(x > 0 for x in self.measured), "three above 0"),
                "distill": (0 < self.distill <= 1, "above 0, up to 1"),
                "teacher_side": (self.teacher_side >= 0, "0 or more"),
                "temperature": (0 < self.temperature < math.inf, "above 0"),
                "finish": (self.finish >= 0, "0 or more epochs"),
                "finish_crop": (0 < self.finish_crop <= 1, "above 0, up to 1"),
                "finish_rate": (self.finish_rate > 0, "above 0"),
                "std": (alike and min(self.std) > 0, "above 0, as many values as the mean has"),
            },
        )

    @property
    def epochs(self) -> int:
        """How often each image is seen."""
        return self.turns + self.finish

    @property
    def balls(self) -> tuple[Ball, ...]:
        """Those in which the accuracy that is left is measured, the smallest first; none without adversaries."""
        if self.robust is None:
            return ()
        size = self.robust.size
        return tuple(self.robust.resized(one) for one in sorted(self.measured or (size / 2, size, 2 * size)))

    def attack_steps(self, epoch: int) -> int:
        """Steps to the worst image in an epoch, counted from 0."""
        return self.robust_steps if epoch < self.turns else self.finish_steps

    def side(self, epoch: int) -> int:
        """The side in px of the training images in an epoch, counted from 0."""
        return side_at((*self.sizes, (self.size, self.finish)), epoch)

    def learning_rate(self, step: int, per_epoch: int) -> float:
        """One cycle: linear up over the first `warmup` share of its steps, then linear down; then down once more."""
        cycle, steps = per_epoch * self.turns, per_epoch * self.epochs
        if step >= cycle:
            return self.finish_rate * (1 - (step - cycle) / max(steps - cycle, 1))
        share = step / cycle
        return self.rate * (share / self.warmup if share < self.warmup else (1 - share) / (1 - self.warmup))


@dataclass(frozen=True)
class StylizerRecipe(Schedule):
    """What decides a training run, beside the photos, the styles and the network that judges.

    The defaults are for training from random weights. Gradients are cut to a norm of 1.

    Turns are steps, images crops of photos. rate: of Adam, falling to zero along a cosine after the warmup. content:
    weight of the content loss; smoothness: of the total variation, per pixel. layers, content_layer, statistic: what
    the judge reads, see `synthesis.statistics`. style_size: px, the shorter side of the style images.
    """

    sizes: tuple[tuple[int, int], ...] = setting(
        ((128, 4000), (192, 500)),
        "Sides of the squares of photos and steps at each.",
        kind=_sizes("PX:STEPS,...", "128:6000,224:1000"),
        commas=True,
    )
    batch: int = setting(4, "Photos in a step.")
    rate: float = setting(2e-3, "Highest learning rate.")
    warmup: float = 0.02
    content: float = setting(0.05, "How much the photo counts.", metavar="WEIGHT")
    smoothness: float = 0.5
    layers: tuple[str, ...] = ("relu1", "relu2", "relu3", "relu4", "relu5", "pixels")
    content_layer: str = "relu4"
    statistic: str = "gram"
    style_size: int = setting(256, "Shorter side that the style pictures are brought to.", metavar="PX")
    widths: tuple[int, int, int] = setting((24, 48, 96), "Channels at full, half and quarter size.", kind=_WIDTHS)
    blocks: int = setting(5, "Residual blocks.")
    norm: str = setting("instance", "Kind of normalization.", metavar="instance|batch")
    seed: int = setting(0, "Seed of all that is drawn at random.")

    def __post_init__(self) -> None:
        self.check(
            SMALLEST,
            {
                "content": (0 <= self.content < math.inf, "0 or more"),
                "smoothness": (0 <= self.smoothness < math.inf, "0 or more"),
                "style_size": (self.style_size >= SMALLEST, f"{SMALLEST} px or more"),
            },
        )

    def learning_rate(self, step: int) -> float:
        """At a step, counted from 0."""
        warm = max(1, round(self.warmup * self.turns))
        if step < warm:
            return self.rate * (step + 1) / warm
        return self.rate * (1 + math.cos(math.pi * (step - warm) / max(1, self.turns - warm))) / 2

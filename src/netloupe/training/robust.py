"""Adversarial training, and how much of a classifier's accuracy is left when images are changed to fool it.

The change of each image stays in a ball around it, within which projected gradient ascent on the cross-entropy looks
for the worst (Madry et al. 2018, equation 2.1): steps along the gradient's direction, each followed by a projection
back into the ball and the range of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.watch import SILENT, Watch
from netloupe.training.labeled import Images
from netloupe.training.recipes import Ball

PIXELS = 255.0  # the range of pixels here; balls are given for pixels in [0, 1]
STEPS, RESTARTS = 20, 3
LONG = 100  # steps of the longest attack of the check
CHECKED = 500  # images that the check is made on
SLACK = 0.01  # share of the images by which a stronger attack may find less, for being another draw

Logits = Callable[[Tensor], Tensor]


def directed(values: Tensor, norm: str) -> Tensor:
    """The steepest direction of length one in the norm, image by image: (N, C, H, W), zero where the gradient is."""
    if norm == "Linf":
        return values.sign()
    return values / _lengths(values)


def projected(change: Tensor, ball: Ball) -> Tensor:
    """The nearest change (N, C, H, W) inside the ball around zero, in pixels in [0, 255]."""
    size = ball.size * PIXELS
    if ball.norm == "Linf":
        return change.clamp(-size, size)
    return change * (size / _lengths(change)).clamp(max=1.0)


def _lengths(values: Tensor) -> Tensor:
    """The Euclidean norm of each image, (N, 1, 1, 1), above zero."""
    lengths: Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3), keepdim=True)
    return lengths.clamp(min=1e-30)


def anywhere(like: Tensor, ball: Ball) -> Tensor:
    """A random change of the shape of `like`, uniform in the ball; from PyTorch's own generator of the CPU."""
    if ball.norm == "Linf":
        return ((torch.rand(like.shape) * 2 - 1) * ball.size * PIXELS).to(like.device)
    count = like.shape[1:].numel()
    length = torch.rand((len(like), 1, 1, 1)) ** (1 / count)
    return (directed(torch.randn(like.shape), "L2") * length * ball.size * PIXELS).to(like.device)


def changed(images: Tensor, change: Tensor, ball: Ball) -> Tensor:
    """Images in [0, 255] with the change, projected into the ball and the range."""
    return (images + projected(change, ball)).clamp(0, PIXELS)


def worst(logits: Logits, images: Tensor, labels: Tensor, ball: Ball, steps: int) -> Tensor:
    """Each image's worst case that `steps` steps from a random place in the ball come to; (N, C, H, W) in [0, 255].

    A step is 1.25 times the ball's size where there is one (Wong et al. 2020), else 2.5 times its share of it.
    """
    now = changed(images, anywhere(images, ball), ball)
    for _ in range(steps):
        _, gradient = _read(logits, now, labels)
        now = _step(images, now, gradient, ball, steps)
    return now


def _step(images: Tensor, now: Tensor, gradient: Tensor, ball: Ball, steps: int) -> Tensor:
    length = (1.25 if steps == 1 else 2.5 / steps) * ball.size * PIXELS
    return changed(images, now - images + length * directed(gradient, ball.norm), ball)


def _read(logits: Logits, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and the gradient of the cross-entropy, summed over the images. Raises InputError where there is none."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        found = logits(images)
        try:
            (gradient,) = torch.autograd.grad(F.cross_entropy(found, labels, reduction="sum"), images)
        except RuntimeError as error:
            raise InputError(
                "the network has no gradient with respect to its input, which adversarial training needs "
                "(accepted: a network that is differentiable throughout)"
            ) from error
    return found.detach(), gradient


@dataclass(frozen=True)
class Robustness:
    """What is left of the accuracy on `images` images under attack, shares in [0, 1].

    clean: unchanged. shares: {size of the ball: accuracy under 20 steps from three starts}.
    size: the middle one. ladder: at that size, on the first `checked` images, what stronger and stronger attacks leave:
    none, a random change in the ball, 1, 20 and 100 steps.
    """

    norm: str
    images: int
    clean: float
    shares: Mapping[str, float]
    size: str
    checked: int
    ladder: tuple[float, ...]

    @property
    def masked(self) -> bool:
        """Whether a stronger attack finds less than a weaker one, a sign that gradients are masked.

        As Athalye et al. (2018) list: one step better than many, random search better than gradients.
        """
        return any(strong > weak + SLACK for weak, strong in zip(self.ladder, self.ladder[1:], strict=False))


@torch.no_grad()
def robustness(
    logits: Logits,
    images: Images,
    balls: tuple[Ball, Ball, Ball],
    *,
    seed: int = 0,
    batch_size: int = 250,
    watch: Watch = SILENT,
) -> Robustness:
    """Attack labeled images in three balls around each, the smallest first.

    logits: pixels (N, C, H, W) in [0, 255] -> (N, classes). An image counts as fooled if it is so anywhere on the way;
    in a larger ball it then stays so, since the smaller lies inside. PyTorch's random state stays as it was.
    """
    part = watch.part("attacking", len(images.labels))
    middle, checked = balls[1], min(CHECKED, len(images.labels))
    clean, shares, ladder = 0, dict.fromkeys((ball.amount for ball in balls), 0), [0] * 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(images.labels), batch_size):
            pixels = images.pixels[start : start + batch_size].float()
            labels = images.labels[start : start + batch_size]
            right = logits(pixels).argmax(1) == labels
            clean += int(right.sum())
            left = right
            for ball in balls:
                for _ in range(RESTARTS):
                    left = _standing(logits, pixels, labels, left, ball, STEPS)
                shares[ball.amount] += int(left.sum())
            few = slice(0, max(0, checked - start))
            for i, count in enumerate(_ladder(logits, pixels[few], labels[few], right[few], middle)):
                ladder[i] += count
            part.advance(len(labels))
    count = len(images.labels)
    found = {size: number / count for size, number in shares.items()}
    shown = tuple(number / checked for number in ladder)
    return Robustness(middle.norm, count, clean / count, found, middle.amount, checked, shown)


def _ladder(logits: Logits, pixels: Tensor, labels: Tensor, right: Tensor, ball: Ball) -> list[int]:
    """How many images are still right under stronger and stronger attacks, each from a start of its own."""
    if not len(labels):
        return [0] * 5
    drawn = changed(pixels, anywhere(pixels, ball), ball)
    noise = right & (logits(drawn).argmax(1) == labels)
    attacked = [_standing(logits, pixels, labels, right, ball, steps) for steps in (1, STEPS, LONG)]
    return [int(left.sum()) for left in (right, noise, *attacked)]


def _standing(logits: Logits, pixels: Tensor, labels: Tensor, left: Tensor, ball: Ball, steps: int) -> Tensor:
    """Which of those `left` are still right all along an attack; bool (N,). Those fooled are attacked no further."""
    left = left.clone()
    ids = left.nonzero()[:, 0]
    now = changed(pixels[ids], anywhere(pixels[ids], ball), ball)
    for _ in range(steps):
        if not len(ids):
            return left
        found, gradient = _read(logits, now, labels[ids])
        stands = found.argmax(1) == labels[ids]
        left[ids[~stands]] = False
        ids, now, gradient = ids[stands], now[stands], gradient[stands]
        now = _step(pixels[ids], now, gradient, ball, steps)
    if len(ids):
        left[ids] = logits(now).argmax(1) == labels[ids]
    return left

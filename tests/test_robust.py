"""Adversarial training and what is left under attack, beside closed forms of linear classifiers."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netloupe.core.errors import Cancelled, InputError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.training.card import classifier_card, classifier_page
from netloupe.training.classifier import Trained, train
from netloupe.training.labeled import Images
from netloupe.training.optimizers import optimizer
from netloupe.training.recipes import Ball, ClassifierRecipe
from netloupe.training.robust import Robustness, anywhere, changed, directed, projected, robustness, worst
from netloupe.zoo.patchlet import Patchlet
from test_train import RECIPE, colored, equal, one_thread, small
from watch_helpers import Recorder

__all__ = ["one_thread"]
NORMS = {"L2": 2.0, "Linf": math.inf}
ROBUST = replace(RECIPE, robust=Ball("L2", "0.5"), finish_steps=2)


def lengths(values: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(values.flatten(1), ord=NORMS[norm], dim=1)


@pytest.mark.parametrize("norm", NORMS)
def test_projections_are_the_nearest_points_of_the_ball(norm: str) -> None:
    torch.manual_seed(0)
    ball = Ball(norm, "0.01")
    far = torch.randn(20, 3, 4, 4) * torch.linspace(0.1, 20, 20).view(-1, 1, 1, 1)
    near = projected(far, ball)
    assert bool((lengths(near, norm) <= 2.55 * 1.0001).all())
    inside = lengths(far, norm) < 2.55
    assert 0 < int(inside.sum()) < 20
    assert torch.equal(near[inside], far[inside])
    others = torch.cat([anywhere(far, ball) for _ in range(20)] + [near * 0.9, near * 0.99]).view(-1, *far.shape)
    assert bool((lengths(others.flatten(0, 1), norm) <= 2.55 * 1.0001).all())
    distances = (others - far).flatten(2).norm(dim=2)
    assert bool((distances >= (near - far).flatten(1).norm(dim=1) - 1e-4).all())


@pytest.mark.parametrize("norm", NORMS)
def test_random_changes_are_uniform_in_the_ball(norm: str) -> None:
    """The share within half the radius is 2^-n of n dimensions."""
    torch.manual_seed(0)
    found = anywhere(torch.zeros(20000, 1, 1, 2), Ball(norm, "0.4"))
    assert float((lengths(found, norm) < 0.2 * 255).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert found.mean(0).abs().max() < 2


def test_directions_rise_most_among_changes_of_the_same_size() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(5, 3, 4, 4)
    for norm in NORMS:
        best = (directed(gradient, norm) * gradient).flatten(1).sum(1)
        other = torch.randn(200, 5, 3, 4, 4)
        other = other / lengths(other.flatten(0, 1), norm).view(200, 5, 1, 1, 1)
        assert bool(((other * gradient).flatten(2).sum(2) <= best).all())
    assert torch.equal(directed(torch.zeros(1, 3, 2, 2), "L2"), torch.zeros(1, 3, 2, 2))


def linear(seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    weights = torch.randn(3 * 8 * 8)
    module = nn.Linear(3 * 8 * 8, 2)
    with torch.no_grad():
        module.weight.copy_(torch.stack([weights, -weights]))
        module.bias.zero_()
    return nn.Sequential(nn.Flatten(), module), weights


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_left_of_a_linear_classifier_is_as_calculated(norm: str) -> None:
    """Its margin w.x falls by at most the size of the ball times the dual norm of w, and some change comes to that."""
    module, weights = linear()
    torch.manual_seed(1)
    pixels = torch.randint(100, 156, (300, 3, 8, 8)).to(torch.uint8)
    margins = (pixels.float() / 255 - 0.5).flatten(1) @ weights
    labels = (margins < 0).long()
    labels[:30] = 1 - labels[:30]  # wrong from the start
    fall = float(weights.norm()) if norm == "L2" else float(weights.abs().sum())
    middle = float(margins.abs().median()) / fall
    balls = (Ball(norm, f"{middle / 2:.6g}"), Ball(norm, f"{middle:.6g}"), Ball(norm, f"{middle * 2:.6g}"))
    state = torch.random.get_rng_state()
    found = robustness(lambda x: module(x / 255 - 0.5), Images(pixels, labels), balls, batch_size=77)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.clean == pytest.approx(0.9)
    for ball in balls:
        wanted = float((margins[30:].abs() > ball.size * fall).float().sum()) / 300
        assert 0.02 < wanted < 0.88
        assert wanted - 1e-6 <= found.shares[ball.amount] <= wanted + 0.02, ball
    assert not found.masked
    assert found.ladder[1] > found.shares[found.size] + 0.2
    assert found.ladder[-1] <= found.ladder[-2] <= found.ladder[0]


def test_an_attack_comes_to_the_worst_of_the_ball() -> None:
    module, weights = linear()
    torch.manual_seed(1)
    images, labels = torch.full((4, 3, 8, 8), 128.0), torch.tensor([0, 0, 1, 1])
    ball = Ball("L2", "0.2")
    found = worst(lambda x: module(x / 255), images, labels, ball, 40) - images
    down = -weights / weights.norm()
    falls = found.flatten(1) @ down * torch.tensor([1, 1, -1, -1])
    assert bool((falls > 0.98 * 0.2 * 255).all())
    assert bool((falls <= 0.2 * 255 * 1.0001).all())
    assert not images.requires_grad


def test_attacked_pixels_stay_in_their_range() -> None:
    images = torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    found = changed(images, torch.randn(2, 3, 4, 4) * 1000, Ball("Linf", "0.5"))
    assert (float(found.min()), float(found.max())) == (0.0, 255.0)
    assert float((found - images).abs().max()) == pytest.approx(127.5)


class Reversed(torch.autograd.Function):
    """The identity, whose gradient points the wrong way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def test_gradients_that_mislead_are_noticed() -> None:
    module, weights = linear()
    torch.manual_seed(1)
    pixels = torch.randint(125, 131, (200, 3, 8, 8)).to(torch.uint8)
    labels = (((pixels.float() / 255 - 0.5).flatten(1) @ weights) < 0).long()
    balls = (Ball("L2", "0.3"), Ball("L2", "0.6"), Ball("L2", "1.2"))
    honest = robustness(lambda x: module(x / 255 - 0.5), Images(pixels, labels), balls)
    masked = robustness(lambda x: module(Reversed.apply(x) / 255 - 0.5), Images(pixels, labels), balls)  # type: ignore[no-untyped-call]
    assert not honest.masked
    assert masked.masked
    assert masked.ladder[1] < masked.ladder[2]


# Training


def frail(count: int, seed: int = 0) -> Images:
    """Two classes told apart by a large patch that is right in 80 of 100, and by small changes that are always right.

    The small ones are within the ball of an adversary, the patch is not (Tsipras et al. 2019, section 2.1).
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    signs = labels * 2 - 1
    seen = torch.where(torch.rand(count, generator=generator) < 0.8, signs, -signs)
    pixels = 128 + 4 * torch.randn((count, 1, 8, 8), generator=generator)
    checks = torch.ones(8, 8)  # rows, so that a mirrored image has them too
    checks[::2] = -1
    pixels += signs.view(-1, 1, 1, 1) * 6 * checks
    pixels[:, :, 2:6, 2:6] += seen.view(-1, 1, 1, 1) * 40
    return Images(pixels.round().clamp(0, 255).to(torch.uint8), labels)


def test_adversarial_training_leaves_what_small_changes_can_turn_around(tmp_path: Path) -> None:
    recipe = ClassifierRecipe(
        sizes=((8, 6),), size=8, batch=32, rate=0.05, crop=1.0, mean=(0.5,), std=(0.1,), smoothing=0.0
    )
    found = {}
    for name, robust in (("plain", None), ("robust", Ball("Linf", "12/255"))):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        measured = replace(recipe, robust=robust, robust_steps=3)
        trained = train(network, frail(1200), frail(400, 1), 2, tmp_path / name, recipe=measured)
        balls = (Ball("Linf", "3/255"), Ball("Linf", "12/255"), Ball("Linf", "30/255"))

        def logits(pixels: Tensor, network: nn.Module = trained.network) -> Tensor:
            answer: Tensor = network((pixels / 255 - 0.5) / 0.1)
            return answer

        found[name] = robustness(logits, frail(400, 1), balls)
        assert (trained.robustness is None) == (robust is None)
        if trained.robustness is not None:
            assert list(trained.robustness.shares) == [f"{12 / 255 * scale:g}" for scale in (0.5, 1, 2)]
            assert trained.log[-1].robust is not None
            assert set(trained.log[-1].robust) == set(trained.robustness.shares)
    assert found["plain"].clean > 0.97
    assert found["plain"].shares["12/255"] < 0.1
    assert 0.7 < found["robust"].clean < 0.9
    assert found["robust"].shares["12/255"] > 0.65


def test_a_teacher_is_learned_from_instead_of_the_labels(tmp_path: Path) -> None:
    images = colored(96)
    taught = train(small(), images, images, 3, tmp_path / "teacher", recipe=replace(RECIPE, sizes=((16, 12),)))
    teacher = Network(taught.network, InputSpec((16, 16), mean=RECIPE.mean, std=RECIPE.std), ["a", "b", "c"])
    wrong = Images(images.pixels, (images.labels + 1) % 3)
    recipe = replace(RECIPE, sizes=((16, 12),), distill=1.0, temperature=2.0)
    pupil = train(small(seed=1), wrong, images, 3, tmp_path / "pupil", recipe=recipe, teacher=teacher)
    alone = train(small(seed=1), wrong, images, 3, tmp_path / "alone", recipe=recipe)
    assert taught.score.top1 > 0.9
    assert pupil.score.top1 > 0.9
    assert alone.score.top1 < 0.2


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_robust, torch
from watch_helpers import Reacting
torch.set_num_threads(1)
def step(name, done):
    if (name, done) == ("training", 14):
        os.kill(os.getpid(), signal.SIGKILL)
test_robust.robust_run(Path(sys.argv[1]), watch=Reacting(step))
"""


def robust_run(out: Path, watch: Any = None) -> Trained:
    options = {} if watch is None else {"watch": watch}
    return train(small(), colored(96), colored(30), 3, out, recipe=ROBUST, dtype=torch.float32, **options)


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = robust_run(tmp_path / "whole")
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "checkpoint.pt").exists()
    resumed = robust_run(folder)
    assert equal(whole.network, resumed.network)
    assert whole.robustness == resumed.robustness
    assert [replace(e, seconds=0) for e in whole.log] == [replace(e, seconds=0) for e in resumed.log]


# Bad input, words


def test_balls_read_back_and_refuse_what_is_none() -> None:
    for text, size in (("L2:0.6", 0.6), ("Linf:2/255", 2 / 255)):
        ball = Ball(*text.split(":"))
        assert (str(ball), ball.size) == (text, size)
    with pytest.raises(UnknownName, match="no norm 'L3'; did you mean 'L2'"):
        Ball("L3", "0.6")
    for size in ("-1", "0", "nan", "inf", "x", "1/0", ""):
        with pytest.raises(InputError, match=r"a ball of size .* \(accepted: a number above 0, as 0.6 or 8/255\)"):
            Ball("L2", size)


def test_a_network_without_gradients_is_refused(tmp_path: Path) -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean((2, 3)) * self.scale

    with pytest.raises(InputError, match="no gradient with respect to its input, which adversarial training needs"):
        train(Blind(), colored(96), colored(30), 3, tmp_path, recipe=ROBUST)


def test_the_card_tells_of_the_attacks(tmp_path: Path) -> None:
    trained = robust_run(tmp_path)
    about = {
        "train": "noise", "train_images": 96, "validation": "noise", "validation_images": 30,
        "left_out": 0, "start": "lenslet", "teacher": "big",
    }  # fmt: skip
    page = classifier_page(classifier_card("n", "small", trained, ["a", "b", "c"], ROBUST, about))
    assert "within L2 0.25" in page
    assert "each image replaced by the worst within L2 0.5 of it" in page
    assert "found by 1 step, 2 in the finish" in page
    assert "| Begins | as lenslet |" in page
    assert "the probabilities of big" in page
    assert ("masked" in page) == (trained.robustness is not None and trained.robustness.masked)
    masked = Robustness("L2", 100, 0.9, {"1": 0.5, "2": 0.4, "3": 0.3}, "2", 50, (0.9, 0.2, 0.8, 0.4, 0.4))
    page = classifier_page(
        classifier_card("n", "small", replace(trained, robustness=masked), ["a", "b", "c"], ROBUST, about)
    )
    assert "a sign of masked gradients" in page


# Optimizers


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
def test_a_killed_training_with_two_optimizers_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """All steps in one go, and the same in two, of which the second starts from the checkpoint."""
    recipe = replace(RECIPE, optimizer="muon", rate=1e-3, decay=0.01)

    def deep(seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3),
        )  # fmt: skip

    whole = train(deep(), colored(96), colored(30), 3, tmp_path / "a", recipe=recipe, dtype=torch.float32)
    watch = Recorder(at=15)
    with pytest.raises(Cancelled):
        train(deep(), colored(96), colored(30), 3, tmp_path / "b", recipe=recipe, dtype=torch.float32, watch=watch)
    resumed = train(deep(5), colored(96), colored(30), 3, tmp_path / "b", recipe=recipe, dtype=torch.float32)
    assert equal(whole.network, resumed.network)
    start = dict(deep().named_parameters())
    moved = {name: (p - start[name]).detach() for name, p in whole.network.named_parameters()}
    assert all(float(change.abs().max()) > 1e-4 for change in moved.values())


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
def test_muon_needs_matrices_beside_the_classifier() -> None:
    recipe = replace(RECIPE, optimizer="muon")
    with pytest.raises(InputError, match=r"no matrices but its classifier's, .* \(accepted: sgd or adamw"):
        optimizer(small(), recipe)
    split = optimizer(Patchlet(5), recipe)
    counts = [sum(p.numel() for p in group["params"]) for group in split.param_groups]
    assert sum(counts) == sum(p.numel() for p in Patchlet(5).parameters())
    assert counts[0] == 6 * 12 * 192**2

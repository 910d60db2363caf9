"""Occlusion sensitivity: how a score changes when a window is hidden (Zeiler & Fergus 2013, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.baselines import Baseline, baseline_images
from netloupe.analysis.dropping import DROP, Dropping
from netloupe.analysis.tasks import Occlude
from netloupe.analysis.windows import Sliding, Windows
from netloupe.core.errors import InputError, NetworkError
from netloupe.core.given import checked
from netloupe.core.network import Network
from netloupe.core.numbers import spread
from netloupe.core.objectives import Objective, as_objective
from netloupe.core.objectives.units import Probability
from netloupe.core.perform import finished
from netloupe.core.receptive_field import Span
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import to_float
from netloupe.render.colors import diverging, enlarged, overlay
from netloupe.render.pictures import Picture, beside, captioned, fitted, from_pixels, resized
from netloupe.render.result import Result

SIDE = 288  # px of a panel's longer side


@dataclass(frozen=True)
class Occlusion(Result):
    """What became of the objective with the window at each position.

    images: (N, C, H, W) in [0, 1]. scores: (N, rows, columns), the raw objective of the occluded image. clean: (N,), of
    the whole image. method: "incremental", or "full passes" and why. error: of the approximate mode, the largest
    difference from exact scores that was found at up to 25 positions an image, as a share of their range; None where
    the scores are exact.
    """

    images: np.ndarray
    scores: np.ndarray
    clean: np.ndarray
    windows: Windows
    method: str
    error: float | None = None

    @property
    def drops(self) -> np.ndarray:
        """(N, rows, columns): clean minus occluded; positive where the hidden part speaks for the objective."""
        return np.asarray(self.clean[:, None, None] - self.scores)

    def heat(self) -> np.ndarray:
        """(N, H, W): for each pixel the mean drop over the windows that hide it."""
        total = np.zeros((len(self.scores), *self.windows.image))
        count = np.zeros(self.windows.image)
        drops = self.drops
        for row, column in np.ndindex(self.windows.grid):
            top, left, bottom, right = self.windows.box(row, column)
            total[:, top:bottom, left:right] += drops[:, row, column, None, None]
            count[top:bottom, left:right] += 1
        return np.asarray((total / count).astype(np.float32))

    def pictures(self) -> dict[str, Picture]:
        shown = {f"occlusion-{i}": self._row(i) for i in range(len(self.images))}
        return {"occlusion": shown["occlusion-0"]} if len(shown) == 1 else shown

    def _row(self, i: int) -> Picture:
        size = fitted(self.windows.image, SIDE)
        photo = resized(from_pixels(self.images[i]), size)
        high = float(np.abs(self.drops[i]).max())
        drops = resized(diverging(self.drops[i][np.ix_(*self.windows.nearest())], high), size, smooth=False)
        over = overlay(photo, enlarged(self.heat()[i], size), signed=True)
        return beside(
            [
                captioned(photo, f"score {float(self.clean[i]):.3g}"),
                captioned(drops, f"drop when hidden: red {high:.3g}, blue -{high:.3g}"),
                captioned(over, "mean drop of each pixel's windows"),
            ]
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {"scores": self.scores, "clean": self.clean}

    def summary(self) -> dict[str, Any]:
        places = [np.unravel_index(int(drop.argmax()), drop.shape) for drop in self.drops]
        return {
            "window": list(self.windows.size),
            "stride": list(self.windows.stride),
            "grid": list(self.windows.grid),
            "method": self.method,
            "error": self.error,
            "images": [
                {
                    "clean": float(clean),
                    "lowest": float(scores.min()),
                    "highest": float(scores.max()),
                    "lowest_box": list(self.windows.box(int(row), int(column))),
                }
                for clean, scores, (row, column) in zip(self.clean, self.scores, places, strict=True)
            ],
        }


@checked
def occlusion(
    net: Network,
    images: Tensor,
    objective: Objective | str,
    window: int | tuple[int, int] = 16,
    stride: int | tuple[int, int] = 8,
    baseline: Baseline = Occlude.baseline,  # type: ignore[assignment]
    *,
    growth: float = Occlude.growth,
    bfloat16: bool = Occlude.bfloat16,
    incremental: bool = not Occlude.full_passes,
    batch_size: int = Occlude.batch_size,
    watch: Watch = SILENT,
) -> Occlusion:
    """The objective with a window of the baseline at every position of every image (N, C, H, W) in [0, 1].

    window, stride: px, one number or (y, x). baseline: see `baseline_images`; "drop" leaves out the tokens that
    stand in a window, see `Dropping`.
    Only what a window can change is computed, where the network allows it (`Occlusion.method` says); the scores are
    those of full passes but for rounding. incremental=False computes full passes, `batch_size` images at a time.
    growth, bfloat16: approximations, whose cost `Occlusion.error` tells. growth below 1: inside the network windows
    grow only by this share of what they would, and what lies beyond counts as unchanged. bfloat16: compute in it,
    which is faster on processors that have it.
    Raises InputError for a window larger than the image or a stride outside 1 to the window, NetworkError for a score
    that is not finite or that never changes.
    """
    task = Occlude(
        objective=as_objective(objective),  # type: ignore[arg-type]  # settings take objects too
        windows=(window,),  # type: ignore[arg-type]
        stride=stride,  # type: ignore[arg-type]
        baseline=baseline,  # type: ignore[arg-type]
        growth=growth,
        bfloat16=bfloat16,
        full_passes=not incremental,
        batch_size=batch_size,
    )
    (found,) = scored(task, net, images, watch)
    return finished(found, task, net, {"image": images})


def grids(task: Occlude, side: tuple[int, int]) -> list[Windows]:
    """The windows of each size on images of (height, width); by default a seventh of the shorter side."""
    usual = max(2, round(min(side) / 7))  # about as Zeiler & Fergus have it
    sizes = dict.fromkeys(task.windows or ((usual, usual),))
    return [Windows(one, task.stride or (max(1, one[0] // 2), max(1, one[1] // 2)), side) for one in sizes]


def scored(task: Occlude, net: Network, images: Tensor, watch: Watch = SILENT) -> list[Occlusion]:
    """One for each size of window, with one pass over each clean image (N, C, H, W)."""
    net.inputs.check(images)
    net.inputs.check_range(images)
    if not len(images):
        raise InputError("0 images (accepted: 1 or more)")
    assert task.objective is not None
    objective = as_objective(task.objective)
    windows = grids(task, (int(images.shape[2]), int(images.shape[3])))
    dropping = isinstance(task.baseline, str) and task.baseline == DROP
    covers = None if dropping else baseline_images(net, images, task.baseline)  # type: ignore[arg-type]
    part = watch.part("windows", len(images) * sum(math.prod(grid.grid) for grid in windows))
    clean, found, errors = [], [], []
    methods: list[str] = []
    with torch.no_grad():
        for i in range(len(images)):
            own = net.fixed(objective, images[i : i + 1])
            one = images[i : i + 1]
            sliding: Sliding | Dropping
            if covers is None:
                sliding = Dropping(net, one, own)
            else:
                sliding = Sliding(
                    net,
                    one,
                    covers[i : i + 1],
                    own.layers,
                    growth=task.growth,
                    bfloat16=task.bfloat16,
                    incremental=not task.full_passes and methods[:1] in ([], ["incremental"]),
                    trusted=i > 0,
                )
            methods.append(sliding.method)
            clean.append(own.score(sliding.clean()))
            found.append(
                [
                    _scores(sliding, own, *grid.spans, task.batch_size, part.share(math.prod(grid.grid)), clean[-1])
                    for grid in windows
                ]
            )
            errors.append(
                [measured_error(sliding, own, grid, one) for grid, one in zip(windows, found[-1], strict=True)]
            )
    whole = torch.cat(clean).cpu().numpy()
    check_scores(net, objective, whole, found)
    return [
        Occlusion(
            images.detach().cpu().numpy(),
            torch.stack([scores[g] for scores in found]).cpu().numpy(),
            whole,
            grid,
            methods[0],
            largest(error[g] for error in errors),
        )
        for g, grid in enumerate(windows)
    ]


def _scores(
    sliding: Sliding | Dropping,
    objective: Objective,
    rows: list[Span],
    columns: list[Span],
    batch_size: int,
    watch: Watch = SILENT,
    clean: Tensor | None = None,
) -> Tensor:
    """(rows, columns). clean: (1,) of the whole image; with it the watch sees how the drops fill in."""
    scores: Tensor | None = None
    for places, reading in sliding.readings(rows, columns, batch_size=batch_size, watch=watch):
        some = objective.score(reading)
        scores = some.new_full((len(rows), len(columns)), torch.nan) if scores is None else scores
        r, q = (torch.tensor(numbers, device=some.device) for numbers in zip(*places, strict=True))
        scores[r, q] = some
        if clean is not None and watch.pictures:
            watch.picture("drops", _filling((clean - scores).cpu().numpy()))
    assert scores is not None
    return scores


def _filling(drops: np.ndarray) -> Tensor:
    """(3, rows, columns) in [0, 1]: the drops so far in colors, gray where they are not known yet."""
    known = np.isfinite(drops)
    colors = diverging(np.where(known, drops, 0), float(np.abs(drops[known]).max(initial=0)))
    return to_float(np.where(known[..., None], colors, np.uint8(128)))


def measured_error(sliding: Sliding | Dropping, objective: Objective, grid: Windows, scores: Tensor) -> float | None:
    """The largest difference from exact scores at up to 5 x 5 positions, as a share of their range.

    None where nothing is approximate.
    """
    if isinstance(sliding, Dropping) or not sliding.approximate:
        return None
    picks = [spread(0, count - 1, 5) for count in grid.grid]
    rows, columns = ([spans[i] for i in some] for spans, some in zip(grid.spans, picks, strict=True))
    true = _scores(sliding.exact(), objective, rows, columns, 32)
    differences = (scores[picks[0]][:, picks[1]] - true).abs().max()
    return float(differences / (true.max() - true.min()).clamp(min=1e-12))


def largest(errors: Iterable[float | None]) -> float | None:
    """Of those there are."""
    return max((error for error in errors if error is not None), default=None)


def check_scores(net: Network, objective: Objective, clean: np.ndarray, found: Sequence[Sequence[Tensor]]) -> None:
    if not (np.isfinite(clean).all() and all(bool(s.isfinite().all()) for scores in found for s in scores)):
        raise NetworkError(f"{objective!r} of an occluded image is not finite in {net.name}")
    if all(bool((s == float(c)).all()) for c, scores in zip(clean, found, strict=True) for s in scores):
        raise NetworkError(
            f"{objective!r} stays at {float(clean[0]):.4g} in {net.name} wherever the window is: "
            f"it does not depend on what is hidden{_saturated(objective, clean)}"
        )


def _saturated(objective: Objective, clean: np.ndarray) -> str:
    """What to read instead of a probability that can't rise or fall, to follow on the word that it does not change."""
    if not isinstance(objective, Probability) or not np.isin(clean, (0, 1)).all():
        return ""
    return f", or by less than a probability so near 0 or 1 can show (log_odds({objective.name}) would)"

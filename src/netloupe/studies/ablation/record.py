"""What mean ablation found: how much each channel, and each whole layer, is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netloupe.analysis.correlation import normed, ranked
from netloupe.core.numbers import finite
from netloupe.data.sources import Skipped
from netloupe.render.result import Record

SHOWN = 8  # channels of a layer in summary and figure


@dataclass(frozen=True)
class LayerAblation:
    """One layer of C channels, of N images; each channel c replaced by its mean in turn.

    rise: (C, N), how much the loss (nats) of each image rises. right: (C, N) bool, whether the image's class is still
    the most probable. divergence: (C, N), Kullback-Leibler divergence of the changed prediction from the clean one.
    whole_rise, whole_right, whole_divergence: (N,), all channels replaced at once.
    activity: (C,) mean activation. change: (C,) mean size of what is replaced: of the activation less its mean.
    patches: (C, 5) where the channel is strongest: image, then top, left, bottom, right of what the neuron sees.
    whole_passes: why every pass ran the whole network, or None where only the part after the layer was run.
    """

    name: str
    rise: np.ndarray
    right: np.ndarray
    divergence: np.ndarray
    whole_rise: np.ndarray
    whole_right: np.ndarray
    whole_divergence: np.ndarray
    activity: np.ndarray
    change: np.ndarray
    patches: np.ndarray
    whole_passes: str | None

    @property
    def loss(self) -> np.ndarray:
        """(C,): the mean rise of the loss."""
        return mean_and_error(self.rise)[0]

    @property
    def ranking(self) -> np.ndarray:
        """(C,): the channels, the one the network needs most first; of equals the lower index."""
        return np.argsort(-self.loss, kind="stable")

    def summary(self, clean_right: np.ndarray) -> dict[str, Any]:
        loss, error = mean_and_error(self.rise)
        whole, whole_error = mean_and_error(self.whole_rise[None])
        order = normed(ranked(loss))
        worst = [
            {
                "channel": int(c),
                "loss": float(loss[c]),
                "error": finite(error[c]),
                "accuracy": float(self.right[c].mean() - clean_right.mean()),
                "divergence": float(self.divergence[c].mean()),
                "activity": float(self.activity[c]),
            }
            for c in self.ranking[:SHOWN]
        ]
        return {
            "channels": len(loss),
            "whole": {
                "loss": float(whole[0]),
                "error": finite(whole_error[0]),
                "accuracy": float(self.whole_right.mean() - clean_right.mean()),
                "divergence": float(self.whole_divergence.mean()),
            },
            "worst": worst,
            "helps": int((loss < -2 * error).sum()),
            "no_effect": int((self.rise == 0).all(1).sum()),
            "half_of_the_loss": half_of(loss),
            "activity": finite(order @ normed(ranked(self.activity))),
            "change": finite(order @ normed(ranked(self.change))),
        }


@dataclass(frozen=True)
class Ablation(Record):
    """Mean ablation of every channel of some layers.

    clean_loss: (N,) nats. clean_right: (N,) bool. labeled: judged by the images' labels; else by the class that the
    unchanged network predicts. image: (N, C, H, W), for the patches. skipped: images that could not be read.
    """

    layers: tuple[LayerAblation, ...]
    clean_loss: np.ndarray
    clean_right: np.ndarray
    labeled: bool
    images: np.ndarray = field(repr=False)
    skipped: tuple[Skipped, ...] = ()

    def remarks(self) -> Sequence[str]:
        return [str(one) for one in self.skipped]

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"clean-loss": self.clean_loss}
        for layer in self.layers:
            found |= {
                f"rise-{layer.name}": layer.rise,
                f"right-{layer.name}": layer.right,
                f"divergence-{layer.name}": layer.divergence,
                f"whole-rise-{layer.name}": layer.whole_rise,
                f"activity-{layer.name}": layer.activity,
                f"change-{layer.name}": layer.change,
            }
        return found

    def summary(self) -> dict[str, Any]:
        notes = [
            f"{one.name}: every pass ran the whole network; {one.whole_passes}"
            for one in self.layers
            if one.whole_passes
        ]
        if len(self.clean_loss) == 1:
            notes.append("one image is its own mean, so replacing a channel by it changes nothing")
        return {
            "images": len(self.clean_loss),
            "judged_by": "judged by their labels" if self.labeled else "judged by the classes predicted before",
            "clean": {
                "loss": float(self.clean_loss.mean()),
                "accuracy": float(self.clean_right.mean()) if self.labeled else None,
            },
            "layers": {one.name: one.summary(self.clean_right) for one in self.layers},
            "notes": notes,
        }


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each row of (C, N) and its standard error, which is NaN for one image."""
    count = values.shape[1]
    spread = values.std(1, ddof=1) / count**0.5 if count > 1 else np.full(len(values), np.nan)
    return values.mean(1), spread


def half_of(loss: np.ndarray) -> int | None:
    """How many channels, the strongest first, make up half of all that the loss rises; None where it does not."""
    rises = np.sort(loss[loss > 0])[::-1]
    return int(np.searchsorted(np.cumsum(rises), rises.sum() / 2) + 1) if len(rises) else None

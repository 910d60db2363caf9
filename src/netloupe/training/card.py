"""Model cards: what a trained network is, how it was made, how good it is, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from netloupe.training.classifier import Epoch, Recipe, machine
from netloupe.training.score import Score

INTENDED_USE = (
    "Made to be looked at: for learning and teaching how convolutional networks work, and as a small known network "
    "for trying and testing methods of visualization on."
)
LIMITS = (
    "It knows only the classes listed below and gives every image one of them, whatever the image shows.",
    "The accuracy holds for photographs like those it was validated on, at the same size; others can be much worse.",
    "It has learned whatever tells the classes apart in its training photographs, background and habits of the "
    "photographers included, and with it their bias. Its probabilities are not calibrated.",
    "Not for decisions about people, nor anywhere that a wrong answer does harm.",
)


def make_card(
    name: str,
    architecture: str,
    network: nn.Module,
    labels: Sequence[str],
    score: Score,
    log: Sequence[Epoch],
    recipe: Recipe,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as JSON. data: {"train": ..., "train_images": n, "validation": ..., "validation_images": n}.

    Accuracies are shares in [0, 1] of the validation images; `by_class` is null for a class that has none.
    """
    machines = sorted({epoch.machine for epoch in log if epoch.machine}) or [machine()]
    return {
        "name": name,
        "architecture": architecture,
        "parameters": sum(p.numel() for p in network.parameters()),
        "data": dict(data),
        "recipe": asdict(recipe),
        "seconds": round(sum(epoch.seconds for epoch in log)),
        "machine": machines,
        "versions": {"netloupe": version("netloupe"), "torch": torch.__version__},
        "top1": round(score.top1, 4),
        "top5": round(score.top5, 4),
        "loss": round(score.loss, 4),
        "labels": list(labels),
        "by_class": [None if share is None else round(share, 4) for share in score.by_class],
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
    }


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    data, recipe = card["data"], card["recipe"]
    sizes = ", ".join(f"{epochs} epochs at {side} px" for side, epochs in recipe["sizes"])
    facts = {
        "Architecture": f"{card['architecture']}, {card['parameters']:,} parameters",
        "Input": f"{recipe['size']}x{recipe['size']} px, {len(recipe['mean'])} channels, "
        f"mean {_numbers(recipe['mean'])}, std {_numbers(recipe['std'])}",
        "Training data": f"{data['train']}, {data['train_images']:,} images",
        "Validation data": f"{data['validation']}, {data['validation_images']:,} images",
        "Top-1 accuracy": f"{card['top1']:.2%}",
        "Top-5 accuracy": f"{card['top5']:.2%}",
        "Cross-entropy": f"{card['loss']:.3f}",
        "Epochs": sizes,
        "Finish": f"{recipe['finish']} epochs at {recipe['size']} px on crops of {recipe['finish_crop']:.0%} to 100%, "
        f"rate {recipe['finish_rate']} falling to 0",
        "Optimizer": f"SGD, Nesterov momentum {recipe['momentum']}, batches of {recipe['batch']}, one cycle up to rate "
        f"{recipe['rate']} (warmup {recipe['warmup']:.0%} of the steps), weight decay {recipe['decay']}",
        "Loss": f"cross-entropy, label smoothing {recipe['smoothing']}",
        "Augmentation": f"random crops of {recipe['crop']:.0%} to 100% of the area, mirrored half of the time",
        "Seed": recipe["seed"],
        "Training time": _duration(card["seconds"]),
        "Machine": "; ".join(card["machine"]),
        "Versions": ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
    }
    shares = zip(card["labels"], card["by_class"], strict=True)
    ordered = sorted(shares, key=lambda pair: (-1.0 if pair[1] is None else pair[1], pair[0]), reverse=True)
    lines = [
        f"# {card['name']}",
        "",
        *markdown_table(("", ""), [(key, str(value)) for key, value in facts.items()]),
        "",
        "The weights are stored as float16; the accuracies are those of the stored weights, one central crop an image.",
        "",
        "## Intended use",
        "",
        card["intended_use"],
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
        "## Accuracy by class",
        "",
        "Share of the class's validation images that have it as their first prediction, best first.",
        "",
        *markdown_table(
            ("class", "top-1"), [(name, "no images" if share is None else f"{share:.1%}") for name, share in ordered]
        ),
        "",
    ]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(header), line(["---"] * len(header)), *(line(row) for row in rows)]


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

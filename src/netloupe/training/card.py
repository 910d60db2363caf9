"""Model cards: what a trained network is, how it was made, how good it is, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from netloupe.core.device import machine
from netloupe.core.network import Network
from netloupe.stylenet.model import StyleModel, architecture
from netloupe.training.classifier import Trained
from netloupe.training.optimizers import BETA, SPEED
from netloupe.training.recipes import ClassifierRecipe, Schedule
from netloupe.training.robust import LONG, RESTARTS, STEPS, Robustness
from netloupe.training.stylizer import Progressed
from netloupe.zoo.state import as_stored

CLASSIFIER_USE = (
    "Made to be looked at: for learning and teaching how vision networks work, and as a small known network "
    "for trying and testing methods of visualization on."
)
CLASSIFIER_LIMITS = (
    "It knows only the classes listed below and gives every image one of them, whatever the image shows.",
    "The accuracy holds for photographs like those it was validated on, at the same size; others can be much worse.",
    "It has learned whatever tells the classes apart in its training photographs, background and habits of the "
    "photographers included, and with it their bias. Its probabilities are not calibrated.",
    "Not for decisions about people, nor anywhere that a wrong answer does harm.",
)
ROBUST_LIMIT = (
    "Robust means: within changes of the sizes measured. Larger ones, and changes of another kind such as rotation, "
    "blur or fog, fool it like any network. An attack that was not tried may find more."
)
STYLIZER_USE = (
    "Made to play with and to learn from: painting photographs, frames of a video or of a camera in the style of one "
    "of the pictures below, or of a blend of them, in one pass through the network."
)
STYLIZER_LIMITS = (
    "It imitates colors, strokes and textures of one picture each. It knows nothing of what is shown, nor of the "
    "artist's other work.",
    "It was trained on squares of the sizes above. Strokes have the size in px that they had there, so larger images "
    "get finer ones, relative to the image; reduce an image for coarser strokes.",
    "Each image is painted by itself: in a video, textures flicker where the light or the noise changes.",
    "Even surfaces, faces and lettering come out worse than landscapes and textures do. A blend of styles was never "
    "trained, it is what lies between them.",
    "The losses compare styles only as far as the judging network sees them; they are no measure of beauty.",
    "Pictures made in the style of a work are not by its maker. Whether they may be published can depend on the rights "
    "in the photograph and in the work.",
)


def classifier_card(
    name: str,
    architecture: str,
    trained: Trained,
    labels: Sequence[str],
    recipe: ClassifierRecipe,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as JSON.

    data: {"train": ..., "train_images": n, "validation": ..., "validation_images": n, "start": ..., "teacher": ...}.

    Accuracies are shares in [0, 1] of the validation images; `by_class` is null for a class that has none.
    """
    score, log = trained.score, trained.log
    found = trained.robustness
    return {
        "name": name,
        "architecture": architecture,
        "labels": list(labels),
        "top1": round(score.top1, 4),
        "top5": round(score.top5, 4),
        "loss": round(score.loss, 4),
        "by_class": [None if share is None else round(share, 4) for share in score.by_class],
        "seconds": round(sum(epoch.seconds for epoch in log)),
        "machine": sorted({epoch.machine for epoch in log if epoch.machine}) or [machine()],
        "robustness": None if found is None else asdict(found),
        **_made(trained.network, recipe, data, CLASSIFIER_USE, _limits(found)),
    }


def _limits(found: Robustness | None) -> tuple[str, ...]:
    """The limits of a classifier, those of what was measured of its robustness among them."""
    if found is None:
        return CLASSIFIER_LIMITS
    masked = (
        "A stronger attack found less than a weaker one, a sign of masked gradients: the robust accuracies are "
        "then too high."
    )
    return (*CLASSIFIER_LIMITS, ROBUST_LIMIT, *[masked] * found.masked)


def style_card(
    model: StyleModel,
    recipe: Schedule,
    log: Sequence[Progressed],
    data: Mapping[str, Any],
    judge: Network,
    base: StyleModel | None = None,
    *,
    kept: int = 0,
) -> dict[str, Any]:
    """The card as JSON.

    data: {"photos": title, "photos_count": n, "styles": title, "style_sizes": {name: [height, width] as in the file}}.
    base: the network that this one began as. kept: of how many of its styles nothing was changed: all, where it was
    extended, or none. `losses` are means over the last stretch of the log by style, of the kept styles those of the
    former card; null where unknown.
    """
    known = {} if base is None else base.card.get("losses", {})
    losses = {name: known.get(name) for name in model.styles[:kept]}
    losses |= dict(zip(model.styles[kept:], log[-1].by_style[kept:], strict=True))
    began = None if base is None else {"name": base.name, "styles": list(base.styles)}
    stored = as_stored(model.network).values()
    return {
        "name": model.name,
        "what": "a feed-forward network that paints images in several styles",
        "styles": list(model.styles),
        "architecture": architecture(model.network),
        "bytes": sum(value.numel() * value.element_size() for value in stored),
        "judge": {"name": judge.name, "hash": judge.fingerprint()},
        "extends": began if kept else None,
        "starts": None if began is None or base is None or kept else began | {"recipe": base.card.get("recipe")},
        "losses": losses,
        "content_loss": log[-1].content,
        "seconds": round(log[-1].seconds),
        "machine": machine(),
        **_made(model.network, recipe, data, STYLIZER_USE, STYLIZER_LIMITS),
    }


def _made(
    network: nn.Module, recipe: Schedule, data: Mapping[str, Any], use: str, limits: Sequence[str]
) -> dict[str, Any]:
    """What every card says."""
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "data": dict(data),
        "recipe": asdict(recipe),
        "versions": {"netloupe": version("netloupe"), "torch": torch.__version__},
        "intended_use": use,
        "limits": list(limits),
    }


def classifier_page(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    data, recipe = card["data"], card["recipe"]
    facts = {
        "Architecture": f"{card['architecture']}, {card['parameters']:,} parameters",
        "Input": f"{recipe['size']}x{recipe['size']} px, {len(recipe['mean'])} channels, "
        f"mean {_numbers(recipe['mean'])}, std {_numbers(recipe['std'])}",
        "Training data": f"{data['train']}, {data['train_images']:,} images",
        "Validation data": f"{data['validation']}, {data['validation_images']:,} images",
        "Top-1 accuracy": f"{card['top1']:.2%}",
        "Top-5 accuracy": f"{card['top5']:.2%}",
        **_left(card.get("robustness")),
        "Cross-entropy": f"{card['loss']:.3f}",
        "Epochs": _sizes(recipe, "epochs"),
        "Finish": f"{_sizes({'sizes': [(recipe['size'], recipe['finish'])]}, 'epochs')} on crops of "
        f"{recipe['finish_crop']:.0%} to 100%, rate {recipe['finish_rate']:g} falling to 0",
        "Begins": "with random weights" if data["start"] is None else f"as {data['start']}",
        "Optimizer": f"{_steps_of(recipe)}, batches of {recipe['batch']}, one cycle up to rate "
        f"{recipe['rate']:g} (warmup {recipe['warmup']:.0%} of the steps), weight decay {recipe['decay']:g}",
        "Loss": f"cross-entropy, label smoothing {recipe['smoothing']}{_taught(data['teacher'], recipe)}",
        **_adversary(recipe),
        "Augmentation": f"random crops of {recipe['crop']:.0%} to 100% of the area, mirrored half of the time",
        **_how(card, "; ".join(card["machine"])),
    }
    shares = zip(card["labels"], card["by_class"], strict=True)
    ordered = sorted(shares, key=lambda pair: (-1.0 if pair[1] is None else pair[1], pair[0]), reverse=True)
    return _page(
        f"# {card['name']}",
        _table(("", ""), list(facts.items())),
        "The weights are stored as float16; the accuracies are those of the stored weights, one central crop an image.",
        *_use_and_limits(card),
        "## Accuracy by class",
        "Share of the class's validation images that have it as their first prediction, best first.",
        _table(
            ("class", "top-1"), [(name, "no images" if share is None else f"{share:.1%}") for name, share in ordered]
        ),
    )


def _steps_of(recipe: Mapping[str, Any]) -> str:
    beta = recipe["momentum"]
    return {
        "sgd": f"SGD, Nesterov momentum {beta}",
        "adamw": f"AdamW, betas {beta} and {BETA}",
        "muon": f"Muon of momentum {SPEED} for matrices but the classifier's, AdamW of betas {beta} and {BETA} for the "
        "rest",
    }[recipe["optimizer"]]


def _taught(teacher: str | None, recipe: Mapping[str, Any]) -> str:
    if teacher is None:
        return ""
    side = recipe["teacher_side"]
    least = f", from {side} px on" if side > min(size for size, _ in recipe["sizes"]) else ""
    share, heat = f"{recipe['distill']:.0%}", f"{recipe['temperature']:g}"
    return f"; {share} of it to the probabilities of {teacher} at temperature {heat}{least}"


def _adversary(recipe: Mapping[str, Any]) -> dict[str, str]:
    ball = recipe["robust"]
    if ball is None:
        return {}
    steps, last = recipe["robust_steps"], recipe["finish_steps"]
    return {
        "Adversary": f"each image replaced by the worst within {ball['norm']} {ball['amount']} of it, pixels in "
        f"[0, 1], found by {steps} {'step' if steps == 1 else 'steps'}, {last} in the finish"
    }


def _left(found: Mapping[str, Any] | None) -> dict[str, str]:
    """Rows about what was left of the accuracy under attack."""
    if found is None:
        return {}
    shares = ", ".join(f"{share:.1%} within {found['norm']} {size}" for size, share in found["shares"].items())
    return {
        "Robust accuracy": f"{shares}, of {found['images']:,} validation images, of which {found['clean']:.1%} are "
        f"right unchanged: {STEPS} steps of projected gradient ascent from each of {RESTARTS} starts",
        "Check of gradients": f"within {found['norm']} {found['size']}, {found['checked']} images: "
        + "{:.1%} unchanged, {:.1%} under a random change, {:.1%} after 1 step, ".format(*found["ladder"])
        + f"{found['ladder'][3]:.1%} after {STEPS}, {found['ladder'][4]:.1%} after {LONG}, from one start each",
    }


def style_page(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    data, recipe, built = card["data"], card["recipe"], card["architecture"]
    facts = {
        "Architecture": f"widths {', '.join(map(str, built['widths']))}, {built['blocks']} residual blocks, "
        f"conditional {built['norm']} norm",
        "Parameters": f"{card['parameters']:,}, {card['bytes'] / 1e6:.2f} MB",
        "Begins": _beginning(card),
        "Photographs": f"{data['photos']}, {data['photos_count']:,} images",
        "Style pictures": f"{data['styles']}, {len(data['style_sizes'])} images at {recipe['style_size']} px",
        "Judge": f"{card['judge']['name']} ({card['judge']['hash']})",
        "Style loss": f"{recipe['statistic']} of {', '.join(recipe['layers'])}",
        "Content loss": f"{card['content_loss']:.3f} at {recipe['content_layer']}, weight {recipe['content']}",
        "Smoothness": f"weight {recipe['smoothness']}",
        "Steps": _sizes(recipe, "steps"),
        "Optimizer": f"Adam, batches of {recipe['batch']}, rate {recipe['rate']} after {recipe['warmup']:.0%} of the "
        "steps, then falling to 0 along a cosine",
        **_how(card, card["machine"]),
    }
    sizes = data["style_sizes"]
    rows = [
        (name, "x".join(map(str, sizes[name])) if name in sizes else "-", "-" if loss is None else f"{loss:.3f}")
        for name, loss in card["losses"].items()
    ]
    return _page(
        f"# {card['name']}",
        f"This is {card['what']}. The weights are stored as float16.",
        _table(("", ""), list(facts.items())),
        "## Styles",
        "Sizes are (height, width) in px of the pictures they were learned from. The loss is the mean relative "
        "distance between what the judge sees of painted photographs and of the picture; less is nearer.",
        _table(("style", "picture", "style loss"), rows),
        *_use_and_limits(card),
    )


def _beginning(card: Mapping[str, Any]) -> str:
    extends, starts = card["extends"], card["starts"]
    if extends is not None:
        return f"as {extends['name']}, whose {len(extends['styles'])} styles were kept"
    if starts is None:
        return "with random weights"
    before = starts["recipe"]
    told = "" if before is None else f", trained for {_sizes(before, 'steps')} with content weight {before['content']}"
    return f"as {starts['name']} of {', '.join(starts['styles'])}{told}; all of it was trained further"


def _how(card: Mapping[str, Any], machines: str) -> dict[str, str]:
    return {
        "Seed": str(card["recipe"]["seed"]),
        "Training time": _duration(card["seconds"]),
        "Machine": machines,
        "Versions": ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
    }


def _use_and_limits(card: Mapping[str, Any]) -> tuple[str, ...]:
    limits = "\n".join(f"- {limit}" for limit in card["limits"])
    return "## Intended use", card["intended_use"], "## Limits", limits


def _page(*blocks: str) -> str:
    return "\n\n".join(blocks) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(["---"] * len(header)), *(line(row) for row in rows)])


def _sizes(recipe: Mapping[str, Any], turns: str) -> str:
    return ", ".join(f"{count} {turns[: -1 if count == 1 else None]} at {side} px" for side, count in recipe["sizes"])


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

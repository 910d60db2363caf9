"""Cards of style networks: what one is, how it was made, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from netloupe.core.network import Network
from netloupe.stylenet.model import StyleModel, architecture
from netloupe.training.card import markdown_table
from netloupe.training.classifier import machine
from netloupe.training.stylizer import Progressed, Recipe
from netloupe.zoo.state import as_stored

INTENDED_USE = (
    "Made to play with and to learn from: painting photographs, frames of a video or of a camera in the style of one "
    "of the pictures below, or of a blend of them, in one pass through the network."
)
LIMITS = (
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


def make_card(
    model: StyleModel,
    recipe: Recipe,
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
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "bytes": sum(value.numel() * value.element_size() for value in stored),
        "data": dict(data),
        "judge": {"name": judge.name, "hash": judge.fingerprint()},
        "extends": began if kept else None,
        "starts": None if began is None or base is None or kept else began | {"recipe": base.card.get("recipe")},
        "recipe": asdict(recipe),
        "losses": losses,
        "content_loss": log[-1].content,
        "seconds": round(log[-1].seconds),
        "machine": machine(),
        "versions": {"netloupe": version("netloupe"), "torch": torch.__version__},
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
    }


def to_markdown(card: Mapping[str, Any]) -> str:
    """The card as a page."""
    sizes = card["data"]["style_sizes"]
    rows = [
        (name, "x".join(map(str, sizes[name])) if name in sizes else "-", "-" if loss is None else f"{loss:.3f}")
        for name, loss in card["losses"].items()
    ]
    lines = [
        f"# {card['name']}",
        "",
        f"This is {card['what']}. The weights are stored as float16.",
        "",
        *markdown_table(("", ""), list(_facts(card).items())),
        "",
        "## Styles",
        "",
        "Sizes are (height, width) in px of the pictures they were learned from. The loss is the mean relative "
        "distance between what the judge sees of painted photographs and of the picture; less is nearer.",
        "",
        *markdown_table(("style", "picture", "style loss"), rows),
        "",
        "## Intended use",
        "",
        card["intended_use"],
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
    ]
    return "\n".join(lines)


def _facts(card: Mapping[str, Any]) -> dict[str, str]:
    data, recipe, built = card["data"], card["recipe"], card["architecture"]
    widths = ", ".join(map(str, built["widths"]))
    return {
        "Architecture": f"widths {widths}, {built['blocks']} residual blocks, conditional {built['norm']} norm",
        "Parameters": f"{card['parameters']:,}, {card['bytes'] / 1e6:.2f} MB",
        "Begins": _beginning(card),
        "Photographs": f"{data['photos']}, {data['photos_count']:,} images",
        "Style pictures": f"{data['styles']}, {len(data['style_sizes'])} images at {recipe['style_size']} px",
        "Judge": f"{card['judge']['name']} ({card['judge']['hash']})",
        "Style loss": f"{recipe['statistic']} of {', '.join(recipe['layers'])}",
        "Content loss": f"{card['content_loss']:.3f} at {recipe['content_layer']}, weight {recipe['content']}",
        "Smoothness": f"weight {recipe['smoothness']}",
        "Steps": _steps(recipe),
        "Optimizer": f"Adam, batches of {recipe['batch']}, rate {recipe['rate']} after {recipe['warmup']:.0%} of the "
        "steps, then falling to 0 along a cosine",
        "Seed": str(recipe["seed"]),
        "Training time": f"{card['seconds'] / 60:.0f} min" if card["seconds"] >= 60 else f"{card['seconds']} s",
        "Machine": card["machine"],
        "Versions": ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
    }


def _beginning(card: Mapping[str, Any]) -> str:
    extends, starts = card["extends"], card["starts"]
    if extends is not None:
        return f"as {extends['name']}, whose {len(extends['styles'])} styles were kept"
    if starts is None:
        return "with random weights"
    before = starts["recipe"]
    told = "" if before is None else f", trained for {_steps(before)} with content weight {before['content']}"
    return f"as {starts['name']} of {', '.join(starts['styles'])}{told}; all of it was trained further"


def _steps(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{steps} steps at {side} px" for side, steps in recipe["sizes"])

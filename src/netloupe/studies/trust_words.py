"""What the tests say of a method, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netloupe.analysis.explanation_words import MUCH, NEARLY, PARTLY

Scores = Mapping[str, Any]


def verdict(scores: Scores, baselines: Mapping[str, Scores]) -> str:
    """The sentence for one method. scores, baselines: as in the summary of `Trust`."""
    parts = [
        _on_weights(scores["half_random"], scores["all_random"]),
        _on_rival(scores["rival"]),
        _on_images(scores["other_image"]),
    ]
    parts += [_on_curves(scores, baselines), _on_objects(scores["pointing"], baselines["center"]["pointing"])]
    return "; ".join(part for part in parts if part) + "."


def _on_weights(half: float | None, whole: float | None) -> str:
    """half, whole: likeness to the trained maps with half of the layers random, and with all."""
    if half is None or whole is None:
        return "Its maps are constant, so there is nothing to compare"
    if whole >= MUCH:
        return f"Draws edges, not reasons: with all weights random its maps stay {whole:.2f} alike"
    if half >= MUCH:
        return f"Hardly notices random weights: with half of the layers random its maps stay {half:.2f} alike"
    if whole >= PARTLY:
        return f"Partly draws the photograph: with all weights random its maps stay {whole:.2f} alike"
    return f"Depends on the weights: with all of them random its maps are {whole:.2f} alike"


def _on_rival(likeness: float | None) -> str:
    if likeness is None:
        return ""
    if likeness >= NEARLY:
        return f"says next to nothing about the target ({likeness:.2f} alike for its rival)"
    if likeness >= MUCH:
        return f"says little about the target ({likeness:.2f} alike for its rival)"
    return f"depends on the target ({likeness:.2f} alike for its rival)"


def _on_images(likeness: float | None) -> str:
    if likeness is None or likeness < MUCH:
        return ""
    return f"marks much the same place in every image ({likeness:.2f} alike)"


def _on_curves(scores: Scores, baselines: Mapping[str, Scores]) -> str:
    won = {name: _better(scores, other) for name, other in baselines.items()}
    if not won["random"]:
        return "the pixels it marks matter no more than random ones"
    lost = [way for way in won["random"] if way not in won["center"]]
    found = f"{' and '.join(won['random'])} {'beat' if len(won['random']) == 2 else 'beats'} a random order"
    if not lost:
        return f"{found} and the center"
    return f"{found}, but not the center{f' at {lost[0]}' if len(lost) < len(won['random']) else ''}"


def _better(scores: Scores, other: Scores) -> list[str]:
    """By which of the two curves; a low area is good under deletion, a high one under insertion."""
    return ["deletion"] * (scores["deletion"] < other["deletion"]) + ["insertion"] * (
        scores["insertion"] > other["insertion"]
    )


def _on_objects(share: float | None, center: float | None) -> str:
    if share is None or center is None:
        return ""
    return f"points at the object in {share:.0%} of the images, the center in {center:.0%}"

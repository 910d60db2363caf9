"""What the tests say of a method, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netloupe.analysis.explain.words import MUCH, NEARLY, PARTLY


def verdict(scores: Mapping[str, Any], center: float | None) -> str:
    """The sentence for one method. scores: as in the summary of `Trust`; center: how often the center is a hit."""
    parts = [
        _on_weights(scores["half_random"], scores["all_random"]),
        _on_rival(scores["rival"]),
        _on_images(scores["other_image"]),
    ]
    parts += [_on_curves(scores["beats"]), _on_objects(scores["pointing"], center)]
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


def _on_curves(beats: Mapping[str, list[str]]) -> str:
    """beats: by which of the two curves the method is better than each baseline."""
    won, against_center = beats["random"], beats["center"]
    if not won:
        return "the pixels it marks do not clearly matter more than random ones"
    found = f"{' and '.join(won)} {'beat' if len(won) == 2 else 'beats'} a random order"
    lost = [way for way in won if way not in against_center]
    if not lost:
        return f"{found} and the center"
    return f"{found}, but not the center{f' at {lost[0]}' if len(lost) < len(won) else ''}"


def _on_objects(share: float | None, center: float | None) -> str:
    if share is None or center is None:
        return ""
    return f"points at the object in {share:.0%} of the images, the center in {center:.0%}"

"""What the figures of trust mean, in words: the same under the pictures, on the page and in the terminal."""

from __future__ import annotations

from netloupe.analysis.explain.evidence import Curves, ExplainedBy
from netloupe.analysis.explain.target import Target

NEARLY = 0.85  # rank correlation from which two maps are nearly the same
MUCH = 0.6
PARTLY = 0.4
_MARGIN = 0.05  # of the fall from the clean score to the covered one: areas nearer than that are as good


def on_rival(one: ExplainedBy, target: Target) -> str:
    """What the likeness to the rival's map says of the method."""
    if target.rival is None:
        return "No other class or unit to compare with."
    likeness, rival, many = one.class_likeness, target.rival_title, "classes" if target.kind == "class" else "units"
    if likeness is None:
        return f"Can't be compared: {_no_map(one, f'for {rival}')}."
    if likeness >= NEARLY:
        return f"Nearly the same map for {rival}: it does not tell the two {many} apart."
    if likeness >= MUCH:
        return f"Much the same map for {rival}: it hardly tells the two {many} apart."
    if likeness >= PARTLY:
        return f"Partly the same map for {rival}."
    return f"A different map for {rival}."


def _no_map(one: ExplainedBy, otherwise: str) -> str:
    return "the map is constant" if one.peak is None else f"{otherwise} it gives no map"


def on_random(one: ExplainedBy) -> str:
    """What the likeness to the map with random weights says of the method."""
    if one.random_likeness is None:
        return f"Can't be compared: {_no_map(one, 'with random weights')}."
    if one.random_likeness >= MUCH:
        return "Much the same with random weights: it shows the photograph more than what was learned."
    if one.random_likeness >= PARTLY:
        return "Partly the same with random weights: some of it is the photograph alone."
    return "With random weights the map is different."


def on_curves(one: ExplainedBy, by_chance: Curves) -> str:
    """Whether the map's strongest pixels matter more to the score than pixels in a random order."""
    if one.curves is None:
        return "A constant map has no order of pixels to hide."
    (gone, back), (gone_by_chance, back_by_chance) = one.curves.areas, by_chance.areas
    margin = _MARGIN * abs(float(by_chance.deletion[0] - by_chance.deletion[-1]))
    better = ["deletion"] * (gone < gone_by_chance - margin) + ["insertion"] * (back > back_by_chance + margin)
    if not better:
        return "No better than pixels in a random order."
    return f"Better than pixels in a random order at {' and '.join(better)}{' only' * (len(better) == 1)}."


def likeness(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def score(value: float | None) -> str:
    """Three decimals; of what is 10 or more, four digits."""
    return "none" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"


NOTES = (
    "Of each method: its map, the map over the photograph, and its raw attribution in color, gray at zero.",
    "Each map is shown as a share of its own strength, which 99.5 % of its values do not exceed: the methods' units "
    "differ, so between maps only the places can be compared, not the sizes.",
    "First figure: likeness to the map for the rival; second: to the map of the network with all weights random. Both "
    "are rank correlations of the sizes: 1 is the same order of pixels, 0 is nothing in common. Classes that "
    "look alike may share their evidence.",
    "Third: deletion, the mean score while the strongest pixels give way to the mean color (low is good), and "
    "insertion, while they come back over a blurred image (high is good).",
)

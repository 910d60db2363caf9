"""An explanation as one page for the browser."""

from __future__ import annotations

from typing import Any

from netloupe.analysis.explain.evidence import ExplainedBy
from netloupe.analysis.explain.figure import areas_of, bar_colors, color_picture, map_picture, overlay_picture, seen
from netloupe.analysis.explain.record import Explanation
from netloupe.analysis.explain.words import NOTES, likeness, on_curves, on_random, on_rival, score
from netloupe.analysis.tasks import left_out
from netloupe.render.page import filled
from netloupe.render.pictures import Picture
from netloupe.render.sheet import color_bar

_ON_CURVES = "The curves show the score by the share of pixels that gave way, or came back."


def write(e: Explanation) -> dict[str, str]:
    """The HTML: the predictions, each method's maps with their figures of trust, and all the figures in one table."""
    missing = (f"Left out: {name}. {why}" for name, why in left_out(e.skipped))
    page = filled(
        "explain.html",
        title=f"{e.target.title}: explained",
        e=e,
        located=_located(e),
        seen=seen(e),
        colors=bar_colors(e),
        signed=color_bar(256, signed=True),
        unsigned=color_bar(256, signed=False),
        methods=[_method(e, one) for one in e.maps.values()],
        header=_header(e),
        rows=_rows(e),
        said=[*NOTES, _ON_CURVES, *e.said, *missing],
    )
    return {"explain.html": page}


def _located(e: Explanation) -> dict[str, Any]:
    if e.object is None:
        return {"picture": e.photo, "alt": "no object found", "caption": e.no_object}
    return {
        "picture": e.object.drawn(e.photo),
        "alt": f"the photograph, object at {e.object.box}",
        "caption": "The object, by the colors of the gradient's strongest pixels",
    }


def _method(e: Explanation, one: ExplainedBy) -> dict[str, Any]:
    size = e.photo.shape[0], e.photo.shape[1]
    maps: dict[str, Picture | None] = {
        "map": map_picture(one, size),
        "over the photograph": overlay_picture(one, e.photo),
        "raw colors": color_picture(one, size),
    }
    return {
        "title": one.method.title,
        "paper": one.method.paper,
        "zero": one.zero,
        "maps": {name: picture for name, picture in maps.items() if picture is not None},
        "said": (
            (likeness(one.class_likeness), on_rival(one, e.target)),
            (likeness(one.random_likeness), on_random(one)),
            (areas_of(one.curves), on_curves(one, e.by_chance)),
        ),
        "curves": _curves(e, one),
    }


def _curves(e: Explanation, one: ExplainedBy) -> dict[str, Any] | None:
    """What is handed to the template's chart; None for a constant map."""
    if one.curves is None:
        return None
    drawn = [
        ("chance", "deletion in a random order", e.by_chance.deletion),
        ("chance", "insertion in a random order", e.by_chance.insertion),
        ("gone", "deletion", one.curves.deletion),
        ("back", "insertion", one.curves.insertion),
    ]
    low, high = float(min(c.min() for _, _, c in drawn)), float(max(c.max() for _, _, c in drawn))
    label = f"deletion and insertion, from {score(low)} to {score(high)}"
    return {"curves": drawn, "low": low, "high": high, "label": label}


def _header(e: Explanation) -> tuple[str, ...]:
    like = f"Like the map for {e.target.rival_title or 'a rival'}"
    return "Method", "Peak y, x", like, "Like with random weights", "Deletion", "Insertion"


def _rows(e: Explanation) -> list[tuple[str, ...]]:
    rows = [
        (
            one.method.title,
            "none" if one.peak is None else f"{one.peak[0]}, {one.peak[1]}",
            likeness(one.class_likeness),
            likeness(one.random_likeness),
            *(map(score, (None, None) if one.curves is None else one.curves.areas)),
        )
        for one in e.maps.values()
    ]
    return [*rows, ("Random order", "", "", "", *map(score, e.by_chance.areas))]

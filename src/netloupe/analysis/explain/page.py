"""An explanation as one page for the browser."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from netloupe.analysis.explain.evidence import ExplainedBy
from netloupe.analysis.explain.figure import areas_of, color_picture, map_picture, overlay_picture
from netloupe.analysis.explain.words import NOTES, likeness, on_curves, on_random, on_rival, score
from netloupe.render.page import bar_list, chart, data_uri, figure, image, page, table
from netloupe.render.sheet import color_bar

if TYPE_CHECKING:
    from netloupe.analysis.explain.task import Explanation

_ON_CURVES = "The curves show the score by the share of pixels that gave way, or came back."


def write_page(e: Explanation) -> str:
    """The HTML: the predictions, each method's maps with their figures of trust, and all the figures in one table."""
    network = e.provenance["network"]["name"]
    parts = [
        f"<style>:root {{ --photo: url({data_uri(e.photo)}) }}</style>",
        f"<header><h1>{escape(e.target.title)}</h1><p class=soft>{escape(e.target.phrase)} in {escape(network)}</p>",
        _top(e),
        "</header><section class=methods>",
        *(_method(e, one) for one in e.maps.values()),
        "</section><section>",
        _figures(e),
        "</section><section class=notes>",
        *(f"<p class=soft>{escape(note)}</p>" for note in (*NOTES, _ON_CURVES)),
        *(f"<p class=soft>Left out: {escape(name)}. {escape(why)}</p>" for name, why in e.skipped.items()),
        "</section>",
    ]
    return page(f"{e.target.title}: explained", "\n".join(parts))


def _top(e: Explanation) -> str:
    where = "The object, by the colors of the gradient's strongest pixels"
    located = e.photo if e.object is None else e.object.drawn(e.photo)
    pictures = figure(image(e.photo, "the photograph"), "What the network sees") + figure(
        image(located, "no object found" if e.object is None else f"the photograph, object at {e.object.box}"),
        e.no_object or where,
    )
    bars = bar_list([(one.label, one.probability) for one in e.predictions])
    shares = f"<h2>Top predictions</h2>{bars}" if e.predictions else "<p>The network has no choice of classes.</p>"
    return f'<div class="top">{pictures}<div>{shares}{_scale()}</div></div>'


def _scale() -> str:
    signed, unsigned = (image(color_bar(256, signed=s), "") for s in (True, False))
    return (
        f'<div class="scale soft"><span>Signed maps: against, for</span>{signed}'
        f'<div class="half">{unsigned}</div><div class="ticks"><span>−1</span><span>0</span><span>1</span></div>'
        "<span>Unsigned maps, from 0. Point at a map, or tap it, to see the photograph beneath.</span></div>"
    )


def _method(e: Explanation, one: ExplainedBy) -> str:
    title, size = one.method.title, (e.photo.shape[0], e.photo.shape[1])
    colors = color_picture(one, size)
    shown = [(map_picture(one, size), "map"), (overlay_picture(one, e.photo), "over the photograph")]
    shown += [] if colors is None else [(colors, "raw colors")]
    what = f"{title} of {e.target.title}"
    maps = "".join(
        figure(f'<span class="peek" tabindex="0">{image(picture, f"{what}, {name}")}</span>', name)
        for picture, name in shown
    )
    said = "".join(
        f"<dt>{escape(number)}</dt><dd>{escape(words)}</dd>"
        for number, words in (
            (likeness(one.class_likeness), on_rival(one, e.target)),
            (likeness(one.random_likeness), on_random(one)),
            (areas_of(one.curves), on_curves(one, e.by_chance)),
        )
    )
    zero = "<p>Zero everywhere.</p>" if one.zero else ""
    return (
        f'<article class="method"><h2>{escape(title)}</h2><p class="soft">{escape(one.method.paper)}</p>{zero}'
        f'<div class="maps">{maps}</div><dl class="said">{said}</dl>{_curves(e, one)}</article>'
    )


def _curves(e: Explanation, one: ExplainedBy) -> str:
    if one.curves is None:
        return ""
    chance = e.by_chance
    drawn = [
        ("chance", "deletion in a random order", chance.deletion),
        ("chance", "insertion in a random order", chance.insertion),
        ("gone", "deletion", one.curves.deletion),
        ("back", "insertion", one.curves.insertion),
    ]
    low, high = min(c.min() for _, _, c in drawn), max(c.max() for _, _, c in drawn)
    label = f"deletion and insertion, from {score(float(low))} to {score(float(high))}"
    keys = "".join(
        f'<span><span class="key {style}"></span>{name}</span> '
        for style, name in (("gone", "deletion"), ("back", "insertion"), ("chance", "random order"))
    )
    return f'<div class="curves">{chart(drawn, float(low), float(high), label)}<p class="soft">{keys}</p></div>'


def _figures(e: Explanation) -> str:
    header = (
        "Method",
        "Peak y, x",
        f"Like the map for {e.target.rival_title or 'a rival'}",
        "Like with random weights",
    )
    rows: list[tuple[str, ...]] = [
        (
            one.method.title,
            "none" if one.peak is None else f"{one.peak[0]}, {one.peak[1]}",
            likeness(one.class_likeness),
            likeness(one.random_likeness),
            *_areas(one),
        )
        for one in e.maps.values()
    ]
    rows.append(("Random order", "", "", "", *(score(area) for area in e.by_chance.areas)))
    return table((*header, "Deletion", "Insertion"), rows)


def _areas(one: ExplainedBy) -> tuple[str, str]:
    gone, back = (None, None) if one.curves is None else one.curves.areas
    return score(gone), score(back)

"""An audit as one page for the browser."""

from __future__ import annotations

from html import escape

import numpy as np

from netloupe.render.page import figure, image, page, table
from netloupe.studies.audit.figure import (
    HEADER,
    before_after,
    excess_picture,
    mean_map,
    pictures_of,
    place_cells,
    titled,
)
from netloupe.studies.audit.places import Box, in_pixels, place_words
from netloupe.studies.audit.record import LEAST_EFFECT, Audit, Background, Example, Groups, Place, Shown
from netloupe.studies.audit.words import NOTES, left_out, p_text, verdict, words

_STYLE = """
.suspect { display: grid; gap: 0.75rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
.suspect > p { max-width: 50rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem 1.25rem; }
.strip .row { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr); gap: 2px; }
.strip img, .small img { image-rendering: pixelated; }
.small { display: grid; grid-template-columns: repeat(auto-fill, 8.25rem); gap: 1rem; }
h3 { margin: 0; font-size: 0.9375rem; font-weight: 600; }
"""
_BACKGROUND = (
    "Class",
    "Attribution on the object",
    "Object's share of the image",
    "Both",
    "Object only",
    "Background only",
    "Effect",
    "At least",
    "p",
)
_GROUPS = ("Class", "By maps", "Apart", "Rightly classified", "By features", "Apart", "Agreement")


def write(a: Audit) -> dict[str, str]:
    """The page, as `audit.html`."""
    return {"audit.html": _page(a)}


def _page(a: Audit) -> str:
    """The HTML: the verdict, each suspect with examples and counterexamples, and every class in tables."""
    name, source = a.provenance["network"]["name"], a.provenance["parameters"]["source"]
    method = a.provenance["parameters"]["method"]
    parts = [
        f"<style>{_STYLE}</style>",
        f"<header><h1>{escape(verdict(a))}</h1>",
        f"<p class=soft>Audit of {escape(name)} over {escape(source)}, maps by {escape(method)}</p>",
        *(f"<p class=soft>{escape(text)}</p>" for text in left_out(a)),
        "</header>",
        *(_suspect(a, one) for one in a.shown),
        _places(a),
        _backgrounds(a),
        _maps(a),
        _groups(a),
        "<section class=notes>",
        *(f"<p class=soft>{escape(note.format(least=LEAST_EFFECT))}</p>" for note in NOTES),
        "</section>",
    ]
    return page(f"Audit of {name}", "\n".join(parts))


def _suspect(a: Audit, shown: Shown) -> str:
    one = shown.suspect
    what = place_words(one.proposal.box) if isinstance(one, Place) else "the background"
    box = in_pixels(one.proposal.box, a.size) if isinstance(one, Place) else None
    where = ""
    if isinstance(one, Place):
        picture = image(excess_picture(a, one), f"excess of attribution of {a.names[one.label]}")
        where = (
            f'<div class="small">{figure(picture, "Its attribution, above (red) and below the other classes")}</div>'
        )
    strips = "".join(
        f'<h3>{escape(title)}</h3><div class="strip">'
        f"{''.join(_example(a.names[one.label], each, box) for each in examples)}</div>"
        for title, examples in titled(a, shown)
    )
    head = "" if one.suspect else "No suspect, foremost all the same: "
    return (
        f'<section class="suspect"><h2>{escape(f"{head}{a.names[one.label]}, {what}")}</h2>'
        f"<p>{escape(words(a, one))}</p>{where}{strips}</section>"
    )


def _example(name: str, one: Example, box: Box | None) -> str:
    shown = pictures_of(one, box)
    kinds = ["image", "map", "changed"] if len(shown) == 3 else ["image", "changed"]
    cells = "".join(image(picture, f"{one.name}, {kind}") for picture, kind in zip(shown, kinds, strict=True))
    return figure(f'<div class="row">{cells}</div>', before_after(name, one))


def _places(a: Audit) -> str:
    rows = [place_cells(a, one) for one in a.places]
    return f"<section><h2>Places tested</h2>{table([h.replace(chr(10), ' ') for h in HEADER], rows)}</section>"


def _backgrounds(a: Audit) -> str:
    if a.backgrounds is None:
        return ""
    rows = [_background_cells(a, one) for one in a.backgrounds]
    return f"<section><h2>Object and background</h2>{table(_BACKGROUND, rows)}</section>"


def _background_cells(a: Audit, one: Background) -> list[str]:
    shares = ["" if np.isnan(value) else f"{value:.0%}" for value in (one.inside, one.area)]
    numbers = (one.plain, one.object_only, one.background_only, one.effect, one.low)
    name = a.names[one.label] + (" (suspect)" if one.suspect else "")
    return [name, *shares, *(f"{number:z.2f}" for number in numbers), p_text(one.p)]


def _maps(a: Audit) -> str:
    """The mean map of each class that was tested."""
    cells = []
    for one in a.places:
        name = a.names[one.label]
        values = a.maps[a.labels.index(name)]
        cells.append(figure(image(mean_map(values, a.size), f"mean attribution of {name}"), name))
    return (
        "<section><h2>Where the attribution lies</h2><p class=soft>Mean over the images looked at, red above an even "
        f'spread, blue below.</p><div class="small">{"".join(cells)}</div></section>'
    )


def _groups(a: Audit) -> str:
    split = [one for one in a.groups if one.maps.any() or (one.features is not None and one.features.any())]
    head = "<section><h2>Groups of images</h2>"
    if not split:
        return f"{head}<p>No class falls into groups, by its maps or by its features.</p></section>"
    rows = [_group_cells(a, one) for one in split]
    return (
        f"{head}<p class=soft>Classes that fall into groups, by where the evidence lies or by features; their sizes, "
        "how far apart they are (mean silhouette), and whether both agree (adjusted Rand index, 1 where they are the "
        f"same). Of the half that is looked at.</p>{table(_GROUPS, rows)}</section>"
    )


def _group_cells(a: Audit, one: Groups) -> list[str]:
    apart = ["" if np.isnan(value) else f"{value:z.2f}" for value in (*one.apart, one.agree)]
    right = ", ".join(f"{share:.0%}" for share in one.right)
    return [
        a.names[one.label],
        _sizes(one.maps),
        apart[0],
        right,
        "" if one.features is None else _sizes(one.features),
        apart[1],
        apart[2],
    ]


def _sizes(groups: np.ndarray) -> str:
    return " + ".join(str(n) for n in np.bincount(groups))

"""An audit as one page for the browser."""

from __future__ import annotations

from typing import Any

import numpy as np

from netloupe.render.page import filled
from netloupe.render.pictures import Picture
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
    """The HTML: the verdict, each suspect with examples and counterexamples, and every class in tables."""
    network = a.provenance["network"]["name"]
    split = [one for one in a.groups if one.maps.any() or (one.features is not None and one.features.any())]
    page = filled(
        "audit.html",
        title=f"Audit of {network}",
        verdict=verdict(a),
        network=network,
        source=a.source,
        method=a.method,
        left_out=left_out(a),
        suspects=[_suspect(a, one) for one in a.shown],
        places=([head.replace("\n", " ") for head in HEADER], [place_cells(a, one) for one in a.places]),
        backgrounds=None
        if a.backgrounds is None
        else (_BACKGROUND, [_background_cells(a, one) for one in a.backgrounds]),
        maps=[_mean_map(a, a.names[one.label]) for one in a.places],
        groups=(_GROUPS, [_group_cells(a, one) for one in split]),
        said=[note.format(least=LEAST_EFFECT) for note in NOTES],
    )
    return {"audit.html": page}


def _suspect(a: Audit, shown: Shown) -> dict[str, Any]:
    one, name = shown.suspect, a.names[shown.suspect.label]
    place = one if isinstance(one, Place) else None
    what = "the background" if place is None else place_words(place.proposal.box)
    box = None if place is None else in_pixels(place.proposal.box, a.size)
    return {
        "head": f"{'' if one.suspect else 'No suspect, foremost all the same: '}{name}, {what}",
        "name": name,
        "words": words(a, one),
        "excess": None if place is None else excess_picture(a, place),
        "strips": [(title, [_example(name, each, box) for each in examples]) for title, examples in titled(a, shown)],
    }


def _example(name: str, one: Example, box: Box | None) -> dict[str, Any]:
    shown = pictures_of(one, box)
    kinds = ["image", "map", "changed"] if len(shown) == 3 else ["image", "changed"]
    return {
        "name": one.name,
        "caption": before_after(name, one),
        "pictures": dict(zip(kinds, shown, strict=True)),
    }


def _mean_map(a: Audit, name: str) -> tuple[str, Picture]:
    return name, mean_map(a.maps[a.labels.index(name)], a.size)


def _background_cells(a: Audit, one: Background) -> list[str]:
    shares = ["" if np.isnan(value) else f"{value:.0%}" for value in (one.inside, one.area)]
    numbers = (one.plain, one.object_only, one.background_only, one.effect, one.low)
    name = a.names[one.label] + (" (suspect)" if one.suspect else "")
    return [name, *shares, *(f"{number:z.2f}" for number in numbers), p_text(one.p)]


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

"""What an audit found, in words and in rows of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from netloupe.core.numbers import finite
from netloupe.studies.audit.places import GRID, area, in_pixels, place_words
from netloupe.studies.audit.record import Audit, Background, Groups, Place

NOTES = (
    "Maps only propose a place, on one half of a class's images; every number about hiding and carrying comes from the "
    "other half. Hiding fills the place from around it; carrying copies it into an image of another class. Other "
    "places: random boxes of the same size in the same images.",
    "The effect is the change of probability beyond that of other places, and beyond what the same place does to the "
    "other classes. A suspect has one of at least {least}, with p of at most 0.05 after Holm's correction for every "
    "class and test: in carrying, or in hiding where carrying does more than carrying other places.",
    "What is not found: a mark that is not at a fixed place, a color cast or texture of the whole image, and a place "
    "larger than a quarter of it. In the middle the place may be the object itself: look at the pictures.",
)


def tell(a: Audit) -> dict[str, Any]:
    """The verdicts, and the rows of the summary with theirs."""
    return {
        "verdict": verdict(a),
        "suspects": [words(a, one) for one in a.suspects],
        "left_out": left_out(a),
        "places": [place_row(a, one) for one in a.places],
        "backgrounds": None if a.backgrounds is None else [background_row(a, one) for one in a.backgrounds],
        "groups": [group_row(a, one) for one in a.groups],
    }


def verdict(a: Audit) -> str:
    """One line about all of it."""
    found = a.suspects
    if not a.places and not a.backgrounds:
        return f"No class could be tested: none of the attribution maps of {a.images} images shows any evidence."
    tested = f"{len(a.places)} of {len(a.labels)} classes tested for a place"
    if a.backgrounds is not None:
        tested += f", {len(a.backgrounds)} for the background"
    if not found:
        what = "a fixed place" if a.backgrounds is None else "a fixed place or on the background"
        return f"No class was found to rely on {what} ({tested}, {a.images} images)."
    names = list(dict.fromkeys(a.names[one.label] for one in found))
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{_count(len(names), 'class')} suspected: {listed} ({tested}, {a.images} images)."


def words(a: Audit, one: Place | Background) -> str:
    """What was found of a class, suspect or not."""
    return _place(a, one) if isinstance(one, Place) else _background(a, one)


def _place(a: Audit, one: Place) -> str:
    name, where, hiding = a.names[one.label], place_words(one.proposal.box), one.hiding
    effect = (
        f"Hiding it lowers the probability of {name} by {hiding.own:z.2f} (other places of its size: "
        f"{hiding.elsewhere:z.2f}). Carried into images of other classes, it makes {one.turned:.0%} of them {name} "
        f"(other places: {one.turned_elsewhere:.0%})."
    )
    claim = f"relies on {where}" if one.suspect else f"is not found to rely on {where}, where its maps stand out most"
    sure = f"Effect {one.effect:z.2f}, at least {one.low:z.2f} with 95 % confidence, p {p_text(one.p)}."
    return f"{name} {claim} ({box_words(a, one)}). {effect} {sure}"


def _background(a: Audit, one: Background) -> str:
    name = a.names[one.label]
    claim = "relies on the background" if one.suspect else "is not found to rely on the background"
    inside = ""
    if math.isfinite(one.inside):
        inside = f" {one.inside:.0%} of its attribution lies on the object, which covers {one.area:.0%} of the image."
    return (
        f"{name} {claim}: its probability is {one.background_only:z.2f} without the object and {one.object_only:z.2f} "
        f"without the background ({one.plain:z.2f} with both).{inside} Effect {one.effect:z.2f}, at least "
        f"{one.low:z.2f} with 95 % confidence, p {p_text(one.p)}."
    )


def box_words(a: Audit, one: Place) -> str:
    """The box in px, and its share of the image."""
    top, left, bottom, right = in_pixels(one.proposal.box, a.size)
    share = area(one.proposal.box) / GRID**2
    return f"rows {top} to {bottom}, columns {left} to {right} px, {share:.0%} of the image"


def left_out(a: Audit) -> list[str]:
    """Sentences about images and classes that were not used."""
    c, found = a.counts, []
    if c["predicted"]:
        found.append("The classes are the network's own predictions, not labels: what it relies on when it says so.")
    if c["too_few"]:
        found.append(f"Too few images: {_listed([f'{name} ({n})' for name, n in c['too_few'].items()])}.")
    for key, what in (("unlabeled", "image without a label"), ("duplicates", "copy of an image of the same class")):
        if c[key]:
            found.append(f"Left out: {_count(c[key], what)}.")
    if c["unreadable"]:
        found.append(f"Can't be read: {_listed(c['unreadable'])}.")
    if c["blank_maps"]:
        found.append(f"Left out: {_count(c['blank_maps'], 'map')} without any evidence for the class.")
    if c["failed_maps"]:
        found.append(f"No map: {_listed(c['failed_maps'])}.")
    if c["without_boxes"]:
        found.append(f"Too few boxes for the background: {_count(c['without_boxes'], 'class')}.")
    if len(a.labels) > len(a.places):
        found.append(f"Tested are the {len(a.places)} classes whose maps differ most from the others'.")
    return found


def place_row(a: Audit, one: Place) -> dict[str, Any]:
    """JSON-able."""
    return {
        "class": a.names[one.label],
        "suspect": one.suspect,
        "place": place_words(one.proposal.box),
        "box": list(in_pixels(one.proposal.box, a.size)),
        "share": area(one.proposal.box) / GRID**2,
        "images": one.images,
        "attribution": {"own": one.proposal.own, "others": one.proposal.others, "z": one.proposal.z},
        "hiding": vars(one.hiding),
        "carrying": vars(one.carrying),
        "turned": one.turned,
        "turned_elsewhere": one.turned_elsewhere,
        "effect": one.effect,
        "low": one.low,
        "p": one.p,
        "verdict": words(a, one),
    }


def background_row(a: Audit, one: Background) -> dict[str, Any]:
    """JSON-able; None where no map was made."""
    kept = ("images", "inside", "area", "plain", "object_only", "background_only", "effect", "low", "p", "suspect")
    numbers = {key: _finite(getattr(one, key)) for key in kept}
    return {"class": a.names[one.label], **numbers, "verdict": words(a, one)}


def group_row(a: Audit, one: Groups) -> dict[str, Any]:
    """JSON-able; None where all is one group."""
    sizes = [int((one.maps == g).sum()) for g in range(one.maps.max() + 1)]
    features = None if one.features is None else [int((one.features == g).sum()) for g in range(one.features.max() + 1)]
    return {
        "class": a.names[one.label],
        "maps": sizes,
        "features": features,
        "apart": [_finite(value) for value in one.apart],
        "agree": _finite(one.agree),
        "right": list(one.right),
    }


def p_text(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _finite(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def _count(n: int, what: str) -> str:
    plural = {"class": "classes", "image without a label": "images without a label"}
    many = plural.get(what) or what.replace("copy of", "copies of") if what != "map" else "maps"
    return f"{n} {what if n == 1 else many}"


def _listed(texts: Sequence[str], most: int = 5) -> str:
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more

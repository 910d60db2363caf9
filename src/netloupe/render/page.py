"""Self-contained HTML pages: pictures and style inside, nothing to fetch, no script.

A page is a template of `templates/`, filled with what it shows. All text is escaped; `parts.html` holds what several
pages are made of: figures, tables, bars, curves.
"""

from __future__ import annotations

import base64
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from netloupe.render.pictures import Picture, encode


def filled(template: str, **values: object) -> str:
    """The page of a template such as "explain.html"; `title` is the document's. A value that is missing is an error."""
    return _environment().get_template(template).render(**values)


def data_uri(picture: Picture) -> str:
    """The picture as a JPEG inside an address; in templates `picture | uri`."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode(picture, 'JPEG', 90)).decode()}"


def points(values: np.ndarray, low: float, high: float, width: int, height: int) -> str:
    """The `points` of a polyline from left to right, `low` at the bottom of the box and `high` at its top."""
    x = np.linspace(0, width, len(values))
    y = height * (1 - (values - low) / max(high - low, 1e-12))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("netloupe.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"uri": data_uri, "points": points}
    return found

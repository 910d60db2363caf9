"""One self-contained HTML page: pictures and style inside, nothing to fetch, no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files

import numpy as np

from netloupe.render.pictures import Picture, encode


def page(title: str, body: str) -> str:
    """A document with the style of `page.css`; `body` is markup."""
    style = files("netloupe.render").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def data_uri(picture: Picture) -> str:
    """The picture as a JPEG inside an address."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode(picture, 'JPEG', 90)).decode()}"


def image(picture: Picture, alt: str) -> str:
    """An `img` of the picture in its own size at most."""
    height, width = picture.shape[:2]
    return f'<img src="{data_uri(picture)}" width="{width}" height="{height}" alt="{escape(alt)}">'


def figure(inside: str, caption: str) -> str:
    """`inside` is markup, the caption text."""
    return f"<figure>{inside}<figcaption>{escape(caption)}</figcaption></figure>"


def bar_list(rows: Sequence[tuple[str, float]]) -> str:
    """Names with shares in [0, 1] as bars."""
    items = "".join(
        f'<li><span>{escape(name)}</span><span class="track"><span style="width:{share:.2%}"></span></span>'
        f"<span>{share:.1%}</span></li>"
        for name, share in rows
    )
    return f'<ol class="bars">{items}</ol>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns, the first of them names; it scrolls on its own where the page is narrow."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def chart(curves: Sequence[tuple[str, str, np.ndarray]], low: float, high: float, label: str) -> str:
    """Curves (style, name, values) from left to right between `low` and `high`, as an `svg`."""
    width, height = 240, 72
    lines = []
    for style, name, values in curves:
        x = np.linspace(0, width, len(values))
        y = height * (1 - (values - low) / max(high - low, 1e-12))
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(f'<polyline class="{style}" points="{points}"><title>{escape(name)}</title></polyline>')
    box = f"-2 -2 {width + 4} {height + 4}"
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{escape(label)}">{"".join(lines)}</svg>'

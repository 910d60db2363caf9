"""Pages: all text is escaped, what is missing is an error, and nothing is fetched."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from jinja2 import Environment, UndefinedError

from netloupe.render import page
from netloupe.render.pictures import decode


def macro(call: str, **values: object) -> str:
    """What a macro of `parts.html` gives."""
    environment: Environment = page._environment()
    return environment.from_string(f'{{% import "parts.html" as parts %}}{{{{ parts.{call} }}}}').render(**values)


def test_text_is_escaped_everywhere() -> None:
    evil = "<b onclick='x'>\"&"
    shown = [
        macro("table([evil, evil], [[evil, evil]])", evil=evil),
        macro("bars([(evil, 0.5)])", evil=evil),
        macro("notes([evil])", evil=evil),
        macro("image(picture, evil)", evil=evil, picture=np.zeros((2, 3, 3), dtype=np.uint8)),
        macro("chart([('gone', evil, values)], 0, 1, evil)", evil=evil, values=np.zeros(2)),
    ]
    for text in shown:
        assert "&lt;b onclick=&#39;x&#39;&gt;&#34;&amp;" in text
        assert "<b " not in text


def test_a_picture_comes_with_the_page() -> None:
    picture = np.full((4, 6, 3), 200, dtype=np.uint8)
    address = page.data_uri(picture)
    assert (decode(__import__("base64").b64decode(address.partition(",")[2])) == picture).all()
    assert f'src="{address}" width="6" height="4" alt="gray"' in macro("image(picture, 'gray')", picture=picture)


def test_a_curve_fills_its_box() -> None:
    assert page.points(np.array([1.0, 3.0, 2.0]), 1.0, 3.0, 240, 72) == "0.0,72.0 120.0,0.0 240.0,36.0"
    assert page.points(np.zeros(2), 0.0, 0.0, 10, 10) == "0.0,10.0 10.0,10.0"


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'e' is undefined"):
        page.filled("explain.html", title="x")


def test_bars_and_cells_say_their_numbers() -> None:
    assert 'style="width:12.50%"' in macro("bars([('a', 0.125)])")
    assert "<span>12.5%</span>" in macro("bars([('a', 0.125)])")
    assert '<th scope="row">a</th><td>1</td>' in macro("table(['x', 'y'], [['a', '1']])")


def test_the_templates_lie_in_the_package() -> None:
    names = {file.name for file in files("netloupe.render").joinpath("templates").iterdir()}
    assert names == {"audit.html", "explain.html", "kept.html", "page.css", "page.html", "parts.html"}

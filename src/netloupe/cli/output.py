"""Results on stdout: aligned tables, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from netloupe.render.result import Result


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right."""
    cells = [[_text(cell) for cell in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(header))]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in [list(header), *cells]
    ]
    return "\n".join(lines)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _is_number(text: str) -> bool:
    return (
        text.lstrip("-").replace(",", "").replace(".", "").replace("e+", "").replace("e-", "").isdigit() or text == "-"
    )


def show(value: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a JSON-able value as JSON, or as `text` puts it."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text(value))


def deliver(result: Result, out: Path | None, as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """Save a result where `out` says so, then print its summary."""
    files = [str(path) for path in result.save(out)] if out is not None else []
    show(result.summary() | ({"files": files} if files else {}), as_json, text)
    if files and not as_json:
        typer.echo(f"{len(files)} files in {out}", err=True)

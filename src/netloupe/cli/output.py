"""Results on stdout: text, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from netloupe.cli.stop import keeping

if TYPE_CHECKING:
    from netloupe.render.result import Result


def show(value: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a JSON-able value as JSON, or as `text` puts it."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False) if as_json else text(value))


def deliver(result: Result, out: Path | None, as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """Save a result where `out` says so, then print its summary."""
    files = [str(path) for path in result.save(out)] if out is not None else []
    with keeping(lambda: f"all {len(files)} files are in {out}" if files else None, goes_on=False):
        show(result.summary() | ({"files": files} if files else {}), as_json, text)
    if files and not as_json:
        typer.echo(f"{len(files)} files in {out}", err=True)

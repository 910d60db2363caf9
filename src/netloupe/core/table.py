"""Numbers in aligned columns, as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right."""
    cells = [[text(cell) for cell in row] for row in rows]
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


def by(sides: Iterable[int]) -> str:
    """Sides in words, as in "224x160"."""
    return "x".join(map(str, sides))


def text(cell: object) -> str:
    """A cell as it is written: of numbers four digits."""
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)


def _is_number(text: str) -> bool:
    return (
        text.lstrip("-").replace(",", "").replace(".", "").replace("e+", "").replace("e-", "").isdigit() or text == "-"
    )

"""The arrows of docs/architecture.md hold, and files stay small."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "netloupe"


def read_arrows(text: str) -> dict[str, set[str]]:
    """{package: modules it may import}, from the table of the page; a package stands for all its modules."""
    rows = re.findall(r"^\| `([a-z]+)` \|[^|]*\| ([^|]*) \|$", text, re.MULTILINE)
    packages = [package for package, _ in rows]
    arrows: dict[str, set[str]] = {}
    for package, cell in rows:
        if cell == "nothing":
            arrows[package] = set()
        elif cell == "everything":
            arrows[package] = set(packages)
        elif cell == "all of the above":
            arrows[package] = set(arrows)
        else:
            arrows[package] = set()
            for name, only in re.findall(r"`(\w+)`(?: \(([\w, ]+) only\))?", cell):
                parts = re.split(r", | and ", only) if only else []
                arrows[package] |= {f"{name}.{part}" for part in parts} or {name}
    return arrows


ARROWS = read_arrows((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """All modules that a file imports, wherever the import stands, with what is imported from them."""
    return imports_of(path.read_text(encoding="utf-8"), path)


def imports_of(code: str, path: Path) -> list[str]:
    found: list[str] = []
    package = ["netloupe", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


def allowed(package: str, module: str) -> bool:
    parts = module.split(".")[1:]
    if parts[:1] in ([package], ["__version__"]):
        return True
    return any(".".join(parts[:depth]) in ARROWS[package] for depth in (1, 2))


def test_the_page_names_every_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(ARROWS)
    assert {"core", "analysis", "cli"} <= packages
    assert ARROWS["core"] == set()


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != SOURCE], ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows(path: Path) -> None:
    package = path.relative_to(SOURCE).parts[0]
    ours = [module for module in imports(path) if module.split(".")[0] == "netloupe"]
    wrong = [module for module in ours if not allowed(package, module)]
    assert not wrong, f"{package} may import {sorted(ARROWS[package]) or 'nothing of ours'}, not {', '.join(wrong)}"


def test_the_test_sees_a_wrong_arrow() -> None:
    assert not allowed("core", "netloupe.data.images.load_image")
    assert not allowed("analysis", "netloupe.atlas.store")
    assert allowed("analysis", "netloupe.core.network.Network")
    assert read_arrows("| `a` | x | nothing |\n| `b` | y | `a` (errors and files only) |\n") == {
        "a": set(),
        "b": {"a.errors", "a.files"},
    }
    file = SOURCE / "core" / "sample.py"
    assert imports_of("def f():\n    from ..data import images\n", file) == ["netloupe.data.images"]


def test_core_imports_torch_only() -> None:
    names = {module.split(".")[0] for path in (SOURCE / "core").rglob("*.py") for module in imports(path)}
    assert "torch" in names
    assert names <= {*sys.stdlib_module_names, "netloupe", "torch"}


def test_no_file_is_named_utils() -> None:
    assert not [path for path in SOURCE.rglob("*") if path.stem in {"utils", "util", "helpers", "misc", "common"}]

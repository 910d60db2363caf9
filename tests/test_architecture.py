"""The arrows of docs/architecture.md hold, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
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
    packages |= {path.stem for path in SOURCE.glob("[a-z]*.py")}
    assert packages == set(ARROWS)
    assert {"core", "analysis", "cli"} <= packages
    assert ARROWS["core"] == set()


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.stem not in ("__init__", "__main__") or p.parent != SOURCE],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_arrows(path: Path) -> None:
    package = path.relative_to(SOURCE).with_suffix("").parts[0]
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


def graph(files: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """{module: those of the modules that it imports}, of {module: what it imports}, a module or a name in one."""

    def owner(name: str) -> str:
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name

    return {module: {owner(name) for name in names} - {module, ""} for module, names in files.items()}


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, the last the first again; empty where there is no circle."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])[::-1]
    return []


def module_of(path: Path) -> str:
    return ".".join(["netloupe", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def test_no_circles() -> None:
    arrows = graph({module_of(path): imports(path) for path in FILES})
    assert sum(map(len, arrows.values())) > len(FILES)
    assert not circle(arrows), f"a circle of imports: {' -> '.join(circle(arrows))}"


@pytest.mark.parametrize(
    "back",
    [
        "from netloupe.core.one import first\n",
        "from netloupe.core import one\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from netloupe.core.one import First\n",
        "def late():\n    from .one import first\n",
    ],
)
def test_the_test_sees_a_circle(back: str) -> None:
    core = SOURCE / "core"
    forth = {
        "netloupe.core.one": imports_of("from netloupe.core.two import second\n", core / "one.py"),
        "netloupe.core.two": imports_of("from netloupe.core.three import third\n", core / "two.py"),
    }
    assert not circle(graph({**forth, "netloupe.core.three": []}))
    found = circle(graph({**forth, "netloupe.core.three": imports_of(back, core / "three.py")}))
    assert set(found) == {*forth, "netloupe.core.three"}

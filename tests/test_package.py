"""The names that the package offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import netloupe


def test_all_is_sorted_and_listed() -> None:
    assert netloupe.__all__ == sorted(netloupe.__all__)
    assert set(netloupe.__all__) <= set(dir(netloupe))


@pytest.mark.parametrize("name", netloupe.__all__)
def test_every_name_resolves(name: str) -> None:
    found = getattr(netloupe, name)
    assert found.__doc__
    assert found.__name__.split(".")[-1] == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="visualise"):
        _ = netloupe.visualise
    assert not hasattr(netloupe, "visualise")


def test_version() -> None:
    assert netloupe.__version__.count(".") == 2


@pytest.mark.parametrize(
    "code",
    [
        "import netloupe, netloupe.core.errors",
        "from netloupe.cli.app import main; main(['--help']); main(['patches', '-h'])",
    ],
)
def test_imports_no_torch(code: str) -> None:
    heavy = "[m for m in ('torch', 'numpy', 'PIL', 'pyarrow', 'rich') if m in sys.modules]"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; assert not {heavy}, {heavy}"], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr

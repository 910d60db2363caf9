"""Labels from files and input specs from the text of options."""

from __future__ import annotations

from pathlib import Path

import pytest

from netloupe.core.errors import InputError
from netloupe.core.inputs import InputSpec
from netloupe.zoo.labels import read_labels
from netloupe.zoo.specs import parse_inputs


def test_labels_from_files(tmp_path: Path) -> None:
    files = {
        "a.txt": "cat\ndog\n\n",
        "b.json": '["cat", "dog"]',
        "c.json": '{"1": "dog", "0": "cat"}',
        "d.json": '{"dog": 1, "cat": 0}',
        "e.json": '{"n2": {"index": 1, "name": "dog", "file": "x"}, "n1": {"index": 0, "name": "cat"}}',
        "f.json": '[{"index": 1, "name": "dog"}, {"index": 0, "name": "cat"}]',
        "g.json": '{"0": ["n1", "cat"], "1": ["n2", "dog"]}',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
        assert read_labels(tmp_path / name) == ["cat", "dog"], name


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "", "holds no labels"),
        ("a.txt", "cat\n\ndog", "a label is empty"),
        ("a.json", "[1, 2]", "in an unknown form"),
        ("a.json", '{"0": 1.5}', "in an unknown form"),
        ("a.json", '{"0": "cat", "2": "dog"}', "indices are not 0 to 1"),
        ("a.json", "[", "can't be read"),
        ("a.csv", "cat", "no file of labels"),
        ("absent.txt", None, "No such file"),
    ],
)
def test_unusable_labels(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / name)


def test_input_specs_from_text() -> None:
    assert parse_inputs() == InputSpec()
    assert parse_inputs("224x160", "0.5", "0.25,0.5,1", range="0,255") == InputSpec(
        (224, 160), mean=(0.5,), std=(0.25, 0.5, 1.0), range=(0.0, 255.0)
    )
    base = InputSpec((32, 32), 1, (0.1,), (0.2,))
    assert parse_inputs("64", base=base) == InputSpec((64, 64), 1, (0.1,), (0.2,))


@pytest.mark.parametrize(
    "options",
    [{"size": "big"}, {"size": "0"}, {"size": "1x2x3"}, {"size": "-4"}, {"mean": "a,b"}, {"mean": ""}, {"std": "nan"},
     {"std": "0"}, {"mean": "1,2"}, {"range": "1"}, {"range": "1,0"}, {"channels": 0}],
)  # fmt: skip
def test_unusable_input_options(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"accepted|values for"):
        parse_inputs(**options)  # type: ignore[arg-type]

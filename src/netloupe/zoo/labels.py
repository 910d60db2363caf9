"""Class names from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netloupe.core.errors import InputError

ACCEPTED = (
    'a .txt with one name a line, or .json: ["name", ...], {"0": "name", ...}, {"name": 0, ...}, '
    '{"id": {"index": 0, "name": "..."}, ...}'
)


def read_labels(path: str | Path) -> list[str]:
    """The names of the classes by index.

    A .txt file holds one a line. A .json file holds a list of names; an object from index to name, or to
    [id, name]; an object from name to index; or objects with "index" and "name", in a list or under any keys.
    Raises InputError if the file can't be read or leaves an index out.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".json"):
        raise InputError(f"{path}: no file of labels (accepted: {ACCEPTED})")
    try:
        text = path.read_text(encoding="utf-8")
        labels = text.rstrip().splitlines() if path.suffix == ".txt" else _from_json(json.loads(text))
    except OSError as error:
        raise InputError(f"{path}: labels can't be read ({error.strerror or error})") from None
    except ValueError as error:
        raise InputError(f"{path}: labels can't be read ({error})") from None
    except (TypeError, KeyError, IndexError):
        raise InputError(f"{path}: labels in an unknown form (accepted: {ACCEPTED})") from None
    labels = [label.strip() for label in labels]
    if not labels or not all(labels):
        raise InputError(f"{path}: {'a label is empty' if labels else 'holds no labels'}")
    return labels


def _from_json(found: Any) -> list[str]:
    if isinstance(found, list) and all(isinstance(entry, str) for entry in found):
        return found
    if isinstance(found, list):
        return _by_index({int(entry["index"]): entry["name"] for entry in found}, len(found))
    entries: Mapping[str, Any] = dict(found)
    if all(isinstance(value, int) for value in entries.values()):
        return _by_index({index: name for name, index in entries.items()}, len(entries))
    if all(isinstance(value, Mapping) for value in entries.values()):
        return _by_index({int(value["index"]): value["name"] for value in entries.values()}, len(entries))
    names = {int(index): value[-1] if isinstance(value, list) else value for index, value in entries.items()}
    return _by_index(names, len(entries))


def _by_index(names: Mapping[int, Any], count: int) -> list[str]:
    if sorted(names) != list(range(count)):
        raise ValueError(f"{count} labels, but their indices are not 0 to {count - 1}")
    if not all(isinstance(name, str) for name in names.values()):
        raise TypeError("a name that is no text")
    return [names[index] for index in range(count)]

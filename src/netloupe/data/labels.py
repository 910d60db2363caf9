"""The labels of a source of images: read from what it says, and whether they are the classes of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from netloupe.core.errors import InputError
from netloupe.data.sources import ImageSource

_MAX_CLASSES = 100_000


def class_names(source: ImageSource) -> list[str] | None:
    """The names of the source's classes by index, which are the indices where it has no names; None without labels."""
    known = [label for label in source.labels or () if label is not None]
    if not known:
        return None
    return [str(i) for i in range(max(known) + 1)] if source.classes is None else list(source.classes)


def of_network(source: ImageSource, labels: Sequence[str]) -> bool:
    """Whether the source is labeled with the classes of a network, whose names by index are `labels`.

    A source that has labels but no names for them is taken by its word if the network has so many classes.
    """
    names = class_names(source)
    if names is None:
        return False
    return len(names) <= len(labels) if source.classes is None else names == list(labels)


def required(source: ImageSource, what: str) -> list[str]:
    """The names of the source's classes, for `what` needs them. Raises InputError for a source without labels."""
    names = class_names(source)
    if names is None:
        raise InputError(
            f"{source.spec!r} has no labels, which {what} needs (accepted: a folder with one folder for each class, "
            "Parquet with labels, 'digits')"
        )
    return names


def check_same(source: ImageSource, other: ImageSource) -> None:
    """Raise InputError where both name a class of the same index, and not alike; its index is no name."""
    for i, (ours, theirs) in enumerate(zip(source.classes or (), other.classes or (), strict=False)):
        if ours != theirs and str(i) not in (ours, theirs):
            raise InputError(f"class {i} is {ours!r} in {source.spec!r}, but {theirs!r} in {other.spec!r}")


def classes_of(
    labels: Sequence[object], class_names: Sequence[object], spec: str
) -> tuple[list[int | None] | None, list[str] | None]:
    """Class index by row and class names by index; (None, None) where no row has a class.

    Rows with names and no index get the rank of their name. NaN, null and negative labels (the
    hub's -1) are unknown.
    """
    if all(label is None or isinstance(label, str) for label in labels):
        named = [label if label is not None else name for label, name in zip(labels, class_names, strict=True)]
        names = sorted({str(name) for name in named if name is not None})
        rank = {name: i for i, name in enumerate(names)}
        return ([None if name is None else rank[str(name)] for name in named], names) if names else (None, None)
    indices = [_index(label, spec) for label in labels]
    known = _names(indices, class_names, spec)
    classes = [known.get(i, str(i)) for i in range(max(known) + 1)] if known else None
    return (indices, classes) if any(i is not None for i in indices) else (None, None)


def _names(indices: Sequence[int | None], class_names: Sequence[object], spec: str) -> dict[int, str]:
    """The name of each index. Raises InputError for an index that rows give two names."""
    known: dict[int, str] = {}
    for i, name in zip(indices, class_names, strict=True):
        if i is not None and name is not None and known.setdefault(i, str(name)) != str(name):
            raise InputError(f"{spec!r}: class {i} has two names, {known[i]!r} and {str(name)!r} (accepted: one)")
    return known


def _index(label: object, spec: str) -> int | None:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return None
    if not isinstance(label, int | float) or label >= _MAX_CLASSES or label % 1 != 0:
        raise InputError(f"{spec!r}: label {label!r} (accepted: class names, or indices below {_MAX_CLASSES:,})")
    return int(label) if label >= 0 else None

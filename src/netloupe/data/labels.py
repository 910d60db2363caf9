"""Whether the labels of a source of images are the classes of a network."""

from __future__ import annotations

from collections.abc import Sequence

from netloupe.core.errors import InputError
from netloupe.data.sources import ImageSource


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

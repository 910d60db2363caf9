"""What a public function is given, held against the kinds that its signature names."""

from __future__ import annotations

import ast
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from netloupe.core.errors import InputError, short
from netloupe.core.numbers import as_number, as_whole

Function = TypeVar("Function", bound=Callable[..., Any])


class Given(NamedTuple):
    """A kind of argument. holds: whether a value is of it. words: what is accepted, for errors."""

    holds: Callable[[Any], bool]
    words: str


def _named(name: str) -> Callable[[Any], bool]:
    """Whether a value is of a class of that name, which need not be imported for it."""
    return lambda value: any(kind.__name__ == name for kind in type(value).__mro__)


def _read_by(read: Callable[[Any], Any]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        try:
            read(value)
        except (ValueError, TypeError, OverflowError, RuntimeError):  # the last of tensors
            return False
        return True

    return holds


KINDS: Mapping[str, Given] = {
    "Network": Given(_named("Network"), "a network, as netloupe.load gives"),
    "Tensor": Given(_named("Tensor"), "a tensor"),
    "ImageSource": Given(_named("ImageSource"), "a source, as netloupe.open_source gives"),
    "Objective": Given(_named("Objective"), "an objective"),
    "Task": Given(_named("Task"), "a task"),
    "Watch": Given(_named("Watch"), "a Watch"),
    "Unit": Given(_named("Unit"), "a unit"),
    "str": Given(lambda value: isinstance(value, str), "text"),
    "Path": Given(lambda value: isinstance(value, os.PathLike), "a path"),
    "int": Given(_read_by(as_whole), "a whole number"),
    "float": Given(_read_by(as_number), "a number"),
    "bool": Given(lambda value: isinstance(value, bool), "true or false"),
}
"""By the names of annotations; what has another name is not judged here."""


def checked(function: Function) -> Function:
    """The function, which raises InputError for an argument of another kind than its annotation names."""

    @functools.wraps(function)
    def held(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = inspect.signature(function).bind(*args, **kwargs).arguments
        except TypeError:  # which the call says better
            bound = {}
        for name, value in bound.items():
            form = _forms(function).get(name)
            if form is not None and not _fits(value, form):
                raise InputError(f"{name} {_told(value)} (accepted: {', '.join(dict.fromkeys(_words(form)))})")
        return function(*args, **kwargs)

    return cast(Function, held)


def _told(value: Any) -> str:
    text, shape = short(value), getattr(value, "shape", None)
    return f"of shape {tuple(shape)}" if shape is not None and text.endswith("...") else text


@functools.cache
def _forms(function: Callable[..., Any]) -> Mapping[str, ast.expr]:
    """Of each annotated parameter its kinds, as they are written."""
    own = inspect.signature(function).parameters.values()
    return {one.name: ast.parse(one.annotation, mode="eval").body for one in own if isinstance(one.annotation, str)}


def _fits(value: Any, form: ast.expr) -> bool:
    match form:
        case ast.BinOp(left=left, right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Constant(value=None):
            return value is None
        case ast.Subscript(value=ast.Name(id="Sequence" | "Iterable"), slice=one):
            several = value if isinstance(value, list | tuple) else ()
            return isinstance(value, Iterable) and all(_fits(each, one) for each in several)
        case ast.Name(id=name) if name in KINDS:
            return KINDS[name].holds(value)
    return True


def _words(form: ast.expr) -> Iterator[str]:
    match form:
        case ast.BinOp(left=left, right=right):
            yield from (*_words(left), *_words(right))
        case ast.Subscript(slice=one):
            yield f"a list of which each is {' or '.join(_words(one))}"
        case ast.Name(id=name):
            yield KINDS[name].words if name in KINDS else name

"""Networks from a Python file of the user's: `path/to/file.py:factory`."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from netloupe.core.errors import NetworkError, first_line, unknown


def build_from_file(path: Path, factory: str, classes: int | None = None, *, required: bool = True) -> nn.Module:
    """What `factory` of the Python file gives: a module. It may also be a module itself, or a class of them.

    The file may import its siblings, `from .blocks import X` or `from blocks import X`. Neither it nor they stay
    imported under their names. classes: handed to the factory's parameter `classes` or `num_classes`, which it must
    have if `required`.

    Raises NetworkError if the file can't be run, or the factory needs arguments, fails or gives no module;
    UnknownName if there is no such factory.
    """
    if not path.is_file():
        raise NetworkError(f"no network at {str(path)!r}: {'a folder' if path.exists() else 'no such file'}")
    with _importable(path) as module:
        _execute(path, module)
        own = [
            name
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
        ]
        found = getattr(module, factory, None)
        if found is None:
            raise unknown("factory", factory, own)
        return _call(found, f"{path.name}:{factory}", classes, required)


def _call(factory: object, name: str, classes: int | None, required: bool) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise NetworkError(f"{name} is a {type(factory).__name__} (accepted: a function that returns an nn.Module)")
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:
        parameters = inspect.Signature().parameters
    keyword = next((key for key in ("classes", "num_classes") if key in parameters), None)
    if classes is not None and keyword is None and required:
        raise NetworkError(f"{name} takes no number of classes (accepted: a parameter `classes` or `num_classes`)")
    given = {keyword: classes} if keyword is not None and classes is not None else {}
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        key
        for key, value in parameters.items()
        if value.default is value.empty and value.kind not in optional and key not in given
    ]
    if needed:
        raise NetworkError(f"{name} needs arguments: {', '.join(needed)} (accepted: a factory that needs none)")
    try:
        made = factory(**given)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise NetworkError(f"{name} raises {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise NetworkError(f"{name} returns a {type(made).__name__} (accepted: an nn.Module)")
    return made


def _execute(path: Path, module: ModuleType) -> None:
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except OSError as error:
        raise NetworkError(f"{path}: can't be read ({error.strerror or error})") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f", line {line}" if line else ""
        raise NetworkError(f"{path}{place}: can't be parsed ({getattr(error, 'msg', error)})") from None
    try:
        exec(code, vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise NetworkError(f"{path}: fails on import with {type(error).__name__}: {first_line(error)}") from error


@contextmanager
def _importable(path: Path) -> Iterator[ModuleType]:
    """An empty module for the file, in a private package that finds its siblings; nothing is left of it after."""
    folder = str(path.resolve().parent)
    package = ModuleType(f"_netloupe_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}")
    package.__path__ = [folder]
    module = ModuleType(f"{package.__name__}.{path.stem}")
    module.__file__, module.__package__ = str(path), package.__name__
    before, search, write = set(sys.modules), list(sys.path), sys.dont_write_bytecode
    sys.modules[package.__name__], sys.modules[module.__name__] = package, module
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        yield module
    finally:
        sys.path[:], sys.dont_write_bytecode = search, write
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if name.startswith(package.__name__) or (origin and Path(origin).resolve().is_relative_to(folder)):
                del sys.modules[name]

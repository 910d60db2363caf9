"""What a checkpoint holds: one or several sets of weights, each under a key; and which of them are a network's."""

from __future__ import annotations

import argparse
import pathlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netloupe.core.errors import NetloupeWarning, NetworkError, first_line, unknown
from netloupe.core.numbers import evenly

Tensors = Mapping[str, Tensor]

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # of PyTorch's, anywhere in a name
_STATES = ("optim", "sched", "scaler", "callbacks", "loops", "rng")  # keys that begin so hold no weights
_DEPTH = 4  # of dicts in dicts
_ANCHORS = 16  # names by which prefixes are found
_SCALAR: Any = np.float64(0).__reduce__()[0]
_INERT: list[Any] = [  # what trainers write beside weights and is no code
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as older versions of NumPy call it
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)),
]


def read_checkpoint(path: Path) -> dict[str, Tensors]:
    """The sets of weights in a file of `torch.save`, by the keys that lead to them, "" where there are none.

    Nothing is unpickled but tensors, plain values and the inert classes that trainers write. Raises NetworkError.
    """
    advice = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
    if _scripted(path):
        raise NetworkError(f"{path} is a TorchScript program, not weights; {advice}")
    try:
        with torch.serialization.safe_globals(_INERT):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads to
        text = str(error)
        if "weights_only" in text or "Unsupported" in text:
            raise NetworkError(f"{path} holds pickled Python objects, which are never loaded; {advice}") from None
        raise NetworkError(f"{path}: can't be read as PyTorch weights ({first_line(error)})") from None
    return dict(_sets(found, (), set()))


def _scripted(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _sets(found: Any, keys: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, Tensors]]:
    """Each once, also where a dict holds itself."""
    if not isinstance(found, Mapping) or id(found) in seen or len(keys) > _DEPTH:
        return
    seen.add(id(found))
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(keys), tensors
    for key, value in found.items():
        if not str(key).startswith(_STATES):
            yield from _sets(value, (*keys, str(key)), seen)


def bare(name: str) -> str:
    """The name of a tensor or module without what `torch.compile` and other wrappers of PyTorch put into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def chosen(sets: Mapping[str, Tensors], own: Tensors, entry: str | None, path: Path, title: str) -> dict[str, Tensor]:
    """The tensors of a network in a checkpoint, under the network's names. own: the network's.

    That is the set, perhaps only the part of it under a common prefix, that holds each of the network's tensors in its
    shape and no others. entry: which, where it was said. Where none fits it is what fits best, for an error that says
    why. Raises NetworkError where several fit, UnknownName for an entry that is not there.
    """
    names = _own_names(own)
    parts = {key: list(_parts(key, tensors, names)) for key, tensors in sets.items()}
    offered = {name: part for each in parts.values() for name, part in each}
    if entry is not None:
        if entry not in offered and entry in parts and parts[entry]:
            offered[entry] = max((part for _, part in parts[entry]), key=lambda part: _score(part, own))
        if entry not in offered:
            raise unknown(f"weights in {path.name}", entry, [name for name in {**parts, **offered} if name])
        return offered[entry]
    fitting = {name: part for name, part in offered.items() if _fits(part, own)}
    different = [name for i, name in enumerate(fitting) if not any(_same(fitting, name, o) for o in [*fitting][:i])]
    if len(different) > 1:
        choices = ", ".join(map(repr, different))
        fix = f"choose one (fix: --weights {path}#{different[-1]})"
        raise NetworkError(f"{path} holds several weights that fit {title}: {choices}; {fix}")
    if different:
        if len(sets) > 1:
            others = ", ".join(repr(key) for key in sets if not different[0].startswith(key))
            text = f"{path.name}: of its weights {different[0]!r} are taken, the only ones that fit"
            warnings.warn(f"{text} (not {others})", NetloupeWarning, stacklevel=2)
        return fitting[different[0]]
    return max(offered.values(), key=lambda part: _score(part, own))


def _own_names(own: Tensors) -> dict[str, str]:
    """The names of a network's tensors without wrappers -> those names."""
    names = {bare(name): name for name in own}
    if names and all(name.startswith("module.") for name in names):
        names = {name.removeprefix("module."): full for name, full in names.items()}
    return names


def _parts(key: str, tensors: Tensors, names: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Of a set, each part with a common prefix that holds a network's last tensor, under the network's names."""
    plain = {bare(name): value for name, value in tensors.items()}
    ends = evenly(list(names), _ANCHORS)
    prefixes = {name[: -len(end)] for end in ends for name in plain if f".{name}".endswith(f".{end}")}
    held = {prefix: sum(prefix + name in plain for name in names) for prefix in prefixes}
    best = [prefix for prefix in prefixes if held[prefix] == max(held.values())]
    for prefix in sorted(best or [""], key=lambda one: (len(one), one)):
        part = {names.get(n := name.removeprefix(prefix), n): v for name, v in plain.items() if name.startswith(prefix)}
        several = [prefix.removesuffix(".")] if len(best) > 1 else []
        yield ".".join(each for each in (key, *several) if each), part


def _fits(part: Tensors, own: Tensors) -> bool:
    missing = [name for name in own if name not in part and not name.endswith("num_batches_tracked")]
    return not missing and all(name in own and value.shape == own[name].shape for name, value in part.items())


def _same(parts: Mapping[str, Tensors], a: str, b: str) -> bool:
    return all(torch.equal(value, parts[b][name]) for name, value in parts[a].items() if name in parts[b])


def _score(part: Tensors, own: Tensors) -> float:
    good = sum(name in own and value.shape == own[name].shape for name, value in part.items())
    return good + sum(name in own for name in part) / (len(part) + 1)

"""Running a task, and writing down what is needed to run it again."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from netloupe.core.errors import InputError
from netloupe.core.files import file_digest, portable
from netloupe.core.given import checked
from netloupe.core.inputs import InputSpec, showing
from netloupe.core.network import Network
from netloupe.core.sizes import Sizes
from netloupe.core.task import Task
from netloupe.core.watch import SILENT, Watch

FORMAT = 1
"""Of what a manifest and a PNG say of how they were made; another number where older readers would misread it."""


class Images(ABC):
    """The images that a task is given: files or tensors.

    names: of each, for people; sha256: of the files' bytes, or of the tensor's.
    """

    names: tuple[str, ...]

    @abstractmethod
    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        """(N, C, H, W) in [0, 1], all as the network takes them, or of another (height, width)."""

    @abstractmethod
    def shaped(self, net: Network, side: int | None = None, sizes: Sizes | None = None) -> list[Tensor]:
        """(C, H, W) in [0, 1] each in its own shape, the shorter side at most `side` px.

        sizes: those that are taken. Files are cut to one, tensors of another refused with an InputError.
        """

    @abstractmethod
    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        """(H, W) in [0, 1] each, of gray values."""

    @abstractmethod
    def record(self) -> Any:
        """What a manifest says of them."""


@dataclass(frozen=True)
class Held(Images):
    """Images in memory: (N, C, H, W), (C, H, W), or several of their own shapes; taken as they are."""

    tensors: tuple[Tensor, ...]

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"image {i}" for i in range(len(self.tensors)))

    def fitted(self, net: Network, size: tuple[int, int] | None = None) -> Tensor:
        if len({one.shape for one in self.tensors}) > 1:
            raise InputError("images of several sizes (accepted: of one)")
        return torch.stack(self.tensors)

    def shaped(self, net: Network, side: int | None = None, sizes: Sizes | None = None) -> list[Tensor]:
        if sizes is not None:
            for one in self.tensors:
                sizes.check((int(one.shape[-2]), int(one.shape[-1])))
        return list(self.tensors)

    def masks(self, size: tuple[int, int]) -> list[Tensor]:
        return list(self.tensors)

    def record(self) -> Any:
        return [{"name": None, "shape": list(one.shape), "sha256": _digest(one)} for one in self.tensors]


class Loaded(Protocol):
    """A network that says what it is: a `Network`, or another that a task runs."""

    @property
    def name(self) -> str: ...

    @property
    def inputs(self) -> InputSpec: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def head(self) -> Any: ...

    @property
    def origin(self) -> Mapping[str, Any] | None: ...

    def fingerprint(self) -> str: ...


class Provenance(dict[str, Any]):
    """What is needed to make a result again, JSON-able: the task and its settings, what it was given by digest, the
    network, versions, and the number of threads, on which some results depend. task: the task itself.
    """

    task: Task | None = None


def decided(task: Task) -> Provenance:
    """For a result whose settings were only decided by running it: that task, to be told instead of the one asked."""
    found = Provenance()
    found.task = task
    return found


def provenance_of(task: Task, net: Loaded, records: Mapping[str, Any]) -> Provenance:
    """Of a result that `task` made with `net` from what `records` say it was given."""
    found = Provenance(
        format=FORMAT,
        technique=task.verb,
        parameters=task.as_json(),
        inputs=dict(records),
        **of_network(net),
        threads=torch.get_num_threads(),
    )
    found.task = task
    return found


def of_network(net: Loaded) -> dict[str, Any]:
    """What a document says of a network: how it was loaded, its hash, what it takes and answers, and the versions."""
    spec = net.inputs
    return {
        "network": {
            "name": net.name,
            "hash": net.fingerprint(),
            "device": str(net.device),
            "head": str(net.head),
            "model": None if net.origin is None else dict(net.origin),
        },
        "input": {
            "size": list(spec.size),
            "channels": spec.channels,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "range": list(spec.range),
            **{name: list(value) for name in ("values", "picture") if (value := getattr(spec, name)) is not None},
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    return {"netloupe": version("netloupe"), "torch": torch.__version__, "python": platform.python_version()}


@checked
def perform(task: Task, net: Loaded, inputs: Mapping[str, Any], watch: Watch = SILENT) -> Any:
    """The `Result` of a task, with its provenance.

    inputs: by the names in `task.inputs`; images as a tensor, a list of tensors or `Images`, sources as `ImageSource`,
    files as paths. What is None is left out. A result may carry a task of its own in its provenance, with settings
    that were only decided by running it.
    """
    given = taken(inputs, net.inputs)
    images = {name: value for name, value in given.items() if isinstance(value, Images)}
    records = _records(images)  # before the run: files may change or go while it lasts
    with showing(net.inputs.picture):
        result = task.run(net, given, watch)
    others = _records({name: value for name, value in given.items() if name not in images})
    return _told(result, task, net, {name: (records | others)[name] for name in given})


def taken(inputs: Mapping[str, Any], spec: InputSpec | None = None) -> dict[str, Any]:
    """The inputs as tasks are given them: tensors as `Held`, without those that are None.

    spec: what the network takes that looks at them, for images whose reading depends on it.
    """
    given = {name: _taken(value) for name, value in inputs.items() if value is not None}
    if spec is None:
        return given
    return {name: value.read_for(spec) if hasattr(value, "read_for") else value for name, value in given.items()}


Made = TypeVar("Made")


def finished(result: Made, task: Task, net: Loaded, inputs: Mapping[str, Any]) -> Made:
    """The result with its provenance."""
    return _told(result, task, net, _records(taken(inputs)))


def _told(result: Made, task: Task, net: Loaded, records: Mapping[str, Any]) -> Made:
    decided: Task | None = result.provenance.task  # type: ignore[attr-defined]
    about = provenance_of(task if decided is None else decided, net, records)
    return replace(result, provenance=about)  # type: ignore[type-var]


def _records(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _record(given) for name, given in inputs.items()}


def mark_of(task: Task, net: Loaded, inputs: Mapping[str, Any], known: str | None = None) -> str:
    """A hash of all that decides a result: the task, the network, and what it is given, whatever that is called.

    known: the network's fingerprint.
    """
    given = {name: _unnamed(one) for name, one in _records(taken(inputs, net.inputs)).items()}
    facts = [task.verb, task.as_json(), known or net.fingerprint(), given]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _unnamed(record: Any) -> Any:
    """What of a record says what it is, and not how it is called."""
    if isinstance(record, list):
        return [_unnamed(one) for one in record]
    if isinstance(record, Mapping):
        return {key: value for key, value in record.items() if key != "name"}
    return record


def retold(told: Provenance, **settings: Any) -> Provenance:
    """The provenance of a result that was changed as other settings of its task would have made it."""
    if told.task is None:
        return told
    found = Provenance(told)
    found.task = told.task.changed(settings)
    found["parameters"] = found.task.as_json()
    return found


def _taken(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Held(tuple(value if value.ndim == 4 else [value]))
    if isinstance(value, list | tuple) and value and all(isinstance(one, Tensor) for one in value):
        return Held(tuple(value))
    return value


def _record(given: Any) -> Any:
    if isinstance(given, Path):
        return {"name": portable(given), "sha256": file_digest(given)}
    if hasattr(given, "record"):
        return given.record()
    return given if isinstance(given, str | int | float | bool) else None


def _digest(tensor: Tensor) -> str:
    raw = tensor.detach().float().cpu().contiguous()
    return hashlib.sha256(repr(tuple(raw.shape)).encode() + raw.numpy().tobytes()).hexdigest()


Function = TypeVar("Function", bound=Callable[..., Any])


def function_of(task: type[Task]) -> Callable[[Function], Function]:
    """For the Python function of a task, declared with `**settings`: its signature and docstring name every setting.

    It raises InputError for an argument of another kind than is annotated, see `core.given`.
    """

    def dress(plain: Function) -> Function:
        function = checked(plain)
        own = list(inspect.signature(plain).parameters.values())
        named = {one.name for one in own}
        settings = [one for one in task.settings() if one.name not in named]
        own = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.default is MISSING else one.default,
            )
            for one in settings
        ]
        lines = [f"{one.name}: {one.help}" for one in task.settings()]
        text = inspect.cleandoc(function.__doc__ or task.__doc__ or "")

        function.__doc__ = "\n".join([text, "", *lines])
        function.task = task  # type: ignore[attr-defined]
        function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        return function

    return dress

"""Making a result again from itself: from its `manifest.json`, or from any of its PNGs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from netloupe.core.errors import InputError, NetworkError
from netloupe.core.files import file_digest
from netloupe.core.folders import finish_files
from netloupe.core.given import checked
from netloupe.core.inputs import InputSpec
from netloupe.core.layout import parse
from netloupe.core.network import Network
from netloupe.core.perform import FORMAT, perform, taken, versions
from netloupe.core.settings import FULL, PRECISIONS
from netloupe.core.task import Input, Task
from netloupe.core.watch import SILENT, Watch
from netloupe.data.images import ImageFiles
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource, SourceImage
from netloupe.render.pictures import about
from netloupe.render.result import Result
from netloupe.synthesis.contact import axes_read, contact
from netloupe.tasks import task_named
from netloupe.zoo.load import load

_LARGEST = 64 << 20  # bytes of a manifest
_MANY = 4096  # threads, or channels
_CLASSES = 1 << 20
_ACCEPTED = "a manifest.json, its folder, or a PNG"
_ORIGIN = ("model", "weights", "labels", "output", "head", "layouts", "classes", "seed", "precision")


@dataclass(frozen=True)
class Record:
    """What a file says of how it was made. path: the file. told: its provenance, as JSON."""

    path: Path
    told: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Of a manifest, the folder of one, or a PNG. Raises InputError for a file that does not say how."""
        path = Path(path)
        if path.is_dir():
            finish_files(path)
            path = path / "manifest.json"
        if not path.is_file():
            raise InputError(f"{path}: no such file (accepted: {_ACCEPTED})")
        return cls.of(path, _picture(path) if path.suffix.lower() == ".png" else _manifest(path))

    @classmethod
    def of(cls, path: Path, told: Mapping[str, Any] | None) -> Record:
        """Of what was found in that file. Raises InputError if it does not say how it was made."""
        if told is None or "technique" not in told:
            raise InputError(f"{path}: does not say how it was made (accepted: what a verb of netloupe wrote)")
        if told.get("format") != FORMAT:
            writer = told.get("versions", {}).get("netloupe", "another version")
            raise InputError(
                f"{path}: written by netloupe {writer} in format {told.get('format', 0)} (accepted: format {FORMAT})"
            )
        if not _sound(told):
            raise InputError(f"{path}: what it says of how it was made can't be read")
        return cls(path, told)

    @property
    def task(self) -> Task:
        """The task, with its settings. Raises InputError for one that text can't hold."""
        return task_named(str(self.told["technique"])).of(self.told["parameters"])


def _sound(told: Mapping[str, Any]) -> bool:
    """Whether all is there that is read below, of the right kind."""
    parts = {name: told.get(name) for name in ("parameters", "inputs", "network", "input", "versions")}
    if not all(isinstance(part, Mapping) for part in parts.values()):
        return False
    network, spec, sweep = parts["network"] or {}, parts["input"] or {}, told.get("sweep")
    texts = [network.get("name"), network.get("hash"), network.get("device")]
    numbers = [spec.get("channels"), told.get("threads")]
    lists = [spec.get(name) for name in ("size", "mean", "std", "range")]
    lists += [spec[name] for name in ("values", "picture") if name in spec]
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) and 1 <= number <= _MANY for number in numbers)
        and all(isinstance(one, list) and all(isinstance(n, int | float) for n in one) for one in lists)
        and len(spec["size"]) == len(spec["range"]) == 2
        and _sound_origin(network.get("model"))
        and all(_sound_input(one) for one in (parts["inputs"] or {}).values())
        and (sweep is None or (isinstance(sweep, Mapping) and all(isinstance(one, list) for one in sweep.values())))
    )


def _sound_origin(told: Any) -> bool:
    """Whether it says how a network was loaded, in the way that `load` is called."""
    if told is None:
        return True
    if not isinstance(told, Mapping) or "weights" not in told:
        return False
    files = [told["weights"], told.get("labels")]
    head, classes, seed = told.get("head"), told.get("classes"), told.get("seed")
    return (
        _named(told.get("model", ""))  # a network of styles has none
        and all(file is None or isinstance(file, list) or _named(file) for file in files)
        and isinstance(told.get("output"), str | int | None)
        and isinstance(head, str | None)
        and (told.get("layouts") is None or _sound_layouts(told["layouts"]))
        and (classes is None or (isinstance(classes, int) and 1 <= classes <= _CLASSES))
        and (seed is None or (isinstance(seed, int) and 0 <= seed < 1 << 32))
        and told.get("precision") in (None, *PRECISIONS)
    )


def _sound_layouts(told: Any) -> bool:
    """How layers lie, in texts, by pattern."""
    if not isinstance(told, Mapping) or not all(isinstance(one, str) for one in told.values()):
        return False
    try:
        return all(parse(one) is not None for one in told.values())
    except InputError:
        return False


def _sound_input(told: Any) -> bool:
    """Whether it names what a task was given: a word, a file, a source, or several."""
    several = told if isinstance(told, list) else [told]
    return all(one is None or isinstance(one, str) or _told_of(one) for one in several)


def _told_of(told: Any) -> bool:
    return isinstance(told, Mapping) and (isinstance(told.get("source", ""), str)) and "sha256" in told


def _named(told: Any) -> bool:
    """A name, or what is told of a file."""
    return isinstance(told, str) or (isinstance(told, Mapping) and _of(told, "name", str))


def _of(told: Mapping[str, Any], name: str, kind: type) -> bool:
    return isinstance(told.get(name), kind)


def _picture(path: Path) -> dict[str, Any] | None:
    try:
        return about(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        told = found.get("provenance") if isinstance(found, dict) else None
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: no manifest that can be read (accepted: {_ACCEPTED})") from None
    return told if isinstance(told, dict) else None


@dataclass(frozen=True)
class Remade:
    """A result made again. changed: the settings that were changed on purpose. differs: what is not as it was."""

    result: Result
    changed: Mapping[str, Any]
    differs: tuple[str, ...]


@checked
def again(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    images: str | Path | None = None,
    data: str | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    labels: str | Path | None = None,
    device: str | None = None,
    watch: Watch = SILENT,
) -> Remade:
    """The result that a `manifest.json`, its folder or a PNG tells of, made again; on the same machine the same bytes.

    changes: settings to be changed. images: the folder where the images lie now; data, model, weights, labels, device:
    in place of what the file names. A Python file is only run if `model` names it. Computes with as many threads as
    then. Raises InputError for what is not there, UnknownName for a setting that is not.
    """
    if images is not None and not Path(images).is_dir():
        raise InputError(f"{images}: no such folder")
    record = Record.read(path)
    task = record.task.changed(changes or {})
    differs: list[str] = []
    finder = _Finder(record, None if images is None else Path(images), data, differs)
    inputs = taken({one.name: finder.find(task, one) for one in task.inputs})
    net = task.network(_Networks(record, model, weights, labels, device or record.told["network"]["device"]), inputs)
    told = record.told["network"]
    if net.fingerprint() != told["hash"]:
        differs.append(f"the network {net.name} is not the same (hash {net.fingerprint()}, was {told['hash']})")
    if str(net.device) != told["device"]:
        differs.append(f"device is {net.device}, was {told['device']}")
    for name, version in versions().items():
        then = record.told["versions"].get(name)
        if then != version:
            differs.append(f"{name} is {version}, was {then}")
    sweep = record.told.get("sweep")
    with _threads(int(record.told["threads"])):
        if sweep is None:
            result = perform(task, net, inputs, watch)
        else:
            result = contact(task, net, inputs, axes_read(task, sweep), watch=watch)
    return Remade(result, dict(changes or {}), tuple(differs))


@dataclass(frozen=True)
class _Networks:
    """Loads the network that a file tells of. model, weights, labels: in place of what it names."""

    record: Record
    model: str | None
    weights: str | Path | None
    labels: str | Path | None
    device: str

    @property
    def given(self) -> list[str]:
        return [name for name in ("model", "weights", "labels") if getattr(self, name) is not None]

    def file(self) -> str | Path | None:
        told = self.record.told["network"]["model"]
        if self.weights is not None or told is None:
            return self.weights
        return _file(self.record, told["weights"], "weights")

    def load(self, weights: Path | None = None) -> Network:
        record, told = self.record, self.record.told["network"]
        if told["model"] is None and self.model is None:
            raise InputError(f"{told['name']} was made in Python, so its name does not say how (fix: --model NAME)")
        origin = dict.fromkeys(_ORIGIN) | dict(told["model"] or {})
        named = origin["model"]["name"] if isinstance(origin["model"], Mapping) else str(origin["model"])
        if self.model is None and (isinstance(origin["model"], Mapping) or ".py" in named):
            raise InputError(f"the network is a Python file, {named} (fix: --model FILE.py:FACTORY)")
        try:
            return load(
                self.model or named,
                weights=weights or self.file(),
                labels=self.labels or _labels(record, origin["labels"]),
                inputs=_spec(record.told["input"]),
                output=origin["output"],
                head=origin["head"],
                layouts=origin["layouts"],
                classes=origin["classes"],
                seed=origin["seed"],
                precision=origin["precision"] or FULL,
                device=self.device,
            )
        except NetworkError as error:
            raise InputError(f"{error} (the network of {record.path})") from None


def network_told(told: Mapping[str, Any], path: Path, device: str = "auto") -> Network:
    """The network that a document at `path` tells of, as an atlas does of its own.

    Raises InputError where it can't be loaded by what is told, or is another now.
    """
    reachable = isinstance(told.get("network"), Mapping) and _sound_origin(told["network"].get("model"))
    if not reachable or not isinstance(told.get("input"), Mapping):
        raise InputError(f"{path}: what it says of its network can't be read")
    net = _Networks(Record(path, told), None, None, None, device).load()
    if net.fingerprint() != told["network"].get("hash"):
        raise InputError(f"{path}: {net.name} is another network now")
    return net


def source_told(told: Mapping[str, Any]) -> ImageSource:
    """The images that such a document tells of, as they are now. Raises InputError where they don't lie there."""
    one = told["inputs"].get("data")
    if not isinstance(one, Mapping) or not _of(one, "source", str):
        raise InputError("what the atlas says of its images can't be read")
    try:
        return open_source(one["source"]).first(told["parameters"].get("first"))
    except InputError as error:
        raise InputError(f"the images of the atlas: {error}; they are looked for where it is served") from None


def _spec(told: Mapping[str, Any]) -> InputSpec:
    low, high = told["range"]
    size, mean, std = (tuple(told[name]) for name in ("size", "mean", "std"))
    return InputSpec(size, told["channels"], mean, std, (low, high), told.get("values"), told.get("picture"))


def _labels(record: Record, told: Any) -> Any:
    return told if isinstance(told, list) else _file(record, told, "labels")


def _file(record: Record, told: Any, option: str) -> str | Path | None:
    """A file by its recorded name, here or beside the record; a name that is no file as it is."""
    if not isinstance(told, Mapping):
        return None if told is None else str(told)
    name = str(told["name"])
    for path in (Path(name), record.path.parent / name, record.path.parent / Path(name).name):
        if path.is_file():
            return f"{path}#{told['entry']}" if isinstance(told.get("entry"), str) else path
    raise InputError(f"{name}: not there (fix: --{option} FILE)")


@dataclass(frozen=True)
class _Finder:
    """Finds what a task was given. differs: takes in what is found, but not as it was."""

    record: Record
    folder: Path | None
    data: str | None
    differs: list[str]

    def find(self, task: Task, one: Input) -> Any:
        told = self.record.told["inputs"].get(one.name)
        if one.what == "source":
            return self._source(task, one, told)
        if (told is None or isinstance(told, str)) and one.required:
            raise InputError(f"{self.record.path}: does not say of what {one.name} it was made")
        if told is None or isinstance(told, str):
            return told
        several = told if isinstance(told, list) else [told]
        if several and isinstance(several[0], Mapping) and "source" in several[0]:
            return self._image(several[0])
        paths = [self._path(one, each) for each in several]
        return ImageFiles.of(paths, [str(each["name"]) for each in several]) if one.what == "images" else paths[0]

    def _image(self, told: Mapping[str, Any]) -> SourceImage:
        spec = self.data or self._where(str(told["source"]))
        found = SourceImage.named(open_source(spec), str(told.get("name")))
        if found.record()[0]["sha256"] != told.get("sha256"):
            self.differs.append(f"{told.get('name')} of {spec} is not the image that it was")
        return found

    def _source(self, task: Task, one: Input, told: Any) -> Any:
        data = self.data if one.name == "data" else None
        if one.first is not None and getattr(task, one.first) == 0:
            return None
        if told is None and data is None:
            if task.usual(one, self.record.told["inputs"]) is not None:
                raise InputError(f"{one.name} was not a source, but images handed over in Python (fix: --data SOURCE)")
            return None
        if data is None and not (isinstance(told, Mapping) and "source" in told):
            raise InputError(f"{self.record.path}: what it says of {one.name} can't be read")
        spec = data or self._where(str(told["source"]))
        source = open_source(spec).first(None if one.first is None else getattr(task, one.first))
        record = source.record()
        if told is not None and one.first is not None and len(source) != told.get("images"):
            return source  # another number of images was asked for
        if told is not None and record["sha256"] != told["sha256"]:
            self.differs.append(f"the images of {spec} are not the same")
        return source

    def _where(self, name: str) -> str:
        places = [Path(name), *([] if self.folder is None else [self.folder / name, self.folder / Path(name).name])]
        return str(next((place for place in reversed(places) if place.exists()), name))

    def _path(self, one: Input, told: Mapping[str, Any]) -> Path:
        if not isinstance(told, Mapping) or not isinstance(told.get("sha256"), str):
            raise InputError(f"{self.record.path}: what it says of {one.name} can't be read")
        name = told.get("name")
        if not isinstance(name, str):
            raise InputError(f"{one.name} was handed over in Python, not as a file, so it can't be found again")
        near = self.record.path.parent
        folders = [self.folder] if self.folder is not None else []
        beside = [near / name, near / Path(name).name]
        named = [*(place / part for place in folders for part in (name, Path(name).name)), Path(name), *beside]
        there = [
            path
            for path in named
            if len(path.name) < 256 and (path.is_dir() if one.what == "folder" else path.is_file())
        ]
        same = [path for path in there if file_digest(path) == told["sha256"]]
        same = same or [path for path in self._files() if file_digest(path) == told["sha256"]]
        if same:
            return Path(same[0])
        if not there:
            where = "" if self.folder is None else f" or in {self.folder}"
            raise InputError(f"{name}: not there{where} (fix: --images FOLDER, where it lies)")
        self.differs.append(f"{name} is not the file that it was")
        return Path(there[0])

    def _files(self) -> Sequence[Path]:
        return [] if self.folder is None else sorted(path for path in self.folder.iterdir() if path.is_file())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, in a, in b) of all in which two provenances differ; settings by name, the rest as "versions.torch"."""
    first, second = _flat(a), _flat(b)
    names = [*first, *(name for name in second if name not in first)]
    return [(n, first.get(n), second.get(n)) for n in names if first.get(n) != second.get(n)]


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"technique": told["technique"], **told["parameters"]}

    def take(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, each in value.items():
                take(f"{name}.{key}", each)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, each in enumerate(value):
                take(f"{name}.{i}", each)
        else:
            found[name] = value

    for part, value in told.items():
        if part not in ("technique", "parameters"):
            take(part, value)
    return found

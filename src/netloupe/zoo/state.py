"""Weights files: reading them, filling a module with them, writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.inputs import InputSpec
from netloupe.zoo.checkpoint import Tensors, bare, chosen, read_checkpoint

_TORCH = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl", ".pickle")
_ACCEPTED = "accepted: safetensors, or what torch.save wrote of a state_dict, as .pt, .pth, .ckpt or .bin"


@dataclass(frozen=True)
class Stored:
    """What a weights file holds: sets of tensors by name and, where `save_weights` wrote it, the facts of the network.

    sets: by the keys that lead to them, "" where the file is one set. entry: the one that was asked for, as FILE#ENTRY.
    """

    path: Path
    sets: Mapping[str, Tensors] = field(repr=False)
    labels: tuple[str, ...] | None = None
    inputs: InputSpec | None = None
    card: Mapping[str, Any] | None = field(default=None, repr=False)
    entry: str | None = None

    @property
    def state(self) -> Tensors:
        """The tensors of all sets, those of the first before others of the same name."""
        return {name: value for state in reversed(list(self.sets.values())) for name, value in state.items()}

    def tensor(self, name: str) -> Tensor | None:
        """The first of that name, whatever prefix it bears; None without one."""
        return next((value for key, value in self.state.items() if f".{bare(key)}".endswith(f".{name}")), None)

    def length(self, name: str, axis: int, default: int) -> int:
        """The length of a tensor along an axis, `default` where there is none."""
        value = self.tensor(name)
        return default if value is None or value.ndim <= axis else int(value.shape[axis])


def file_and_entry(weights: str | Path) -> tuple[Path, str | None]:
    """The file, and the set of weights in it that is asked for, of FILE or FILE#ENTRY."""
    path, mark, entry = str(weights).rpartition("#")
    return (Path(path), entry) if mark and not Path(weights).exists() else (Path(weights), None)


def read_state(weights: str | Path) -> Stored:
    """The tensors of a weights file, told by its content: safetensors, or what `torch.save` wrote.

    Nothing but tensors and plain values is ever unpickled. "FILE#ENTRY" asks for one of several sets of weights, such
    as "last.ckpt#state_dict_ema". Raises NetworkError if the file can't be used.
    """
    path, entry = file_and_entry(weights)
    if not path.is_file():
        raise NetworkError(f"no weights at {str(path)!r}: {'a folder' if path.exists() else 'no such file'}")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise NetworkError(f"{path}: can't be read ({error.strerror or error})") from None
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return replace(_read_safetensors(path), entry=entry)
    if not start.startswith((b"PK\x03\x04", b"\x80")) and path.suffix not in _TORCH:
        raise NetworkError(f"{path}: no weights file, unknown format ({_ACCEPTED})")
    sets = read_checkpoint(path)
    if not sets:
        raise NetworkError(f"{path} holds no state_dict (accepted: a dict of tensors, alone or under a key)")
    return Stored(path, sets, entry=entry)


def _read_safetensors(path: Path) -> Stored:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise NetworkError(f"{path}: can't be read as safetensors ({first_line(error)})") from None
    try:
        labels = tuple(json.loads(metadata["labels"])) if "labels" in metadata else None
        card = json.loads(metadata["card"]) if "card" in metadata else None
        return Stored(path, {"": state}, labels, _inputs_of(metadata), card)
    except (ValueError, TypeError, KeyError, InputError, RecursionError) as error:
        raise NetworkError(f"{path}: labels or input spec in its header can't be read ({first_line(error)})") from None


def _inputs_of(metadata: Mapping[str, str]) -> InputSpec | None:
    if "inputs" in metadata:
        found: dict[str, Any] = json.loads(metadata["inputs"])
        found["range"] = tuple(found["range"])
        return InputSpec(**found)
    if "mean" in metadata and "std" in metadata:
        return InputSpec((64, 64), mean=tuple(json.loads(metadata["mean"])), std=tuple(json.loads(metadata["std"])))
    return None


def fill(module: nn.Module, stored: Stored, name: str) -> None:
    """Put the stored tensors into `module`, cast to its types; `name` stands for the network in the error.

    Of several sets of weights it is the one that fits, without a common prefix of its names (see `chosen`).
    Raises NetworkError naming the first tensors that are missing, unexpected or of another shape.
    """
    own = {key: value for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    state = chosen(stored.sets, own, stored.entry, stored.path, name)
    shapes = [
        f"{key} ({_shape(value)} in the file, {_shape(own[key])} in the network)"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    fitting = {key: value for key, value in state.items() if key not in own or value.shape == own[key].shape}
    result = module.load_state_dict(fitting, strict=False)
    missing = [k for k in result.missing_keys if k not in state and not k.endswith("num_batches_tracked")]
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in (("missing", missing), ("unexpected", result.unexpected_keys), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise NetworkError(f"{stored.path} doesn't fit {name}: tensors {'; '.join(problems)}")


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "one number"


def as_stored(module: nn.Module) -> dict[str, Tensor]:
    """The state as files hold it: floats as float16, but unchanged where a value is beyond its range."""

    def halved(value: Tensor) -> Tensor:
        half = value.detach().half() if value.is_floating_point() else value.detach()
        return half if bool(half.isfinite().all()) else value.detach()

    return {name: halved(value) for name, value in module.state_dict().items()}


def save_weights(module: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """The state of `module` as a float16 safetensors file with `metadata` in its header.

    Raises StoreError if the file can't be written; then there is none.
    """
    state = {name: value.cpu().clone().contiguous() for name, value in as_stored(module).items()}
    write_atomically(path, in_order(save(state, metadata=metadata)))


def in_order(content: bytes) -> bytes:
    """A safetensors file with sorted keys in its header, which the library leaves in an order of chance."""
    length = int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def header(labels: tuple[str, ...], inputs: InputSpec, card: Mapping[str, Any]) -> dict[str, str]:
    """The metadata from which `read_state` gets labels, input spec and card back."""
    return {
        "labels": json.dumps(labels, ensure_ascii=False),
        "mean": json.dumps(inputs.mean),
        "std": json.dumps(inputs.std),
        "inputs": json.dumps({name: value for name, value in asdict(inputs).items() if value is not None}),
        "card": json.dumps(card, ensure_ascii=False),
    }

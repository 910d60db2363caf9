"""Weights files: reading them, filling a module with them, writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.inputs import InputSpec

WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net")
PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Stored:
    """What a weights file holds: tensors by name and, where `save_weights` wrote it, the facts of the network."""

    path: Path
    state: Mapping[str, Tensor] = field(repr=False)
    labels: tuple[str, ...] | None = None
    inputs: InputSpec | None = None
    card: Mapping[str, Any] | None = field(default=None, repr=False)

    def length(self, name: str, axis: int, default: int) -> int:
        """The length of a tensor along an axis, `default` where there is none."""
        value = self.state.get(name)
        return default if value is None or value.ndim <= axis else int(value.shape[axis])


def read_state(path: str | Path) -> Stored:
    """The tensors of a .safetensors, .pt or .pth file; in .pt and .pth nothing but tensors is ever unpickled.

    Common wrappers around the state are taken off. Raises NetworkError if the file can't be used.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        reason = "pickles can run any code" if path.suffix in (".pkl", ".pickle", ".bin") else "unknown format"
        raise NetworkError(
            f"{path}: no weights file, {reason} (accepted: .safetensors, or a state_dict as .pt or .pth)"
        )
    if not path.is_file():
        raise NetworkError(f"no weights at {str(path)!r}: {'a folder' if path.exists() else 'no such file'}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else Stored(path, _read_pickled(path))


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
        return Stored(path, state, labels, _inputs_of(metadata), card)
    except (ValueError, TypeError, KeyError, InputError) as error:
        raise NetworkError(f"{path}: labels or input spec in its header can't be read ({first_line(error)})") from None


def _inputs_of(metadata: Mapping[str, str]) -> InputSpec | None:
    if "inputs" in metadata:
        found: dict[str, Any] = json.loads(metadata["inputs"])
        found["range"] = tuple(found["range"])
        return InputSpec(**found)
    if "mean" in metadata and "std" in metadata:
        return InputSpec((64, 64), mean=tuple(json.loads(metadata["mean"])), std=tuple(json.loads(metadata["std"])))
    return None


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage leads to
        if "weights_only" in str(error) or "Unsupported" in str(error):
            advice = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
            raise NetworkError(f"{path} holds pickled Python objects, which are never loaded; {advice}") from None
        raise NetworkError(f"{path}: can't be read as PyTorch weights ({first_line(error)})") from None
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = [found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise NetworkError(
            f"{path} holds no state_dict (accepted: a dict of tensors, alone or under {', '.join(WRAPPERS)})"
        )
    return tensors


def fill(module: nn.Module, stored: Stored, name: str) -> None:
    """Put the stored tensors into `module`, cast to its types; `name` stands for the network in the error.

    Raises NetworkError naming the first tensors that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    state = _without_prefixes(stored.state, own)
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


def _without_prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = dict(state)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in found) and not any(key.startswith(prefix) for key in own):
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


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

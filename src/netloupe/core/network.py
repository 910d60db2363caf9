"""A network to look at: any module, what it wants as input, and the names of its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, UnknownName, unknown
from netloupe.core.inputs import InputSpec
from netloupe.core.layers import Layer, list_layers
from netloupe.core.taps import Reader, evaluating, tapped

if TYPE_CHECKING:
    from netloupe.core.objectives import Objective

LOGITS = ""
"""The name under which the logits are read: the root module has the empty name."""


class Network:
    """Any `nn.Module` plus its `InputSpec` plus class labels.

    Takes images (N, C, H, W), float in [0, 1]; normalization lives inside. The module is never changed: it runs in
    eval mode and gets back its modes, hooks, gradients and the random state, after an exception too.

    module: maps normalized images to logits (N, classes), or to a dict, dataclass or tuple that holds them.
    output: the key or index of the logits where the module does not return a tensor.
    labels: class names by index. name: for provenance and titles.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: InputSpec | None = None,
        labels: Sequence[str] | None = None,
        *,
        output: str | int | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise InputError(f"the network is a {type(module).__name__} (accepted: an nn.Module)")
        self.module = module
        self.inputs = inputs if inputs is not None else InputSpec()
        self.labels = None if labels is None else tuple(str(label) for label in labels)
        self.output = output
        self.name = name if name is not None else type(module).__name__

    def __repr__(self) -> str:
        height, width = self.inputs.size
        return f"Network({self.name}, {self.inputs.channels}x{height}x{width})"

    @property
    def device(self) -> torch.device:
        """Where the module's weights lie; images are moved there."""
        first = next(self.module.parameters(), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the weights; images are cast to it, what is read is cast to float32."""
        types = [p.dtype for p in self.module.parameters() if p.is_floating_point()]
        return types[0] if types else torch.float32

    def run(self, images: Tensor, readers: Mapping[str, Reader]) -> None:
        """One pass that hands each named layer's output to its reader, and goes no deeper than needed.

        The reader gets the very tensor: float32 or the weights' type, valid until it returns unless it
        clones. The name `LOGITS` (the empty string) reads the logits (N, classes). Gradients as the caller set them.
        """
        self.inputs.check(images)
        hooked = {layer: reader for layer, reader in readers.items() if layer != LOGITS}
        if any(layer not in self.layers for layer in hooked):
            raise next(self.unknown_layer(layer) for layer in hooked if layer not in self.layers)
        x = self.inputs.normalize(images.to(self.device)).to(self.dtype)
        with evaluating(self.module), tapped(self.module, hooked, stop=LOGITS not in readers):
            result = self._forward(x)
            if LOGITS in readers:
                readers[LOGITS](self._pick_logits(result))

    def _forward(self, x: Tensor) -> Any:
        try:
            return self.module(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise NetworkError(f"{self.name} failed on input of shape {tuple(x.shape)}: {reason}") from error

    def _pick_logits(self, result: Any) -> Tensor:
        holds = _entries(result)
        if self.output is not None:
            if self.output not in holds:
                raise unknown("output", self.output, [str(key) for key in holds])
            result = holds[self.output]
        if not isinstance(result, Tensor):
            names = ", ".join(repr(key) for key in holds) or "none"
            raise NetworkError(
                f"{self.name} returns a {type(result).__name__}, not logits; name the entry: output=... ({names})"
            )
        if result.ndim != 2:
            raise NetworkError(f"{self.name} returns {tuple(result.shape)}, no logits (accepted: (N, classes))")
        return result

    def __call__(self, images: Tensor) -> Tensor:
        """The logits (N, classes), float32, of images (N, C, H, W) in [0, 1]; differentiable."""
        self.inputs.check(images)
        self.inputs.check_range(images)
        found: list[Tensor] = []
        self.run(images, {LOGITS: found.append})
        return found[0].float()

    def activations(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """{layer: output, float32 (N, C, H, W) or (N, C)} for each named layer, as it left the layer."""
        self.inputs.check(images)
        self.inputs.check_range(images)
        found: dict[str, Tensor] = {}

        def keep(layer: str) -> Reader:
            def reader(output: Tensor) -> None:
                found[layer] = output.float().clone() if layer == LOGITS or self.layers[layer].overwritten else output.float()

            return reader

        names = list(layers)
        with torch.no_grad():
            self.run(images, {name: keep(name) for name in names})
        return {name: found[name] for name in names}

    def read(self, images: Tensor, objective: Objective) -> Tensor:
        """The objective's score of each image, (N,) float32; differentiable with respect to `images`."""
        from netloupe.core.objectives import Reading

        found: dict[str, Tensor] = {}

        def keep(layer: str) -> Reader:
            def reader(output: Tensor) -> Tensor:
                found[layer] = output.float()
                return output.clone()

            return reader

        if objective.layers:
            self.run(images, {layer: keep(layer) for layer in objective.layers})
        else:
            self.inputs.check(images)
        return objective.score(Reading(self, images, found))

    def predict(self, images: Tensor, top: int = 5) -> list[list[tuple[str, float]]]:
        """The `top` most probable classes of each image, best first: [[(label, probability), ...], ...]."""
        with torch.no_grad():
            probabilities = self(images).softmax(1)
        if not bool(probabilities.isfinite().all()):
            raise NetworkError(f"{self.name} returns logits that are not finite")
        best = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
        return [
            [(self.label(i), p) for i, p in zip(indices, values, strict=True)]
            for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @cached_property
    def layers(self) -> Mapping[str, Layer]:
        """Every addressable layer in the order of execution, at the input size of `inputs`."""
        return list_layers(self.module, self.inputs, self._forward)

    def layer(self, name: str) -> Layer:
        """The layer of that name, or UnknownName with the nearest match."""
        if name not in self.layers:
            raise self.unknown_layer(name)
        return self.layers[name]

    def unknown_layer(self, name: str) -> UnknownName:
        """The error for a layer that is not there."""
        return unknown("layer", name, self.layers)

    @cached_property
    def classes(self) -> int:
        """The number of classes."""
        if self.labels is not None:
            return len(self.labels)
        with torch.no_grad():
            return int(self(torch.zeros(1, self.inputs.channels, *self.inputs.size)).shape[1])

    def label(self, index: int) -> str:
        """The name of a class; its number where it has none."""
        return self.labels[index] if self.labels is not None and index < len(self.labels) else str(index)

    def class_index(self, name: str | int) -> int:
        """The index of a class given by index or by name (case does not matter).

        Raises UnknownName if it is not there, InputError if several classes bear the name.
        """
        if isinstance(name, int) or name.lstrip("-").isdigit():
            index = int(name)
            if not 0 <= index < self.classes:
                raise UnknownName(f"no class {index} (accepted: 0 to {self.classes - 1})")
            return index
        matches = [i for i, label in enumerate(self.labels or ()) if label.lower() == name.lower()]
        if len(matches) > 1:
            raise InputError(f"{len(matches)} classes are named {name!r}; give the index: {', '.join(map(str, matches))}")
        if not matches:
            raise unknown("class", name, self.labels or ())
        return matches[0]

    def fingerprint(self) -> str:
        """A hash of weights, input spec and output choice: equal for equal functions, for provenance and resuming."""
        digest = hashlib.sha256(repr((self.inputs, self.output, type(self.module).__name__)).encode())
        for name, value in self.module.state_dict().items():
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            raw = value.detach().cpu().contiguous().view(-1)
            digest.update(raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b"")
        return digest.hexdigest()[:16]


def _entries(result: Any) -> dict[str | int, Any]:
    """What a module's output holds, by key or index."""
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, tuple | list) and not hasattr(result, "_fields"):
        return dict(enumerate(result))
    if hasattr(result, "_asdict"):
        return {**result._asdict(), **dict(enumerate(result))}
    return dict(getattr(result, "__dict__", {})) if not isinstance(result, Tensor) else {}



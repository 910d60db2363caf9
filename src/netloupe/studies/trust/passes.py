"""The passes behind `trust`: maps of every method, in the trained network and in drawn ones, and curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from netloupe.analysis.explain.target import Target
from netloupe.analysis.fidelity import deletion, insertion, randomized
from netloupe.analysis.methods import Method
from netloupe.core.errors import NetloupeError
from netloupe.core.network import Network
from netloupe.core.objectives import Objective
from netloupe.core.watch import Part
from netloupe.studies.trust.randomization import likeness


class Passes:
    """N images (N, C, H, W) with their targets, and M methods; `part` counts sets of maps and of curves."""

    def __init__(
        self,
        net: Network,
        images: Tensor,
        targets: Sequence[Target],
        methods: Sequence[Method],
        part: Part,
    ) -> None:
        self.net, self.images, self.targets, self.methods = net, images, targets, list(methods)
        self._part = part

    def trained(self, *, skip: bool) -> tuple[list[Tensor], dict[str, str]]:
        """Each method's maps (N, H, W), and why some have none if those may be skipped; `methods` loses them."""
        found: list[Tensor] = []
        skipped: dict[str, str] = {}
        for method in self.methods:
            try:
                found.append(self._maps(method, self.net))
            except NetloupeError as error:
                if not skip or len(skipped) == len(self.methods) - 1:
                    raise
                skipped[method.name] = str(error)
        self.methods = [method for method in self.methods if method.name not in skipped]
        return found, skipped

    def rivals(self, trained: Sequence[Tensor]) -> np.ndarray:
        """(2, M, N): rank and structural likeness of the maps to those for the rivals, NaN without a rival."""
        ids = [i for i, target in enumerate(self.targets) if target.rival is not None]
        rivals = [target.rival for target in self.targets if target.rival is not None]
        found = np.full((2, len(self.methods), len(self.images)), np.nan)
        for m, (method, maps) in enumerate(zip(self.methods, trained, strict=True)):
            if ids:
                found[:, m, ids] = likeness(maps[ids], importance(method, self.net, self.images[ids], rivals))
            self._part.advance()
        return found

    def cascade(
        self, trained: Sequence[Tensor], layers: Sequence[tuple[str, ...]], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(2, M, S + 1, N): likeness to the trained maps after each stage; (M, S + 1, H, W): the first image's maps."""
        found = [[likeness(maps, maps) for maps in trained]]
        shown = [[maps[0] for maps in trained]]
        for i, names in enumerate(layers, 1):
            net = randomized(self.net, names if i < len(layers) else None, seed)
            drawn = [self._maps(method, net) for method in self.methods]
            found.append([likeness(maps, others) for maps, others in zip(trained, drawn, strict=True)])
            shown.append([maps[0] for maps in drawn])
        maps = torch.stack([torch.stack(stage) for stage in shown], dim=1)
        return np.array(found).transpose(2, 1, 0, 3), maps.numpy()

    def curves(self, maps: Sequence[Tensor], steps: int) -> np.ndarray:
        """(2, maps, N, steps + 1): deletion and insertion by importance maps (N, H, W)."""
        found = np.empty((2, len(maps), len(self.images), steps + 1), dtype=np.float32)
        for m, one in enumerate(maps):
            for objective, ids in alike([target.curve for target in self.targets]):
                for kind, way in enumerate((deletion, insertion)):
                    curves = way(self.net, self.images[ids], objective, one[ids], steps=steps)
                    found[kind, m, ids] = curves.cpu().numpy()
            self._part.advance()
        return found

    def _maps(self, method: Method, net: Network) -> Tensor:
        found = importance(method, net, self.images, [target.objective for target in self.targets])
        self._part.advance()
        return found


def importance(method: Method, net: Network, images: Tensor, objectives: Sequence[Objective]) -> Tensor:
    """(N, H, W) on the CPU: the importance of each image's pixels to its own objective."""
    found = torch.empty(len(images), *images.shape[2:])
    for objective, ids in alike(objectives):
        found[ids] = method.importance(method.attribution(net, images[ids], objective)).detach().float().cpu()
    return found


def alike(objectives: Sequence[Objective]) -> Iterator[tuple[Objective, list[int]]]:
    """Each objective with the images that share it, since a pass reads one objective of a whole batch."""
    ids: dict[Objective, list[int]] = {}
    for i, objective in enumerate(objectives):
        ids.setdefault(objective, []).append(i)
    yield from ids.items()

"""A recorder of the weights at chosen epochs, which drops into any training loop (Zeiler & Fergus 2013, Figure 4).

recorder = Recorder("snapshots", network)
for epoch in range(1, 65):
    ...
    recorder.epoch_done(epoch)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from netloupe.core.errors import InputError, StoreError, first_line
from netloupe.core.files import write_atomically
from netloupe.core.network import Network
from netloupe.zoo.state import fill, in_order, read_state

EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)
"""The epochs of Figure 4."""

_COMPILED = "_orig_mod."


class Recorder:
    """Writes the weights of a module to a folder after chosen epochs, one safetensors file each.

    folder: made with the first snapshot. module: as it is trained, on any device; `torch.compile` and data-parallel
    wrappers are looked through, so that the names in the file are the plain module's own. It is only read.
    epochs: after which to write, counted from 1 (the number of passes over the data that are done); 0 is the network
    before training. facts: more strings for the file's header, as `zoo.state.header` makes them.

    A file appears whole or not at all and its bytes depend on nothing but weights, epoch and facts, so a run that is
    killed and goes on from a checkpoint writes again what it had written, the same. To lose none, call `epoch_done`
    before the checkpoint is saved. Of several distributed processes the first writes.
    Raises InputError for epochs that are none and for a state that is not tensors alone, StoreError for a folder with
    snapshots of another network.
    """

    def __init__(
        self,
        folder: str | Path,
        module: nn.Module,
        epochs: Iterable[int] = EPOCHS,
        *,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.facts = Path(folder), dict(facts or {})
        self.epochs = tuple(sorted(set(epochs)))
        if not self.epochs or self.epochs[0] < 0:
            raise InputError(f"epochs {list(self.epochs)} to record (accepted: one or more, 0 or above)")
        self._module = unwrapped(module)
        self._check_folder()

    def epoch_done(self, epoch: int) -> Path | None:
        """Tell that an epoch is over; returns the file's path, None where this epoch is not to be recorded.

        Raises StoreError if the file can't be written; then there is none.
        """
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if epoch not in self.epochs or (distributed and torch.distributed.get_rank() != 0):
            return None
        path = self.folder / f"epoch-{epoch:04}.safetensors"
        state = {name: value.detach().cpu().clone().contiguous() for name, value in self._state().items()}
        write_atomically(path, in_order(save(state, metadata={**self.facts, "epoch": str(epoch)})))
        return path

    def callback(self) -> Any:
        """A callback for the Trainer of `lightning` or `pytorch_lightning`, whichever has been imported.

        Trainer(callbacks=[recorder.callback()]). Without either, an object with the same hooks.
        """
        names = ("lightning.pytorch", "pytorch_lightning")
        bases = tuple(dict.fromkeys(sys.modules[name].Callback for name in names if name in sys.modules))
        return type("RecorderCallback", (_Hooks, *bases), {})(self)

    def _state(self) -> dict[str, Tensor]:
        state = {name.replace(_COMPILED, ""): value for name, value in self._module.state_dict().items()}
        other = [name for name, value in state.items() if not isinstance(value, Tensor)]
        if other:
            raise InputError(f"the state of {type(self._module).__name__} has {other[0]!r}, which is no tensor")
        return state

    def _check_folder(self) -> None:
        own = {name: tuple(value.shape) for name, value in self._state().items()}
        for epoch, path in (snapshots(self.folder) if self.folder.is_dir() else {}).items():
            with safe_open(path, framework="pt") as file:
                known = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if known != own:
                raise StoreError(
                    f"{self.folder}: the snapshot of epoch {epoch} there is of another network; give another folder"
                )


class _Hooks:
    """What the Trainer calls."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        del pl_module
        if trainer.is_global_zero and trainer.current_epoch == 0:
            self.recorder.epoch_done(0)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        del pl_module
        if trainer.is_global_zero:
            self.recorder.epoch_done(trainer.current_epoch + 1)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` and `DistributedDataParallel`."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def snapshots(folder: str | Path) -> dict[int, Path]:
    """{epoch: file} of what a Recorder wrote to a folder, in order; the epoch is that in the file's header.

    Other files are left alone. Raises StoreError for a folder that is not there, a snapshot that can't be read or
    names no epoch, and two of one epoch.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StoreError(f"no snapshots at {str(folder)!r}: {'a file' if folder.exists() else 'no such folder'}")
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("epoch-*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                epoch = int((file.metadata() or {})["epoch"])
                if not 0 <= epoch < 2**31:
                    raise ValueError(f"epoch {epoch}, accepted: 0 or above")
        except KeyError:
            raise StoreError(f"{path}: no snapshot, its header names no epoch") from None
        except (SafetensorError, OSError, ValueError) as error:
            raise StoreError(f"{path}: can't be read as a snapshot ({first_line(error)})") from None
        if epoch in found:
            raise StoreError(f"{path} and {found[epoch].name} are both of epoch {epoch}; remove one")
        found[epoch] = path
    return dict(sorted(found.items()))


def networks(folder: str | Path, net: Network) -> dict[int, Callable[[], Network]]:
    """{epoch: what gives the network as it then was}: each a copy of `net`, whose own module stays as it is.

    The function reads its file when called, so that one network at a time is in memory. It raises NetworkError for a
    snapshot that does not fit. Raises StoreError as `snapshots` does.
    """

    def reader(path: Path) -> Callable[[], Network]:
        def read() -> Network:
            module = net.copied()
            fill(module, read_state(path), net.name)
            return Network(module, net.inputs, head=net.head, name=net.name)

        return read

    return {epoch: reader(path) for epoch, path in snapshots(folder).items()}

"""The recorder of snapshots: plain loops, Lightning, wrappers, kills and full disks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from netloupe.core.errors import InputError, NetworkError, StoreError
from netloupe.core.inputs import InputSpec
from netloupe.core.network import Network
from netloupe.data.open import open_source
from netloupe.data.sources import ImageSource
from netloupe.training import recorder as recording
from netloupe.training.models import train_model
from netloupe.training.recipes import ClassifierRecipe
from netloupe.training.recorder import EPOCHS, Recorder, networks, snapshots, unwrapped
from netloupe.zoo.load import load


def small(seed: int = 0, channels: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(channels, 2),
    )  # fmt: skip


def trained(
    folder: Path, module: nn.Module, first: int = 1, last: int = 6, **options: Any
) -> dict[int, dict[str, Tensor]]:
    """A training loop of noise; the weights after each epoch."""
    recorder = Recorder(folder, module, **options)
    seen = {}
    for epoch in range(first, last + 1):
        torch.manual_seed(epoch)
        loss = module(torch.randn(8, 3, 6, 6)).square().mean()
        module.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in module.parameters():
                assert p.grad is not None
                p.sub_(0.1 * p.grad)
        recorder.epoch_done(epoch)
        seen[epoch] = {name: value.clone() for name, value in module.state_dict().items()}
    return seen


def stored(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_a_plain_loop_leaves_the_weights_of_the_chosen_epochs(tmp_path: Path) -> None:
    module = small()
    seen = trained(tmp_path / "made", module)
    found = snapshots(tmp_path / "made")
    assert list(found) == [1, 2, 5]
    assert EPOCHS == (1, 2, 5, 10, 20, 30, 40, 64)
    for epoch, path in found.items():
        assert all(torch.equal(stored(path)[name], value) for name, value in seen[epoch].items())
    assert not torch.equal(stored(found[1])["0.weight"], stored(found[5])["0.weight"])
    assert [path.name for path in (tmp_path / "made").iterdir() if path.name.startswith(".")] == []


def test_the_module_and_the_random_state_stay_as_they_are(tmp_path: Path) -> None:
    module = small().train()
    before = {name: (value.data_ptr(), value.clone()) for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    Recorder(tmp_path, module, [0]).epoch_done(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    for name, value in module.state_dict().items():
        assert value.data_ptr() == before[name][0]
        assert torch.equal(value, before[name][1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_run_that_was_killed_writes_the_same_bytes_again(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trained(whole, small(), epochs=range(1, 7), facts={"run": "a", "b": "c"})
    first = small()
    states = trained(cut, first, last=4, epochs=range(1, 7), facts={"run": "a", "b": "c"})
    resumed = small(seed=9)
    resumed.load_state_dict(states[2])  # the checkpoint of epoch 2; 3 and 4 come once more
    trained(cut, resumed, first=3, epochs=range(1, 7), facts={"run": "a", "b": "c"})
    assert list(snapshots(cut)) == [1, 2, 3, 4, 5, 6]
    for epoch, path in snapshots(whole).items():
        assert path.read_bytes() == snapshots(cut)[epoch].read_bytes()


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.b(self.a(x))
        return found


def test_wrappers_are_looked_through(tmp_path: Path) -> None:
    plain = small()
    inner = small()
    inner[0] = torch.compile(inner[0])  # type: ignore[assignment]
    kinds = {
        "compiled": torch.compile(small()),
        "parallel": nn.DataParallel(small()),
        "both": torch.compile(nn.DataParallel(small())),
        "inside": inner,
    }
    for kind, module in kinds.items():
        path = Recorder(tmp_path / kind, module, [3]).epoch_done(3)  # type: ignore[arg-type]
        assert path is not None
        found = stored(path)
        assert {k: tuple(v.shape) for k, v in found.items()} == {
            k: tuple(v.shape) for k, v in plain.state_dict().items()
        }, kind
        assert all(torch.equal(found[k], v) for k, v in plain.state_dict().items())
    assert unwrapped(plain) is plain
    tied = Recorder(tmp_path / "tied", Tied(), [1]).epoch_done(1)
    assert tied is not None
    assert torch.equal(stored(tied)["a.weight"], stored(tied)["b.weight"])


def test_networks_give_each_epoch_and_leave_the_callers_module_alone(tmp_path: Path) -> None:
    seen = trained(tmp_path, small())
    own = Network(small(seed=5), InputSpec((6, 6)), ["a", "b"], name="mine")
    before = own.fingerprint()
    found = networks(tmp_path, own)
    images = torch.rand(3, 3, 6, 6)
    for epoch, make in found.items():
        expected = small(seed=7)
        expected.load_state_dict(seen[epoch])
        net = make()
        assert torch.equal(net(images), Network(expected, InputSpec((6, 6)))(images))
        assert (net.name, net.labels) == ("mine", ("a", "b"))
    assert own.fingerprint() == before
    wider = Network(small(channels=5), InputSpec((6, 6)))
    with pytest.raises(NetworkError, match="of another shape"):
        networks(tmp_path, wider)[1]()


def test_train_model_keeps_snapshots_that_load_takes(tmp_path: Path) -> None:
    digits = open_source("digits")
    chosen = replace_source(digits, range(0, 96)), replace_source(digits, range(96, 128))
    for name, source in zip(("train", "val"), chosen, strict=True):
        for i in range(len(source)):
            file = tmp_path / name / str(source.label(i)) / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            source.open(i).save(file)
    recipe = ClassifierRecipe(sizes=((16, 3),), size=16, batch=32)
    out = tmp_path / "out"
    path = train_model("lenslet", tmp_path / "train", tmp_path / "val", out, recipe=recipe, snapshots=EPOCHS)
    found = snapshots(out / "snapshots")
    assert list(found) == [1, 2, 3]  # the last epoch is added
    images = torch.rand(4, 3, 16, 16)
    last, shipped = load("lenslet", weights=found[3]), load("lenslet", weights=path)
    assert last.inputs == shipped.inputs
    assert last.labels == shipped.labels
    assert torch.allclose(last(images), shipped(images), atol=0.02)  # which is rounded to float16
    assert not torch.allclose(load("lenslet", weights=found[1])(images), shipped(images), atol=0.02)
    for each in found.values():
        each.unlink()
    train_model("lenslet", tmp_path / "train", tmp_path / "val", out, recipe=recipe, snapshots=EPOCHS)
    assert snapshots(out / "snapshots") == {}  # a run that is finished trains no more


def replace_source(source: ImageSource, ids: range) -> ImageSource:
    """Some of the images of a source."""
    labels = [source.label(i) for i in ids]
    return replace(source, names=[source.names[i] for i in ids], opener=lambda i: source.opener(ids[i]), labels=labels)


class Callback:
    """The bases of the two libraries do nothing but bear every hook."""

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None: ...


def fit(callback: Any, module: nn.Module, epochs: int, *, zero: bool = True, start: int = 0) -> None:
    """The part of a Trainer that matters."""
    trainer = SimpleNamespace(current_epoch=start, is_global_zero=zero)
    callback.on_train_start(trainer, module)
    for epoch in range(start, epochs):
        trainer.current_epoch = epoch
        callback.on_train_epoch_end(trainer, module)


def test_lightning_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = small()
    fit(Recorder(tmp_path / "plain", module, (0, 1, 2, 5)).callback(), module, 3)
    assert list(snapshots(tmp_path / "plain")) == [0, 1, 2]
    fake = ModuleType("pytorch_lightning")
    fake.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", fake)
    callback = Recorder(tmp_path / "based", module, (0, 1, 5)).callback()
    assert isinstance(callback, Callback)
    fit(callback, module, 5, start=2)  # resumed: epoch 0 is over
    assert list(snapshots(tmp_path / "based")) == [5]
    fit(Recorder(tmp_path / "other", module, (1,)).callback(), module, 3, zero=False)
    assert not (tmp_path / "other").exists()


def test_only_the_first_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for rank, expected in ((1, False), (0, True)):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert (Recorder(tmp_path, small()).epoch_done(1) is not None) is expected


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path, small(), [1])

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"epoch-0001.safetensors: can't be written \(No space left") as error:
        recorder.epoch_done(1)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"a": 1}

    def set_extra_state(self, state: Any) -> None: ...


def test_mistakes(tmp_path: Path) -> None:
    for epochs in ([], [-1, 2]):
        with pytest.raises(InputError, match="accepted: one or more, 0 or above"):
            Recorder(tmp_path, small(), epochs)
    with pytest.raises(InputError, match="'_extra_state', which is no tensor"):
        Recorder(tmp_path, Extra(2, 2))
    Recorder(tmp_path / "a", small(), [1]).epoch_done(1)
    with pytest.raises(StoreError, match="epoch 1 there is of another network"):
        Recorder(tmp_path / "a", small(channels=5), [2])
    with pytest.raises(StoreError, match="no such folder"):
        snapshots(tmp_path / "none")
    (tmp_path / "a" / "other.safetensors").write_bytes(b"")
    assert list(snapshots(tmp_path / "a")) == [1]
    (tmp_path / "a" / "epoch-2.safetensors").write_bytes((tmp_path / "a" / "epoch-0001.safetensors").read_bytes())
    with pytest.raises(StoreError, match="are both of epoch 1"):
        snapshots(tmp_path / "a")
    (tmp_path / "a" / "epoch-2.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="can't be read as a snapshot"):
        snapshots(tmp_path / "a")


def test_a_file_without_an_epoch_is_no_snapshot(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "epoch-0001.safetensors", metadata={"other": json.dumps(1)})
    with pytest.raises(StoreError, match="its header names no epoch"):
        snapshots(tmp_path)
    for epoch in ("-1", "9" * 30):
        save_file({"a": torch.zeros(1)}, tmp_path / "epoch-0001.safetensors", metadata={"epoch": epoch})
        with pytest.raises(StoreError, match=f"epoch {epoch}, accepted: 0 or above"):
            snapshots(tmp_path)


def test_importing_the_recorder_imports_no_lightning() -> None:
    source = Path(recording.__file__).read_text()
    assert "import lightning" not in source
    assert "import pytorch_lightning" not in source

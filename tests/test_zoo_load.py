"""Networks by name, from files of the user's, with weights, labels and input specs from files and options."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netloupe.core.errors import InputError, NetloupeWarning, NetworkError, UnknownName
from netloupe.core.inputs import InputSpec
from netloupe.data.images import load_images
from netloupe.zoo import load as load_module
from netloupe.zoo.architectures import Lenslet, zfnet
from netloupe.zoo.load import load
from netloupe.zoo.specs import parse_inputs
from netloupe.zoo.state import header, read_state, save_weights

TINY = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)
    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))

def tiny():
    return Block()
"""


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """A network of the user's, and a state that is not what its factory gives."""
    (tmp_path / "tiny.py").write_text(TINY)
    torch.manual_seed(3)
    state = {
        k: torch.rand_like(v.float()).to(v.dtype)
        for k, v in load(f"{tmp_path}/tiny.py:tiny").module.state_dict().items()
    }
    return f"{tmp_path}/tiny.py:tiny", state


def same(net: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = net.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key].to(own[key].dtype)) for key in own)


# Weights files


def test_safetensors_and_pickled_states_fill_the_network(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    model, state = tiny
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "w.pth")
    torch.save({"model": {"state_dict": state}}, tmp_path / "nested.pt")
    for name in ("w.safetensors", "w.pt", "w.pth", "nested.pt"):
        assert same(load(model, weights=tmp_path / name).module, state), name
    assert not same(load(model).module, state)


def test_half_precision_weights_become_the_type_of_the_module(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    model, state = tiny
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(half, tmp_path / "w.safetensors")
    net = load(model, weights=tmp_path / "w.safetensors")
    assert net.dtype is torch.float32
    assert same(net.module, half)
    assert not net.module.training


def test_weights_of_another_network_are_named(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model, state = tiny
    wrong = {**state, "fc.weight": torch.zeros(7, 4), "extra": torch.zeros(1)}
    del wrong["conv.weight"], wrong["norm.num_batches_tracked"]
    torch.save(wrong, tmp_path / "w.pt")
    with pytest.raises(NetworkError) as caught:
        load(model, weights=tmp_path / "w.pt")
    assert str(caught.value).endswith(
        "w.pt doesn't fit tiny.py:tiny: tensors 1 missing (conv.weight); 1 unexpected (extra); "
        "1 of another shape (fc.weight (7x4 in the file, 5x4 in the network))"
    )


class _Planted:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_pickles_are_refused_and_not_run(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model, _ = tiny
    torch.save(nn.Conv2d(1, 1, 1), tmp_path / "module.pt")
    torch.save({"state_dict": _Planted(tmp_path / "planted")}, tmp_path / "planted.pt")
    for name in ("module.pt", "planted.pt"):
        with pytest.raises(NetworkError, match=r"holds pickled Python objects.*state_dict\(\)") as caught:
            load(model, weights=tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "planted").exists()
    pickle.loads(pickle.dumps(_Planted(tmp_path / "planted")))
    assert (tmp_path / "planted").exists()  # so the check above is worth something


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("w.pkl", b"", "can't be read as PyTorch weights"),
        ("w.onnx", b"", "unknown format"),
        ("w.pt", b"not a zip", "can't be read as PyTorch weights|pickled"),
        ("w.safetensors", b"\x00" * 20, "can't be read as safetensors"),
        ("w.safetensors", b"", "can't be read as safetensors"),
        ("absent.pt", None, "no such file"),
    ],
)
def test_unusable_weights_files(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NetworkError, match=says):
        load(tiny[0], weights=tmp_path / name)


def test_a_file_without_tensors_is_refused(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(NetworkError, match="holds no state_dict"):
        load(tiny[0], weights=tmp_path / "w.pt")


def saved(found: object, path: Path) -> Path:
    torch.save(found, path)
    return path


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


def other(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value + 1 for key, value in state.items()}


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema", "ema", "teacher", "params", "anything"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "net.", "module._orig_mod.model."])
def test_weights_are_found_under_any_key_and_prefix(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path, key: str, prefix: str
) -> None:
    model, state = tiny
    wrapped = {key: prefixed(state, prefix), "epoch": 3, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}}
    for name in ("w.ckpt", "w.pth.tar", "w.bin", "w"):
        assert same(load(model, weights=saved(wrapped, tmp_path / name)).module, state), name


def test_what_trainers_write_beside_weights(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model, state = tiny
    lightning = {
        "state_dict": prefixed(state, "model.") | {"loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1, "folder": Path("data")},
        "callbacks": {"EMA": {"best": torch.zeros(1)}},
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(0.7),
    }
    assert same(load(model, weights=saved(lightning, tmp_path / "last.ckpt")).module, state)


def test_several_weights_that_fit_are_named_and_one_can_be_chosen(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    model, state = tiny
    file = saved({"state_dict": state, "state_dict_ema": other(state)}, tmp_path / "best.pth.tar")
    with pytest.raises(
        NetworkError, match=r"several weights that fit tiny\.py:tiny: 'state_dict', 'state_dict_ema'; .*#"
    ):
        load(model, weights=file)
    net = load(model, weights=f"{file}#state_dict_ema")
    assert same(net.module, other(state))
    assert net.origin is not None
    assert net.origin["weights"]["entry"] == "state_dict_ema"
    assert same(load(model, weights=f"{file}#state_dict").module, state)
    with pytest.raises(UnknownName, match=r"no weights in best\.pth\.tar 'ema_state'; did you mean"):
        load(model, weights=f"{file}#ema_state")
    twice = saved({"student": state, "teacher": {k: v.clone() for k, v in state.items()}}, tmp_path / "equal.pt")
    with pytest.warns(NetloupeWarning, match="'student' are taken"):
        assert same(load(model, weights=twice).module, state)


def test_several_prefixes_that_fit_are_named(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model, state = tiny
    both = prefixed(state, "student.backbone.") | prefixed(other(state), "teacher.backbone.")
    file = saved({"state_dict": both}, tmp_path / "dino.ckpt")
    with pytest.raises(NetworkError, match=r"'state_dict\.student\.backbone', 'state_dict\.teacher\.backbone'"):
        load(model, weights=file)
    assert same(load(model, weights=f"{file}#state_dict.teacher.backbone").module, other(state))


def test_of_several_networks_in_a_file_the_one_that_fits_is_taken(
    tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    model, state = tiny
    file = saved({"critic": {"fc.weight": torch.zeros(2, 2)}, "generator": state}, tmp_path / "gan.pt")
    with pytest.warns(NetloupeWarning, match=r"gan\.pt: of its weights 'generator' are taken, .*\(not 'critic'\)"):
        assert same(load(model, weights=file).module, state)


def test_a_dict_that_holds_itself_ends(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    model, state = tiny
    found: dict[str, object] = {"model": state}
    found["me"] = found
    assert same(load(model, weights=saved(found, tmp_path / "w.pt")).module, state)


def test_a_torchscript_file_is_called_so(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    torch.jit.script(nn.Conv2d(1, 1, 1)).save(tmp_path / "w.pt")
    with pytest.raises(NetworkError, match=r"w\.pt is a TorchScript program, not weights"):
        load(tiny[0], weights=tmp_path / "w.pt")


# Files of the user's


def test_a_file_may_import_its_siblings_and_leaves_nothing(tmp_path: Path) -> None:
    for folder, width in (("a", 4), ("b", 6)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "zoo_test_parts.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / folder / "net.py").write_text(
            "from torch import nn\nfrom zoo_test_parts import WIDTH\nfrom .zoo_test_parts import WIDTH as again\n"
            "from dataclasses import dataclass\n@dataclass\nclass Plan:\n    width: 'int' = WIDTH\n"
            "def make():\n    assert again == WIDTH\n    return nn.Conv2d(3, Plan().width, 1)\n"
        )
    path, modules = list(sys.path), set(sys.modules)
    widths = [load(f"{tmp_path}/{folder}/net.py:make").module.out_channels for folder in ("a", "b")]
    assert widths == [4, 6]
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if "netloupe_" in name or "zoo_test_parts" in name}
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("source", "factory", "error", "says"),
    [
        ("def f(:\n", "f", NetworkError, r"net.py, line 1: can't be parsed"),
        ("x = 1\0", "f", NetworkError, "can't be parsed"),
        (
            "import absent_module_of_mine",
            "f",
            NetworkError,
            "fails on import with ModuleNotFoundError: No module named",
        ),
        ("import sys\nsys.exit(3)", "f", NetworkError, "fails on import with SystemExit"),
        ("def build_net(): pass", "buildnet", UnknownName, "did you mean 'build_net'"),
        ("def f(width, depth=2, *, kind): pass", "f", NetworkError, r"net.py:f needs arguments: width, kind"),
        ("def f(): raise ValueError('too\\nbad')", "f", NetworkError, "net.py:f raises ValueError: too"),
        ("def f(): return 3", "f", NetworkError, r"net.py:f returns a int \(accepted: an nn.Module\)"),
        ("f = 3", "f", NetworkError, "net.py:f is a int"),
        ("def f(): pass", "", UnknownName, "names no factory"),
    ],
)
def test_unusable_files(tmp_path: Path, source: str, factory: str, error: type[Exception], says: str) -> None:
    (tmp_path / "net.py").write_text(source)
    path = list(sys.path)
    with pytest.raises(error, match=says) as caught:
        load(f"{tmp_path}/net.py:{factory}")
    assert "\n" not in str(caught.value)
    assert sys.path == path


def test_the_number_of_classes_goes_to_the_factory_that_takes_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef a(num_classes):\n    return nn.Linear(3, num_classes)\n"
        "def b():\n    return nn.Linear(3, 2)\n"
    )
    assert load(f"{tmp_path}/net.py:a", classes=7).module.out_features == 7
    with pytest.raises(NetworkError, match="takes no number of classes"):
        load(f"{tmp_path}/net.py:b", classes=7)
    with pytest.raises(InputError, match="classes 0"):
        load(f"{tmp_path}/net.py:a", classes=0)


@pytest.mark.parametrize("model", ["lensnet", "resnet18", "torchvision:", "absent.py:make", "weights.pt", "net.py", ""])
def test_unknown_models(model: str) -> None:
    with pytest.raises((UnknownName, NetworkError), match=r"accepted|no network at|did you mean|holds weights"):
        load(model)


def test_the_nearest_model_is_named() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'lenslet'\? \(accepted: lenslet, .*zfnet, torchvision:NAME"):
        load("lensnet")


def test_an_unusable_device(tiny: tuple[str, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(InputError, match="no device 'abacus' here"):
        load(tiny[0], device="abacus")
    assert load(tiny[0], device="cpu").device.type == "cpu"


# Our own architectures


def test_what_training_writes_is_loaded_with_labels_and_spec(tmp_path: Path) -> None:
    spec = InputSpec((40, 40), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    torch.manual_seed(0)
    module = Lenslet(3).eval()
    save_weights(module, tmp_path / "l.safetensors", header(("a", "é", "c"), spec, {"top1": 0.5}))
    net = load("lenslet", weights=tmp_path / "l.safetensors")
    assert (net.inputs, net.labels, net.name, net.dtype) == (spec, ("a", "é", "c"), "lenslet", torch.float32)
    assert read_state(tmp_path / "l.safetensors").card == {"top1": 0.5}
    images = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(net(images), module(spec.normalize(images)).detach(), rtol=0.02, atol=0.02)
    bigger = load("lenslet", weights=tmp_path / "l.safetensors", inputs=lambda s: parse_inputs("64x48", base=s))
    assert bigger.inputs == InputSpec((64, 48), mean=spec.mean, std=spec.std)
    with pytest.raises(NetworkError, match=r"of another shape.*3x512 in the file, 4x512 in the network"):
        load("lenslet", weights=tmp_path / "l.safetensors", classes=4)


def test_a_training_checkpoint_of_lenslet_is_folded(tmp_path: Path) -> None:
    trained = Lenslet(3, batch_norm=True)
    trained(torch.rand(4, 3, 40, 40))  # batch norm sees something
    torch.save({"network": trained.state_dict(), "log": []}, tmp_path / "checkpoint.pt")
    net = load("lenslet", weights=tmp_path / "checkpoint.pt")
    assert same(net.module, trained.eval().folded().state_dict())
    assert "norm1" not in net.layers


def test_missing_embedded_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load_module, "WEIGHTS", tmp_path)
    with pytest.raises(NetworkError, match="lacks the weights of lenslet"):
        load()
    assert load(weights="random").head.count == 200


@pytest.mark.skipif(
    not (load_module.WEIGHTS / "lenslet.safetensors").is_file(), reason="the embedded weights are not there yet"
)
@pytest.mark.parametrize("model", ["lenslet", "lenslet-robust", "patchlet"])
def test_the_embedded_networks(model: str) -> None:
    net = load(model)
    assert net.labels == load().labels
    assert net.inputs.size == (64, 64)
    assert net.labels is not None
    assert len(net.labels) == 200
    assert bool(net(torch.rand(1, 3, 64, 64)).isfinite().all())


def test_zfnet_wants_weights(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="zfnet comes without weights; train some"):
        load("zfnet")
    module = zfnet(4, 64).eval()
    spec = InputSpec((64, 64), mean=(0.5,), std=(0.5,))
    save_weights(module, tmp_path / "z.safetensors", header(("a", "b", "c", "d"), spec, {}))
    net = load("zfnet", weights=tmp_path / "z.safetensors")
    assert (net.inputs, net.head.count, net.layers["pool5"].shape) == (spec, 4, (256, 1, 1))
    with pytest.raises(NetworkError, match=r"fc6.weight \(4096x256 in the file, 4096x9216"):
        load("zfnet", weights=tmp_path / "z.safetensors", inputs=InputSpec((224, 224)))


def test_labels_must_be_as_many_as_classes(tiny: tuple[str, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    assert load(tiny[0], labels=list("abcde")).labels == tuple("abcde")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(NetworkError, match=r"5 classes, but 2 labels were given"):
        load(tiny[0], labels=tmp_path / "labels.txt")


# A real network as a user would bring it

SHARED = Path(os.environ.get("NETLOUPE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.mark.skipif(not (SHARED / "models/mobilenet.py").exists(), reason="the shared models are not there")
def test_a_real_network_is_right_about_real_photographs() -> None:
    samples = SHARED / "data/imagenet-samples"
    net = load(
        f"{SHARED}/models/mobilenet.py:mobilenet_v2_100",
        weights=SHARED / "models/mobilenet_v2_1.0_224.safetensors",
        inputs=parse_inputs("224", "0.5", "0.5"),
        labels=samples / "labels.json",
    )
    assert net.name == "mobilenet.py:mobilenet_v2_100"
    entries = sorted(json.loads((samples / "labels.json").read_text()).values(), key=lambda entry: entry["index"])[:40]
    images = load_images([samples / entry["file"] for entry in entries], (224, 224))
    with torch.no_grad():
        found = torch.cat([net(part) for part in images.split(10)]).argmax(1)
    right = float((found == torch.tensor([entry["index"] for entry in entries])).float().mean())
    assert right > 0.7
    assert net.labels is not None
    assert net.labels[1] == "goldfish"


def test_a_network_that_ships_is_its_own_folded_form() -> None:
    plain = load().module
    assert plain.folded() is plain


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"size": 64}, r"inputs \{'size': 64\} fails: 'dict' object is not callable \(accepted: an InputSpec"),
        (lambda spec: spec.size, r"inputs <function .* gives \(64, 64\) \(accepted: an InputSpec, or a function"),
    ],
)
def test_inputs_that_are_none(inputs: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load(inputs=inputs)

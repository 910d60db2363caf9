"""Videos that are read and written, and networks as ONNX."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from netloupe.core.errors import InputError, StoreError
from netloupe.render.pictures import Picture
from netloupe.stylenet.export import export_onnx
from netloupe.stylenet.video import Writer, camera, frames
from stylenet_helpers import encode_video, files, moving, tiny_model

av = pytest.importorskip("av")


# Videos


def test_a_video_comes_back_as_it_was_written(tmp_path: Path) -> None:
    pictures = moving(49, 63)  # odd sides get a row and a column more
    with Writer(tmp_path / "new" / "clip.mp4", Fraction(30000, 1001)) as writer:
        for picture in pictures:
            writer.write(picture)
    with frames(tmp_path / "new" / "clip.mp4") as video:
        found = list(video)
    assert (video.rate, video.count, len(found)) == (Fraction(30000, 1001), 6, 6)
    assert video.time == pytest.approx(5 * 1001 / 30000)
    assert {frame.shape for frame in found} == {(50, 64, 3)}
    for frame, picture, other in zip(found, pictures, pictures[::-1], strict=True):
        assert np.abs(frame[:49, :63].astype(int) - picture).mean() < 8
        assert np.abs(frame[:49, :63].astype(int) - other).mean() > 12
    assert files(tmp_path) == ["new/clip.mp4"]


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40), (255, 255, 255)])
def test_colors_survive(color: tuple[int, int, int], tmp_path: Path) -> None:
    (tmp_path / "c.mp4").write_bytes(encode_video([np.full((32, 32, 3), color, np.uint8)], 5))
    assert np.abs(next(iter(frames(tmp_path / "c.mp4")))[16, 16].astype(int) - color).max() <= 3


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, -16:] = 255  # the right end comes to the top
    with av.open(str(tmp_path / "t.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    found = next(iter(frames(tmp_path / "t.mp4")))
    assert found.shape == (64, 32, 3)
    assert found[:12].min() > 240
    assert found[20:].max() < 15


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def write(*pictures: Picture) -> None:
        with Writer(tmp_path / "x.mp4", 10) as writer:
            for picture in pictures:
                if picture is interrupt:
                    raise KeyboardInterrupt
                writer.write(picture)

    interrupt = np.zeros(1)
    small, large = moving(count=1)[0], moving(64, 64, 1)[0]
    for pictures, message in (
        ((small, large), r"shape \(64, 64, 3\) after those of \(48, 64, 3\)"),
        ((small[0],), r"accepted: \(H, W, 3\) of uint8"),
        ((), "x.mp4: a video without a picture"),
    ):
        with pytest.raises(InputError, match=message):
            write(*pictures)
    with pytest.raises(InputError, match="0 frames a second"):
        Writer(tmp_path / "x.mp4", 0)
    assert files(tmp_path) == []
    (tmp_path / "x.mp4").write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write(small, interrupt)
    assert (files(tmp_path), (tmp_path / "x.mp4").read_text()) == (["x.mp4"], "before")


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from netloupe.core.errors import StoreError
from netloupe.stylenet.video import Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
try:
    with Writer(Path(sys.argv[1]), 10) as writer:
        for picture in noise:
            writer.write(picture)
except StoreError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FULL, str(tmp_path / "x.mp4")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.stdout == f"{tmp_path / 'x.mp4'}: can't be written (File too large)\n", found.stderr
    assert files(tmp_path) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be written"), Writer(tmp_path / "file" / "x.mp4", 10) as writer:
        writer.write(moving(count=1)[0])


@pytest.mark.skipif(Path("/dev/video97").exists(), reason="there is such a camera")
def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(InputError, match="camera 97"):
        camera(97)


def test_without_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mp4").write_text("never looked at")
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (lambda: frames(tmp_path / "x.mp4"), camera, lambda: Writer(tmp_path / "x.mp4", 1)):
        with pytest.raises(InputError, match=r"pip install 'netloupe\[video\]'"):
            use()  # type: ignore[no-untyped-call]
    monkeypatch.setattr("netloupe.stylenet.export.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'netloupe\[onnx\]'"):
        export_onnx(tiny_model("a"), tmp_path / "x.onnx")


# ONNX


def test_onnx_paints_the_same_at_any_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = tiny_model("brick", "größer")
    export_onnx(model, tmp_path / "m.onnx")
    assert files(tmp_path) == ["m.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", ["images", 3, "height", "width"]),
        ("blend", ["images", 2]),
        ("painted", ["images", 3, "height", "width"]),
    ]
    assert json.loads(session.get_modelmeta().custom_metadata_map["styles"]) == list(model.styles)
    for shape in ((1, 64, 64), (2, 17, 46), (3, 35, 16)):
        image = torch.rand(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(0))
        blend = torch.stack([model.blend({"brick": i + 1, "größer": 1}) for i in range(shape[0])])
        with torch.no_grad():
            wanted = model.network(image, blend).numpy()
        (found,) = session.run(None, {"image": image.numpy(), "blend": blend.numpy()})
        assert np.abs(found - wanted).max() < 1e-4
        assert wanted.std() > 0.05

"""`netloupe stylenet`: training, painting images and videos, the list of styles, ONNX."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netloupe.cli import app as cli
from netloupe.core.errors import InputError, StoreError
from netloupe.data.images import load_image
from netloupe.render.pictures import Picture, from_pixels
from netloupe.stylenet.model import load_styles, save_styles
from netloupe.stylenet.video import Frames, frames, record
from netloupe.training.styles import train_styles
from stylenet_helpers import encode_video, files, moving, photo, tiny_model
from watch_helpers import Recorder

av = pytest.importorskip("av")

Run = Callable[..., tuple[int, str, str]]

RECIPE = ["--sizes", "32:2", "--batch", 2, "--style-size", 48, "--every", 1]
SMALL = [*RECIPE, "--widths", "4,8,8", "--blocks", 1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """styles/ and more/ (pictures of styles), images/ (one broken, two of one name), clip.mp4, model.safetensors."""
    folder = tmp_path_factory.mktemp("stylenet")
    for name in ("images/sub", "styles", "more", "empty", "bad", "tiny", "twice"):
        (folder / name).mkdir(parents=True)
    for name in ("cat", "coffee"):
        photo(name, 41, 50).save(folder / "images" / f"{name}.jpg")
    photo("rocket", 36, 40).save(folder / "images" / "sub" / "cat.png")
    (folder / "images" / "broken.png").write_text("no image")
    (folder / "bad" / "broken.png").write_text("no image")
    (folder / "bad" / "also.png").write_text("no image")
    for name in ("brick", "coffee"):
        photo(name, 64, 80).save(folder / "styles" / f"{name}.png")
    photo("rocket", 64, 70).save(folder / "more" / "rocket.png")
    photo("rocket", 31, 70).save(folder / "tiny" / "small.png")
    for suffix in ("png", "jpg"):
        photo("rocket", 40, 40).save(folder / "twice" / f"same.{suffix}")
    (folder / "file").write_text("in the way")
    (folder / "clip.mp4").write_bytes(encode_video(moving(), 12.5))
    (folder / "broken.mp4").write_text("no video")
    save_styles(tiny_model("brick", "coffee", "odd=name"), folder / "model.safetensors")
    return folder


def painted(place: Path, path: Path, style: object = "brick") -> Picture:
    return from_pixels(load_styles(place / "model.safetensors")(load_image(path)[None], style)[0].numpy())  # type: ignore[arg-type]


# Painting images


def test_images_are_painted(run: Run, place: Path, tmp_path: Path) -> None:
    model = ["--weights", place / "model.safetensors"]
    status, out, err = run("stylenet", "apply", place / "images", "--style", "brick", *model, "-o", tmp_path, "--json")
    assert status == 0
    assert err == "skipped broken.png: not an image\n"
    found = json.loads(out)
    assert {Path(one["file"]).name: one["input"] for one in found["files"]} == {
        "cat.png": "cat.jpg", "coffee.png": "coffee.jpg", "cat-2.png": "sub/cat.png"
    }  # fmt: skip
    assert (found["network"], found["style"], len(found["skipped"])) == ("tiny", {"brick": 1}, 1)
    assert files(tmp_path) == ["cat-2.png", "cat.png", "coffee.png"]
    for name, path in (("cat", "images/cat.jpg"), ("cat-2", "images/sub/cat.png")):
        pixels = np.array(Image.open(tmp_path / f"{name}.png"))
        assert np.array_equal(pixels, painted(place, place / path))
        assert pixels.std() > 5


def test_a_blend_at_a_smaller_size(run: Run, place: Path, tmp_path: Path) -> None:
    style = ["--style", "brick=3", "--style", "odd=name"]
    given = ["stylenet", "apply", place / "images" / "cat.jpg", *style, "--side", 20]
    status, out, err = run(*given, "--weights", place / "model.safetensors", "-o", tmp_path / "new", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["style"] == {"brick": 0.75, "odd=name": 0.25}
    assert Image.open(tmp_path / "new" / "cat.png").size == (24, 20)


def test_names_are_made_safe_and_no_input_is_overwritten(run: Run, place: Path, tmp_path: Path) -> None:
    odd = tmp_path / "..;$(x) ü.png"
    photo("cat", 20, 24).save(odd)
    before = odd.read_bytes()
    photo("rocket", 20, 24).save(tmp_path / "x-ü.png")
    kept = (tmp_path / "x-ü.png").read_bytes()
    given = [odd, odd, tmp_path / "x-ü.png", "--style", "brick", "--weights", place / "model.safetensors"]
    status, out, _ = run("stylenet", "apply", *given, "-o", tmp_path)
    assert status == 0
    assert len(out.splitlines()) == 4
    assert files(tmp_path) == ["..;$(x) ü.png", "x-ü-2.png", "x-ü-3.png", "x-ü-4.png", "x-ü.png"]
    assert (odd.read_bytes(), (tmp_path / "x-ü.png").read_bytes()) == (before, kept)


@pytest.mark.parametrize("source", ["images", "images/cat.jpg", "photos.txt"])
def test_every_painted_png_is_made_again(
    source: str, run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "photos.txt").write_text("images/cat.jpg\nimages/sub/cat.png\n")
    blend = ["--style", "brick=3", "--style", "odd=name", "--weights", place / "model.safetensors"]
    assert run("stylenet", "apply", source, *blend, "--side", 20, "-o", tmp_path / "one")[0] == 0
    weights = ["--weights", place / "model.safetensors"]
    pngs = sorted((tmp_path / "one").iterdir())
    assert len(pngs) == {"images": 3, "images/cat.jpg": 1, "photos.txt": 2}[source]
    for png in pngs:
        status, out, err = run("again", png, "-o", tmp_path / "two", *weights)
        assert (status, "differs" in err, "1 files, byte for byte" in err) == (0, False, True), err
        assert "brick 75%, odd=name 25%" in out
        assert (tmp_path / "two" / png.name).read_bytes() == png.read_bytes()
        assert str(place).encode() not in png.read_bytes()
        assert run("again", tmp_path / "two", *weights)[2] == f"2 files, byte for byte as in {tmp_path / 'two'}\n"
        (tmp_path / "two" / png.name).unlink()
    (place / "photos.txt").unlink()


def test_what_is_painted_can_be_named(run: Run, place: Path, tmp_path: Path) -> None:
    images = [place / "images" / name for name in ("cat.jpg", "coffee.jpg")]
    given = ["stylenet", "apply", *images, "--style", "brick", "--weights", place / "model.safetensors"]
    assert run(*given, "--name", "mine", "-o", tmp_path)[0] == 0
    assert files(tmp_path) == ["mine-2.png", "mine.png"]
    status, _, err = run(*given, "--name", "../mine", "-o", tmp_path)
    assert (status, err.count("\n"), "name '../mine'" in err) == (2, 1, True)


# Videos


def with_sound(path: Path, codec: str) -> None:
    """A video of two seconds with a tone."""
    tone = (np.sin(np.arange(32000) / 9) * 9000).astype(np.int16)[None]
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=10), container.add_stream(codec, rate=16000)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for picture in moving(count=20):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        resampler = av.AudioResampler(format=audio.codec_context.format, layout="mono", rate=16000)
        for at in range(0, 32000, 1000):
            frame = av.AudioFrame.from_ndarray(tone[:, at : at + 1000], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, at
            for part in resampler.resample(frame):
                container.mux(audio.encode(part))
        container.mux(audio.encode(None))


def test_a_video_is_painted_with_its_sound(run: Run, place: Path, tmp_path: Path) -> None:
    with_sound(tmp_path / "clip.mkv", "aac")
    with_sound(tmp_path / "raw.mkv", "pcm_s16le")
    given = [tmp_path / "clip.mkv", tmp_path / "raw.mkv", place / "broken.mp4", "--style", "coffee"]
    status, out, err = run("stylenet", "apply", *given, "--weights", place / "model.safetensors", "-o", tmp_path / "o")
    assert status == 0
    assert out.splitlines()[-1] == "1 skipped"
    skipped, silent = err.splitlines()
    assert (
        skipped == f"skipped {place}/broken.mp4: can't be opened as a video (Invalid data found when processing input)"
    )
    assert silent == f"{tmp_path}/raw.mkv: its sound is left out, MP4 does not hold pcm_s16le sound"
    assert files(tmp_path / "o") == ["clip.mp4", "raw.mp4"]
    with av.open(str(tmp_path / "o" / "clip.mp4")) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(samples) / 16000 == pytest.approx(2, abs=0.15)
    assert np.abs(samples[2000:30000]).max() > 0.15
    model = load_styles(place / "model.safetensors")
    for before, after in zip(frames(tmp_path / "clip.mkv"), frames(tmp_path / "o" / "clip.mp4"), strict=True):
        pixels = torch.from_numpy(before.copy()).permute(2, 0, 1)[None] / 255
        wanted, other = (coarse(from_pixels(model(pixels, style)[0].numpy())) for style in ("coffee", "brick"))
        assert np.abs(coarse(after) - wanted).mean() < 4
        assert np.abs(other - wanted).mean() > 12


def coarse(picture: Picture) -> np.ndarray:
    """Means of 8x8 px, of which a video changes little."""
    height, width = (side // 8 for side in picture.shape[:2])
    return picture.reshape(height, 8, width, 8, 3).mean((1, 3))


def test_a_camera_is_recorded_and_painted(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(which: int | str) -> Frames:
        return Frames(f"camera {which}", Fraction(30), None, av.open("testsrc=size=66x48:rate=10", format="lavfi"))

    with seen(0) as source:
        assert record(source, 1.2, tmp_path / "seen.mp4") == 10  # as many as came, not as many as were said
    monkeypatch.setattr("netloupe.stylenet.apply.camera", seen)
    given = ["camera:1", "--style", "brick", "--seconds", 1.2, "--weights", place / "model.safetensors"]
    assert run("stylenet", "apply", *given, "-o", tmp_path)[0] == 0
    video = frames(tmp_path / "camera1.mp4")
    assert (video.rate, len(list(video))) == (10, 12)
    with seen(0) as source, pytest.raises(InputError, match="nan seconds of a camera"):
        record(source, float("nan"), tmp_path / "x.mp4")


# Other runtimes


def test_onnx_of_one_size(run: Run, place: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    given = ["--weights", place / "model.safetensors", "--size", "34x50", "-o", tmp_path / "m.onnx"]
    status, out, err = run("stylenet", "export", *given)
    assert (status, err) == (0, "")
    assert re.search(r"m\.onnx: 0\.\d MB, 3 styles\n$", out)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert [one.shape for one in (*session.get_inputs(), *session.get_outputs())] == [
        [1, 3, 34, 50], [1, 3], [1, 3, 34, 50]
    ]  # fmt: skip


# Training


def test_train_extend_and_list(run: Run, place: Path, tmp_path: Path) -> None:
    given = ["stylenet", "train", "--images", place / "images"]
    status, out, err = run(*given, "--styles", place / "styles", "-o", tmp_path / "a", *SMALL)
    assert (status, err) == (0, "")
    assert "2 styles" in out.splitlines()[0]
    assert files(tmp_path / "a") == [
        "card.json", "card.md", "checkpoint.pt", "metrics.jsonl", "samples/000001.jpg", "samples/000002.jpg",
        "stylenet.jpg", "stylenet.safetensors",
    ]  # fmt: skip
    weights = tmp_path / "a" / "stylenet.safetensors"
    extended = [*given, "--styles", place / "more", "-o", tmp_path / "b", "--extend", weights, "--name", "three"]
    card = json.loads(run(*extended, *RECIPE, "--json")[1])["card"]
    assert card["styles"] == ["brick", "coffee", "rocket"]
    assert card["extends"] == {"name": "stylenet", "styles": ["brick", "coffee"]}
    assert card["data"] == {
        "photos": "images", "photos_count": 4, "styles": "more",
        "style_sizes": {"rocket": [64, 70]},
    }  # fmt: skip
    assert all(loss > 0 for loss in card["losses"].values())
    assert json.loads((tmp_path / "b" / "card.json").read_text())["losses"] == card["losses"]
    page = (tmp_path / "b" / "card.md").read_text()
    assert page.startswith("# three\n")
    assert "| rocket | 64x70 |" in page
    assert str(place) not in page + json.dumps(card)
    assert run("stylenet", "styles", "--weights", tmp_path / "b" / "three.safetensors") == (
        0, "brick\ncoffee\nrocket\n", ""
    )  # fmt: skip
    image, before = load_image(place / "images" / "cat.jpg")[None], load_styles(weights)
    after = load_styles(tmp_path / "b" / "three.safetensors")
    assert torch.equal(before(image, "coffee"), after(image, "coffee"))
    status, _, err = run(*extended, *RECIPE, "--content", 0.7)  # the checkpoint is there still
    assert (status, err.count("\n")) == (2, 1)
    assert "checkpoint.pt is of another training, its recipe.content: 0.05, now: 0.7" in err


def test_train_starts_with_weights(run: Run, place: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name in ("coffee", "rocket"):
        source = next(
            path for path in [*(place / "styles").iterdir(), *(place / "more").iterdir()] if path.stem == name
        )
        (tmp_path / "s" / source.name).write_bytes(source.read_bytes())
    given = ["stylenet", "train", "--images", place / "images", "--styles", tmp_path / "s", *RECIPE]
    weights, own = place / "model.safetensors", tmp_path / "a" / "stylenet.safetensors"
    status, out, err = run(*given, "--start", weights, "-o", tmp_path / "a", "--rate", "1e-12", "--json")
    assert (status, err) == (0, "")
    card, before, after = json.loads(out)["card"], load_styles(weights), load_styles(own)
    assert card["styles"] == ["coffee", "rocket"]
    assert card["starts"]["styles"] == list(before.styles)
    assert {"brick", "coffee"} < set(before.styles)
    assert card["extends"] is None
    assert "all of it was trained further" in (tmp_path / "a" / "card.md").read_text()
    image = load_image(place / "images" / "cat.jpg")[None]
    torch.testing.assert_close(after(image, "coffee"), before(image, "coffee"), atol=0.01, rtol=0)
    assert (after(image, "coffee") - before(image, "brick")).abs().max() > 0.02
    assert run(*given, "--start", weights, "-o", tmp_path / "b", "--rate", "0.01")[0] == 0
    changed = load_styles(tmp_path / "b" / "stylenet.safetensors").network.state_dict()
    kept = before.network.state_dict()
    assert all(not torch.equal(changed[name], kept[name]) for name in kept if name.endswith("conv.weight"))
    status, _, err = run(*given, "--start", weights, "--extend", weights, "-o", tmp_path / "c")
    assert (status, err.count("\n")) == (2, 1)
    assert "accepted: one of them" in err


def test_a_picture_that_changed_is_another_run(place: Path, tmp_path: Path) -> None:
    from stylenet_helpers import RECIPE as recipe

    given = place / "images", tmp_path / "out"
    (tmp_path / "s").mkdir()
    for source, name in (("brick", "a"), ("coffee", "b")):
        photo(source, 40, 40).save(tmp_path / "s" / f"{name}.png")
    path = train_styles(tmp_path / "s", *given, recipe=recipe)
    first = path.read_bytes()
    watch = Recorder()
    train_styles(tmp_path / "s", *given, recipe=recipe, watch=watch)
    assert (len(watch.steps("training")), load_styles(path).styles) == (1, ("a", "b"))
    assert len(path.read_bytes()) == len(first)
    for source, name in (("brick", "b"), ("coffee", "a")):  # the same two pictures, the other way about
        photo(source, 40, 40).save(tmp_path / "s" / f"{name}.png")
    with pytest.raises(StoreError, match=r"of another training, its styles\.styles: "):
        train_styles(tmp_path / "s", *given, recipe=recipe)


# Mistakes

TRAIN = ["stylenet", "train", "--images", "{place}/images", "-o", "{place}/new"]
APPLY = ["stylenet", "apply", "--weights", "{place}/model.safetensors", "-o", "{place}/new"]

MISTAKES = [
    (["stylenet", "aply"], "did you mean 'apply'?"),
    (["stylenet", "styles", "--weights", "{place}/missing.safetensors"], "missing.safetensors"),
    (["stylenet", "styles", "--weights", "{place}/broken.mp4"], "no weights file"),
    ([*TRAIN, "--styles", "{place}/empty"], "no style pictures in"),
    ([*TRAIN, "--styles", "{place}/images/sub/.."], "broken.png: not an image"),
    ([*TRAIN, "--styles", "{place}/missing"], "no folder of style pictures"),
    ([*TRAIN, "--styles", "{place}/file"], "no folder of style pictures"),
    ([*TRAIN, "--styles", "{place}/tiny"], "70x31 px (accepted: 32 or more a side)"),
    ([*TRAIN, "--styles", "{place}/twice"], "several pictures are named 'same'"),
    ([*TRAIN, "--styles", "{place}/styles", "--images", "{place}/missing"], "no images at"),
    ([*TRAIN, "--styles", "{place}/styles", "--images", "{place}/bad"], "none of 2 images"),
    ([*TRAIN, "--styles", "{place}/styles", "--sizes", "32"], "PX:STEPS,... as in 128:6000"),
    ([*TRAIN, "--styles", "{place}/styles", "--sizes", "32:0"], "sizes ((32, 0),) (accepted: PX:TIMES, 32 px or more"),
    ([*TRAIN, "--styles", "{place}/styles", "--widths", "4,8"], "accepted: three numbers"),
    ([*TRAIN, "--styles", "{place}/styles", "--widths", "4,8,0"], "three numbers of 1 or more"),
    ([*TRAIN, "--styles", "{place}/styles", "--norm", "layer"], "instance or batch"),
    ([*TRAIN, "--styles", "{place}/styles", "--every", "0"], "a checkpoint every 0 steps"),
    ([*TRAIN, "--styles", "{place}/styles", "--seed", "-1"], "seed -1 (accepted: 0 to 4294967295)"),
    ([*TRAIN, "--styles", "{place}/styles", "--name", "../x"], "the name of a file"),
    ([*TRAIN, "--styles", "{place}/styles", "--device", "gpu"], "no device 'gpu'"),
    ([*TRAIN, "--styles", "{place}/styles", "--extend", "{place}/model.safetensors"], "'brick' is in the file"),
    ([*TRAIN, "--styles", "{place}/more", "--extend", "{place}/model.safetensors", "--blocks", "2"], "--blocks was"),
    ([*TRAIN, "--styles", "{place}/more", "--start", "{place}/model.safetensors", "--norm", "batch"], "--norm was"),
    ([*TRAIN, "--styles", "{place}/more", "--extend", "{place}/file"], "no weights file"),
    (
        ["stylenet", "train", "--styles", "{place}/styles", "--images", "photos", "-o", "{place}/file"],
        "can't be written",
    ),
    (APPLY, "missing argument"),
    ([*APPLY, "{place}/images"], "--style"),
    ([*APPLY, "{place}/images", "--style", "brik"], "did you mean 'brick'?"),
    ([*APPLY, "{place}/images", "--style", "brick=x"], "no style 'brick=x'; did you mean 'brick'?"),
    ([*APPLY, "{place}/images", "--style", "brick=-1"], "weight -1.0 for style 'brick'"),
    ([*APPLY, "{place}/images", "--style", "brick=0"], "at least one above 0"),
    ([*APPLY, "{place}/images", "--style", "brick", "--style", "brick=2"], "was given twice"),
    ([*APPLY, "{place}/images", "--style", "brick", "--side", "8"], "none of 4 inputs can be painted"),
    ([*APPLY, "{place}/bad", "--style", "brick"], "none of 2 inputs can be painted, such as also.png: not an image"),
    ([*APPLY, "{place}/images/broken.png", "--style", "brick"], "broken.png: not an image"),
    ([*APPLY, "{place}/missing.mp4", "--style", "brick"], "missing.mp4: no such file"),
    ([*APPLY, "{place}/missing.png", "--style", "brick"], "no images at"),
    ([*APPLY, "{place}/broken.mp4", "--style", "brick"], "broken.mp4: can't be opened as a video"),
    ([*APPLY, "camera:97", "--style", "brick"], "camera 97"),
    (["stylenet", "apply", "{place}/images", "--style", "brick", "-o", "{place}/file"], "can't be written"),
    (["stylenet", "apply", "{place}/images", "--style", "a", "--weights", "{place}/file", "-o", "{place}/new"], "file"),
    (
        ["stylenet", "export", "--weights", "{place}/model.safetensors", "-o", "{place}/new.onnx", "--size", "8"],
        "16 px",
    ),
    (
        ["stylenet", "export", "--weights", "{place}/model.safetensors", "-o", "{place}/file/new.onnx"],
        "can't be written",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(arguments: list[str], message: str, run: Run, place: Path) -> None:
    before = files(place)
    status, out, err = run(*(part.format(place=place) for part in arguments))
    assert (status, out) == (2, "")
    *skipped, last = err.splitlines()
    assert last.startswith("netloupe: ")
    assert message in last
    assert all(line.startswith("skipped ") for line in skipped)
    assert files(place) == before

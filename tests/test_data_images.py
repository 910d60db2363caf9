"""Decoding: every format becomes upright 8-bit RGB or gray, every broken file one plain line."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_helpers import encoded, noise
from netloupe.core.errors import InputError
from netloupe.data.images import MAX_PIXELS, fit, load_image, load_images, open_image, to_float


def test_pixels_survive_decoding_exactly() -> None:
    for pixels in (noise(7, 5), noise(7, 5, 1)):
        for format in ("PNG", "BMP", "TIFF"):
            assert np.array_equal(np.asarray(open_image(encoded(pixels, format))), pixels)


def test_one_bit_images_are_black_and_white() -> None:
    bits = np.array([[True, False], [False, True]])
    assert np.asarray(open_image(encoded(Image.fromarray(bits)))).tolist() == [[255, 0], [0, 255]]


def test_transparent_pixels_are_laid_over_white() -> None:
    rgba = np.array([[[200, 10, 30, 255], [200, 10, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    expected = [[[200, 10, 30], [255, 255, 255], [204, 204, 204]]]
    assert np.asarray(open_image(encoded(rgba))).tolist() == expected
    gray = Image.fromarray(rgba[..., [0, 3]])
    assert np.asarray(open_image(encoded(gray)).convert("L")).tolist() == [[200, 255, 204]]


def test_transparent_colors_and_palette_entries_are_laid_over_white() -> None:
    palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]
    assert np.asarray(open_image(encoded(palette, transparency=1))).tolist() == expected
    assert np.asarray(open_image(encoded(palette, "GIF", transparency=1))).tolist() == expected
    rgb = np.array([[[10, 20, 30], [40, 50, 60]]], dtype=np.uint8)
    keyed = open_image(encoded(rgb, transparency=(40, 50, 60)))
    assert np.asarray(keyed).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    gray = open_image(encoded(np.array([[5, 9]], dtype=np.uint8), transparency=9))
    assert np.asarray(gray.convert("L")).tolist() == [[5, 255]]


def test_cmyk_becomes_rgb() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image = open_image(encoded(red, "JPEG", quality=100))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - [255, 0, 0]).max() <= 3


def test_animations_show_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    for format in ("GIF", "PNG"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert np.asarray(open_image(data).convert("RGB"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, np.copy), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (4, np.flipud), (5, lambda a: a.swapaxes(0, 1)),
     (6, lambda a: np.rot90(a, -1)), (7, lambda a: np.rot90(a.swapaxes(0, 1), 2)), (8, np.rot90)],
)  # fmt: skip
def test_exif_orientation_is_applied(orientation: int, turn: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = noise(3, 5)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(pixels, exif=exif))
    assert np.array_equal(np.asarray(image), turn(pixels))


def test_broken_exif_does_not_break_the_image() -> None:
    data = encoded(noise(8, 9), "JPEG", exif=b"Exif\0\0no tags at all")
    assert open_image(data).size == (9, 8)


def header_of(width: int, height: int) -> bytes:
    """A PNG file that promises so many pixels and holds none."""
    fields = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", fields), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_huge_images_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(InputError, match=r"^map: 81 megapixels \(accepted: up to 80\)$"):
        open_image(header_of(9000, 9000), "map")
    with pytest.raises(InputError, match=r"^map: too many pixels"):
        open_image(header_of(100_000, 100_000), "map")
    assert MAX_PIXELS == 80_000_000


def broken() -> dict[str, tuple[bytes, str]]:
    jpeg, png = encoded(noise(64, 64), "JPEG"), encoded(noise(64, 64))
    return {
        "empty": (b"", "not an image"),
        "text": (b"this is text\n", "not an image"),
        "cut JPEG": (jpeg[: len(jpeg) // 2], "can't be read"),
        "cut PNG": (png[: len(png) // 2], "can't be read"),
        "cut header": (png[:12], "can't be read|not an image"),
        "garbled PNG": (png[:60] + bytes(40) + png[100:], "can't be read"),
    }


@pytest.mark.parametrize("kind", broken())
def test_broken_files_give_one_plain_line(tmp_path: Path, kind: str) -> None:
    data, reason = broken()[kind]
    file = tmp_path / "broken.jpg"
    file.write_bytes(data)
    with pytest.raises(InputError, match=rf"broken\.jpg: ({reason})") as caught:
        load_image(file)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_any_damage_is_an_input_error() -> None:
    generator = np.random.default_rng(5)
    outcomes = set()
    for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        whole = encoded(noise(20, 20), format)
        for _ in range(60):
            damaged = bytearray(whole)
            for place in generator.integers(0, min(len(whole), 300), 4):
                damaged[place] = generator.integers(256)
            try:
                open_image(bytes(damaged))
                outcomes.add("read")
            except InputError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_missing_file_and_a_folder_are_named_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\\nway\.png: no such file$"):
        open_image(tmp_path / "no\nway.png")
    with pytest.raises(InputError, match=r"can't be read .*directory"):
        open_image(tmp_path)


def reference_fit(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cover and cut in plain Pillow: the resized image is pasted onto a canvas, shifted by half of what hangs over."""
    source = Image.fromarray(pixels)
    scale = max(height / source.height, width / source.width)
    new_width, new_height = round(source.width * scale), round(source.height * scale)
    resized = source.resize((new_width, new_height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(resized, (-((new_width - width) // 2), -((new_height - height) // 2)))
    return np.asarray(canvas)


@pytest.mark.parametrize("size", [16, 64, (16, 40), (40, 16), (1, 1)])
@pytest.mark.parametrize("shape", [(50, 90), (90, 50), (33, 33), (8, 20), (1, 1)])
def test_fit_covers_and_cuts_the_center(shape: tuple[int, int], size: int | tuple[int, int]) -> None:
    height, width = size if isinstance(size, tuple) else (size, size)
    pixels = noise(*shape)
    fitted = fit(Image.fromarray(pixels), size)
    assert fitted.dtype == np.uint8
    assert fitted.shape == (height, width, 3)
    assert np.array_equal(fitted, reference_fit(pixels, height, width))


def test_fit_by_hand() -> None:
    wide = np.arange(12, dtype=np.uint8).reshape(2, 6)  # the center is columns 2 and 3
    assert fit(Image.fromarray(wide), 2, channels=1)[..., 0].tolist() == [[2, 3], [8, 9]]
    assert fit(Image.fromarray(wide), None, channels=1).shape == (2, 6, 1)
    assert fit(Image.fromarray(wide), None).shape == (2, 6, 3)
    halved = np.repeat(np.array([[0, 80], [160, 240]], dtype=np.uint8), 4, axis=0).repeat(4, axis=1)
    assert fit(Image.fromarray(halved), 1, channels=1)[..., 0].tolist() == [[120]]


def test_a_long_strip_is_cut_before_it_is_enlarged() -> None:
    strip = np.full((1, 200_000, 3), 30, dtype=np.uint8)  # covering 224 x 224 would take ten billion pixels
    strip[:, 100_000 - 2 : 100_000 + 2] = 220
    fitted = fit(Image.fromarray(strip), 224)
    assert fitted.shape == (224, 224, 3)
    assert fitted.min() == 220


@pytest.mark.parametrize("size", [0, -3, 2.5, float("nan"), True, (4, 0), (4, 4, 4), "64", 10**6])
def test_sizes_that_can_not_be_used_are_named(size: object) -> None:
    with pytest.raises(InputError, match=r"^image size "):
        fit(Image.new("RGB", (4, 4)), size)  # type: ignore[arg-type]


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(InputError, match=r"an image of 3 channels \(accepted: 4, as \.npy"):
        fit(Image.new("RGB", (4, 4)), 2, channels=4)


def test_to_float_moves_channels_first_and_scales_to_one() -> None:
    pixels = np.array([[[0, 51, 255], [102, 204, 153]]], dtype=np.uint8)
    expected = torch.tensor([[[0.0, 0.4]], [[0.2, 0.8]], [[1.0, 0.6]]])
    assert torch.allclose(to_float(pixels), expected)
    assert torch.equal(to_float(torch.from_numpy(pixels)[None]), to_float(pixels)[None])


def test_load_image_and_load_images_agree(tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, file in enumerate(files):
        file.write_bytes(encoded(noise(9 + seed, 12, seed=seed)))
    stacked = load_images([str(file) for file in files], (6, 8))
    assert stacked.shape == (2, 3, 6, 8)
    assert stacked.dtype == torch.float32
    assert not torch.equal(stacked[0], stacked[1])
    assert all(torch.equal(stacked[i], load_image(file, (6, 8))) for i, file in enumerate(files))
    assert load_image(files[0], channels=1).shape == (1, 9, 12)


def test_load_images_takes_a_list_of_at_least_one() -> None:
    with pytest.raises(InputError, match="no image given"):
        load_images([], 8)
    with pytest.raises(InputError, match=r"'a\.png', where a list of paths is wanted"):
        load_images("a.png", 8)

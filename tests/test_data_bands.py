"""Images of more than 8 bits a value, of any number of channels, and of colors other than sRGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

import netloupe
from data_helpers import encoded, noise, write_parquet
from netloupe.core.errors import InputError, NetloupeWarning
from netloupe.core.inputs import InputSpec
from netloupe.data.bands import Bands
from netloupe.data.images import fit, load_image, open_image
from netloupe.data.open import open_source
from netloupe.data.sources import read_all, read_batches


@pytest.fixture
def pattern() -> np.ndarray:
    """(8, 6) floats in [0.02, 0.46], as an X-ray that does not use its whole range."""
    return np.linspace(0.02, 0.46, 48).reshape(8, 6)


def tiff(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values), "TIFF")


def values_of(data: bytes, inputs: InputSpec | None = None) -> np.ndarray:
    found = open_image(data, "scan", inputs)
    assert isinstance(found, Bands)
    return found.values


def test_16_bits_are_read_by_their_own_range_and_kept() -> None:
    values = np.array([[0, 1, 257], [32767, 65534, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        found = values_of(encoded(values, format))
        assert np.allclose(found[0], values / 65535, atol=1e-7)
        assert len(np.unique(found)) == 6


@pytest.mark.parametrize(("bits", "kind"), [(12, np.uint16), (10, np.uint16), (8, np.int32), (16, np.int32)])
def test_fewer_bits_than_the_type_has_are_found_and_said(pattern: np.ndarray, bits: int, kind: type) -> None:
    white = (1 << bits) - 1
    data = tiff((pattern / pattern.max() * (0.51 * white)).round().astype(kind))
    with pytest.warns(NetloupeWarning, match=f"of which {bits} are used .*; {white:,} is taken for white .*--values"):
        found = values_of(data)
    assert 0.5 < found.max() < 0.52
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = values_of(data, InputSpec(channels=1, values=(0, 2 * white)))
    assert np.allclose(stated, found / 2, atol=1e-6)


def test_floats_are_read_as_they_are(pattern: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(values_of(tiff(pattern.astype(np.float32)))[0], pattern.astype(np.float32))
    np.save(tmp_path / "scan.npy", pattern)
    assert torch.allclose(load_image(tmp_path / "scan.npy", channels=1)[0].double(), torch.from_numpy(pattern))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([[-1024, 3071]], dtype=np.int32), r"from -1,024 to 3,071; say .*--values -1024,3071"),
        (np.array([[0, 70000]], dtype=np.int32), r"from 0 to 70,000; say .*--values 0,70000"),
        (np.array([[0, 255]], dtype=np.float32), r"floats from 0 to 255, not in \[0, 1\]; say .*--values 0,255"),
        (np.array([[0, np.nan]], dtype=np.float32), r"not finite"),
    ],
)
def test_a_range_that_nobody_states_is_asked_for(values: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=f"^scan: .*{says}"):
        open_image(tiff(values), "scan")


def test_what_lies_beyond_the_stated_values_is_cut_off() -> None:
    data = tiff(np.array([[-1024, -160, 40, 240, 3071]], dtype=np.int32))
    found = values_of(data, InputSpec(channels=1, values=(-160, 240)))
    assert np.allclose(found, [[[0, 0, 0.5, 1, 1]]])


def test_a_tiff_that_states_12_bits_is_believed() -> None:
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x04, 0x00])  # 0, 4095, 2048, 1024
    tags = ((256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 16) + packed + b"\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(values_of(data), np.array([[[0, 4095, 2048, 1024]]]) / 4095)


def test_white_may_be_zero(pattern: np.ndarray) -> None:
    stream = io.BytesIO()
    values = (pattern / pattern.max() * 65535).round().astype(np.uint16)
    Image.fromarray(values).save(stream, "TIFF", tiffinfo={262: 0})
    assert np.allclose(values_of(stream.getvalue())[0], 1 - values / 65535, atol=1e-6)


def test_16_bits_a_color_of_which_the_upper_are_empty_are_refused() -> None:
    def png(values: np.ndarray) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
        parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)

    values = np.random.default_rng(0).integers(0, 4096, (4, 5, 3))
    with pytest.raises(InputError, match="16 bits a color, of which at most 14 are used"):
        open_image(png(values))
    assert np.array_equal(np.asarray(open_image(png(values * 16))), values * 16 >> 8)


def test_a_set_of_images_is_not_read_by_guesses(pattern: np.ndarray, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encoded((pattern * 4095 / (i + 1)).astype(np.uint16)))
    source = open_source(tmp_path)
    with pytest.raises(InputError, match=r"none of 3 images .*0\.png: 16 bits .*--values 0,4095"):
        read_all(source, (8, 6), 1)
    ids, images, skipped = read_all(source.read_for(InputSpec(values=(0, 4095))), (8, 6), 1)
    assert (ids, skipped) == ([0, 1, 2], ())
    assert torch.allclose(images[0] / 2, images[1], atol=2e-4)  # all by the same range
    assert images[0].max() > 0.4


# Colors


def curve(gamma: float) -> np.ndarray:
    """What value sRGB has where a file of this gamma says v / 255; the standards' formulas."""
    light = (np.arange(256) / 255) ** (1 / gamma)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def gray_profile(gamma: float) -> bytes:
    """An ICC profile of version 2 for gray of so much gamma, of the tags that it must have."""

    def tag(kind: bytes, body: bytes) -> bytes:
        return kind + bytes(4) + body + bytes(-len(body) % 4)

    def fixed(value: float) -> bytes:
        return round(value * 65536).to_bytes(4, "big", signed=True)

    white = tag(b"XYZ ", fixed(0.9642) + fixed(1) + fixed(0.8249))
    trc = tag(b"curv", (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big"))
    text = b"gray\0"
    desc = tag(b"desc", len(text).to_bytes(4, "big") + text + bytes(4 + 4 + 2 + 1 + 67))
    body, table, offset = b"", b"", 128 + 4 + 12 * 3
    for name, part in ((b"wtpt", white), (b"kTRC", trc), (b"desc", desc)):
        table += name + (offset + len(body)).to_bytes(4, "big") + len(part).to_bytes(4, "big")
        body += part
    size = 128 + 4 + len(table) + len(body)
    header = size.to_bytes(4, "big") + bytes(4) + bytes([2, 0x20, 0, 0]) + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    header += bytes(28) + fixed(0.9642) + fixed(1) + fixed(0.8249)
    return header + bytes(128 - len(header)) + (3).to_bytes(4, "big") + table + body


def test_gray_profiles_are_converted() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    expected = curve(1 / 1.8)
    found = np.asarray(open_image(encoded(ramp, icc_profile=gray_profile(1.8))))
    assert np.abs(found[0] - 255 * expected).max() <= 2
    assert np.abs(255 * expected - ramp[0]).max() > 10  # and that is another image
    fine = values_of(encoded((ramp.astype(np.uint16) * 257), icc_profile=gray_profile(1.8)))
    assert np.abs(fine[0, 0] - expected).max() < 0.006


def test_a_profile_that_is_srgb_changes_nothing() -> None:
    pixels = noise(6, 7)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(np.asarray(open_image(encoded(pixels, icc_profile=profile))), pixels)


def test_a_profile_that_can_not_be_used_is_said() -> None:
    pixels = noise(6, 7)
    with pytest.warns(NetloupeWarning, match=r"^photo: its color profile can't be read"):
        found = open_image(encoded(pixels, icc_profile=b"no profile"), "photo")
    assert np.array_equal(np.asarray(found), pixels)


@pytest.mark.parametrize("gamma", [1.0, 0.45455, 0.6])
def test_gamma_of_png_is_converted(gamma: float) -> None:
    ramp = np.stack([np.arange(256, dtype=np.uint8)] * 3, -1)[None]
    more = PngInfo()
    more.add(b"gAMA", struct.pack(">I", round(gamma * 100000)))
    found = np.asarray(open_image(encoded(ramp, pnginfo=more)))[0, :, 0]
    if gamma == 0.45455:
        assert np.array_equal(found, ramp[0, :, 0])  # as files in sRGB state it
    else:
        assert np.abs(found - 255 * curve(gamma)).max() <= 0.5 + 1e-6
        assert np.abs(found.astype(int) - ramp[0, :, 0]).max() > 10


# Channels


@pytest.fixture
def eleven() -> np.ndarray:
    return np.random.default_rng(1).random((11, 9, 7)).astype(np.float32)


def test_arrays_have_their_channels_first_or_last(eleven: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "first.npy", eleven)
    np.save(tmp_path / "last.npy", np.moveaxis(eleven, 0, 2))
    for name in ("first", "last"):
        assert torch.equal(load_image(tmp_path / f"{name}.npy", channels=11), torch.from_numpy(eleven))
    with pytest.raises(
        InputError, match=r"an array of 11x9x7; the network takes 5 channels, and no axis has that many"
    ):
        load_image(tmp_path / "first.npy", channels=5)
    np.save(tmp_path / "cube.npy", np.zeros((11, 9, 11)))
    with pytest.raises(InputError, match="so has either axis"):
        load_image(tmp_path / "cube.npy", channels=11)


def test_a_page_is_a_channel(eleven: np.ndarray, tmp_path: Path) -> None:
    first, *others = (Image.fromarray(band) for band in eleven)
    first.save(tmp_path / "bands.tif", save_all=True, append_images=others)
    assert torch.equal(load_image(tmp_path / "bands.tif", channels=11), torch.from_numpy(eleven))
    bytes_ = (eleven[:2] * 255).round().astype(np.uint8)
    first, second = (Image.fromarray(band) for band in bytes_)
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    assert torch.equal(load_image(tmp_path / "two.tif", channels=2), torch.from_numpy(bytes_ / np.float32(255)))


def test_a_network_of_four_channels_takes_those_of_an_image_with_four(tmp_path: Path) -> None:
    rgba = noise(5, 6, 4)
    (tmp_path / "a.png").write_bytes(encoded(rgba))
    assert torch.equal(load_image(tmp_path / "a.png", channels=4), torch.from_numpy(rgba).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("kind", ["lists", "tensors"])
def test_arrays_in_parquet(eleven: np.ndarray, tmp_path: Path, kind: str) -> None:
    rows = [eleven, eleven[:, ::-1].copy(), None]
    if kind == "lists":
        column = pa.array([None if row is None else row.tolist() for row in rows])
    else:
        flat = np.stack(rows[:2]).reshape(2, -1)
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(rows[:2]))
        assert flat.shape[1] == 11 * 63
    file = write_parquet(tmp_path / "bands.parquet", {"bands": column, "label": pa.array([0, 1, 1][: len(column)])})
    ids, images, skipped = read_all(open_source(file).read_for(InputSpec(channels=11)), (9, 7), 11)
    assert ids == [0, 1]
    assert [one.reason for one in skipped] == ["bands.parquet#2: no image in this row"] * (kind == "lists")
    assert torch.allclose(images, torch.from_numpy(np.stack(rows[:2])), atol=1e-6)


def test_arrays_of_a_folder_and_resizing(eleven: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", eleven)
    (batch,) = read_batches(open_source(tmp_path).read_for(InputSpec(channels=11)), (4, 4), 11)
    assert batch.pixels.shape == (1, 4, 4, 11)
    one = Image.fromarray(eleven[3]).resize((4, 5), Image.Resampling.BILINEAR)
    found = fit(Bands(eleven, "a"), (5, 4), 11)
    assert found.shape == (5, 4, 11)
    assert np.asarray(one).shape == (5, 4)
    (tmp_path / "b.png").write_bytes(encoded(noise(5, 5)))
    assert open_source(tmp_path).names == ["b.png"]  # arrays beside pictures are results


def test_what_is_shown_of_many_channels(eleven: np.ndarray) -> None:
    def shown(picture: tuple[int, ...] | None) -> np.ndarray:
        return np.asarray(Bands(eleven, "a", picture).convert("RGB"))

    bytes_ = (eleven * 255).round().astype(np.uint8)
    assert np.array_equal(shown(None), np.moveaxis(bytes_[:3], 0, 2))
    assert np.array_equal(shown((3, 2, 1)), np.moveaxis(bytes_[[3, 2, 1]], 0, 2))
    assert np.array_equal(shown((5,)), np.repeat(bytes_[5][:, :, None], 3, 2))
    with pytest.raises(InputError, match=r"picture \(3, 2, 11\) \(accepted: one channel, or three, from 0 to 10\)"):
        InputSpec(channels=11, picture=(3, 2, 11))


def test_one_index_with_two_names_is_named(tmp_path: Path) -> None:
    columns = {"image": [encoded(noise(4, 4))] * 3, "label": [0, 1, 0], "class": ["cat", "dog", "kitten"]}
    file = write_parquet(tmp_path / "rows.parquet", columns)
    with pytest.raises(InputError, match=r"class 0 has two names, 'cat' and 'kitten' \(accepted: one\)"):
        open_source(file)


def test_tensors_beyond_the_range_are_refused_or_said() -> None:
    net = netloupe.Network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)), InputSpec((4, 4)))
    image = torch.linspace(0, 1, 48).view(1, 3, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(image)
    with pytest.raises(InputError, match=r"pixels from -0.4 to 0.6 \(accepted: \[0, 1\]"):
        net(image - 0.4)
    with pytest.warns(NetloupeWarning, match=r"pixels from -0.05 to 0.95, not in \[0, 1\]"):
        net(image - 0.05)


class Spectral(torch.nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(channels, 6, (3, 1), padding=(1, 0)), torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.conv(x).relu().mean((2, 3)))
        return logits


@pytest.mark.parametrize(("channels", "size"), [(2, (16, 16)), (4, (16, 16)), (11, (60, 1))])
def test_networks_of_many_channels(channels: int, size: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    picture = (3, 2, 1) if channels > 3 else None
    net = netloupe.Network(Spectral(channels), InputSpec(size, channels=channels, picture=picture))
    images = torch.rand(3, channels, *size)
    for i, image in enumerate(images):
        np.save(tmp_path / f"{i}.npy", image.numpy())
    source = open_source(tmp_path)
    window = min(2, *size)
    results = (
        netloupe.explain(net, images[0], methods=["gradient", "grad_cam"]),
        netloupe.top_patches(net, source, layers=["conv"], k=1),
        netloupe.visualize(net, "class:1", steps=1),
        netloupe.fool(net, images[:1], 2, steps=1),
        netloupe.activation_maps(net, images, ["conv"]),
        netloupe.occlude(net, images[:1], "class:1", windows=[window], stride=window),
    )
    for i, result in enumerate(results):
        written = result.save(tmp_path / f"out-{i}")
        modes = {Image.open(path).mode for path in written if path.suffix == ".png"}
        assert modes == {"RGB"}, type(result)
    right = netloupe.occlusion(net, images[:1], "class:1", window=window, stride=window)
    assert right.scores.std() > 0
    made = results[2].pictures()
    first = np.asarray(results[2].images[0])
    shown = first[[3, 2, 1]] if picture else np.repeat(first[:1], 3, 0)
    expected = (shown.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    assert any(np.array_equal(one, expected) for one in made.values())


def test_what_a_manifest_says_of_values_and_pictures(tmp_path: Path, eleven: np.ndarray) -> None:
    spec = InputSpec((9, 7), channels=11, values=(0, 2), picture=(3, 2, 1))
    net = netloupe.Network(Spectral(11), spec)
    told = netloupe.activation_maps(net, torch.from_numpy(eleven)[None], ["conv"]).provenance["input"]
    assert (told["values"], told["picture"]) == ([0.0, 2.0], [3, 2, 1])
    plain = netloupe.Network(Spectral(11), InputSpec((9, 7), channels=11))
    assert "values" not in netloupe.activation_maps(plain, torch.rand(1, 11, 9, 7), ["conv"]).provenance["input"]

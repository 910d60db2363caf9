"""Video files and cameras as frames, and frames as video files, by PyAV (FFmpeg)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from netloupe.core.errors import InputError, StoreError
from netloupe.data.images import MAX_PIXELS, plain
from netloupe.render.pictures import Picture

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
SOUNDS = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")  # what MP4 holds and players know

_ITU709, _UNSPECIFIED, _ITU601 = 1, 2, 5  # color spaces, as FFmpeg counts them
_HD = 720  # px; videos this high that don't tell their color space have ITU 709
_GRABBERS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_RATES = (0.01, 1000)  # frames a second


@dataclass
class Frames:
    """The frames of a video or camera: an iterator of (H, W, 3) uint8, turned upright where the video says so.

    rate: frames a second, on average (a video may be uneven). count: how many there are, where that is known.
    time: of the frame that came last, in seconds, where that is known. Iterating raises InputError where a frame can't
    be decoded. Close it, or use it in a `with`.
    """

    name: str
    rate: Fraction
    count: int | None
    container: Any = field(repr=False)
    time: float | None = None

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Picture]:
        decoded = self.container.decode(video=0)
        number = 0
        while True:
            try:
                frame = next(decoded, None)
                pixels = None if frame is None else _pixels(frame)
            except pyav().error.FFmpegError as error:
                raise InputError(f"{self.name}: frame {number} can't be decoded ({_reason(error)})") from None
            if frame is None or pixels is None:
                return
            self.time, number = frame.time, number + 1
            yield pixels


def frames(path: str | Path) -> Frames:
    """The frames of a file's first video stream. Raises InputError for a file that is no video, and without PyAV."""
    name = plain(path)
    if not Path(path).is_file():
        raise InputError(f"{name}: {'a folder, not a video' if Path(path).exists() else 'no such file'}")
    return _opened(os.path.abspath(path), name, None, {})


def camera(which: int | str = 0) -> Frames:
    """The frames of a camera as they come: by Video4Linux, AVFoundation or DirectShow.

    which: its number from 0; on Windows also its name. Raises InputError for a camera that is not there.
    """
    kind = _GRABBERS.get(sys.platform)
    if kind is None:
        raise InputError(f"no way to a camera on {sys.platform} (accepted: {', '.join(_GRABBERS)})")
    name = f"camera {which}"
    if kind == "dshow":
        return _opened(f"video={_dshow_name(which)}", name, kind, {})
    options = {"framerate": "30"} if kind == "avfoundation" else {}
    return _opened(f"/dev/video{which}" if kind == "v4l2" else f"{which}", name, kind, options)


def _dshow_name(which: int | str) -> str:
    if isinstance(which, str):
        return which
    listed = getattr(pyav(), "enumerate_input_devices", None)  # newer than the oldest PyAV that is accepted
    if listed is None:
        raise InputError(f"camera {which} has no number here; give its name, or install a newer PyAV")
    names = [device.name for device in listed("dshow") if "video" in device.media_types]
    if which >= len(names):
        raise InputError(f"no camera {which} (accepted: {', '.join(map(plain, names)) or 'none is there'})")
    return str(names[which])


def _opened(target: str, name: str, kind: str | None, options: dict[str, str]) -> Frames:
    av = pyav()
    try:
        container = av.open(target, format=kind, options=options)
    except (av.error.FFmpegError, ValueError) as error:  # ValueError: a build of PyAV without this kind of device
        raise InputError(f"{name}: can't be opened as a video ({_reason(error)})") from None
    if not container.streams.video:
        container.close()
        raise InputError(f"{name}: holds no video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    rate = _exact(stream.average_rate or stream.guessed_rate or Fraction(0))
    height, width = stream.height, stream.width
    if not rate or not 0 < height * width <= MAX_PIXELS:
        container.close()
        raise InputError(f"{name}: a video of {width}x{height} px at {rate} frames a second can't be used")
    return Frames(name, rate, stream.frames or None, container)


def _pixels(frame: Any) -> Picture:
    """(H, W, 3) of a decoded frame, turned by quarters as its display matrix asks; mirroring is left out."""
    itu709 = frame.colorspace == _ITU709 or (frame.colorspace == _UNSPECIFIED and frame.height >= _HD)
    spaces = {"src_colorspace": _ITU709, "dst_colorspace": _ITU601} if itu709 else {}  # the latter for older PyAV
    pixels: Picture = frame.to_ndarray(format="rgb24", **spaces)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


class Writer:
    """Writes an MP4 with H.264 video (yuv420p, ITU 709), which appears whole or not at all; use it in a `with`.

    >>> with Writer(path, 25) as writer:
    ...     writer.write(picture)

    rate: frames a second. All pictures have the size of the first; of odd sides, the last row or column is repeated,
    since H.264 wants even ones. sound: a video whose sound is copied as it is, as far as the pictures reach;
    `silent` says why it was not, where it has one that MP4 does not hold. Raises InputError for pictures or rates that
    can't be used and without PyAV, StoreError on a full or read-only disk.
    """

    def __init__(self, path: str | Path, rate: Fraction | float, *, sound: str | Path | None = None) -> None:
        if not _RATES[0] <= rate <= _RATES[1]:
            raise InputError(f"{float(rate):g} frames a second (accepted: {_RATES[0]} to {_RATES[1]})")
        pyav()
        self.path, self.rate = Path(path), Fraction(rate).limit_denominator(1001)
        self.silent: str | None = None
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self._sound_of = sound
        self._sound: _Sound | None = None
        self._container: Any = None
        self._stream: Any = None
        self._size: tuple[int, ...] = ()
        self._count = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def write(self, picture: Picture) -> None:
        """The next picture, (H, W, 3) uint8."""
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
            raise InputError(f"a picture of shape {picture.shape}, {picture.dtype} (accepted: (H, W, 3) of uint8)")
        if self._count and picture.shape != self._size:
            raise InputError(f"{self.path}: a picture of shape {picture.shape} after those of {self._size}")
        av = pyav()
        try:
            if not self._count:
                self._start(picture)
            height, width = picture.shape[:2]
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=_ITU709, dst_color_range=1)
            frame.pts, frame.time_base = self._count, 1 / self.rate
            self._container.mux(self._stream.encode(frame))
            self._count += 1
            if self._sound is not None:
                self._sound.copy(self._container, self._count / self.rate)
        except (av.error.FFmpegError, OSError) as error:
            raise StoreError(f"{self.path}: can't be written ({_reason(error)})") from None

    def _start(self, picture: Picture) -> None:
        self._size = picture.shape
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = pyav().open(
            str(self._partial.absolute()), "w", format="mp4", options={"movflags": "faststart"}
        )
        stream = self._container.add_stream("libx264", rate=self.rate, options={"crf": "18", "preset": "medium"})
        stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _ITU709
        context.color_range = 1  # 16 to 235
        self._stream = stream
        if self._sound_of is not None:
            self._sound = _Sound(self._sound_of, self._container)
            self.silent = self._sound.silent

    def _finish(self) -> None:
        if not self._count:
            raise InputError(f"{self.path.name}: a video without a picture")
        av = pyav()
        try:
            self._container.mux(self._stream.encode(None))
            container, self._container = self._container, None
            container.close()
            os.replace(self._partial, self.path)
        except (av.error.FFmpegError, OSError) as error:
            raise StoreError(f"{self.path}: can't be written ({_reason(error)})") from None

    def _discard(self) -> None:
        """Close what is open and remove what is there of an unfinished file."""
        for opened in (self._sound, self._container):
            try:
                if opened is not None:
                    opened.close()
            except (pyav().error.FFmpegError, OSError):  # the disk that is full; that is told already
                pass
        try:
            self._partial.unlink(missing_ok=True)
        except OSError:
            pass


class _Sound:
    """The packets of a video's first sound, copied as the pictures go on; `silent` says why it can't be."""

    def __init__(self, path: str | Path, out: Any) -> None:
        self.silent: str | None = None
        self._name, self._next = plain(path), None
        self._in = _opened(os.path.abspath(path), self._name, None, {}).container
        if not self._in.streams.audio:
            return
        stream, video = self._in.streams.audio[0], self._in.streams.video[0]
        kind = stream.codec_context.codec.canonical_name
        if kind not in SOUNDS:
            self.silent = f"MP4 does not hold {kind} sound"
            return
        self._start = (video.start_time or 0) * _exact(video.time_base)
        self._out, self._packets = out.add_stream_from_template(stream), self._in.demux(stream)
        self._next = self._read()

    def _read(self) -> Any:
        """The next packet, on the clock of the pictures; None after the last."""
        try:
            packet = next((packet for packet in self._packets if packet.dts is not None), None)
        except pyav().error.FFmpegError as error:
            raise InputError(f"{self._name}: its sound can't be read ({_reason(error)})") from None
        if packet is not None:
            shift = round(self._start / _exact(packet.time_base))
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self._out
        return packet

    def copy(self, out: Any, until: Fraction) -> None:
        """Into `out`, what sounds before `until`, in seconds after the first picture."""
        while self._next is not None and self._next.pts * _exact(self._next.time_base) < until:
            out.mux(self._next)
            self._next = self._read()

    def close(self) -> None:
        self._in.close()


def record(source: Frames, seconds: float, path: str | Path) -> Fraction:
    """Write what a camera sees for so long to an MP4; gives the frames a second that came.

    A camera may give fewer than it says, in the dark for instance.
    Raises InputError for no time at all, or a camera that gives no picture; StoreError as `Writer` does.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"{seconds} seconds of a camera (accepted: above 0)")
    first = last = None
    count = 0
    with Writer(path, source.rate) as writer:
        for picture in source:
            first = source.time if first is None else first
            since = count / source.rate if source.time is None or first is None else source.time - first
            if since >= seconds:
                break
            writer.write(picture)
            last, count = since, count + 1
    return Fraction((count - 1) / last).limit_denominator(1001) if count > 1 and last else source.rate


def pyav() -> ModuleType:
    """The module `av`. Raises InputError where it is not installed."""
    try:
        import av
    except ImportError:
        raise InputError("video needs PyAV, which is not installed (fix: pip install 'netloupe[video]')") from None
    return av


def _exact(number: Any) -> Fraction:
    """Newer PyAV has rational numbers of its own."""
    return Fraction(number.numerator, number.denominator)


def _reason(error: Exception) -> str:
    return plain(getattr(error, "strerror", None) or str(error) or type(error).__name__)

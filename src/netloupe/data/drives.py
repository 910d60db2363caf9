"""Where files lie: on this machine, or in a bucket or repository that an address such as s3://photos/2026 names."""

from __future__ import annotations

import fnmatch
import glob
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urlsplit

from netloupe.core.errors import InputError, NetloupeError, StoreError, first_line, unknown
from netloupe.core.files import file_stamp
from netloupe.data.images import plain
from netloupe.data.listing import files_under

Kind = Literal["file", "folder"]

SCHEMES = ("s3", "gs", "az", "hf", "file")
_ANONYMOUS = "anonymous@"  # before the bucket: one that asks nobody who they are
_TRIES, _SECONDS = 3, 10
_BLOCK, _BLOCKS = 1 << 20, 64  # bytes of a file read at once, and how many of these are kept
_EXTRA = "pip install 'netloupe[remote]'"


class Drive(ABC):
    """Files by their paths, whose parts are cut by "/"; opened again wherever it is sent."""

    @abstractmethod
    def kind(self, path: str) -> Kind | None:
        """What lies at a path, None for nothing."""

    @abstractmethod
    def files(self, folder: str) -> Sequence[str]:
        """The files under a folder, all levels deep, relative to it, in the order of their names; no hidden ones."""

    @abstractmethod
    def matching(self, pattern: str) -> list[str]:
        """The paths that a pattern matches, in the order of their names."""

    @abstractmethod
    def image(self, path: str) -> Path | bytes:
        """A file as `open_image` takes it. Raises InputError for one that is not there."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """A file to be read from any position. Raises InputError for one that is not there."""

    @abstractmethod
    def arrow(self, path: str) -> Any:
        """A file as PyArrow reads it from any position."""

    @abstractmethod
    def stamp(self, path: str) -> str:
        """What is another once the file is: its size and time of change; empty for one that is not there."""

    @abstractmethod
    def address(self, path: str) -> str:
        """How a person names the path."""

    def read(self, path: str) -> bytes:
        """All of a file."""
        with self.open(path) as file:
            return file.read()

    def part(self, path: str, start: int, size: int, stamp: str) -> bytes:
        """Bytes of a file that bears this stamp, fewer where it ends early."""
        del stamp
        with self.open(path) as file:
            file.seek(start)
            return file.read(size)


@dataclass(frozen=True)
class Local(Drive):
    """The disks of this machine."""

    def kind(self, path: str) -> Kind | None:
        if not path or not os.path.exists(path):
            return None
        return "folder" if os.path.isdir(path) else "file"

    def files(self, folder: str) -> Sequence[str]:
        return files_under(folder)

    def matching(self, pattern: str) -> list[str]:
        return [os.fspath(Path(one)) for one in sorted(glob.glob(pattern, recursive=True))]

    def image(self, path: str) -> Path:
        return Path(path)

    def open(self, path: str) -> BinaryIO:
        try:
            return open(path, "rb")
        except OSError as error:
            raise InputError(f"{plain(path)}: can't be read ({error.strerror or error})") from None

    def arrow(self, path: str) -> str:
        return path

    def stamp(self, path: str) -> str:
        return file_stamp(path)

    def address(self, path: str) -> str:
        return plain(path)


@dataclass(frozen=True)
class Remote(Drive):
    """What lies behind addresses of a scheme; its paths begin with the bucket. anonymous: without credentials."""

    scheme: str
    bucket: str
    anonymous: bool = False

    @property
    def _system(self) -> Any:
        return _system(self.scheme, self.bucket, self.anonymous)

    def kind(self, path: str) -> Kind | None:
        with self._plainly(path):
            found = self._system.get_file_info(path.rstrip("/"))
        return {"File": "file", "Directory": "folder"}.get(found.type.name)  # type: ignore[return-value]

    def files(self, folder: str) -> Sequence[str]:
        from pyarrow.fs import FileSelector, FileType

        folder = folder.rstrip("/")
        with self._plainly(folder):
            found = self._system.get_file_info(FileSelector(folder, recursive=True))
        names = (one.path.lstrip("/")[len(folder) + 1 :] for one in found if one.type == FileType.File)
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def matching(self, pattern: str) -> list[str]:
        parts = pattern.split("/")
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        folder = "/".join(parts[:fixed])
        if fixed == len(parts):
            return [pattern] if self.kind(pattern) is not None else []
        if not folder or self.kind(folder) != "folder":
            return []
        return [f"{folder}/{name}" for name in self.files(folder) if _matches(name.split("/"), parts[fixed:])]

    def image(self, path: str) -> bytes:
        return self.read(path)

    def open(self, path: str) -> BinaryIO:
        found: BinaryIO = self.arrow(path)
        return found

    def arrow(self, path: str) -> Any:
        with self._plainly(path):
            return self._system.open_input_file(path)

    def read(self, path: str) -> bytes:
        with self._plainly(path), self._system.open_input_file(path) as file:
            found: bytes = file.readall()
            return found

    def part(self, path: str, start: int, size: int, stamp: str) -> bytes:
        with self._plainly(path):
            blocks = range(start // _BLOCK, (start + size - 1) // _BLOCK + 1)
            found = b"".join(_block(self, path, number, stamp) for number in blocks)
        return found[start % _BLOCK :][:size]

    def stamp(self, path: str) -> str:
        with self._plainly(path):
            found = self._system.get_file_info(path)
        return f"{found.size} {found.mtime_ns}"

    def address(self, path: str) -> str:
        return plain(f"{self.scheme}://{_ANONYMOUS if self.anonymous else ''}{path}")

    @contextmanager
    def _plainly(self, path: str) -> Iterator[None]:
        """A file that is not there is an InputError; one that can't be reached a StoreError, for it may be later."""
        try:
            yield
        except NetloupeError:
            raise
        except FileNotFoundError:
            raise InputError(f"{self.address(path)}: no such file") from None
        except Exception as error:
            raise StoreError(f"{self.address(path)}: can't be reached ({plain(first_line(error))[:300]})") from None


@lru_cache(maxsize=_BLOCKS)
def _block(drive: Remote, path: str, number: int, stamp: str) -> bytes:
    """A block of a file: images that lie beside each other come at one request."""
    del stamp
    with drive._system.open_input_file(path) as file:
        found: bytes = file.read_at(_BLOCK, number * _BLOCK)
        return found


def drive_of(text: str) -> tuple[Drive, str]:
    """Where what a user names lies, and its path there.

    A path of this machine, or an address: s3://BUCKET/PATH, gs://, az://CONTAINER/PATH, hf://datasets/USER/NAME/PATH,
    file:///PATH. Buckets that are open to all: s3://anonymous@BUCKET/PATH. Who asks is as the tools of each service
    have it: by the environment or their files. Raises UnknownName for another scheme, InputError for an address that
    holds a password.
    """
    scheme, mark, rest = text.partition("://")
    if not mark or not scheme.replace("+", "").isalnum():
        return Local(), text
    if scheme not in SCHEMES:
        raise unknown("kind of address", scheme, SCHEMES)
    if scheme == "file":
        return Local(), unquote(urlsplit(text).path)
    anonymous = rest.startswith(_ANONYMOUS)
    path = rest.removeprefix(_ANONYMOUS)
    bucket = path.partition("/")[0]
    if "@" in bucket:
        raise InputError(f"{scheme}://...@...: an address with credentials (accepted: those of the environment)")
    if not bucket:
        raise InputError(f"{plain(text)!r}: no bucket (accepted: {scheme}://BUCKET/PATH)")
    return Remote(scheme, bucket, anonymous), path


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path are as those of a pattern, of which "**" stands for any number."""
    if not pattern:
        return not parts
    if pattern[0] == "**" and len(pattern) > 1:
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    if not parts or not fnmatch.fnmatchcase(parts[0], pattern[0]):
        return False
    return _matches(parts[1:], pattern[1:])


@cache
def _system(scheme: str, bucket: str, anonymous: bool) -> Any:
    """A file system of PyArrow."""
    try:
        if scheme == "s3":
            return _s3(bucket, anonymous)
        if scheme == "gs":
            return _gs(anonymous)
        return _az() if scheme == "az" else _by_fsspec(scheme)
    except ImportError as error:
        raise InputError(f"{scheme}:// needs {error.name or 'a package'} (fix: {_EXTRA})") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{scheme}://{plain(bucket)}: can't be reached ({plain(first_line(error))[:300]})") from None


def _s3(bucket: str, anonymous: bool) -> Any:
    from pyarrow import fs

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    elsewhere = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if region is None and not elsewhere:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        anonymous=anonymous,
        region=region,
        endpoint_override=elsewhere,
        connect_timeout=_SECONDS,
        request_timeout=3 * _SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )


def _gs(anonymous: bool) -> Any:
    from datetime import timedelta

    from pyarrow import fs

    return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=timedelta(seconds=_TRIES * _SECONDS))


def _az() -> Any:
    from pyarrow import fs

    names = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    account = next((os.environ[name] for name in names if os.environ.get(name)), None)
    if account is None:
        raise InputError(f"az:// needs the name of the account (fix: set {names[0]})")
    keys = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
    return fs.AzureFileSystem(account, account_key=next((os.environ[k] for k in keys if os.environ.get(k)), None))


def _by_fsspec(scheme: str) -> Any:
    from pyarrow import fs

    try:
        import fsspec

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except ImportError:
        raise InputError(f"{scheme}:// needs fsspec and the package of that service (fix: {_EXTRA})") from None

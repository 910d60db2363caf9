"""Exporting an atlas: what the server would answer, as files for any web server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from netloupe.atlas.pages import Pages
from netloupe.atlas.store import Store
from netloupe.core.errors import StoreError
from netloupe.core.folders import new_folder
from netloupe.core.lock import holding
from netloupe.core.watch import SILENT, Watch


@holding("out", "atlas export")
def export(store: str | Path, out: str | Path, *, watch: Watch = SILENT) -> int:
    """Write every resource of the atlas at `store` to files under `out`; returns how many.

    The folder appears when all is written. Names stand decoded in file names, since a web server decodes the path of
    a request. Raises StoreError if `out` exists and is not empty, or can't be written.
    """
    pages, out = Pages(Store.open(store)), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} exists and is not empty; give another --out")
    paths = list(pages.paths())
    with new_folder(out) as made:
        for path in watch.each("files", paths):
            found = pages.resource(path)
            if found is None:
                raise StoreError(f"{store}: {path} is missing from the atlas; build it again")
            file = _file(made, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(found[0])
    return len(paths)


def _file(folder: Path, path: str) -> Path:
    """Where the resource at an encoded path is written: the decoded path, as long as it stays in the folder."""
    parts = unquote(path).split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StoreError(f"a layer's name makes {path!r} no file name; leave it out with --layer")
    return folder.joinpath(*parts)

"""An object store that runs in the test, and packages that define formats, where they are installed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest

EXTRA = os.environ.get("NETLOUPE_FORMATS", "")
"""Folders of packages that only tests need, as PATH holds them: of moto, webdataset, datasets and pylance."""


def package(name: str) -> Any:
    """A package that defines a format; the test is skipped where it isn't installed."""
    for folder in filter(None, EXTRA.split(os.pathsep)):
        if folder not in sys.path:
            sys.path.append(folder)  # behind ours, so that what is installed here stays
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not installed ({error}; fix: pip install it, or name its folder in NETLOUPE_FORMATS)")


def store_settings(address: str) -> dict[str, str]:
    """The environment in which a store that speaks S3 is asked at an address."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a store that speaks S3, empty, to which the environment points."""
    server = package("moto.server").ThreadedMotoServer(port=0, verbose=False)
    boto3 = package("boto3")
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    try:
        urlopen(Request(f"{address}/moto-api/reset", method="POST")).close()
        for name, value in store_settings(address).items():
            monkeypatch.setenv(name, value)
        yield boto3.client("s3", endpoint_url=address, region_name="us-east-1")
    finally:
        server.stop()

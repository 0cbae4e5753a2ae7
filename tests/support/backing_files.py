"""Backing files of a test: opened, refused, left by a crash."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.tiers.backing_file import Backing, open_backing
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.units import MIB

SIZE = 11 * MIB


def opened(path: Path, size_bytes: int = SIZE, name: str = "swap0") -> Backing:
    return open_backing(str(path), size_bytes, name)


def refusal(path: Path, size_bytes: int = SIZE) -> str:
    """The one line a person sees."""
    with pytest.raises(HostError) as caught:
        os.close(opened(path, size_bytes).fd)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def crash(path: Path, size_bytes: int = SIZE) -> Backing:
    """A device that writes pages and does not go down; what it opened, closed."""
    device = opened(path, size_bytes)
    room = mmap.mmap(-1, 4096)
    room[:] = b"old page" * 512
    for at in range(FIRST_PAGE_AT, path.stat().st_size - MIB - 4095, 512 * 1024):
        os.pwrite(device.fd, room, at)
    os.close(device.fd)
    return device


def put(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        file.write(data)

"""The backing file: locked, private, preallocated, or refused in one line."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.host.backing import MIN_BYTES, close_backing, open_backing, planned_bytes
from fuseswap.units import MIB

SIZE = 9 * MIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backing"


def refusal(path: str | Path, size_bytes: int = SIZE) -> str:
    """The one line a person sees."""
    with pytest.raises(HostError) as caught:
        os.close(open_backing(str(path), size_bytes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_private_preallocated_and_direct(path: Path) -> None:
    fd = open_backing(str(path), SIZE)
    found = os.fstat(fd)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_an_empty_file_that_was_there_is_made_private_and_grown(path: Path) -> None:
    path.write_bytes(bytes(4096))
    path.chmod(0o644)
    os.close(open_backing(str(path), SIZE))
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (SIZE, 0o600)


def test_a_file_that_holds_data_is_refused_and_keeps_it(path: Path) -> None:
    path.write_bytes(b"x" * 4096)
    assert "holds data" in refusal(path)
    assert path.read_bytes() == b"x" * 4096


def test_what_was_made_is_removed_and_what_was_there_can_be_used_again(path: Path) -> None:
    os.close(open_backing(str(path), SIZE))
    close_backing(str(path), made=True)
    assert not path.exists()
    path.touch()
    fd = open_backing(str(path), SIZE)
    os.pwrite(fd, mmap.mmap(-1, 4096), 0)
    os.close(fd)
    path.write_bytes(b"segment" * 1000)
    close_backing(str(path), made=False)
    os.close(open_backing(str(path), SIZE))


def test_a_larger_file_keeps_its_size(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 * SIZE)
    os.close(open_backing(str(path), SIZE))
    assert path.stat().st_size == 2 * SIZE


def test_it_serves_one_device_only(path: Path) -> None:
    fd = open_backing(str(path), SIZE)
    assert refusal(path) == f"backing file {path} is in use by another device"
    assert path.exists()
    os.close(fd)
    os.close(open_backing(str(path), SIZE))


def test_no_room_removes_what_was_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert refusal(path) == f"no room for a backing file of 9M at {path}"
    assert not path.exists()


def test_no_room_keeps_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*arguments: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    path.write_bytes(bytes(4))
    monkeypatch.setattr(os, "posix_fallocate", too_large)
    assert refusal(path) == f"File too large: a backing file of 9M at {path}"
    assert path.read_bytes() == bytes(4)


def test_a_directory_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert "cannot open backing file" in refusal(tmp_path)
    assert "No such file or directory" in refusal(tmp_path / "missing" / "backing")


def test_anything_but_a_file_or_a_block_device_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "fifo" in refusal(fifo)
    assert fifo.exists()


def test_the_plan_is_what_is_there_or_the_default(path: Path) -> None:
    assert planned_bytes(str(path), SIZE) == SIZE
    assert not path.exists()
    path.touch()
    assert planned_bytes(str(path), SIZE) == SIZE
    os.truncate(path, 20 * MIB)
    assert planned_bytes(str(path), SIZE) == 20 * MIB


@pytest.mark.parametrize(("there", "default"), [(MIB, SIZE), (None, MIN_BYTES - 1)])
def test_too_small_is_refused_before_anything_is_made(
    path: Path, there: int | None, default: int
) -> None:
    if there is not None:
        path.touch()
        os.truncate(path, there)
    with pytest.raises(HostError, match="is smaller than 8M"):
        planned_bytes(str(path), default)
    assert path.exists() == (there is not None)


def test_a_file_that_cannot_be_looked_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot open backing file"):
        planned_bytes(str(tmp_path), SIZE)

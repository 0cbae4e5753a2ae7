"""The backing file: locked, private, preallocated, or refused in one line."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import aio, file_flags, syscalls
from fuseswap.tiers.backing_file import (
    MIN_BYTES,
    close_backing,
    planned_bytes,
)
from fuseswap.tiers.ownership_label import END_BYTES, FIRST_PAGE_AT
from fuseswap.units import MIB
from tests.support.backing_files import SIZE, opened, put, refusal

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backing"


def unwritten(path: Path) -> int:
    """Where the first extent is that the file system has as unwritten: the size for none.

    Pages in the cache would pass for data.
    """
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE)


def test_it_is_private_preallocated_and_direct(path: Path) -> None:
    fd = opened(path).fd
    found = os.fstat(fd)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_the_first_write_of_its_kind_is_made_where_there_is_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the claim, in what is never used: the thread that serves would wait in it."""
    written: list[int] = []
    monkeypatch.setattr(aio, "write_zeros", lambda fd, at: written.append(at))
    os.close(opened(path).fd)
    assert written == [4096]
    assert max(written) < FIRST_PAGE_AT - 4096


def test_a_file_that_is_made_is_written_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """btrfs takes the flag of an empty file alone."""
    sizes: list[int] = []
    monkeypatch.setattr(file_flags, "write_in_place", lambda fd: sizes.append(os.fstat(fd).st_size))
    os.close(opened(path).fd)
    assert sizes == [0]
    os.close(opened(path).fd)  # again, after a power failure
    assert sizes == [0]


def test_an_empty_file_that_was_there_is_made_private_and_grown(path: Path) -> None:
    path.write_bytes(bytes(4096))
    path.chmod(0o644)
    os.close(opened(path).fd)
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (SIZE, 0o600)


def test_a_file_that_holds_data_is_refused_and_keeps_it(path: Path) -> None:
    path.write_bytes(b"x" * 4096)
    path.chmod(0o644)
    assert "holds data" in refusal(path)
    assert path.read_bytes() == b"x" * 4096
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_was_made_is_removed_and_what_was_there_can_be_used_again(path: Path) -> None:
    device = opened(path)
    assert device.made
    close_backing(device.fd, str(path), made=True)
    os.close(device.fd)
    assert not path.exists()
    path.touch()
    device = opened(path)
    assert not device.made
    close_backing(device.fd, str(path), made=False)
    os.close(device.fd)
    device = opened(path)
    assert device.former is None
    os.close(device.fd)


SECRET = b"of a page" * 1000


def used_and_closed(path: Path, *, encrypted: bool, made: bool = False) -> None:
    path.touch()
    os.truncate(path, SIZE)
    fd = opened(path).fd
    for at in (FIRST_PAGE_AT, SIZE // 2, SIZE - END_BYTES - len(SECRET)):
        put(path, at, SECRET)
    close_backing(fd, str(path), made=made, encrypted=encrypted)
    os.close(fd)


def test_pages_that_are_not_encrypted_are_discarded_at_the_end(path: Path) -> None:
    used_and_closed(path, encrypted=False)
    assert path.read_bytes() == bytes(SIZE)
    os.close(opened(path).fd)  # and is preallocated again
    assert path.stat().st_blocks * 512 >= SIZE


def test_a_name_that_is_removed_does_not_keep_them_either(path: Path) -> None:
    """Root, who has it open meanwhile, finds nothing in it either."""
    fd = opened(path).fd
    put(path, SIZE // 2, SECRET)
    with open(path, "rb") as reader:
        close_backing(fd, str(path), made=True, encrypted=False)
        os.close(fd)
        assert not path.exists()
        assert not reader.read().strip(b"\0")


def test_those_that_are_encrypted_lose_their_key_instead(path: Path) -> None:
    used_and_closed(path, encrypted=True)
    assert path.read_bytes().count(SECRET) == 3


def test_a_larger_file_keeps_its_size(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 * SIZE)
    os.close(opened(path).fd)
    assert path.stat().st_size == 2 * SIZE


def test_it_serves_one_device_only(path: Path) -> None:
    fd = opened(path).fd
    assert refusal(path) == f"backing file {path} is in use by another device"
    assert path.exists()
    os.close(fd)
    os.close(opened(path).fd)


def test_no_room_removes_what_was_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert refusal(path) == f"no room for a backing file of 11M at {path}"
    assert not path.exists()


def test_no_room_keeps_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*arguments: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    path.write_bytes(bytes(4))
    monkeypatch.setattr(os, "posix_fallocate", too_large)
    assert refusal(path) == f"File too large: a backing file of 11M at {path}"
    assert path.read_bytes() == bytes(4)


def test_a_directory_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory" in refusal(tmp_path)
    assert "No such file or directory" in refusal(tmp_path / "missing" / "backing")


def test_anything_but_a_file_or_a_block_device_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert f"{fifo} is a FIFO" in refusal(fifo)
    with pytest.raises(HostError, match="is a FIFO"):  # it does not wait for a writer
        planned_bytes(str(fifo), SIZE)
    assert fifo.exists()


def test_one_that_another_user_could_write_to_is_refused(path: Path) -> None:
    path.touch(mode=0o600)
    path.chmod(0o646)
    assert "can be written to by others (mode 0646); run: chmod go-w" in refusal(path)
    assert path.stat().st_mode & 0o777 == 0o646


def test_one_that_another_process_has_open_is_refused(path: Path) -> None:
    path.touch()
    with open(path, "rb"):
        assert "is open in another process" in refusal(path)
    os.close(opened(path).fd)


def test_the_plan_is_what_is_there_or_the_default(path: Path) -> None:
    assert planned_bytes(str(path), SIZE) == SIZE + 2 * MIB
    assert not path.exists()
    path.touch()
    assert planned_bytes(str(path), SIZE) == SIZE + 2 * MIB
    os.truncate(path, 20 * MIB)
    assert planned_bytes(str(path), SIZE) == 20 * MIB


@pytest.mark.parametrize(("there", "default"), [(MIB, SIZE), (None, MIN_BYTES - 2 * MIB - 1)])
def test_too_small_is_refused_before_anything_is_made(
    path: Path, there: int | None, default: int
) -> None:
    if there is not None:
        path.touch()
        os.truncate(path, there)
    with pytest.raises(HostError, match="is smaller than 10M"):
        planned_bytes(str(path), default)
    assert path.exists() == (there is not None)


def test_a_file_that_cannot_be_looked_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is a directory, neither"):
        planned_bytes(str(tmp_path), SIZE)


def test_another_file_of_that_name_is_left_alone(path: Path) -> None:
    device = opened(path)
    path.rename(path.with_name("moved"))
    path.write_bytes(b"somebody's")
    close_backing(device.fd, str(path), made=True)
    os.close(device.fd)
    assert path.read_bytes() == b"somebody's"
    assert not any(path.with_name("moved").read_bytes()[:4096])


def test_a_write_that_fails_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    assert refusal(path) == f"cannot use backing file {path}: Input/output error"
    assert not path.exists()


@pytest.mark.parametrize("offers", [True, False], ids=["the kernel", "by hand"])
def test_every_extent_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, offers: bool
) -> None:
    """A later write marks none as written: in that moment the file has a lock that reads need."""
    if not offers:
        monkeypatch.setattr(syscalls, "FALLOC_FL_WRITE_ZEROES", 0x40000000)
    os.close(opened(path).fd)
    assert unwritten(path) == path.stat().st_size == SIZE
    assert path.read_bytes()[4096:] == bytes(SIZE - 4096)


def test_so_was_every_one_of_a_file_that_was_there(path: Path) -> None:
    """Its ends are looked at, and so stand in the page cache, with what is read ahead."""
    path.touch(mode=0o600)
    os.truncate(path, SIZE)
    os.close(opened(path).fd)
    assert unwritten(path) == SIZE


def test_so_was_every_one_whose_pages_were_discarded(path: Path) -> None:
    used_and_closed(path, encrypted=False)
    os.close(opened(path).fd)
    assert unwritten(path) == SIZE


def test_what_was_written_is_not_written_again(path: Path) -> None:
    """Nor lost: holes in between alone are."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
        os.pwrite(file.fileno(), b"kept" * 1024, 3 * MIB)
        os.pwrite(file.fileno(), b"kept" * 1024, 7 * MIB)
    path.chmod(0o600)
    os.close(opened(path).fd)
    assert unwritten(path) == SIZE
    data = path.read_bytes()
    assert data[3 * MIB :][:4096] == data[7 * MIB :][:4096] == b"kept" * 1024
    assert len(data) - data.count(0) == len(data[:4096]) - data[:4096].count(0) + 8192

"""The order of what goes to the disk: what is left where the power fails in the middle of it.

A step that fails stands for the power that goes before it.  Recorded disks are looked at by
`scripts/kernels power`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fuseswap.linux import syscalls
from fuseswap.tiers import backing_file
from fuseswap.tiers.backing_file import close_backing, planned_bytes
from fuseswap.units import MIB
from tests.support.backing_files import SIZE, crash, opened, refusal

GROWN = SIZE + 2 * MIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backing"


class PowerFailed(BaseException):
    """Not an error that is handled: nothing runs after it."""


def fail(*arguments: object) -> None:
    raise PowerFailed


def fail_after_growing_a_little(fd: int, start: int, length: int) -> None:
    """As ext4, which allocates a large file in several steps."""
    os.truncate(fd, max(os.fstat(fd).st_size, (os.fstat(fd).st_size + length) // 2))
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_up_was_making_is_known_as_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making it takes seconds a GiB.  The next `up` takes it, and `down` removes it."""
    with monkeypatch.context() as patched:
        patched.setattr(backing_file, "_write_where_nothing_was", fail)
        patched.setattr(os, "unlink", lambda path: None)
        with pytest.raises(PowerFailed):
            opened(path)
    assert planned_bytes(str(path), 2 * SIZE) == SIZE
    again = opened(path)
    assert (again.made, again.former) == (True, "swap0")
    close_backing(again.fd, str(path), made=again.made)
    os.close(again.fd)
    assert not path.exists()


def test_its_claim_comes_before_its_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its whole size before that: a part of it would be taken for all of it."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", fail)
        patched.setattr(os, "unlink", lambda path: None)
        with pytest.raises(PowerFailed):
            opened(path)
    assert path.stat().st_size == SIZE
    again = opened(path)
    assert again.made
    os.close(again.fd)


def test_a_length_grows_in_one_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.touch(mode=0o600)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", fail)
        with pytest.raises(PowerFailed):
            opened(path)
    assert path.stat().st_size == SIZE


def test_no_room_to_grow_leaves_length_and_claim(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is for one size: with another length the file would be refused for ever."""
    crash(path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", fail_after_growing_a_little)
        assert "no room" in refusal(path, GROWN)
    assert path.read_bytes() == before
    again = opened(path)
    assert again.former == "swap0"
    os.close(again.fd)


def test_a_claim_ends_before_its_file_grows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", fail)
        with pytest.raises(PowerFailed):
            opened(path, GROWN)
    assert path.stat().st_size == GROWN
    os.close(opened(path, GROWN).fd)


def test_the_name_goes_before_the_claim(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `down` would leave a blank file, which no later `down` removes."""
    device = opened(path)
    monkeypatch.setattr(backing_file, "_write_first_page", fail)
    with pytest.raises(PowerFailed):
        close_backing(device.fd, str(path), made=True)
    os.close(device.fd)
    assert not path.exists()


def test_the_disk_has_each_step_before_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = opened(path)
    steps: list[str] = []
    fsync, pwrite, unlink, punch = os.fsync, os.pwrite, os.unlink, syscalls.punch_hole

    def flushed(fd: int) -> None:
        steps.append("flush" if os.path.sameopenfile(fd, device.fd) else "flush directory")
        fsync(fd)

    def written(fd: int, data: bytes, at: int) -> int:
        steps.append("claim")
        return pwrite(fd, data, at)

    def unlinked(path: str) -> None:
        steps.append("unlink")
        unlink(path)

    def punched(fd: int, at: int, size: int) -> None:
        steps.append("discard")
        punch(fd, at, size)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "pwrite", written)
    monkeypatch.setattr(os, "unlink", unlinked)
    monkeypatch.setattr(syscalls, "punch_hole", punched)
    close_backing(device.fd, str(path), made=True, encrypted=False)
    monkeypatch.undo()
    os.close(device.fd)
    assert steps == ["discard", "flush", "unlink", "flush directory", "claim", "flush"]


def test_a_name_that_is_gone_already_is_no_error(path: Path) -> None:
    device = opened(path)
    path.unlink()
    close_backing(device.fd, str(path), made=True)
    os.close(device.fd)

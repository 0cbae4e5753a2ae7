"""Both processes die, as in a power failure: the next `up` takes the backing again.

Unless somebody has made something else of it since.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon.device_info import loop_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import loop
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.mounted_devices import (
    abort,
    call,
    kill_all,
    must,
    new_name,
    processes_of,
    run,
    succeed,
    taken_down,
    wait_until,
)

pytestmark = pytest.mark.no_swap

SIZE = ("--size", "32M", "--pool-limit", "16M", "--no-swapon")
LAYOUTS = ("packed", "in-place")
STORED_PAGES = 1000
BACKING_BYTES = 40 * MIB


@pytest.fixture(params=["file", "block device"])
def backing(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, BACKING_BYTES)
    if request.param == "file":
        yield str(image)
        return
    disk = must("losetup", "--find", "--show", str(image)).strip()
    yield disk
    must("losetup", "--detach", disk)


def use(name: str) -> None:
    """Pages on the backing, and each read back."""
    data = b"".join(map(pages.incompressible, range(STORED_PAGES)))
    swapfile = Runtime(name).default_mountpoint / "swapfile"
    with open(swapfile, "r+b", buffering=0) as file:
        assert file.write(data) == len(data)
    succeed("writeback", name, "--all")
    on_file = int((swapfile.parent / "stats" / "bd_count").read_text())
    assert on_file > STORED_PAGES // 2
    assert swapfile.read_bytes()[: len(data)] == data


def crash(name: str) -> None:
    """SIGKILL for all of its processes, and no trace in /run; `down` would give the file back."""
    device = loop_of(Runtime(name))
    kill_all(name)
    if device:
        loop.detach(device)
    must("umount", "--lazy", str(Runtime(name).default_mountpoint))
    Runtime(name).remove()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_comes_up_again(backing: str, layout: str) -> None:
    name = new_name()
    up = ("up", name, *SIZE, "--backing", backing, "--backing-layout", layout)
    with taken_down(name):
        succeed(*up)
        use(name)
        before = Path(backing).read_bytes()
        crash(name)
        assert run(["blkid", "--probe", backing]).returncode == 2, "it looks like nothing else"
        other = "in-place" if layout == "packed" else "packed"
        done = call(*up[:-1], other)
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines()[-1] == (
            f"note: {backing} held pages of '{name}', which never went down; they are written over"
        )
        use(name)
        refused = call("up", new_name(), *SIZE, "--backing", backing)
        assert refused.returncode == 32
        assert len(refused.stderr.splitlines()) == 1
        succeed("down", name)
        after = Path(backing).read_bytes()
        assert not any(after[:FIRST_PAGE_AT]), "the claim has ended"
        assert not any(after[-MIB:])
        assert before[: len(b"fuseswap")] == b"fuseswap"
        done = call(*up)
        assert (done.returncode, "note: " + backing in done.stderr) == (0, False)


def make_ext4(backing: str) -> None:
    must("mkfs.ext4", "-q", "-F", backing)


def make_small_ext4(backing: str) -> None:
    """With blocks of 1024 bytes nothing writes to the first of them."""
    must("mkfs.ext4", "-q", "-F", "-b", "1024", backing)


def make_swap(backing: str) -> None:
    must("mkswap", backing)


def make_encryption(backing: str) -> None:
    """It has no mark at all: what is written to it first is in the first block, and noise."""
    with open(backing, "r+b") as file:
        file.write(os.urandom(PAGE_SIZE))


def make_raid_member(backing: str) -> None:
    """Metadata 1.0 lies at the end; the rest is as it was."""
    with open(backing, "r+b") as file:
        file.seek(-8192, os.SEEK_END)
        file.write(b"\xfc\x4e\x2b\xa9" + bytes(4092))


def test_what_somebody_made_of_it_since_is_kept(backing: str) -> None:
    name = new_name()
    up = ("up", name, *SIZE, "--backing", backing)
    with taken_down(name):
        succeed(*up)
        use(name)
        crash(name)
        ours = Path(backing).read_bytes()
        for make in (make_ext4, make_small_ext4, make_swap, make_encryption, make_raid_member):
            make(backing)
            before = Path(backing).read_bytes()
            done = call(*up)
            assert done.returncode == 32, make
            (line,) = done.stderr.splitlines()
            assert f"{backing} holds data; if nobody needs it: dd if=/dev/zero of={backing}" in line
            assert Path(backing).read_bytes() == before, make
            with open(backing, "r+b") as file:
                file.write(ours)
        make_raid_member(backing)
        make_ext4(backing)
        refused = call(*up).stderr.strip()
        must("sh", "-c", refused.partition("needs it: ")[2])
        succeed(*up)


def test_what_up_made_is_removed_in_the_end(tmp_path: Path) -> None:
    name, path = new_name(), tmp_path / "made"
    up = ("up", name, *SIZE, "--backing", str(path))
    with taken_down(name):
        succeed(*up)
        assert path.stat().st_size == 34 * MIB
        crash(name)
        assert path.exists()
        succeed(*up)
        succeed("down", name)
        assert not path.exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dies", ["supervisor", "connection", "all"])
def test_down_gives_it_back_where_no_supervisor_does(
    backing: str, layout: str, dies: str, tmp_path: Path
) -> None:
    """One that `up` has made is removed; the other bears no claim any more."""
    name, made = new_name(), tmp_path / "made"
    options: tuple[str, ...] = ("--backing", backing, "--backing-layout", layout)
    if layout == "packed":
        options = (*options, "--tier", f"file:{made}")
    with taken_down(name):
        succeed("up", name, *SIZE, *options)
        if dies == "all":
            kill_all(name)
        elif dies == "connection":  # the supervisor ends, and leaves the rest to `down`
            abort(str(Runtime(name).default_mountpoint))
            wait_until("its end", lambda: not processes_of(name))
        else:
            supervisor = Runtime(name).state().supervisor_pid
            os.kill(supervisor, signal.SIGKILL)
            wait_until("its end", lambda: supervisor not in processes_of(name))
        succeed("down", name)
        assert not made.exists()
        with open(backing, "rb") as file:
            assert not any(file.read(PAGE_SIZE))

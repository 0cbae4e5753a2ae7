"""A backing file that fails, lies, hesitates or vanishes, on a real device.

Under swap a process checks every page it reads back; where a fault costs a page by its
nature (EIO on a read, a bit that is wrong on the disk) the file is read instead: a process
would be killed.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.tiers.fault_injection import VARIABLE
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    must,
    new_name,
    succeed,
    wait_until,
)
from tests.support.valkey_cluster import one_server
from tests.system.under_pressure import Pressure, pressure_on

SIZE = 128 * MIB
MEMORY = 48 * MIB
POOL = 16 * MIB
BACKING = 256 * MIB
# Of the file tests: half as much again as the pool, so that much of it is on the backing file.
PAGES = 6000


class Faults:
    """What is to go wrong from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set()

    def set(self, **rules: Any) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(rules))
        new.rename(self._path)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "faults"))
    return Faults(tmp_path / "faults")


@contextmanager
def faulty_device(backing: Path, *options: str) -> Iterator[TestDevice]:
    with device_up("--backing", str(backing), *options) as device:
        try:
            yield device
        finally:
            if VARIABLE in os.environ:  # or the swapoff of a test that failed would fail, too
                Faults(Path(os.environ[VARIABLE]))


def grows(device: TestDevice, name: str, by: int = 1) -> Callable[[], bool]:
    """Whether a statistic has grown since now."""
    goal = device.stat(name) + by
    return lambda: device.stat(name) >= goal


# -- under swap: no bad page ----------------------------------------------------------------


@contextmanager
def under(device: TestDevice) -> Iterator[Pressure]:
    with pressure_on(device, SIZE, MEMORY) as pressure:
        yield pressure


FAILED_WRITES = {
    "EIO": {"errno": "EIO"},
    "ENOSPC": {"errno": "ENOSPC"},
    "short": {"short": True},
}


def test_no_bad_page_whatever_writes_do(faults: Faults, tmp_path: Path) -> None:
    options = ("--size", "1G", "--pool-limit", "16M", "--priority", "1000")
    with faulty_device(tmp_path / "backing", *options) as device, under(device) as pressure:
        for name, rule in FAILED_WRITES.items():
            failures = grows(device, "writeback_failed", 3)
            faults.set(write=rule)
            wait_until(f"failed writes: {name}", failures)
            faults.set()
            wait_until("writeback to go on", grows(device, "written_back_pages", 500))
        faults.set(write={"errno": "EIO", "probability": 0.5})
        some, others = grows(device, "writeback_failed", 3), grows(device, "written_back_pages")
        wait_until("some writes to fail", some)
        wait_until("others to succeed", others)
        faults.set(write={"latency_s": 1.5})  # far from 1 s and from 10 s
        wait_until("stores to wait for a slow write", grows(device, "store_waits_10s", 3))
        faults.set()
        wait_until("writeback to go on", grows(device, "written_back_pages", 500))
        assert pressure.finish()["bad_pages"] == 0
        assert device.stat("store_waits_longer") == 0
        assert device.stat("checksum_errors") == 0
        assert device.stat("tier_read_errors") == 0
        assert device.stat("pool_total_size") <= POOL
        assert device.status()["restarts"] == 0


def test_no_bad_page_whatever_reads_do(faults: Faults, tmp_path: Path) -> None:
    options = ("--size", "1G", "--pool-limit", "16M", "--priority", "1000")
    with faulty_device(tmp_path / "backing", *options) as device, under(device) as pressure:
        faults.set(read={"latency_s": 2})
        wait_until("reads that take long", grows(device, "bd_reads", 3), every_s=0.5)
        faults.set(read={"flip": True, "probability": 0.1})
        wait_until("reads with a wrong bit", grows(device, "tier_read_retries", 20))
        # Three in a row, one time in 37 million, would kill who reads, and that may be a stranger.
        faults.set(read={"errno": "EIO", "probability": 0.003})
        wait_until("reads that fail", grows(device, "tier_read_retries", 5))
        faults.set()
        assert pressure.finish()["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
        assert device.stat("tier_read_errors") == 0


# -- on the file: errors of one page alone ---------------------------------------------------


class SwapFile:
    """Pages of the file, written and read past the page cache."""

    def __init__(self, device: TestDevice) -> None:
        self._fd = os.open(device.swapfile, os.O_RDWR | os.O_DIRECT)
        self._seed = random.Random(device.name).randbytes(PAGE_SIZE * 9 // 10)
        self.versions: dict[int, int] = {}

    def close(self) -> None:
        os.close(self._fd)

    def expected(self, page: int) -> bytes:
        """A tenth of it compresses; no two pages or versions are alike."""
        stamp = f"{page} {self.versions[page]} ".encode() * 8
        return (stamp + self._seed).ljust(PAGE_SIZE, b"\0")

    def write(self, page: int) -> None:
        """Its next version.  Raises `OSError` where it is refused, and expects nothing then."""
        self.versions[page] = self.versions.get(page, 0) + 1
        with mmap.mmap(-1, PAGE_SIZE) as buffer:
            buffer[:] = self.expected(page)
            try:
                os.pwrite(self._fd, buffer, page * PAGE_SIZE)
            except OSError:
                del self.versions[page]
                raise

    def write_all(self) -> None:
        """The next version of `PAGES` pages."""
        for page in range(PAGES):
            self.write(page)

    def read(self, page: int) -> bytes:
        with mmap.mmap(-1, PAGE_SIZE) as buffer:
            os.preadv(self._fd, [buffer], page * PAGE_SIZE)
            return buffer[:]

    def bad_pages(self) -> list[int]:
        """Pages that give EIO.  Any that reads as something else than it is fails the test."""
        bad = []
        for page in self.versions:
            try:
                assert self.read(page) == self.expected(page), f"page {page} is stale or wrong"
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                bad.append(page)
        return bad


@contextmanager
def file_on(device: TestDevice) -> Iterator[SwapFile]:
    """The oldest pages leave first: recompression, if it has the time, would move them on."""
    (device.mountpoint / "params" / "recomp_algorithm").write_text("none")
    file = SwapFile(device)
    try:
        yield file
    finally:
        file.close()


@contextmanager
def doing(action: Callable[[], object]) -> Iterator[threading.Thread]:
    """A thread that does it; joined at the end."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()


def eio(file: SwapFile, page: int) -> bool:
    try:
        file.read(page)
    except OSError as exc:
        return exc.errno == errno.EIO
    return False


_PAGES_OF_BLOCK = 4  # at most, of the pages of these tests, meet a block of 4080 bytes
FILE_DEVICE = ("--size", "256M", "--pool-limit", "16M", "--no-swapon")


@pytest.mark.no_swap
def test_a_failed_read_is_an_error_of_that_page_alone(faults: Faults, tmp_path: Path) -> None:
    with faulty_device(tmp_path / "backing", *FILE_DEVICE) as device, file_on(device) as file:
        file.write_all()
        faults.set(read={"errno": "EIO"})
        assert all(eio(file, page) for page in range(5)), "the oldest are on the backing file"
        for page in range(PAGES - 500, PAGES):
            assert file.read(page) == file.expected(page)
        assert file.read(PAGES + 5) == bytes(PAGE_SIZE)
        assert device.stat("tier_read_errors") == 5
        assert device.stat("tier_read_retries") == 10
        faults.set()
        assert file.bad_pages() == []


@pytest.mark.no_swap
@pytest.mark.parametrize("encrypt", ["yes", "no"])
def test_a_bit_that_is_wrong_on_the_disk_is_never_data(
    faults: Faults, tmp_path: Path, encrypt: str
) -> None:
    tier = f"file:{tmp_path}/backing,encrypt={encrypt}"
    with device_up("--tier", tier, *FILE_DEVICE) as device, file_on(device) as file:
        faults.set(write={"flip": True})
        file.write_all()
        wait_until("the writes to end", lambda: device.stat("outstanding_writebacks") == 0)
        faults.set()
        bad = file.bad_pages()
        segments = device.stat("writeback_attempted")
        if encrypt == "yes":
            assert 0 < len(bad) <= _PAGES_OF_BLOCK * segments, "one block a segment"
            assert device.stat("tier_read_errors") == len(bad)
            assert device.stat("checksum_errors") == 0
        else:
            assert 0 < len(bad) <= segments, "one bit a segment"
            assert device.stat("checksum_errors") == len(bad)
            assert device.stat("tier_read_retries") == len(bad)
        assert file.bad_pages() == bad
        for page in bad:
            file.write(page)
        assert file.bad_pages() == []


@pytest.mark.no_swap
def test_what_is_in_memory_does_not_wait_for_a_slow_write(faults: Faults, tmp_path: Path) -> None:
    with faulty_device(tmp_path / "backing", *FILE_DEVICE) as device, file_on(device) as file:
        # A store waits so long for room, and 200 reads have to come in between.
        faults.set(write={"latency_s": 6})
        full = grows(device, "pool_limit_hit")
        with doing(file.write_all):
            wait_until("a store to wait", full)
            written = len(file.versions) - 1
            for page in (*range(100), *range(written - 100, written), PAGES + 5):
                data = file.expected(page) if page in file.versions else bytes(PAGE_SIZE)
                assert file.read(page) == data
            assert len(file.versions) - 1 == written, "the store waits still"
            assert device.stat("bd_reads") == 0, "also what is being written is read in memory"
            faults.set()
        assert file.bad_pages() == []
        assert device.stat("store_waits_10s") > 0
        assert device.stat("store_waits_longer") == 0
        assert device.stat("failed_stores") == 0


@pytest.mark.no_swap
def test_others_do_not_wait_for_a_slow_read(faults: Faults, tmp_path: Path) -> None:
    with faulty_device(tmp_path / "backing", *FILE_DEVICE) as device, file_on(device) as file:
        file.write_all()
        faults.set(read={"latency_s": 6})  # in which a hundred others come and go
        asked = grows(device, "bd_reads")
        with doing(lambda: file.read(0)) as slow:
            wait_until("the read to begin", asked)
            faults.set()
            for page in (1, 2, 3, *range(PAGES - 100, PAGES)):
                assert file.read(page) == file.expected(page)
            file.write(PAGES - 1)
            assert slow.is_alive(), "it waits still"
        assert file.bad_pages() == []


@pytest.mark.no_swap
def test_a_backing_device_that_vanishes(tmp_path: Path) -> None:
    """Its pages are errors, and not what comes in their place; the store goes on without it."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, BACKING)
    disk = must("losetup", "--find", "--show", str(image)).strip()

    def resize(size: int) -> None:
        os.truncate(image, size)
        must("losetup", "--set-capacity", disk)

    try:
        with faulty_device(Path(disk), *FILE_DEVICE) as device, file_on(device) as file:
            file.write_all()
            resize(0)
            assert all(eio(file, page) for page in range(5))
            refused = 0
            for page in range(PAGES, 2 * PAGES):
                try:
                    file.write(page)
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
                    refused += 1
                    if refused == 3:
                        break
            assert refused == 3
            assert device.stat("writeback_failed") > 0
            newest = max(file.versions)
            for page in range(newest - 500, newest):
                assert file.read(page) == file.expected(page)
            resize(BACKING)
            assert eio(file, 0), "zeros by now"
            wait_until("writeback to go on", lambda: write_succeeds(file, newest + 1), every_s=0.2)
            lost = file.bad_pages()
            assert 0 in lost
            assert newest not in lost
            for page in lost:
                file.write(page)
            assert file.bad_pages() == []
    finally:
        must("losetup", "--detach", disk)


def write_succeeds(file: SwapFile, page: int) -> bool:
    try:
        file.write(page)
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        return False
    return True


@pytest.mark.no_swap
def test_rules_that_are_wrong_keep_the_worker_from_starting(faults: Faults, tmp_path: Path) -> None:
    faults.set(write={"errno": "EVERYTHING"})
    done = call("up", new_name(), "--size", "64M", "--backing", str(tmp_path / "backing"))
    assert done.returncode == 32
    assert len(done.stderr.splitlines()) == 1
    assert '"EVERYTHING" is no errno' in done.stderr
    assert not (tmp_path / "backing").exists()


# -- a disk that hangs, beside a server that does not ------------------------------------------

TIMEOUT_S = 6
OTHERS = {
    "the other half of a mirror": ("mirror:file:{file}+{server},name=pair",),
    "the next tier": ("file:{file},priority=2", "{server},priority=1"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_disk_whose_writes_do_not_end_holds_up_nothing(
    faults: Faults, tmp_path: Path, other: str
) -> None:
    """No store is refused, each page is right, and `down` waits for nothing."""
    with one_server(tmp_path / "server") as server:
        tiers = []
        for spec in OTHERS[other]:
            address = f"valkey://127.0.0.1:{server.port}"
            tiers += ["--tier", f"{spec.format(file=tmp_path / 'file', server=address)},size=256M"]
        with device_up("--size", "256M", "--pool-limit", "16M", "--no-swapon", *tiers) as device:
            succeed("set", device.name, f"tier_timeout={TIMEOUT_S}")
            with file_on(device) as file:
                faults.set(write={"latency_s": 3600})
                file.write_all()
                assert device.stat("written_back_pages") > 1000
                assert file.bad_pages() == []
            log = Runtime(device.name).log_path.read_text()
            assert "writes are not answered" in log or "does not take segments" in log
            assert device.status()["restarts"] == 0

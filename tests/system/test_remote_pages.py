"""What a server has of a page: nothing that can be read there; and what is lost with it."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseswap.units import MIB, PAGE_SIZE
from tests.support.delaying_proxy import a_proxy
from tests.support.mounted_devices import TestDevice, call, device_up, must, succeed
from tests.support.valkey_cluster import a_cluster, one_server

MARKER = b"".join(b"fuseswap marker %02d" % number for number in range(4))[:64]
FIRST = 16
A_SEGMENT = 254  # pages that don't compress, of which a segment is full
UP = ("--size", "64M", "--no-swapon")
READERS = 32


def page(number: int) -> bytes:
    """It does not compress, so it is stored as it is; the marker is in the midst of it."""
    body = random.Random(number).randbytes(PAGE_SIZE)
    return body[:1000] + MARKER + body[1000 + len(MARKER) :]


@contextmanager
def opened(device: TestDevice) -> Iterator[int]:
    fd = os.open(device.swapfile, os.O_RDWR | os.O_DIRECT)
    try:
        yield fd
    finally:
        os.close(fd)


def write(device: TestDevice, numbers: Sequence[int]) -> None:
    with opened(device) as fd, mmap.mmap(-1, PAGE_SIZE) as buffer:
        for number in numbers:
            buffer[:] = page(number)
            assert os.pwrite(fd, buffer, number * PAGE_SIZE) == PAGE_SIZE


def read_bad(device: TestDevice, numbers: Sequence[int]) -> set[int]:
    """Those that can't be read; what is read is right."""

    def is_bad(number: int) -> bool:
        with mmap.mmap(-1, PAGE_SIZE) as buffer:
            try:
                assert os.preadv(fd, [buffer], number * PAGE_SIZE) == PAGE_SIZE
            except OSError:
                return True
            assert buffer[:] == page(number)
            return False

    with opened(device) as fd, ThreadPoolExecutor(READERS) as readers:
        return {n for n, bad in zip(numbers, readers.map(is_bad, numbers), strict=True) if bad}


def written_back(device: TestDevice, numbers: Sequence[int], tier: str) -> None:
    write(device, numbers)
    succeed("writeback", device.name, "--tier", tier)
    assert device.stat(f"tier_segments.{tier}") >= len(numbers) // A_SEGMENT


def explained(device: TestDevice, number: int) -> dict[str, object]:
    """What ``fuseswap explain`` is told, without a process for each page."""
    found: dict[str, object] = json.loads((device.mountpoint / "pages" / str(number)).read_text())
    return found


@pytest.mark.no_swap
def test_no_byte_of_a_page_is_on_the_disk_at_the_server_or_on_the_wire(tmp_path: Path) -> None:
    """With encrypt=no the file has it: what is looked for can be found."""
    far, near, plain = (range(at, at + A_SEGMENT) for at in (FIRST, 1000, 2000))
    wire = tmp_path / "wire"
    with one_server(tmp_path / "server") as server, a_proxy(server.port, record=wire) as proxy:
        address = f"valkey://127.0.0.1:{proxy.port},name=far"
        files = [f"file:{tmp_path}/near,name=near", f"file:{tmp_path}/plain,name=plain,encrypt=no"]
        tiers = [word for spec in (address, *files) for word in ("--tier", spec)]
        with device_up(*UP, *tiers) as device:
            for numbers, tier in ((far, "far"), (near, "near"), (plain, "plain")):
                written_back(device, numbers, tier)
                assert explained(device, numbers[0])["tier"] == tier
            assert read_bad(device, [*far, *near, *plain]) == set()
            server.talk("CONFIG", "SET", "rdbcompression", "no")
            server.talk("SAVE")
            dump = (server.directory / "dump.rdb").read_bytes()
            for found in (dump, wire.read_bytes(), (tmp_path / "near").read_bytes()):
                assert len(found) > MIB, "it has the segment"
                assert MARKER not in found
            assert MARKER in (tmp_path / "plain").read_bytes()


@pytest.mark.no_swap
def test_where_a_page_is_takes_one_look(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(one_server(tmp_path / "server"))
        far = f"valkey://127.0.0.1:{server.port},name=far"
        device = stack.enter_context(device_up(*UP, "--tier", far))
        written_back(device, range(FIRST, FIRST + A_SEGMENT), "far")
        lines = succeed("explain", device.name, str(FIRST)).splitlines()
        assert lines[0] == f"page {FIRST}, at 64K"
        words = {line.split()[0]: line.split()[1:] for line in lines[1:]}
        assert words["where"] == ["on", "tier", "far,", "extent", "0"]
        assert words["backend"] == ["cache"]
        found = json.loads(succeed("explain", device.name, str(FIRST), "--json"))
        assert (found["page"], found["tier"], found["extent"]) == (FIRST, "far", 0)


@pytest.mark.no_swap
def test_what_is_lost_with_a_cluster_is_just_what_lay_there(tmp_path: Path) -> None:
    """Each page is named; all others are read, and may be written again."""
    left = range(FIRST, FIRST + 12)
    near = range(1000, 1000 + A_SEGMENT)
    with a_cluster(tmp_path / "servers") as cluster:
        far = f"{cluster.address}&timeout=1,name=far"
        tiers = ("--tier", far, "--tier", f"file:{tmp_path}/near,name=near")
        with device_up(*UP, *tiers) as device:
            succeed("set", device.name, "tier_timeout=3")
            written_back(device, range(FIRST, FIRST + A_SEGMENT), "far")
            written_back(device, near, "near")
            hole = f"--offset={left.stop * PAGE_SIZE}"
            length = f"--length={(FIRST + A_SEGMENT - left.stop) * PAGE_SIZE}"
            must("fallocate", "--punch-hole", hole, length, str(device.swapfile))
            in_memory = range(2000, 2030)
            write(device, in_memory)
            everything = [*left, *near, *in_memory]
            lost = {n for n in everything if explained(device, n)["tier"] == "far"}
            assert lost == set(left)
            cluster.kill()
            assert read_bad(device, everything) == lost
            done = call("scrub", device.name)
            assert done.returncode == 2
            named = {int(w[5:].split(":")[0]) for w in done.stdout.splitlines() if w[:5] == "page "}
            assert named == lost
            write(device, left)
            assert read_bad(device, everything) == set()

"""Pages in their places that others can't read, and what comes back of them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from fuseswap.errors import CorruptData
from fuseswap.filesystem.device import Device
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.backing_file import open_backing
from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.encrypted_file import EncryptedFile
from fuseswap.tiers.io_engine import ThreadEngine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES, FIRST_PAGE_AT
from fuseswap.tiers.page_cipher import PageCipher
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.memory_stores import SharedMemory

PAGES = 64
KEY = bytes(range(32))
SECRET = b"a secret of somebody else"
MARKED = (SECRET * (PAGE_SIZE // len(SECRET) + 1))[:PAGE_SIZE]


class Places:
    """A file of places on the disk."""

    def __init__(self, path: Path, engine: ThreadEngine) -> None:
        size_bytes = BOTH_ENDS_BYTES + 8 * (1 << 20)
        self.fd = open_backing(str(path), size_bytes, "swap0").fd
        self.direct = DirectFile(self.fd, engine)
        self.file = EncryptedFile(self.direct, PageCipher(KEY))

    async def put(self, page: int, data: bytes) -> None:
        result_of(await await_callback(partial(self.file.begin_put, page * PAGE_SIZE, data)))

    async def read(self, page: int, file: EncryptedFile | DirectFile | None = None) -> bytes:
        begin = (file or self.file).begin_read
        found = await await_callback(partial(begin, page * PAGE_SIZE, PAGE_SIZE))
        assert isinstance(found, bytes)
        return found

    async def raw(self, page: int) -> bytes:
        """What lies on the disk."""
        return await self.read(page, self.direct)


@pytest.fixture
async def places(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Places]:
    engine = ThreadEngine(2)
    nursery.start_soon(engine.run)
    places = Places(tmp_path / "backing", engine)
    yield places
    engine.close()
    os.close(places.fd)


async def test_nothing_of_a_page_can_be_read(places: Places) -> None:
    await places.put(5, MARKED * 3)
    assert [await places.read(page) for page in (5, 6, 7)] == [MARKED] * 3
    with open(f"/proc/self/fd/{places.fd}", "rb") as file:
        assert SECRET[:8] not in file.read()


async def test_equal_pages_are_different_on_the_disk(places: Places) -> None:
    await places.put(5, MARKED * 2)
    await places.put(9, MARKED)
    found = {await places.raw(page) for page in (5, 6, 9)}
    assert len(found) == 3
    blocks = [one[at : at + 16] for one in found for at in range(0, PAGE_SIZE, 16)]
    assert len(set(blocks)) == len(blocks)


async def test_the_key_and_the_place_are_needed(places: Places) -> None:
    await places.put(5, MARKED)
    other = EncryptedFile(places.direct, PageCipher(KEY[::-1]))
    assert SECRET[:8] not in await places.read(5, other)
    stored = await places.raw(5)
    assert SECRET[:8] not in PageCipher(KEY).open(6, stored)
    assert PageCipher(KEY).open(5, stored) == MARKED


async def test_many_writes_at_once_each_have_their_own(places: Places) -> None:
    """Buffers are few; who waits for one is encrypted into it later."""
    chance = random.Random(3)
    data = {16 * run: chance.randbytes(16 * PAGE_SIZE) for run in range(20)}
    async with trio.open_nursery() as nursery:
        for first, run in data.items():
            nursery.start_soon(places.put, first, run)
    for first, run in data.items():
        for number in range(16):
            wanted = run[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            assert await places.read(first + number) == wanted


@pytest.mark.parametrize(
    ("at", "length"), [(0, 3 * PAGE_SIZE), (PAGE_SIZE, 2 * PAGE_SIZE), (1, 1), (4000, 5000)]
)
async def test_any_range_can_be_read(places: Places, at: int, length: int) -> None:
    """Neighbours that are asked for together come in one read."""
    data = random.Random(4).randbytes(3 * PAGE_SIZE)
    await places.put(5, data)
    begin = partial(places.file.begin_read, 5 * PAGE_SIZE + at, length)
    assert await await_callback(begin) == data[at : at + length]


async def write(device: Device, page: int, data: bytes) -> None:
    begin = partial(device.pending_io.begin_write, page * PAGE_SIZE, memoryview(data))
    result_of(await await_callback(begin))


async def read(device: Device, page: int) -> bytes:
    return await device.pending_io.read(page * PAGE_SIZE, PAGE_SIZE)


async def test_changed_and_older_bytes_are_found(places: Places) -> None:
    """The check in the slot word is of the page, so it finds what XTS does not."""
    memory = SharedMemory(Geometry(PAGES, 33, 16))
    device = Device(memory.attach(), place_file=places.file)
    device.cache.encoder.max_compression_ratio = 50  # dense pages go to their places
    try:
        await write(device, 7, pages.incompressible(1))
        old = await places.raw(7)
        assert await read(device, 7) == pages.incompressible(1)
        await write(device, 7, pages.incompressible(2))
        await write(device, 8, pages.incompressible(3))
        new = await places.raw(7)
        assert await read(device, 7) == pages.incompressible(2)
        both = pages.incompressible(2) + pages.incompressible(3)
        assert await device.pending_io.read(7 * PAGE_SIZE, 2 * PAGE_SIZE) == both
        chance = random.Random(7)
        forged = [old, await places.raw(8), bytes(PAGE_SIZE)]
        for _ in range(20):
            changed = bytearray(new)
            changed[chance.randrange(PAGE_SIZE)] ^= 1 << chance.randrange(8)
            forged.append(bytes(changed))
        for wrong in forged:
            with open(f"/proc/self/fd/{places.fd}", "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), wrong, FIRST_PAGE_AT + 7 * PAGE_SIZE)
            with pytest.raises(CorruptData):
                await read(device, 7)
    finally:
        device.cache.close()
        memory.close()


def test_it_is_imported_only_where_it_is_used() -> None:
    code = (
        "import sys, fuseswap.daemon.worker, fuseswap.filesystem.device;"
        "sys.exit(any(name.startswith('cryptography') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_costs_no_memory() -> None:
    """What is made for one is gone after it."""
    cipher, out = PageCipher(KEY), memoryview(bytearray(16 * PAGE_SIZE))
    data = bytes(16 * PAGE_SIZE)
    cipher.seal(0, data, out)
    tracemalloc.start()
    try:
        for page in range(50):
            cipher.seal(page, data, out)
            assert cipher.open(page, bytes(out[:PAGE_SIZE])) == bytes(PAGE_SIZE)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now < 4 * PAGE_SIZE
    assert peak < 8 * PAGE_SIZE

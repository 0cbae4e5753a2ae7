"""What each tier must do, whatever it is: the contract of `fuseswap.tiers.tier.Tier`."""

from __future__ import annotations

import json
import mmap
import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.encrypted_tier import EncryptedTier
from fuseswap.tiers.fault_injection import Faults, FaultyEngine
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import AioEngine, Engine, ThreadEngine
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.tiers.segment_cipher import SegmentCipher
from fuseswap.tiers.tier import Tier
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE, SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.leftovers import collector_off
from tests.support.tier_processes import TierHost
from tests.support.tier_reads import GENERATION, read_extent, write_extent

pytestmark = pytest.mark.slow

EXTENTS = 4
_LONGEST_S = 20  # of one request; a tier that forgets to answer hangs for ever


class Failing:
    """Tells a tier to fail, or not to."""

    def __init__(self, path: Path) -> None:
        self.rules = path
        self.words = path.with_name("rules-of-client")
        self.fake: FakeTier | None = None

    def set(self, *, fails: bool) -> None:
        """Reads and writes fail from now on, or go well."""
        if self.fake is not None:
            self.fake.fail_reads = self.fake.fail_writes = fails
        self.words.write_text("fail" if fails else "")
        rule = {"errno": "EIO"} if fails else {}
        new = self.rules.with_suffix(".new")
        new.write_text(json.dumps({"read": rule, "write": rule}))
        new.rename(self.rules)


@pytest.fixture
def failing(tmp_path: Path) -> Failing:
    failing = Failing(tmp_path / "rules")
    failing.set(fails=False)
    return failing


SOUND = ("aio", "threads")
ENCRYPTED = ("encrypted", "encrypted mirror", "encrypted remote")
KINDS = (*SOUND, "faulty", "late", "memory", "mirrored", "remote", *ENCRYPTED)


class Files:
    """File tiers on files of their own, whose engines fail as ``rules`` say."""

    def __init__(self, directory: Path, rules: Path | None) -> None:
        self._directory = directory
        self._rules = rules
        self._opened: list[tuple[int, Engine]] = []

    def tier(self, kind: str = "aio", extent_bytes: int = SEGMENT_BYTES) -> FileTier:
        path = self._directory / f"backing{len(self._opened)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        os.posix_fallocate(fd, 0, BOTH_ENDS_BYTES + EXTENTS * extent_bytes)
        engine: Engine = ThreadEngine(2) if kind == "threads" else AioEngine()
        if self._rules is not None:
            engine = FaultyEngine(engine, Faults(str(self._rules)))
        self._opened.append((fd, engine))
        return FileTier(DirectFile(fd, engine), f"file{len(self._opened)}", extent_bytes)

    def encrypted(self, place: int = 0) -> EncryptedTier:
        cipher = SegmentCipher(bytes(range(32)), b"device", place)
        return EncryptedTier(self.tier(extent_bytes=ENCRYPTED_SEGMENT_BYTES), cipher)

    def close(self) -> None:
        for fd, engine in self._opened:
            engine.close()
            os.close(fd)


@pytest.fixture(params=KINDS)
async def tier(
    request: pytest.FixtureRequest, tmp_path: Path, failing: Failing, nursery: trio.Nursery
) -> AsyncIterator[Tier]:
    """One of each kind, with its task."""
    kind: str = request.param
    files = Files(tmp_path, None if kind in SOUND else failing.rules)
    tier: Tier
    host = None
    if kind == "memory":
        tier = failing.fake = FakeTier(EXTENTS)
    elif kind == "encrypted":
        tier = files.encrypted()
    elif kind == "mirrored":
        tier = MirroredTier("mirror0", (files.tier(), files.tier()))
    elif kind == "encrypted mirror":
        tier = MirroredTier("mirror0", (files.encrypted(0), files.encrypted(256)))
    elif "remote" in kind:
        host = TierHost("files", str(tmp_path), extent_count=EXTENTS)
        nursery.start_soon(host.process_here().run)
        tier = remote = host.tier()
        if kind == "encrypted remote":
            tier = EncryptedTier(remote, SegmentCipher(bytes(range(32)), b"device", 0))
    else:
        tier = files.tier(kind)
    nursery.start_soon(tier.run)
    if kind == "late":
        rule = {"latency_s": 0.002}
        failing.rules.write_text(json.dumps({"read": rule, "write": rule}))
    await wait_all_tasks_blocked()
    yield tier
    nursery.cancel_scope.cancel()
    files.close()
    if host is not None:
        host.close()


@pytest.fixture
def arena() -> mmap.mmap:
    """Page-aligned memory for two segments."""
    return mmap.mmap(-1, 2 * SEGMENT_BYTES)


def fill(arena: mmap.mmap, seed: int, place: int = 0) -> memoryview:
    start = place * SEGMENT_BYTES
    arena[start : start + SEGMENT_BYTES] = random.Random(seed).randbytes(SEGMENT_BYTES)
    return memoryview(arena)[start : start + SEGMENT_BYTES]


class Ended:
    """A ``done`` that notes each call, and whether `begin` was still running."""

    def __init__(self) -> None:
        self.found: list[object] = []
        self._inside = False
        self._event = trio.Event()

    def begin(self, begin: Callable[[Callable[[object], None]], None]) -> None:
        self._inside = True
        begin(self)
        self._inside = False

    def __call__(self, found: object) -> None:
        assert not self._inside, "from inside"
        self.found.append(found)
        self._event.set()

    async def wait(self) -> object:
        """What it was called with, once."""
        with trio.fail_after(_LONGEST_S):
            await self._event.wait()
        await trio.sleep(0.002)
        (found,) = self.found
        return found


async def read(tier: Tier, extent: int, offset: int, length: int) -> object:
    ended = Ended()
    ended.begin(lambda done: tier.begin_read(extent, GENERATION, offset, length, done))
    return await ended.wait()


async def write(tier: Tier, extent: int, segment: memoryview) -> object:
    ended = Ended()
    ended.begin(lambda done: tier.begin_write(extent, GENERATION, segment, done))
    return await ended.wait()


async def test_it_says_what_it_is(tier: Tier) -> None:
    entry = TierTable().register(tier)
    assert entry.extents.extent_count == tier.extent_count == EXTENTS
    assert tier.read_unit > 0
    assert tier.read_unit & tier.read_unit - 1 == 0
    assert tier.volatile in (False, True)


async def test_done_comes_once_and_later(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 1)
    assert await write(tier, 2, segment) is None
    assert await read(tier, 2, 0, SEGMENT_BYTES) == bytes(segment)
    segment.release()


async def test_an_error_is_a_value_and_comes_once_and_later(
    tier: Tier, arena: mmap.mmap, failing: Failing, request: pytest.FixtureRequest
) -> None:
    if request.node.callspec.params["tier"] in SOUND:
        pytest.skip("a sound file does not fail; 'faulty' is the same file")
    segment = fill(arena, 1)
    await write_extent(tier, 0, segment)
    failing.set(fails=True)
    assert isinstance(await write(tier, 1, segment), OSError)
    assert isinstance(await read(tier, 0, 0, 100), OSError)
    failing.set(fails=False)
    assert await write(tier, 1, segment) is None
    assert await read(tier, 1, 5, 100) == bytes(segment[5:105])
    segment.release()


async def test_a_failed_write_leaves_other_extents_alone(
    tier: Tier, arena: mmap.mmap, failing: Failing
) -> None:
    segment = fill(arena, 1)
    for extent in (0, 2):
        await write_extent(tier, extent, segment)
    other = fill(arena, 2, 1)
    failing.set(fails=True)
    await write(tier, 1, other)
    failing.set(fails=False)
    for extent in (0, 2):
        assert await read(tier, extent, 0, SEGMENT_BYTES) == bytes(segment)
    segment.release()
    other.release()


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (SEGMENT_BYTES - 1, 1),
        (4095, 2),
        (1, 4100),
        (PAGE_SIZE, PAGE_SIZE),
        (12345, 128 << 10),
        (0, SEGMENT_BYTES),
    ],
)
async def test_any_range_whatever_the_read_unit(
    tier: Tier, arena: mmap.mmap, offset: int, length: int
) -> None:
    segment = fill(arena, 3)
    await write_extent(tier, 1, segment)
    assert await read_extent(tier, 1, offset, length) == bytes(segment[offset : offset + length])
    segment.release()


async def test_an_extent_is_used_again_after_its_release(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 4)
    await write_extent(tier, 3, segment)
    tier.release(3, GENERATION)
    other = fill(arena, 5, 1)
    ended = Ended()
    ended.begin(lambda done: tier.begin_write(3, GENERATION + 1, other, done))
    assert await ended.wait() is None
    again = Ended()
    again.begin(lambda done: tier.begin_read(3, GENERATION + 1, 0, SEGMENT_BYTES, done))
    assert await again.wait() == bytes(other)
    segment.release()
    other.release()


async def test_many_at_once(tier: Tier, arena: mmap.mmap) -> None:
    """More reads than there are buffers, beside a write."""
    segment, other = fill(arena, 6), fill(arena, 7, 1)
    await write_extent(tier, 0, segment)
    writing = Ended()
    writing.begin(lambda done: tier.begin_write(1, GENERATION, other, done))
    reads = []
    for number in range(200):
        ended = Ended()
        offset = number * 5000
        ended.begin(
            lambda done, offset=offset: tier.begin_read(0, GENERATION, offset, 3000, done)  # type: ignore[misc]
        )
        reads.append((offset, ended))
    for offset, ended in reads:
        assert await ended.wait() == bytes(segment[offset : offset + 3000])
    assert await writing.wait() is None
    assert await read(tier, 1, 0, SEGMENT_BYTES) == bytes(other)
    segment.release()
    other.release()


async def test_nothing_is_left_to_collect(tier: Tier, arena: mmap.mmap) -> None:
    segment = fill(arena, 8)
    await write_extent(tier, 0, segment)
    with collector_off() as garbage:
        for _ in range(10):
            await write_extent(tier, 1, segment)
            await read_extent(tier, 1, 700, 3000)
            tier.release(1, GENERATION)
        assert not garbage.found()
    segment.release()

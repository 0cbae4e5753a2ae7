"""The encrypted tier, over one in memory whose bytes a test can change, and over a file."""

from __future__ import annotations

import errno
import mmap
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from fuseswap.tiers.callbacks import Answer, await_callback
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.encrypted_tier import (
    LOCAL_PARTS,
    REMOTE_PARTS,
    SEGMENTS,
    SLICE_CHUNKS,
    EncryptedTier,
)
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import AioEngine
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.tiers.segment_cipher import CHUNKS, SegmentCipher
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE, SEGMENT_BYTES
from tests.support.effort import scaled
from tests.support.fake_tier import FakeTier
from tests.support.tier_reads import GENERATION, read_extent, write_extent

KEY = bytes(range(32))
CIPHER = SegmentCipher(KEY, b"swap0", 0)
EXTENTS = 6
SEGMENT = random.Random(1).randbytes(SEGMENT_BYTES)
OTHER = random.Random(2).randbytes(SEGMENT_BYTES)


class Encrypted:
    """A tier over memory; the segment 1 is in extent 0, the other one in extent 1."""

    def __init__(self, *, remote: bool = False) -> None:
        self.inner = FakeTier(EXTENTS, extent_bytes=ENCRYPTED_SEGMENT_BYTES)
        self.inner.is_remote = remote
        self.tier = EncryptedTier(self.inner, CIPHER)

    async def fill(self) -> None:
        for extent, segment in enumerate((SEGMENT, OTHER)):
            await write_extent(self.tier, extent, memoryview(segment))

    async def errno_of(self, extent: int, offset: int, length: int) -> int | None:
        try:
            await read_extent(self.tier, extent, offset, length)
        except OSError as exc:
            return exc.errno
        return None


@pytest.fixture
async def encrypted() -> Encrypted:
    encrypted = Encrypted()
    await encrypted.fill()
    return encrypted


# -- reads -------------------------------------------------------------------------------

RANGES = st.integers(0, SEGMENT_BYTES - 1).flatmap(
    lambda offset: st.tuples(st.just(offset), st.integers(1, SEGMENT_BYTES - offset))
)


@settings(max_examples=scaled(100), deadline=None)
@given(st.lists(RANGES, min_size=1, max_size=8))
def test_any_ranges_at_once(ranges: list[tuple[int, int]]) -> None:
    async def body() -> None:
        encrypted = Encrypted()
        await encrypted.fill()
        answers: list[Answer[bytes | OSError]] = [Answer() for _ in ranges]
        for (offset, length), answer in zip(ranges, answers, strict=True):
            encrypted.tier.begin_read(1, GENERATION, offset, length, answer)
        for (offset, length), answer in zip(ranges, answers, strict=True):
            assert await answer.wait() == OTHER[offset : offset + length]

    trio.run(body)


@pytest.mark.parametrize(
    ("offset", "length", "blocks"),
    [
        (0, 1, 1),
        (4079, 1, 1),
        (4079, 2, 2),
        (4080, 4080, 1),
        (1000, 4096, 2),
        (SEGMENT_BYTES - 1, 1, 2),
        (1040399, 2, 3),
        (SEGMENT_BYTES - (128 << 10), 128 << 10, 33),
    ],
)
async def test_no_more_blocks_are_read_than_hold_the_range(
    encrypted: Encrypted, offset: int, length: int, blocks: int
) -> None:
    seen: list[int] = []

    def is_bad(at: int, count: int) -> bool:
        assert at % PAGE_SIZE == 0
        seen.append(count)
        return False

    encrypted.inner.is_bad = is_bad
    assert await read_extent(encrypted.tier, 0, offset, length) == SEGMENT[offset:][:length]
    assert seen == [blocks * PAGE_SIZE]


async def test_a_long_read_comes_in_parts(encrypted: Encrypted) -> None:
    """As many chunks as one turn may take, and none twice."""
    seen: list[tuple[int, int]] = []

    def is_bad(at: int, count: int) -> bool:
        seen.append((at, at + count))
        return False

    encrypted.inner.is_bad = is_bad
    assert await read_extent(encrypted.tier, 0, 0, SEGMENT_BYTES) == SEGMENT
    assert [end for _, end in seen[:-1]] == [start for start, _ in seen[1:]]
    assert max(end - start for start, end in seen) <= (SLICE_CHUNKS + 1) * PAGE_SIZE


async def test_a_long_read_that_fails_gives_its_buffer_back(encrypted: Encrypted) -> None:
    for fails in (True, False):
        encrypted.inner.is_bad = lambda at, _, fails=fails: fails and at > 0
        for _ in range(2 * SEGMENTS):
            failed = await encrypted.errno_of(0, 0, SEGMENT_BYTES)
            assert failed == (errno.EIO if fails else None)


@pytest.mark.parametrize("remote", [False, True])
async def test_parts_are_asked_for_at_once(remote: bool) -> None:
    """From a server more of them; the rest as they come, and they may come in any order."""
    encrypted = Encrypted(remote=remote)
    await encrypted.fill()
    encrypted.inner.hold_reads = True
    answer: Answer[bytes | OSError] = Answer()
    encrypted.tier.begin_read(0, GENERATION, 0, SEGMENT_BYTES, answer)
    at_once = REMOTE_PARTS if remote else LOCAL_PARTS
    rounds = 0
    while reads := list(encrypted.inner.reads):
        assert len(reads) == at_once
        for read in reversed(reads):
            read.finish()
        rounds += 1
        await wait_all_tasks_blocked(0.01)
    assert rounds == -(-CHUNKS // SLICE_CHUNKS // at_once)
    assert await answer.wait() == SEGMENT


async def test_a_turn_decrypts_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    encrypted = Encrypted(remote=True)
    await encrypted.fill()
    encrypted.inner.hold_reads = True
    token = trio.lowlevel.current_trio_token()
    turns = 0
    opened: list[int] = []
    cipher_open = SegmentCipher.open

    def turn() -> None:
        nonlocal turns
        turns += 1
        if len(opened) < REMOTE_PARTS:
            token.run_sync_soon(turn)

    def noted(self: SegmentCipher, *arguments: Any) -> bytes:
        opened.append(turns)
        return cipher_open(self, *arguments)

    monkeypatch.setattr(SegmentCipher, "open", noted)
    answer: Answer[bytes | OSError] = Answer()
    encrypted.tier.begin_read(0, GENERATION, 0, REMOTE_PARTS * SLICE_CHUNKS * 4080, answer)
    for read in list(encrypted.inner.reads):
        read.finish()
    assert not opened
    token.run_sync_soon(turn)
    assert await answer.wait() == SEGMENT[: REMOTE_PARTS * SLICE_CHUNKS * 4080]
    assert len(set(opened)) == len(opened) == REMOTE_PARTS


async def test_a_part_that_fails_waits_for_those_under_way() -> None:
    """Else the buffer would be another's while they come."""
    encrypted = Encrypted(remote=True)
    await encrypted.fill()
    encrypted.inner.hold_reads = True
    answers: list[bytes | OSError] = []
    encrypted.tier.begin_read(0, GENERATION, 0, SEGMENT_BYTES, answers.append)
    first, *others = encrypted.inner.reads
    first.fail()
    await wait_all_tasks_blocked(0.01)
    assert not answers
    while encrypted.inner.reads:
        encrypted.inner.reads[0].finish()
        await wait_all_tasks_blocked(0.01)
    (error,) = answers
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    assert len(others) == REMOTE_PARTS - 1
    assert encrypted.inner.reads_begun <= REMOTE_PARTS + 1, "no more were asked for"


# -- what was changed --------------------------------------------------------------------


@settings(max_examples=scaled(100), deadline=None)
@given(st.integers(0, 8 * ENCRYPTED_SEGMENT_BYTES - 1))
def test_a_flipped_bit_is_an_error_of_what_it_hit(bit: int) -> None:
    async def body() -> None:
        encrypted = Encrypted()
        await encrypted.fill()
        stored = encrypted.inner.extents[0]
        stored[bit // 8] ^= 1 << bit % 8
        chunk = min(bit // 8 // PAGE_SIZE, CHUNKS - 1)
        for other in (chunk - 1, chunk, chunk + 1):
            if 0 <= other < CHUNKS:
                found = await encrypted.errno_of(0, other * 4080, 100)
                assert found == (errno.EBADMSG if other == chunk else None)
        assert await encrypted.errno_of(0, 0, SEGMENT_BYTES) == errno.EBADMSG
        assert encrypted.tier.unverified == 2

    trio.run(body)


async def test_chunks_and_extents_that_were_swapped(encrypted: Encrypted) -> None:
    first, second = encrypted.inner.extents[0], encrypted.inner.extents[1]
    one, two = bytes(first[:PAGE_SIZE]), bytes(first[PAGE_SIZE : 2 * PAGE_SIZE])
    first[: 2 * PAGE_SIZE] = two + one
    for offset in (0, 4080):
        assert await encrypted.errno_of(0, offset, 10) == errno.EBADMSG
    first[: 2 * PAGE_SIZE] = one + two
    assert await encrypted.errno_of(0, 0, SEGMENT_BYTES) is None
    encrypted.inner.extents.update({0: second, 1: first})
    for extent in (0, 1):
        for offset in range(0, SEGMENT_BYTES, 40800):
            assert await encrypted.errno_of(extent, offset, 10) == errno.EBADMSG


async def test_an_older_generation_that_was_put_back(encrypted: Encrypted) -> None:
    """As a disk that lost a write, or a snapshot of it."""
    older = bytes(encrypted.inner.extents[0])
    newer = GENERATION + 1
    begin = partial(encrypted.tier.begin_write, 0, newer, memoryview(OTHER))
    assert await await_callback(begin) is None
    read: Callable[[Callable[[object], None]], None] = partial(
        encrypted.tier.begin_read, 0, newer, 8000, 100
    )
    assert await await_callback(read) == OTHER[8000:8100]
    encrypted.inner.extents[0][:] = older
    found = await await_callback(read)
    assert isinstance(found, OSError)
    assert found.errno == errno.EBADMSG


async def test_another_tier_or_device_cannot_read_it(encrypted: Encrypted) -> None:
    for device, place in ((b"swap0", 1), (b"swap1", 0)):
        other = EncryptedTier(encrypted.inner, SegmentCipher(KEY, device, place))
        with pytest.raises(OSError, match="does not verify"):
            await read_extent(other, 0, 0, 10)


# -- writes ------------------------------------------------------------------------------


async def test_other_turns_come_between_the_slices(
    encrypted: Encrypted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many segments are on their way, a turn encrypts one slice."""
    token = trio.lowlevel.current_trio_token()
    turns = 0
    chunks_by_turn: dict[int, int] = {}
    seal = SegmentCipher.seal

    def turn() -> None:
        nonlocal turns
        turns += 1
        if sum(chunks_by_turn.values()) < SEGMENTS * CHUNKS:
            token.run_sync_soon(turn)

    def noted(self: SegmentCipher, *arguments: Any) -> None:
        chunks_by_turn[turns] = chunks_by_turn.get(turns, 0) + arguments[-1] - arguments[-2]
        seal(self, *arguments)

    monkeypatch.setattr(SegmentCipher, "seal", noted)
    token.run_sync_soon(turn)
    answers: list[Answer[OSError | None]] = [Answer() for _ in range(SEGMENTS)]
    for extent, answer in enumerate(answers):
        encrypted.tier.begin_write(2 + extent, GENERATION, memoryview(SEGMENT), answer)
    assert not chunks_by_turn
    for answer in answers:
        assert await answer.wait() is None
    assert sum(chunks_by_turn.values()) == SEGMENTS * CHUNKS
    assert max(chunks_by_turn.values()) == SLICE_CHUNKS


async def test_who_finds_no_buffer_waits_for_one(encrypted: Encrypted) -> None:
    encrypted.inner.hold_writes, encrypted.inner.cancellable = True, False
    answers: list[Answer[OSError | None]] = [Answer() for _ in range(SEGMENTS + 1)]
    for extent, answer in enumerate(answers):
        encrypted.tier.begin_write(2 + extent, GENERATION, memoryview(OTHER), answer)
    long: Answer[bytes | OSError] = Answer()
    encrypted.tier.begin_read(0, GENERATION, 0, SEGMENT_BYTES, long)
    await wait_all_tasks_blocked(0.01)
    assert len(encrypted.inner.writes) == SEGMENTS
    assert await read_extent(encrypted.tier, 0, 5, 500) == SEGMENT[5:505], "a page does not"
    encrypted.inner.writes[0].finish()
    encrypted.inner.writes[0].fail()
    await wait_all_tasks_blocked(0.01)
    assert len(encrypted.inner.writes) == SEGMENTS - 1
    assert await long.wait() == SEGMENT
    while encrypted.inner.writes:
        encrypted.inner.writes[0].finish()
    found = [await answer.wait() for answer in answers]
    assert [type(one) for one in found] == [type(None), OSError, type(None), type(None)]
    assert await read_extent(encrypted.tier, 5, 0, SEGMENT_BYTES) == OTHER


async def test_what_is_written_is_what_was_encrypted(encrypted: Encrypted) -> None:
    """The memory of a segment that has died is used again; the tier looks at it no more."""
    encrypted.inner.hold_writes, encrypted.inner.cancellable = True, False
    memory = bytearray(SEGMENT)
    answer: Answer[OSError | None] = Answer()
    encrypted.tier.begin_write(2, GENERATION, memoryview(memory), answer)
    await wait_all_tasks_blocked(0.01)
    memory[:] = OTHER
    encrypted.inner.writes[0].finish()
    assert await answer.wait() is None
    assert await read_extent(encrypted.tier, 2, 0, SEGMENT_BYTES) == SEGMENT


def test_a_worker_that_pauses_leaves_the_rest() -> None:
    """trio runs what is due and takes no more; the write was not answered, so it is not there."""
    encrypted = Encrypted()
    answers: list[object] = []

    async def body() -> None:
        encrypted.tier.begin_write(0, GENERATION, memoryview(SEGMENT), answers.append)

    trio.run(body)
    assert not answers
    assert not encrypted.inner.writes


# -- on a file ---------------------------------------------------------------------------


@pytest.mark.parametrize("encrypts", [False, True])
async def test_nothing_of_a_page_is_in_the_file(
    tmp_path: Path, nursery: trio.Nursery, encrypts: bool
) -> None:
    """64 bytes that are known, on each page; the control is a tier that does not encrypt."""
    marker = random.Random(3).randbytes(64)
    memory = mmap.mmap(-1, SEGMENT_BYTES)
    for at in range(0, SEGMENT_BYTES, PAGE_SIZE):
        memory[at + 1000 : at + 1064] = marker
    memory[-1] = marker[0]
    extent_bytes = ENCRYPTED_SEGMENT_BYTES if encrypts else SEGMENT_BYTES
    fd = os.open(tmp_path / "backing", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.posix_fallocate(fd, 0, BOTH_ENDS_BYTES + 3 * extent_bytes)
    engine = AioEngine()
    inner = FileTier(DirectFile(fd, engine), extent_bytes=extent_bytes)
    assert inner.extent_count == 3
    tier = EncryptedTier(inner, CIPHER) if encrypts else inner
    nursery.start_soon(tier.run)
    for extent in (0, 2):
        await write_extent(tier, extent, memoryview(memory))
        assert await read_extent(tier, extent, 0, SEGMENT_BYTES) == bytes(memory)
    data = (tmp_path / "backing").read_bytes()
    assert data.count(marker) == (0 if encrypts else 512)
    where = tier.offset_of(2, SEGMENT_BYTES - 1)
    assert where is not None
    flipped = bytes((data[where] ^ 1,))
    with (tmp_path / "backing").open("r+b", buffering=0) as file:
        file.seek(where)
        file.write(flipped)
    if encrypts:
        with pytest.raises(OSError, match="chunk 255 of extent 2"):
            await read_extent(tier, 2, SEGMENT_BYTES - 10, 10)
    else:
        assert (await read_extent(tier, 2, SEGMENT_BYTES - 10, 10))[-1:] == flipped
    assert any(marker[at : at + 8] in data for at in range(0, 64, 8)) is not encrypts
    engine.close()
    os.close(fd)

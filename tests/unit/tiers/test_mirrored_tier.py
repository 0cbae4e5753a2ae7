"""The mirrored tier: one half fails, forgets or lies, and nothing is lost."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers.callbacks import Answer, await_callback, result_of
from fuseswap.tiers.encrypted_tier import EncryptedTier
from fuseswap.tiers.mirror_reads import FIRST, SECOND
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.segment_cipher import SegmentCipher
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.tier_reads import GENERATION, read_extent, write_extent

EXTENTS = 4
OLD, NEW = (random.Random(seed).randbytes(SEGMENT_BYTES) for seed in (1, 2))


class Mirror:
    """Two halves in memory, and workers that use them one after the other."""

    def __init__(self) -> None:
        self.first, self.second = FakeTier(EXTENTS, "one"), FakeTier(EXTENTS + 2, "two")
        self.halves = (self.first, self.second)
        self.marks = bytearray(EXTENTS)
        self.tier = self.next_worker()

    def next_worker(self, *, keeps_marks: bool = True) -> MirroredTier:
        marks = memoryview(self.marks) if keeps_marks else None
        self.tier = MirroredTier("mirror0", self.halves, marks)
        return self.tier

    async def write(self, extent: int, segment: bytes, fails: FakeTier | None = None) -> None:
        for half in self.halves:
            half.fail_writes = half is fails
        await write_extent(self.tier, extent, memoryview(segment))
        for half in self.halves:
            half.fail_writes = False

    async def copy(self, which: int, extent: int) -> bytes | OSError:
        return await await_callback(
            partial(self.tier.begin_read_copy, which, extent, GENERATION, 0, SEGMENT_BYTES)
        )

    async def repair(
        self, bad: int, extent: int, is_good: Callable[[bytes], bool] = lambda found: True
    ) -> OSError | None:
        memory = memoryview(bytearray(SEGMENT_BYTES))
        return await await_callback(
            partial(self.tier.begin_repair, bad, extent, GENERATION, memory, is_good)
        )

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        found = self.tier.statistics()
        return (
            found.mirror_one_sided,
            found.mirror_one_sided_writes,
            found.mirror_second_reads,
            found.mirror_repairs,
        )


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


def test_it_is_as_large_as_its_smaller_half_and_forgets_where_both_do(mirror: Mirror) -> None:
    assert mirror.tier.extent_count == EXTENTS
    assert not mirror.tier.volatile
    mirror.first.volatile = True
    assert not mirror.tier.volatile
    mirror.second.volatile = True
    assert mirror.tier.volatile


@pytest.mark.parametrize("remote", [(False, True), (True, False), (True, True)])
def test_it_is_remote_where_both_halves_are_and_in_no_file_alone(
    mirror: Mirror, remote: tuple[bool, bool]
) -> None:
    mirror.first.is_remote, mirror.second.is_remote = remote
    assert mirror.tier.is_remote is all(remote)
    assert mirror.tier.offset_of(1, 2) is None


# -- writes ------------------------------------------------------------------------------


async def test_a_write_is_done_when_both_are(mirror: Mirror) -> None:
    for half in mirror.halves:
        half.hold_writes, half.cancellable = True, False
    for order in (mirror.halves, mirror.halves[::-1]):
        answers: list[object] = []
        mirror.tier.begin_write(1, GENERATION, memoryview(NEW), answers.append)
        for half in order:
            assert not answers
            half.writes[0].finish()
        assert answers == [None]
    assert bytes(mirror.first.extents[1]) == bytes(mirror.second.extents[1]) == NEW
    assert mirror.numbers == (0, 0, 0, 0)


@pytest.mark.parametrize("bad", [FIRST, SECOND])
async def test_a_half_that_failed_is_not_asked(
    mirror: Mirror, bad: int, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """Though it has something in that extent, and reads it gladly."""
    await mirror.write(1, OLD)
    mirror.tier.release(1, GENERATION)
    for _ in range(3):
        await mirror.write(1, NEW, fails=mirror.halves[bad])
    assert len(caplog.records) == 1
    assert f"{mirror.halves[bad].name} does not take segments" in caplog.text
    assert mirror.tier.only_half(1) == 1 - bad
    for _ in range(3):
        assert await read_extent(mirror.tier, 1, 70, 100) == NEW[70:170]
    assert mirror.halves[bad].reads_begun == 0
    assert mirror.numbers == (1, 3, 3 * (bad == FIRST), 0)
    found = await mirror.copy(bad, 1)
    assert isinstance(found, OSError)
    assert found.errno == errno.ENODATA
    assert await mirror.copy(1 - bad, 1) == NEW
    mirror.halves[1 - bad].fail_reads = True
    with pytest.raises(OSError, match="failed"):
        await read_extent(mirror.tier, 1, 70, 100)
    await trio.sleep(1)
    await mirror.write(2, NEW)
    assert "takes segments again" in caplog.text


@pytest.mark.parametrize("bad", [FIRST, SECOND])
@pytest.mark.parametrize("ends", ["written", "released"])
async def test_a_mark_ends_with_what_it_is_for(
    mirror: Mirror, bad: int, ends: str, autojump_clock: MockClock
) -> None:
    await mirror.write(1, NEW, fails=mirror.halves[bad])
    if ends == "released":
        mirror.tier.release(1, GENERATION)
        assert [half.released for half in mirror.halves] == [[(1, GENERATION)]] * 2
    else:
        await trio.sleep(1)
        await mirror.write(1, OLD)
    assert mirror.tier.only_half(1) is None
    assert mirror.numbers[0] == 0
    assert mirror.marks == bytes(EXTENTS)


@pytest.mark.parametrize("bad", [FIRST, SECOND])
async def test_a_half_that_hangs_gets_one_write_at_a_time(
    mirror: Mirror, bad: int, autojump_clock: MockClock
) -> None:
    """What it was given before takes its time; later segments and reads do not wait for it."""
    hung = mirror.halves[bad]
    await mirror.write(0, NEW, fails=hung)
    hung.hold_writes, hung.cancellable = True, False
    for _ in range(3):
        await write_extent(mirror.tier, 1, memoryview(NEW))
    assert not hung.writes, "it rests"
    await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_extent, mirror.tier, 2, memoryview(NEW))
        await wait_all_tasks_blocked()
        assert len(hung.writes) == 1, "it is tried"
        for _ in range(3):
            await write_extent(mirror.tier, 3, memoryview(NEW))
        assert len(hung.writes) == 1
        assert mirror.numbers[0] == 3
        before = hung.reads_begun
        assert await read_extent(mirror.tier, 3, 0, 100) == NEW[:100]
        assert hung.reads_begun == before
        hung.hold_writes = False
        hung.writes[0].finish()
    assert mirror.numbers[0] == 3
    await mirror.write(3, OLD)
    assert mirror.numbers[0] == 2, "it takes all again"


async def test_a_half_whose_write_failed_is_read_second(
    mirror: Mirror, autojump_clock: MockClock
) -> None:
    await mirror.write(1, NEW)
    await mirror.write(2, NEW, fails=mirror.first)
    assert await read_extent(mirror.tier, 1, 0, 100) == NEW[:100]
    assert mirror.first.reads_begun == 0


async def test_where_both_fail_it_is_an_error_and_no_mark(mirror: Mirror) -> None:
    mirror.first.fail_writes = mirror.second.fail_writes = True
    with pytest.raises(OSError, match="failed"):
        await write_extent(mirror.tier, 1, memoryview(NEW))
    assert mirror.numbers == (0, 0, 0, 0)


@pytest.mark.parametrize("bad", [FIRST, SECOND])
async def test_the_next_worker_knows_what_is_in_one_half(mirror: Mirror, bad: int) -> None:
    await mirror.write(1, OLD)
    await mirror.write(1, NEW, fails=mirror.halves[bad])
    mirror.next_worker()
    assert mirror.numbers[0] == 1
    assert await read_extent(mirror.tier, 1, 0, SEGMENT_BYTES) == NEW


async def test_without_marks_the_other_copy_is_there_for_who_sees_wrong_bytes(
    mirror: Mirror,
) -> None:
    await mirror.write(1, OLD)
    await mirror.write(1, NEW, fails=mirror.first)
    mirror.next_worker(keeps_marks=False)
    assert await read_extent(mirror.tier, 1, 0, SEGMENT_BYTES) == await mirror.copy(FIRST, 1)
    assert await mirror.copy(FIRST, 1) != NEW
    assert await mirror.copy(SECOND, 1) == NEW


async def test_without_marks_the_tag_tells_where_it_is_encrypted() -> None:
    inner = [FakeTier(EXTENTS, extent_bytes=ENCRYPTED_SEGMENT_BYTES) for _ in range(2)]
    first, second = (
        EncryptedTier(half, SegmentCipher(bytes(32), b"swap0", 256 * which))
        for which, half in enumerate(inner)
    )
    worker = MirroredTier("mirror0", (first, second))
    await write_extent(worker, 1, memoryview(OLD))
    assert inner[0].extents[1] != inner[1].extents[1], "a key each"
    inner[0].fail_writes = True
    begin = partial(worker.begin_write, 1, GENERATION + 1, memoryview(NEW))
    assert await await_callback(begin) is None
    inner[0].fail_writes = False
    worker = MirroredTier("mirror0", (first, second))
    read: Callable[[Callable[[object], None]], None] = partial(
        worker.begin_read, 1, GENERATION + 1, 0, SEGMENT_BYTES
    )
    assert await await_callback(read) == NEW
    assert first.unverified == 1


# -- reads -------------------------------------------------------------------------------


async def test_a_read_error_is_answered_from_the_second_without_a_pause(
    mirror: Mirror, mock_clock: MockClock
) -> None:
    """The clock stands still; a pause would have no end."""
    await mirror.write(1, NEW)
    mirror.first.fail_reads = True
    assert await read_extent(mirror.tier, 1, 70, 100) == NEW[70:170]
    assert mirror.numbers == (0, 0, 1, 0)
    mirror.second.fail_reads = True
    with pytest.raises(OSError, match="failed"):
        await read_extent(mirror.tier, 1, 70, 100)


async def test_a_half_that_could_not_be_read_is_asked_second_for_a_while(
    mirror: Mirror, mock_clock: MockClock
) -> None:
    await mirror.write(1, NEW)
    mirror.first.fail_reads = True
    for _ in range(5):
        await read_extent(mirror.tier, 1, 70, 100)
    assert mirror.first.reads_begun == 1
    mirror.first.fail_reads, mirror.second.fail_reads = False, True
    assert await read_extent(mirror.tier, 1, 70, 100) == NEW[70:170], "and asked it is"
    assert mirror.first.reads_begun == 2
    mirror.second.fail_reads = False
    mock_clock.jump(10)
    before = mirror.second.reads_begun
    await read_extent(mirror.tier, 1, 70, 100)
    assert mirror.second.reads_begun == before


# -- repair ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [FIRST, SECOND])
@pytest.mark.parametrize("marked", [False, True])
async def test_repair_writes_what_the_other_half_has(
    mirror: Mirror, bad: int, marked: bool
) -> None:
    await mirror.write(1, NEW, fails=mirror.halves[bad] if marked else None)
    mirror.halves[bad].extents[1] = bytearray(OLD)
    assert await mirror.repair(bad, 1, lambda found: found == NEW) is None
    assert await mirror.copy(bad, 1) == NEW
    assert mirror.tier.only_half(1) is None
    assert mirror.numbers[0] == 0
    assert mirror.numbers[3] == 1


async def test_a_half_that_is_no_better_is_not_written(mirror: Mirror) -> None:
    await mirror.write(1, NEW)
    error = await mirror.repair(FIRST, 1, lambda found: False)
    assert error is not None
    assert error.errno == errno.EBADMSG
    assert mirror.first.written == [1]
    assert mirror.tier.only_half(1) is None


async def test_repair_from_a_half_that_does_not_have_it(mirror: Mirror) -> None:
    await mirror.write(1, NEW, fails=mirror.second)
    error = await mirror.repair(FIRST, 1)
    assert error is not None
    assert error.errno == errno.ENODATA
    assert mirror.tier.only_half(1) == FIRST
    assert await mirror.repair(SECOND, 1) is None, "the one before has ended"


async def test_a_repair_that_fails_leaves_the_half_that_is_right(mirror: Mirror) -> None:
    await mirror.write(1, NEW)
    mirror.first.fail_writes = True
    assert isinstance(await mirror.repair(FIRST, 1), OSError)
    assert mirror.tier.only_half(1) == SECOND
    assert await read_extent(mirror.tier, 1, 0, SEGMENT_BYTES) == NEW
    assert mirror.numbers[3] == 0


async def test_one_repair_at_a_time_and_reads_go_to_the_good_half_meanwhile(
    mirror: Mirror,
) -> None:
    await mirror.write(1, NEW)
    mirror.first.hold_writes, mirror.first.cancellable = True, False
    answer: Answer[OSError | None] = Answer()
    memory = memoryview(bytearray(SEGMENT_BYTES))
    mirror.tier.begin_repair(FIRST, 1, GENERATION, memory, lambda found: True, answer)
    await wait_all_tasks_blocked(0.01)
    error = await mirror.repair(FIRST, 2)
    assert error is not None
    assert error.errno == errno.EBUSY
    before = mirror.first.reads_begun
    assert await read_extent(mirror.tier, 1, 0, 100) == NEW[:100]
    assert mirror.first.reads_begun == before
    mirror.first.writes[0].finish()
    result_of(await answer.wait())
    assert mirror.tier.only_half(1) is None


@pytest.mark.parametrize("phase", ["read", "written"])
async def test_a_segment_dies_while_it_is_repaired(mirror: Mirror, phase: str) -> None:
    """What comes to its extent next waits: two writes of one extent would mix."""
    await mirror.write(1, OLD)
    first, second = mirror.halves
    second.hold_reads = phase == "read"
    first.hold_writes, first.cancellable = phase == "written", False
    repaired: Answer[OSError | None] = Answer()
    memory = memoryview(bytearray(SEGMENT_BYTES))
    mirror.tier.begin_repair(FIRST, 1, GENERATION, memory, lambda found: True, repaired)
    await wait_all_tasks_blocked(0.01)
    mirror.tier.release(1, GENERATION)
    written: Answer[OSError | None] = Answer()
    mirror.tier.begin_write(1, GENERATION + 1, memoryview(NEW), written)
    await wait_all_tasks_blocked(0.01)
    assert not first.released
    assert len(first.writes) == (phase == "written")
    first.hold_writes = second.hold_reads = False
    if phase == "read":
        second.reads[0].finish()
        error = await repaired.wait()
        assert error is not None
        assert error.errno == errno.ESTALE
    else:
        first.writes[0].finish()
        assert await repaired.wait() is None
    assert await written.wait() is None
    assert first.released == [(1, GENERATION)]
    assert bytes(first.extents[1]) == bytes(second.extents[1]) == NEW
    assert mirror.tier.only_half(1) is None


async def test_marks_of_a_large_tier_are_counted_in_pieces() -> None:
    half = FakeTier(10000)
    marks = bytearray(10000)
    for extent in (0, 4095, 4096, 9999):
        marks[extent] = 1 + SECOND
    tier = MirroredTier("mirror0", (half, half), marks)
    assert tier.statistics().mirror_one_sided == 4


async def test_both_halves_run(nursery: trio.Nursery) -> None:
    running: list[str] = []

    class Runs(FakeTier):
        async def run(self) -> None:
            running.append(self.name)
            await trio.sleep_forever()

    tier = MirroredTier("mirror0", (Runs(1, "one"), Runs(1, "two")))
    nursery.start_soon(tier.run)
    await wait_all_tasks_blocked()
    assert sorted(running) == ["one", "two"]

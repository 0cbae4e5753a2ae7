"""A half of a mirror that does not answer: the other one does, and nothing piles up."""

from __future__ import annotations

import errno
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers.callbacks import Answer
from fuseswap.tiers.mirror_reads import FIRST, SECOND
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.units import SEGMENT_BYTES
from tests.support.fake_tier import FakeTier
from tests.support.leftovers import containers, too_long
from tests.support.tier_reads import GENERATION, read_extent, write_extent

DATA = bytes(range(256)) * (SEGMENT_BYTES // 256)


class Mirror:
    def __init__(self) -> None:
        self.halves = FakeTier(4, "one"), FakeTier(4, "two")
        self.tier = MirroredTier("mirror0", self.halves)
        self.tier.set_timeout(30.0)

    def hold(self, *which: int) -> None:
        for half in (FIRST, SECOND):
            self.halves[half].hold_reads = half in which

    def begin(self) -> Answer[bytes | OSError]:
        answer: Answer[bytes | OSError] = Answer()
        self.tier.begin_read(1, GENERATION, 70, 100, answer)
        return answer

    async def read(self) -> float:
        """How long it takes; it is right."""
        began = trio.current_time()
        assert await read_extent(self.tier, 1, 70, 100) == DATA[70:170]
        return trio.current_time() - began

    async def fails(self) -> float:
        """How long it takes to be too late."""
        began = trio.current_time()
        with pytest.raises(OSError, match="no half") as error:
            await read_extent(self.tier, 1, 70, 100)
        assert error.value.errno == errno.ETIMEDOUT
        return trio.current_time() - began


@pytest.fixture
async def mirror(nursery: trio.Nursery) -> Mirror:
    mirror = Mirror()
    nursery.start_soon(mirror.tier.run)
    await write_extent(mirror.tier, 1, memoryview(DATA))
    return mirror


@pytest.mark.parametrize("remote", [False, True])
async def test_a_half_that_does_not_answer_is_not_waited_for(
    mirror: Mirror, remote: bool, autojump_clock: MockClock
) -> None:
    """A disk of this machine, or a server: once 2 s, then the other half is asked first."""
    first, _ = mirror.halves
    first.is_remote = remote
    mirror.hold(FIRST)
    assert await mirror.read() == pytest.approx(2.0, abs=0.5)
    for _ in range(100):
        assert await mirror.read() < 0.1
    await trio.sleep(3600)
    assert await mirror.read() < 0.1, "it still has not answered"
    assert len(first.reads) == 1
    assert mirror.tier.statistics().mirror_second_reads == 102


async def test_it_is_asked_first_again_a_while_after_it_has_answered(
    mirror: Mirror, autojump_clock: MockClock
) -> None:
    first, second = mirror.halves
    mirror.hold(FIRST)
    await mirror.read()
    mirror.hold()
    first.reads[0].finish()
    await trio.sleep(10)
    before = second.reads_begun
    await mirror.read()
    assert second.reads_begun == before


async def test_many_reads_that_wait_together(mirror: Mirror, autojump_clock: MockClock) -> None:
    mirror.hold(FIRST)
    answers = [mirror.begin() for _ in range(200)]
    for answer in answers:
        assert await answer.wait() == DATA[70:170]
    assert trio.current_time() < 3.0
    found = containers(mirror.tier)
    assert not too_long(found, {}, 8), found


@pytest.mark.parametrize("first", [FIRST, SECOND])
async def test_who_answers_first_is_heard_and_the_other_is_not(
    mirror: Mirror, first: int, autojump_clock: MockClock
) -> None:
    mirror.hold(FIRST, SECOND)
    answer = mirror.begin()
    await trio.sleep(5)
    mirror.halves[first].reads[0].finish()
    assert await answer.wait() == DATA[70:170]
    mirror.halves[1 - first].reads[0].fail()
    mirror.hold()
    await trio.sleep(10)
    assert await mirror.read() < 0.1


@pytest.mark.parametrize("first", [FIRST, SECOND])
async def test_one_that_fails_leaves_it_to_the_one_that_is_late(
    mirror: Mirror, first: int, autojump_clock: MockClock
) -> None:
    mirror.hold(FIRST, SECOND)
    answer = mirror.begin()
    await trio.sleep(5)
    mirror.halves[first].reads[0].fail()
    await trio.sleep(3)
    mirror.halves[1 - first].reads[0].finish()
    assert await answer.wait() == DATA[70:170]


async def test_servers_that_are_both_late_are_given_up_in_time(
    mirror: Mirror, autojump_clock: MockClock
) -> None:
    for half in mirror.halves:
        half.is_remote = True
    mirror.hold(FIRST, SECOND)
    assert await mirror.fails() == pytest.approx(30.0, abs=0.5)
    mirror.tier.set_timeout(10.0)
    assert [half.timeout_s for half in mirror.halves] == [10.0, 10.0]
    assert await mirror.fails() == pytest.approx(10.0, abs=0.5)


async def test_a_disk_of_this_machine_is_waited_for_where_nothing_else_is_left(
    mirror: Mirror, autojump_clock: MockClock
) -> None:
    """As one without a mirror is: the kernel says when that fails."""
    mirror.halves[SECOND].is_remote = True
    mirror.hold(FIRST, SECOND)
    answer = mirror.begin()
    await trio.sleep(100)
    mirror.halves[SECOND].reads[0].fail(errno.ETIMEDOUT)
    await trio.sleep(100)
    mirror.halves[FIRST].reads[0].finish()
    assert await answer.wait() == DATA[70:170]


async def test_a_copy_that_does_not_come_is_given_up(
    mirror: Mirror, autojump_clock: MockClock
) -> None:
    """Who asks for it asks for the other one next, or goes on with its scrub."""
    mirror.hold(FIRST)
    answer: Answer[bytes | OSError] = Answer()
    mirror.tier.begin_read_copy(FIRST, 1, GENERATION, 0, 100, answer)
    found = await answer.wait()
    assert isinstance(found, OSError)
    assert found.errno == errno.ETIMEDOUT
    assert trio.current_time() == pytest.approx(30.0, abs=0.5)
    read = partial(mirror.tier.begin_read_copy, SECOND, 1, GENERATION, 0, 100)
    other: Answer[bytes | OSError] = Answer()
    read(other)
    await wait_all_tasks_blocked()
    assert await other.wait() == DATA[:100]
    assert mirror.tier.statistics().mirror_second_reads == 0

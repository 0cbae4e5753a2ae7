"""How long a read of a remote tier may take, by a clock of the test's own.

The other end of its socket is a script here: it says what a tier process would say, or nothing.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.callbacks import Answer
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.units import SEGMENT_BYTES
from tests.support.tier_processes import TierHost, worker_of
from tests.support.tier_reads import GENERATION, read_extent, write_extent


class Script:
    """What a process says; it has taken in ``asked`` what was asked of it."""

    def __init__(self, host: TierHost) -> None:
        self._socket = host.process_end
        self._epoch = 0
        self._incarnation = 0

    def take(self) -> list[wire.Packet]:
        asked: list[wire.Packet] = []
        while True:
            try:
                packet = self._socket.recv(wire.REQUEST.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return asked
            asked.append(wire.Packet(*wire.REQUEST.unpack(packet)))
            self._epoch = asked[-1].epoch

    async def begin(self, incarnation: int) -> None:
        """A process has come, and has heard of the worker."""
        await wait_all_tasks_blocked()
        self._incarnation = incarnation
        self.take()
        self._answer(wire.HELLO, 0)

    def end(self, request: wire.Packet, code: int = 0) -> None:
        self._answer(wire.DONE, request.number, code)

    def _answer(self, operation: int, number: int, code: int = 0) -> None:
        self._socket.send(wire.ANSWER.pack(operation, code, self._epoch, self._incarnation, number))


@pytest.fixture
async def host() -> AsyncIterator[TierHost]:
    host = TierHost("files")
    try:
        yield host
    finally:
        host.close()


async def time_of_a_read(tier: RemoteTier, extent: int = 0) -> float:
    """Until it is too late."""
    began = trio.current_time()
    with pytest.raises(OSError, match="tier0") as error:
        await read_extent(tier, extent, 0, 100)
    assert error.value.errno == errno.ETIMEDOUT
    return trio.current_time() - began


def begin_read(tier: RemoteTier) -> Answer[bytes | OSError]:
    answer: Answer[bytes | OSError] = Answer()
    tier.begin_read(0, GENERATION, 0, 100, answer)
    return answer


async def test_a_read_is_given_up_after_the_timeout_which_may_change(
    host: TierHost, autojump_clock: MockClock
) -> None:
    script = Script(host)
    async with worker_of(host, timeout_s=20.0) as tier:
        await script.begin(1)
        answer = begin_read(tier)
        await trio.sleep(15)
        (asked,) = script.take()
        assert 19_000 < asked.limit_ms < 20_000, "the process gives up first"
        tier.set_timeout(10.0)
        found = await answer.wait()
        assert isinstance(found, OSError)
        assert trio.current_time() == pytest.approx(15.0, abs=0.3)


async def test_a_process_that_has_said_nothing_for_so_long_is_silent(
    host: TierHost, autojump_clock: MockClock
) -> None:
    """A thousand reads, one after the other, cost one time-out, and a second now and then."""
    async with worker_of(host, timeout_s=10.0) as tier:
        await Script(host).begin(1)
        assert await time_of_a_read(tier) == pytest.approx(10.0, abs=0.3)
        began = trio.current_time()
        for extent in range(1000):
            await time_of_a_read(tier, extent % 60)
        assert trio.current_time() - began < 0.1
        await trio.sleep(5)
        assert await time_of_a_read(tier) == pytest.approx(1.0, abs=0.3)
        assert await time_of_a_read(tier) < 0.1


async def test_reads_that_wait_together_end_together(
    host: TierHost, autojump_clock: MockClock
) -> None:
    async with worker_of(host, timeout_s=10.0) as tier:
        await Script(host).begin(1)
        first = begin_read(tier)
        await trio.sleep(9)
        answers = [first, *(begin_read(tier) for _ in range(100))]
        for answer in answers:
            assert isinstance(await answer.wait(), OSError)
        assert trio.current_time() == pytest.approx(10.0, abs=1.3)


async def test_after_an_answer_it_is_asked_as_before(
    host: TierHost, autojump_clock: MockClock
) -> None:
    script = Script(host)
    async with worker_of(host, timeout_s=10.0) as tier:
        await script.begin(1)
        await time_of_a_read(tier)
        (late,) = script.take()
        script.end(late, errno.ETIMEDOUT)
        await trio.sleep(0.1)
        answer = begin_read(tier)
        await trio.sleep(5)
        script.end(script.take()[-1])
        assert await answer.wait() == bytes(100)


async def test_another_process_is_asked_at_once(host: TierHost, autojump_clock: MockClock) -> None:
    script = Script(host)
    async with worker_of(host, timeout_s=10.0) as tier:
        await script.begin(1)
        await time_of_a_read(tier)
        assert await time_of_a_read(tier) < 0.1
        await script.begin(2)
        await trio.sleep(0.1)
        answer = begin_read(tier)
        await trio.sleep(0.1)
        script.end(script.take()[-1])
        assert await answer.wait() == bytes(100)


async def test_a_process_that_answers_others_is_not_silent(
    host: TierHost, autojump_clock: MockClock
) -> None:
    """Of a cluster one part may be dead: pages of the others are no errors."""
    script = Script(host)
    async with worker_of(host, timeout_s=10.0) as tier:
        await script.begin(1)
        dead = begin_read(tier)
        script.take()
        await trio.sleep(5)
        other = begin_read(tier)
        script.end(script.take()[-1])
        assert await other.wait() == bytes(100)
        assert isinstance(await dead.wait(), OSError)
        assert await time_of_a_read(tier) == pytest.approx(10.0, abs=0.3)


async def test_a_client_that_hangs_is_cancelled_in_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Its process says so, and is not silent."""
    (tmp_path / "rules-of-client").write_text("")
    host = TierHost("files", str(tmp_path))
    try:
        async with worker_of(host, timeout_s=10.0) as tier, trio.open_nursery() as nursery:
            nursery.start_soon(host.process_here().run)
            await write_extent(tier, 0, memoryview(bytes(SEGMENT_BYTES)))
            (tmp_path / "rules-of-client").write_text("hang")
            for _ in range(3):
                assert await time_of_a_read(tier) == pytest.approx(9.8, abs=0.3)
            assert not tier.busy_places
            nursery.cancel_scope.cancel()
    finally:
        host.close()

"""Packets between a worker and a tier process in any state: both go on, each request ends once."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.remote_tier import RemoteTier
from tests.support.fuzzed import NUMBERS, bytes_like, tries
from tests.support.tier_processes import TierHost

GENERATION = 3
U64 = NUMBERS.map(lambda number: number % (1 << 64))
U32 = NUMBERS.map(lambda number: number % (1 << 32))
U8 = st.integers(0, 255)
SESSION = st.none() | U64  # None: the right one
ANSWERS = st.one_of(
    st.tuples(st.just(wire.DONE), U32, st.none(), st.none(), st.integers(0, 6)),
    st.tuples(U8, U32, SESSION, SESSION, U64),
)
REQUESTS = st.tuples(
    st.sampled_from((wire.READ, wire.WRITE, wire.RELEASE)) | U8, U32, U64 | st.none(),
    U64 | st.none(), U64, U64, U32, U32, U32, U32 | st.sampled_from((4096, 8192)),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@tries(25)
@given(told=st.lists(ANSWERS | bytes_like(bytes(wire.ANSWER.size)), max_size=6))
def test_a_worker_outlives_any_answer(told: list[Any]) -> None:
    outlive(told)


def outlive(told: list[Any]) -> list[object]:
    """Each read and write ends, at the latest when it is too late; no place is given twice."""
    host = TierHost("files")
    ended: list[object] = []

    async def main() -> None:
        tier = host.tier(timeout_s=0.5, write_timeout_s=0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tier.run)
            greet(tier, host.process_end)
            for extent in range(4):  # there are places for three
                tier.begin_write(extent, GENERATION, memoryview(b"some"), ended.append)
            tier.begin_read(1, GENERATION, 0, 100, ended.append)
            await wait_all_tasks_blocked()
            for one in told:
                send(tier, host.process_end, one)
                await wait_all_tasks_blocked()
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
        check_places(tier)

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        host.close()
    assert len(ended) == 5
    assert all(one is None or isinstance(one, OSError | bytes) for one in ended)
    return ended


def greet(tier: RemoteTier, end: socket.socket) -> None:
    end.send(wire.ANSWER.pack(wire.HELLO, 0, tier._epoch, 77, 0))


def send(tier: RemoteTier, end: socket.socket, one: bytes | tuple[Any, ...]) -> None:
    """None is what is right."""
    if isinstance(one, tuple):
        operation, code, epoch, incarnation, number = one
        epoch = tier._epoch if epoch is None else epoch
        one = wire.ANSWER.pack(
            operation, code, epoch, 77 if incarnation is None else incarnation, number
        )
    if one:  # one of no bytes is the end of the socket
        end.send(one)


def check_places(tier: RemoteTier) -> None:
    for line, kind in zip(tier._lines, wire.KINDS, strict=True):
        places = [*line.free, *line.overdue.values()]
        assert len(places) == kind.places
        assert len(set(places)) == len(places)
        assert 0 not in places


class Answering:
    """A client whose segments are zeros."""

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        pass

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        return bytes(min(length, wire.LARGEST_BYTES))

    async def release(self, extent: int, generation: int) -> None:
        pass


@tries(25)
@given(told=st.lists(REQUESTS | bytes_like(bytes(wire.REQUEST.size)), max_size=6))
def test_a_tier_process_outlives_any_request(told: list[Any]) -> None:
    outlive_requests(told)


def outlive_requests(told: list[Any]) -> None:
    """It still says hello to a worker that begins."""
    host = TierHost("files")

    async def main() -> None:
        process = host.process_here()
        process._client = Answering()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.run)
            for one in told:
                if isinstance(one, tuple):
                    right = [process._epoch, process._incarnation]
                    session = [b if a is None else a for a, b in zip(one[2:4], right, strict=True)]
                    one = wire.REQUEST.pack(*one[:2], *session, *one[4:])
                if one and one[0] != wire.END:
                    host.worker_end.send(one)
                await wait_all_tasks_blocked()
            host.worker_end.send(wire.REQUEST.pack(wire.BEGIN, 0, 99, 0, 0, 0, 0, 0, 0, 0))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        heard = []
        while True:
            try:
                heard.append(wire.ANSWER.unpack(host.worker_end.recv(wire.ANSWER.size)))
            except BlockingIOError:
                break
        assert wire.read_pulse(host.memory)[0] == process._incarnation
        assert heard[-1][:3] == (wire.HELLO, 0, 99)

    try:
        trio.run(main)
    finally:
        host.close()


@pytest.mark.parametrize(
    "told",
    [
        (wire.DONE, (1 << 32) - 1, None, None, 1),  # no errno
        (wire.DONE, 0, None, None, 4),  # in line, without a place
        (9, 0, None, None, 1),  # no such answer
    ],
)
def test_what_makes_no_sense_ends_no_request_well(told: Any) -> None:
    assert all(isinstance(one, OSError) for one in outlive([told]))


@pytest.mark.parametrize(
    "told",
    [
        b"\1",
        (wire.READ, 0, None, None, 1, 1, 0, 0, 100, (1 << 32) - 1),  # behind the memory
        (wire.READ, 0, None, None, 1, 1, 0, 0, 100, 0),  # the pulse
    ],
)
def test_nor_is_a_place_used_that_there_is_not(told: Any) -> None:
    outlive_requests([told])

"""Reads without a task each: what goes out, what comes of the answers, and when it is refused."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import pytest
import trio
from coredis.connection import TCPConnection
from coredis.exceptions import ResponseError
from trio.testing import MockClock

from fuseswap.tiers.valkey_direct import DirectReads
from fuseswap.tiers.valkey_links import Link

TIMEOUT_S = 2.0


class Stream:
    """One whose socket is ``end``."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def extra(self, attribute: object) -> socket.socket:
        return self._end


class Connection:
    """As much of coredis' connection as is used; `invalidate` ends it at once."""

    def __init__(self, end: socket.socket) -> None:
        self.stream = Stream(end)
        self.usable = True
        self._requests: deque[Any] = deque()

    def invalidate(self, reason: str) -> None:
        self.usable = False
        while self._requests:
            self._requests.popleft().fail(ConnectionError(reason))

    def answer(self, response: object) -> None:
        self._requests[0].consume(response)
        assert self._requests.popleft().complete

    def begin_own(self) -> None:
        self._requests.append(object())


class Reads:
    """Over a socket whose other end the test has."""

    def __init__(self, end: socket.socket) -> None:
        self.link = Link(("server", 1), {}, cast("trio.Nursery", None))
        self.connect(end)
        self.direct = DirectReads(TIMEOUT_S)
        self.done: list[tuple[int, bytes | None]] = []

    def connect(self, end: socket.socket) -> None:
        self.connection = Connection(end)
        self.link._connection = cast("TCPConnection", self.connection)

    def begin(self, number: int, length: int = 3) -> bool:
        return self.direct.begin(
            self.link, b"key%d" % number, 7, length, lambda data: self.done.append((number, data))
        )


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]


async def test_reads_of_one_turn_are_one_packet(ends: Ends) -> None:
    reads = Reads(ends[0])
    assert all(reads.begin(number) for number in range(3))
    with pytest.raises(BlockingIOError):
        ends[1].recv(1)
    reads.direct.flush()
    command = "*4\r\n$8\r\nGETRANGE\r\n$4\r\nkey{}\r\n$1\r\n7\r\n$1\r\n9\r\n"
    assert ends[1].recv(4096).decode() == "".join(command.format(number) for number in range(3))
    for data in (b"abc", b"def", b"ghi"):
        reads.connection.answer(data)
    assert reads.done == [(0, b"abc"), (1, b"def"), (2, b"ghi")]


@pytest.mark.parametrize(
    "answer", [b"", b"ab", b"abcd", None, 3, [b"abc"], ResponseError("MOVED 1 host:2")]
)
async def test_whatever_is_not_the_bytes_is_asked_for_again(ends: Ends, answer: object) -> None:
    reads = Reads(ends[0])
    assert reads.begin(0)
    reads.direct.flush()
    reads.connection.answer(answer)
    assert reads.done == [(0, None)]
    assert reads.begin(1), "the connection is good"


async def test_nothing_is_sent_into_a_half_of_a_request_of_coredis(ends: Ends) -> None:
    reads = Reads(ends[0])
    reads.connection.begin_own()
    assert not reads.begin(0)
    reads.connection._requests.clear()
    assert reads.begin(1)
    reads.connection.begin_own()  # before its turn ended
    reads.direct.flush()
    with pytest.raises(BlockingIOError):
        ends[1].recv(1)
    assert reads.done == [(1, None)]


async def test_a_socket_without_room_sends_none_of_it(ends: Ends) -> None:
    reads = Reads(ends[0])
    with contextlib.suppress(BlockingIOError):
        while True:
            ends[0].send(bytes(4096))
    assert reads.begin(0)
    reads.direct.flush()
    assert reads.done == [(0, None)]
    assert reads.connection.usable
    assert not reads.link.rests


async def test_a_half_of_a_packet_ends_its_connection(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it could only come after what others send."""
    reads = Reads(ends[0])
    assert reads.begin(0)
    assert reads.begin(1)
    monkeypatch.setattr("os.write", lambda fd, data: ends[0].send(data[:50]))
    reads.direct.flush()
    assert not reads.connection.usable
    assert reads.done == [(0, None), (1, None)]


async def test_an_end_that_is_gone_is_said_once(ends: Ends) -> None:
    reads = Reads(ends[0])
    ends[1].close()
    assert reads.begin(0)
    reads.direct.flush()
    assert not reads.connection.usable
    assert reads.done == [(0, None)]


def test_a_read_that_is_late_ends_its_connection_and_the_link_rests(ends: Ends) -> None:
    async def main() -> None:
        reads = Reads(ends[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads.direct.run)
            assert reads.begin(0)
            assert reads.begin(1)
            reads.direct.flush()
            reads.connection.answer(b"abc")
            await trio.sleep(0.9 * TIMEOUT_S)
            assert reads.done == [(0, b"abc")]
            await trio.sleep(0.5 * TIMEOUT_S)
            assert reads.done == [(0, b"abc"), (1, None)]
            reads.connect(ends[0])
            reads.link.note_failed()
            assert not reads.begin(2), "others are asked first"
            await trio.sleep(TIMEOUT_S)
            assert reads.begin(2)
            reads.direct.flush()
            reads.connection.answer(b"xyz")
            assert reads.done[-1] == (2, b"xyz")
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_tls_takes_the_other_way(ends: Ends) -> None:
    reads = Reads(ends[0])
    reads.link.has_tls = True
    assert not reads.begin(0)

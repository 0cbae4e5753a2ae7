"""Reads that are asked for in the turn that wants them, and answered in the turn that hears.

    begin -> in line -> flush: one packet for all of this turn -> answered: done(data)
                 |                                             '-> too late, lost, an error,
                 '-> no room in the socket: done(None)             no such key: done(None)

A request to coredis takes a task, and four turns of trio's loop: who waits for the server waits for
those.  These take two turns, and no task.  None says no more than that the caller has to ask again,
where tries, replicas and errors are known (``valkey_client.py``).

coredis has made the connection, and parses what comes.  Its requests have a writer of their own,
which may have sent a half of one.  So a read goes out here only where all that is unanswered went
out here too.  Not over TLS: a record can't be sent at once.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import trio
from anyio.abc import SocketAttribute
from coredis.connection import TCPConnection

from fuseswap.tiers.valkey_links import Link

Done = Callable[[bytes | None], None]

_LOOKS = 4  # in the time that an answer may take


class _Asked:
    """A read, as coredis' connection sees its requests."""

    __slots__ = ("complete", "current_decode", "current_encoding", "due", "flow", "length", "next")

    def __init__(self, flow: _Flow, length: int, due: float, done: Done) -> None:
        self.complete = False
        self.current_decode = False
        self.current_encoding = None
        self.due = due
        self.flow = flow
        self.length = length
        self.next = done

    def consume(self, response: Any) -> None:
        """It is the answer, or an error."""
        good = isinstance(response, bytes) and len(response) == self.length
        self._end(response if good else None)

    def fail(self, error: BaseException) -> None:
        """The connection has ended."""
        self.flow.link.note_failed()
        self._end(None)

    def _end(self, data: bytes | None) -> None:
        self.complete = True
        self.flow.unanswered -= 1
        self.next(data)


class _Flow:
    """Reads over one connection: those in line leave it at `flush`."""

    def __init__(self, link: Link, connection: TCPConnection) -> None:
        self.link = link
        self.connection = connection
        self.unanswered = 0
        self._asked: deque[_Asked] = deque()  # oldest first, as many as places; some are complete
        self._line: list[tuple[bytes, _Asked]] = []  # of this turn; as many as places at most
        assert connection.stream is not None
        raw: socket.socket = connection.stream.extra(SocketAttribute.raw_socket)
        self._fd = raw.fileno()

    @property
    def is_open(self) -> bool:
        """Whether nothing of coredis' own is on its way."""
        connection = self.connection
        return connection.usable and len(connection._requests) == self.unanswered

    def enqueue(self, packet: bytes, asked: _Asked) -> None:
        """To be sent at `flush`."""
        self._line.append((packet, asked))

    def flush(self) -> None:
        """Send what is in line.  Where that can't be, each is told so."""
        line, self._line = self._line, []
        packets = b"".join(packet for packet, _ in line)
        sent = 0
        try:
            if self.is_open:
                sent = os.write(self._fd, packets)
        except BlockingIOError:
            pass
        except OSError:
            self.connection.invalidate("a read could not be sent")
        if not sent:
            for _, asked in line:
                asked.next(None)
            return
        self._drop_complete()
        self.unanswered += len(line)
        for _, asked in line:
            self.connection._requests.append(asked)  # type: ignore[arg-type]
            self._asked.append(asked)
        if sent < len(packets):  # what is left of it can't follow
            self.connection.invalidate("a half of a read was sent")

    def end_what_is_late(self, now: float) -> None:
        """The connection ends with a read that is too late, and all of its reads with it."""
        self._drop_complete()
        if self._asked and self._asked[0].due < now:
            self.connection.invalidate("a read was not answered")

    def _drop_complete(self) -> None:
        while self._asked and self._asked[0].complete:
            self._asked.popleft()


class DirectReads:
    """Reads of one tier; each is answered within ``timeout_s``, or its connection ends."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._flows: dict[Link, _Flow] = {}  # of nodes that ever were
        self._filled: list[_Flow] = []  # each once

    def begin(self, link: Link, key: bytes, offset: int, length: int, done: Done) -> bool:
        """Whether it is in line; then ``done`` comes once, at `flush` or later."""
        flow = self._flows.get(link)
        if flow is None or flow.connection is not link.connection:
            if link.connection is None or link.has_tls or not link.connection.usable:
                return False
            flow = self._flows[link] = _Flow(link, link.connection)
        if link.rests or not flow.is_open:
            return False
        last = b"%d" % (offset + length - 1)
        first = b"%d" % offset
        packet = b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            len(key), key, len(first), first, len(last), last,
        )  # fmt: skip
        due = trio.current_time() + self._timeout_s
        flow.enqueue(packet, _Asked(flow, length, due, done))
        if flow not in self._filled:
            self._filled.append(flow)
        return True

    def flush(self) -> None:
        """Send what is in line; at the end of the turn that began it."""
        while self._filled:
            self._filled.pop().flush()

    async def run(self) -> None:
        """Watch the time.  Never returns."""
        while True:
            await trio.sleep(self._timeout_s / _LOOKS)
            now = trio.current_time()
            for flow in self._flows.values():
                flow.end_what_is_late(now)

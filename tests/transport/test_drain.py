"""devfuse's loop: all that waits is answered before it yields; it polls, then sleeps."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat

import pytest
import trio
import trio.testing

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import Tree
from fuseswap.transport import devfuse
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.share import Share
from tests.support.fuse_requests import REPLY, Op, read_request, request, write_request

Served = tuple[DevFuse, socket.socket]


@contextmanager
def serving(tree: Tree) -> Iterator[Served]:
    """A transport over a socket pair: one message a read, as /dev/fuse has it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        yield DevFuse(theirs.fileno(), tree, share=Share(percent=100)), ours


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stretch ends because this machine is slow."""
    monkeypatch.setattr(devfuse, "_STRETCH_NS", 60_000_000_000)


@pytest.fixture
def served(tree: Tree) -> Iterator[Served]:
    with serving(tree) as both:
        yield both


class Processors:
    """Stands in for the run queue of a machine that is busy with other things."""

    crowded = False

    def is_crowded(self) -> bool:
        return self.crowded

    def close(self) -> None:
        return


@pytest.fixture(autouse=True)
def processors(monkeypatch: pytest.MonkeyPatch) -> Processors:
    """Nobody else wants one, until the test says so."""
    found = Processors()
    monkeypatch.setattr(devfuse, "RunQueue", lambda: found, raising=False)
    return found


def replies(ours: socket.socket) -> list[int]:
    """Sizes of the replies that have come."""
    found: list[int] = []
    while True:
        try:
            reply = ours.recv(1 << 21)
        except BlockingIOError:
            return found
        assert REPLY.unpack_from(reply)[0] == len(reply)
        found.append(len(reply))


class Clock:
    """Each look at the clock takes 100 ns, each yield ``yield_ns``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, yield_ns: int) -> None:
        self.now = 0
        monkeypatch.setattr(devfuse, "perf_counter_ns", lambda: self._pass(100))
        monkeypatch.setattr("os.sched_yield", lambda: self._pass(yield_ns))

    def _pass(self, ns: int) -> int:
        self.now += ns
        return self.now


class Script:
    """Stands in for /dev/fuse: each read takes the next step; None is 'nothing there'."""

    def __init__(self, transport: DevFuse, steps: Iterator[bytes | OSError | None]) -> None:
        self._transport = transport
        self._steps = steps
        self.reads = 0

    def readinto(self, buffer: bytearray) -> int | None:
        self.reads += 1
        step = next(self._steps)
        if isinstance(step, OSError):
            raise step
        if step is None:
            return None
        buffer[: len(step)] = step
        return len(step)


def play(transport: DevFuse, steps: Iterator[bytes | OSError | None]) -> Script:
    script = Script(transport, steps)
    transport._file = script  # type: ignore[assignment]
    return script


def test_everything_waiting_is_answered_at_once(served: Served, device: Device) -> None:
    transport, ours = served
    for _ in range(5):
        ours.send(read_request(0, 4096))
    ours.send(request(Op.FORGET, 2, bytes(8)))
    ours.send(request(Op.STATFS, 1))
    assert not transport.drain(), "nothing is left"
    assert replies(ours) == [16 + 4096] * 5 + [16 + 80]
    assert device.transport.requests == 7


def test_nothing_there_returns_at_once(served: Served, device: Device) -> None:
    transport, ours = served
    script = play(transport, iter([None]))
    assert not transport.drain()
    assert script.reads == 1, "an idle device does not poll"
    assert replies(ours) == []


def test_polling_catches_the_next_request(
    served: Served, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, yield_ns=1000)
    transport, ours = served
    transport._window.ns = 60_000_000_000

    def steps() -> Iterator[bytes | None]:
        yield read_request(0, 4096)
        for _ in range(100):
            yield None
        transport._window.ns = 0
        yield read_request(0, 4096)
        yield None

    script = play(transport, steps())
    assert not transport.drain()
    assert script.reads == 103
    assert len(replies(ours)) == 2
    assert device.transport.requests == 2


def test_in_a_crowd_it_sleeps_at_once(
    served: Served, processors: Processors, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, yield_ns=5_000)
    transport, _ = served
    transport._window.ns = 200_000
    processors.crowded = True
    for _ in range(3):
        clock.now += 1_000_000
        play(transport, chain([read_request(0, 4096)], repeat(None)))
        assert not transport.drain()
    script = play(transport, chain([read_request(0, 4096)], repeat(None)))
    assert not transport.drain()
    assert script.reads == 2
    processors.crowded = False
    for _ in range(4):
        clock.now += 1_000_000
        script = play(transport, chain([read_request(0, 4096)], repeat(None)))
        assert not transport.drain()
    assert script.reads > 5, "and it polls again when the crowd has gone"


def test_a_thread_that_took_the_processor_ends_polling(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A yield that lasts as long as others compute: 3 ms, of which the next request waited."""
    Clock(monkeypatch, yield_ns=3_000_000)
    transport, ours = served
    transport._window.ns = 200_000
    play(transport, iter([read_request(0, 4096), None, read_request(0, 4096), None]))
    assert not transport.drain(), "the request behind the lost yield is answered, then it sleeps"
    assert len(replies(ours)) == 2


@pytest.fixture
def broken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads raise what nobody raises on purpose; there is a next worker."""
    transport, _ = served

    def read(offset: int, size: int) -> bytes:
        raise ValueError("a mistake")

    monkeypatch.setattr(transport._swapfile, "read", read)
    monkeypatch.setattr(transport, "_settled", True)


@pytest.mark.usefixtures("broken")
def test_a_worker_ends_of_what_nobody_raised_on_purpose(served: Served) -> None:
    transport, ours = served
    play(transport, iter([read_request(0, 4096), None]))
    with pytest.raises(ValueError, match="a mistake"):
        transport.drain()
    assert replies(ours) == []


@pytest.mark.usefixtures("broken")
def test_the_second_try_of_a_request_that_ended_a_worker_is_an_error(served: Served) -> None:
    transport, ours = served
    again = bytearray(read_request(0, 4096))
    again[15] |= 0x80  # FUSE_UNIQUE_RESEND
    play(transport, iter([bytes(again), None]))
    assert not transport.drain()
    assert replies(ours) == [16], "an error and no data"


def test_other_tasks_get_a_turn(
    served: Served, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any request: a large one takes a second on a slow machine."""
    monkeypatch.setattr(devfuse, "_STRETCH_NS", 0)
    transport, ours = served

    def endless() -> Iterator[bytes]:
        while True:
            yield write_request(0, bytes(1 << 20))

    script = play(transport, endless())
    assert transport.drain(), "there may be more"
    assert script.reads == 1
    assert device.transport.requests == 1
    assert len(replies(ours)) == 1, "what is done is answered before the others have a turn"


def test_a_request_that_went_away_is_no_matter(served: Served) -> None:
    transport, ours = served
    gone = [OSError(errno.ENOENT, "aborted"), OSError(errno.EINTR, "signal")]
    play(transport, iter([*gone, read_request(0, 4096), None]))
    assert not transport.drain()
    assert len(replies(ours)) == 1


def test_the_window_doubles_up_to_the_limit(served: Served, device: Device) -> None:
    transport, _ = served
    device.busy_poll_us = 50
    windows = []
    for _ in range(5):
        transport._window.adapt(1_000, device.busy_poll_us * 1000)
        windows.append(transport._window.ns)
    assert windows == [10_000, 20_000, 40_000, 50_000, 50_000]


def test_the_window_halves_down_to_nothing(served: Served, device: Device) -> None:
    transport, _ = served
    device.busy_poll_us = 50
    transport._window.ns = 50_000
    for _ in range(7):
        transport._window.adapt(1_000_000, device.busy_poll_us * 1000)
    assert transport._window.ns == 0
    transport._window.adapt(1_000_000, device.busy_poll_us * 1000)
    assert transport._window.ns == 0


def test_zero_turns_polling_off(served: Served, device: Device) -> None:
    transport, _ = served
    transport._window.ns = 50_000
    device.busy_poll_us = 0
    for _ in range(10):
        transport._window.adapt(1, device.busy_poll_us * 1000)
    assert transport._window.ns == 0


def test_a_smaller_limit_holds_from_the_next_sleep(served: Served, device: Device) -> None:
    transport, _ = served
    transport._window.ns = 50_000
    device.busy_poll_us = 5
    transport._window.adapt(1_000, device.busy_poll_us * 1000)
    assert transport._window.ns <= 5_000


async def test_serve_sleeps_and_wakes(served: Served, device: Device) -> None:
    transport, ours = served
    device.busy_poll_us = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await trio.testing.wait_all_tasks_blocked()
        assert device.transport.wakeups == 1
        for expected in (2, 3):
            ours.send(read_request(0, 4096))
            await trio.lowlevel.wait_readable(ours)
            await trio.testing.wait_all_tasks_blocked()
            assert replies(ours) == [16 + 4096]
            assert device.transport.wakeups == expected
        nursery.cancel_scope.cancel()
    assert device.transport.requests == 2


async def test_serve_ends_when_unmounted(served: Served) -> None:
    transport, _ = served
    play(transport, iter([read_request(0, 4096), OSError(errno.ENODEV, "unmounted")]))
    await transport.serve()


async def test_serve_passes_other_errors_on(served: Served) -> None:
    transport, _ = served
    play(transport, iter([OSError(errno.EIO, "broken")]))
    with pytest.raises(OSError, match="broken"):
        await transport.serve()


@pytest.mark.parametrize(("code", "complaints"), [(errno.ENOENT, 0), (errno.EINVAL, 1)])
def test_a_refused_reply_does_not_end_it(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: int,
    complaints: int,
) -> None:
    transport, _ = served
    before = transport._counters.refused_replies

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    play(transport, iter([read_request(0, 4096), None]))
    with caplog.at_level(logging.ERROR), monkeypatch.context() as patch:
        patch.setattr("fuseswap.transport.devfuse.os.write", refuse)
        assert not transport.drain()
    assert len(caplog.records) == complaints
    assert transport._counters.refused_replies - before == complaints


@pytest.mark.parametrize(("failures", "refused"), [(1, 0), (3, 0), (9, 1)])
def test_a_reply_that_found_no_memory_is_written_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, failures: int, refused: int
) -> None:
    transport, ours = served
    write, left = os.write, [errno.ENOMEM] * failures

    def refuse(fd: int, data: bytes) -> int:
        if left:
            raise OSError(left.pop(), "no memory")
        return write(fd, data)

    play(transport, iter([read_request(0, 4096), None]))
    with monkeypatch.context() as patch:
        patch.setattr("fuseswap.transport.devfuse.os.write", refuse)
        assert not transport.drain()
    assert replies(ours) == [16 + 4096] * (not refused)
    assert transport._counters.refused_replies == refused


def test_unmounted_while_replying_ends_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    transport, _ = served

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.ENODEV, "unmounted")

    play(transport, iter([read_request(0, 4096), None]))
    with monkeypatch.context() as patch:
        patch.setattr("fuseswap.transport.devfuse.os.write", refuse)
        with pytest.raises(OSError, match="unmounted"):
            transport.drain()


def test_requests_that_trickle_in_do_not_starve_the_others(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, ours = served
    times = chain([0, 0], repeat(61_000_000_000))  # a stretch is over after the request
    monkeypatch.setattr(devfuse, "perf_counter_ns", lambda: next(times))
    script = play(transport, iter([read_request(0, 4096), None, None]))
    assert transport.drain(), "come back, after the others had a turn"
    assert script.reads == 2
    assert len(replies(ours)) == 1
    assert not transport.drain()


async def test_a_write_that_waits_keeps_its_bytes(
    served: Served, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request is read into the same buffer."""
    transport, _ = served
    assert transport._journal is None
    monkeypatch.setattr(transport._slowpath, "has_to_wait", lambda offset, size: True)
    first, second = (bytes(range(n, n + 128)) * 32 for n in (0, 100))
    play(transport, iter([write_request(0, first), write_request(4096, second), None]))
    transport.drain()
    await trio.testing.wait_all_tasks_blocked()
    assert device.swapfile.read(0, 8192) == first + second

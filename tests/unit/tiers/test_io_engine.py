"""The engine never waits in io_submit: it says so to the kernel, and threads do what would wait."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fuseswap.linux.aio import RWF_NOWAIT
from fuseswap.tiers.io_engine import _WRITE_SLOTS, AioEngine, ThreadEngine
from fuseswap.tiers.io_threads import IoThreads
from fuseswap.units import MIB, PAGE_SIZE


class Opened:
    """A file of 2 MiB, opened for direct I/O, and what its engine did with each request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(range(256)) * (2 * MIB // 256))
        os.sync()
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.engine = AioEngine()
        self.engine.know(self.fd)
        self.memory = memoryview(mmap.mmap(-1, MIB))
        self.flags: list[int] = []
        self.handed_over = 0
        submit, hand_over = self.engine._context.submit, self.engine._hand_over

        def noted(*arguments: int) -> None:
            self.flags.append(arguments[-1])
            submit(*arguments)  # type: ignore[arg-type]

        def counted(*arguments: object) -> None:
            self.handed_over += 1
            hand_over(*arguments)  # type: ignore[arg-type]

        self.submitted: Callable[..., None] = noted
        self.engine._context.submit = lambda *given: self.submitted(*given)  # type: ignore[method-assign]
        self.engine._hand_over = counted  # type: ignore[method-assign,assignment]

    async def do(self, *, write: bool = False, length: int = PAGE_SIZE, at: int = 0) -> int:
        """Carry one out; its result."""
        ended = trio.Event()
        results: list[int] = []

        def note(result: int) -> None:
            results.append(result)
            ended.set()

        memory = self.memory[:length]
        self.engine.submit(write=write, fd=self.fd, memory=memory, at=at, ended=note)
        await ended.wait()
        assert self.engine.in_flight == 0
        return results[0]


@pytest.fixture
async def opened(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Opened]:
    found = Opened(tmp_path / "file")
    nursery.start_soon(found.engine.run)
    yield found
    found.engine.close()
    os.close(found.fd)


async def test_no_request_may_wait_in_io_submit(opened: Opened) -> None:
    assert await opened.do() == PAGE_SIZE
    assert await opened.do(write=True, at=PAGE_SIZE) == PAGE_SIZE
    assert opened.flags == [RWF_NOWAIT] * 2


async def test_what_would_wait_is_done_by_a_thread(opened: Opened) -> None:
    """A direct read of what is dirty in the page cache has to wait for its writeback."""
    with open(opened.path, "r+b", buffering=0) as file:
        file.write(b"n" * PAGE_SIZE)
        assert await opened.do() == PAGE_SIZE
    assert opened.memory[:PAGE_SIZE] == b"n" * PAGE_SIZE
    assert opened.handed_over == 1


async def test_what_is_large_is_done_by_a_thread(opened: Opened) -> None:
    opened.memory[:] = b"w" * MIB
    assert await opened.do(write=True, length=MIB, at=MIB) == MIB
    assert (opened.flags, opened.handed_over) == ([], 1)
    assert opened.path.read_bytes()[MIB:] == b"w" * MIB


@pytest.mark.parametrize(
    ("code", "asked"), [(errno.EOPNOTSUPP, 1), (errno.EAGAIN, 3)], ids=["cannot", "not now"]
)
async def test_a_file_system_that_can_only_wait_is_not_asked_again(
    opened: Opened, code: int, asked: int
) -> None:
    calls = []

    def refuse(*arguments: int) -> None:
        calls.append(arguments)
        raise OSError(code, "io_submit")

    opened.submitted = refuse
    for at in (0, PAGE_SIZE, 2 * PAGE_SIZE):
        assert await opened.do(at=at) == PAGE_SIZE
        assert opened.memory[:256] == bytes(range(256))
    assert (len(calls), opened.handed_over) == (asked, 3)


async def test_other_errors_are_told(opened: Opened) -> None:
    def refuse(*arguments: int) -> None:
        raise OSError(errno.EINVAL, "io_submit")

    opened.submitted = refuse
    assert await opened.do() == -errno.EINVAL
    assert opened.handed_over == 0
    assert len(opened.engine._free) == len(opened.engine._begun)


@contextmanager
def all_wait(threads: Sequence[IoThreads]) -> Iterator[None]:
    """They have more to do than there are of them, and none of it ends."""
    reading, writing = os.pipe()
    for one in threads:
        for _ in range(6):
            one.submit(lambda: os.read(reading, 1), lambda result: None)
    try:
        yield
    finally:
        os.write(writing, b"go on " * len(threads))
        os.close(writing)
        for one in threads:
            one.close()
        os.close(reading)


async def test_reads_pass_writes_that_wait(opened: Opened) -> None:
    """All threads for writes wait; a read that has to wait, too, has its own."""
    reads, writes = opened.engine._threads[opened.fd]
    with all_wait([writes]), open(opened.path, "r+b", buffering=0) as file:
        file.write(b"n" * PAGE_SIZE)
        with trio.fail_after(10):
            assert await opened.do() == PAGE_SIZE
    opened.engine._threads[opened.fd] = reads, IoThreads(1)


@pytest.mark.parametrize("kind", [AioEngine, ThreadEngine])
async def test_a_file_that_hangs_has_no_thread_of_another(
    tmp_path: Path, kind: type[AioEngine | ThreadEngine]
) -> None:
    engine = kind()
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("hangs", "well")]
    for fd in fds:
        engine.know(fd)
        engine.know(fd)  # a tier that is made anew
    hangs = engine._threads[fds[0]]
    ended = trio.Event()
    memory = memoryview(bytearray(MIB))
    with all_wait([hangs] * 3 if isinstance(hangs, IoThreads) else hangs):
        args = {"write": True, "fd": fds[1], "memory": memory, "at": 0}
        engine.submit(**args, ended=lambda result: ended.set())  # type: ignore[arg-type]
        with trio.fail_after(10):
            await ended.wait()
    engine.forget(fds[0])
    engine.forget(fds[0])
    engine.close()
    for fd in fds:
        os.close(fd)


async def test_what_threads_are_at_has_ended_before_an_engine_is_closed() -> None:
    """A worker that pauses closes it: no late write may meet the next one."""
    engine, order = AioEngine(), []
    close = engine._context.close
    for fd in (3, 4):
        engine.know(fd)
    for number, threads in enumerate(one for pair in engine._threads.values() for one in pair):
        end = threads.close
        threads.close = lambda number=number, end=end: (order.append(number), end())  # type: ignore
    engine._context.close = lambda: (order.append(9), close())  # type: ignore
    engine.close()
    assert order == [0, 1, 2, 3, 9]


async def test_writes_that_have_ended_make_place_for_others(opened: Opened) -> None:
    with trio.fail_after(60):
        for _ in range(_WRITE_SLOTS + 1):
            await opened.do(write=True)

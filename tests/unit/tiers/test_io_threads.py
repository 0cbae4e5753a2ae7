"""Threads for I/O: the work is done elsewhere, the answer comes back here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import trio

from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.io_threads import IoThreads

T = TypeVar("T")


async def run(threads: IoThreads, job: Callable[[], T]) -> T:
    """What ``job`` returns in a thread."""

    def begin(done: Callable[[T], None]) -> None:
        threads.submit(job, done)

    return await await_callback(begin)


@pytest.fixture
def two() -> Iterator[IoThreads]:
    threads = IoThreads(2)
    yield threads
    threads.close()


async def test_the_job_runs_in_another_thread_and_its_result_comes_back(two: IoThreads) -> None:
    here = threading.get_ident()
    there = await run(two, threading.get_ident)
    assert there != here


async def test_as_many_jobs_run_at_once_as_there_are_threads(two: IoThreads) -> None:
    meeting = threading.Barrier(2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(run, two, meeting.wait)


async def test_further_jobs_wait_their_turn() -> None:
    one = IoThreads(1)
    order: list[int] = []

    async def job(number: int) -> None:
        await run(one, lambda: order.append(number))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(job, number)
    one.close()
    assert sorted(order) == list(range(20))


def test_close_ends_the_threads_after_their_jobs() -> None:
    before = {*threading.enumerate()}
    threads = IoThreads(3)
    started = {*threading.enumerate()} - before
    assert len(started) == 3
    assert trio.run(run, threads, lambda: "before the end") == "before the end"
    threads.close()
    assert not any(thread.is_alive() for thread in started)


def test_a_result_nobody_waits_for_any_more_is_dropped() -> None:
    threads = IoThreads(1)

    started, may_end = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        may_end.wait()

    async def main() -> None:
        threads.submit(job, lambda _: None)

    trio.run(main)
    started.wait()
    may_end.set()
    assert trio.run(run, threads, lambda: 7) == 7
    threads.close()

"""Threads for I/O: the work is done elsewhere, the answer comes back here."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio

from fuseswap.tiers.threads import IoThreads


@pytest.fixture
def two() -> Iterator[IoThreads]:
    threads = IoThreads(2)
    yield threads
    threads.close()


async def test_the_job_runs_in_another_thread_and_its_result_comes_back(two: IoThreads) -> None:
    here = threading.get_ident()
    there = await two.run(threading.get_ident)
    assert there != here


async def test_an_error_is_raised_where_it_was_asked_for(two: IoThreads) -> None:
    def fail() -> None:
        raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        await two.run(fail)
    assert await two.run(lambda: 7) == 7


async def test_as_many_jobs_run_at_once_as_there_are_threads(two: IoThreads) -> None:
    meeting = threading.Barrier(2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(two.run, meeting.wait)


async def test_further_jobs_wait_their_turn() -> None:
    one = IoThreads(1)
    order: list[int] = []

    async def job(number: int) -> None:
        await one.run(lambda: order.append(number))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(job, number)
    one.close()
    assert sorted(order) == list(range(20))


async def test_a_job_that_runs_is_not_cancelled(two: IoThreads) -> None:
    started, may_end = threading.Event(), threading.Event()
    results = []

    def job() -> str:
        started.set()
        may_end.wait()
        return "done"

    async def ask() -> None:
        results.append(await two.run(job))

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await two.run(started.wait)
            scope.cancel()
            may_end.set()
    assert results == ["done"]


def test_close_ends_the_threads_after_their_jobs() -> None:
    before = threading.active_count()
    threads = IoThreads(3)
    assert threading.active_count() == before + 3
    assert trio.run(threads.run, lambda: "before the end") == "before the end"
    threads.close()
    assert threading.active_count() == before


def test_a_result_nobody_waits_for_any_more_is_dropped() -> None:
    threads = IoThreads(1)

    async def main() -> trio.lowlevel.TrioToken:
        return trio.lowlevel.current_trio_token()

    token = trio.run(main)
    with pytest.raises(trio.RunFinishedError):
        token.run_sync_soon(lambda: None)
    threads.close()

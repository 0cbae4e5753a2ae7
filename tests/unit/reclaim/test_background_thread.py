"""The background thread: the processor time it counts, and the share it keeps to."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fuseswap.linux import clocks
from fuseswap.reclaim.background_thread import BackgroundThread


class Processor:
    """Time that the thread has used; a job uses as much as a test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.used_s = 5.0  # by others, before
        patch.setattr(clocks, "_now", [clocks.REAL._replace(processor=lambda: self.used_s)])

    def work(self, seconds: float) -> str:
        self.used_s += seconds
        return "done"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(monkeypatch)


async def test_time_is_counted_whatever_the_job(processor: Processor) -> None:
    thread = BackgroundThread()
    assert await thread.run(lambda: processor.work(0.5)) == "done"
    await thread.run(lambda: processor.work(1.25))
    assert thread.statistics().cpu_us == 1_750_000


async def test_time_is_counted_where_a_job_fails(processor: Processor) -> None:
    thread = BackgroundThread()

    def fail() -> None:
        processor.work(2)
        raise MemoryError

    with pytest.raises(MemoryError):
        await thread.run(fail)
    assert thread.statistics().cpu_us == 2_000_000


@pytest.mark.parametrize(("percent", "pause_s"), [(100, 0), (50, 2), (25, 6), (10, 18)])
async def test_it_takes_no_more_than_its_share(
    processor: Processor, autojump_clock: MockClock, percent: int, pause_s: float
) -> None:
    thread = BackgroundThread()
    thread.cpu_percent = percent
    await thread.run(lambda: processor.work(2))
    began = trio.current_time()
    await thread.turn()
    assert trio.current_time() - began == pytest.approx(pause_s)
    began = trio.current_time()
    await thread.turn()  # it has paused for that
    assert trio.current_time() == began


async def test_stores_that_wait_do_not_wait_for_it(
    processor: Processor, autojump_clock: MockClock
) -> None:
    thread = BackgroundThread()
    thread.cpu_percent = 1
    await thread.run(lambda: processor.work(2))
    thread.hurry()
    began = trio.current_time()
    await thread.turn()
    assert trio.current_time() == began

"""Several tiers: where segments go, what is passed over, demotion and drain."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.tiers.tier_table import TierEntry
from fuseswap.units import MIB, Location, SegmentId
from tests.support.fake_tier import FakeTier
from tests.support.moving_segments import Moved
from tests.support.tiered_devices import EXTENTS, Tiered

pytestmark = pytest.mark.slow


def entries(worker: Tiered) -> dict[str, TierEntry]:
    return {entry.tier.name: entry for entry in worker.device.tiers if entry.tier}


def used(worker: Tiered) -> dict[str, int]:
    return {name: entry.extents.in_use for name, entry in entries(worker).items()}


def tier_of(worker: Tiered, segment: SegmentId) -> int | None:
    where = worker.log.table.location_of(segment)
    return where.tier if isinstance(where, Location) else None


async def move_out(moved: Moved, first: int = 0) -> None:
    """Fill the pool and write half of it back; no mover runs."""
    await moved.worker.move_out(first)


async def run_mover(worker: Tiered, seconds: float = 3) -> None:
    with trio.move_on_after(seconds):
        await worker.device.mover.run()


async def test_without_priorities_the_first_tier_is_filled_first(
    moved: Moved, autojump_clock: MockClock
) -> None:
    await move_out(moved)
    assert used(moved.worker)["second"] == 0
    assert used(moved.worker)["fake"] > 0
    await moved.check()


async def test_the_higher_priority_is_written_to_and_equal_ones_take_turns(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    worker.device.set_tier_policy("second", ["priority=5"])
    await move_out(moved)
    before = used(worker)
    assert (before["fake"], before["second"] > 0) == (0, True)
    worker.device.set_tier_policy("fake", ["priority=5"])
    await move_out(moved, first=1500)
    after = used(worker)
    assert after["fake"] > 0
    assert abs(after["fake"] - (after["second"] - before["second"])) <= 1
    await moved.check()


async def test_a_failing_tier_is_passed_over(moved: Moved, autojump_clock: MockClock) -> None:
    moved.first.fail_writes = True
    await move_out(moved)
    assert used(moved.worker) == {"fake": 0, "second": used(moved.worker)["second"]}
    assert used(moved.worker)["second"] > 0
    assert moved.worker.writeback.statistics().writeback_failed > 0
    await moved.check()


async def test_one_whose_writes_do_not_end_is_passed_over(
    moved: Moved, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it is late nobody waits for it: the next tier gets what leaves, and stores go on."""
    moved.first.hold_writes = True
    began = trio.current_time()
    await move_out(moved)
    assert moved.worker.device.tiers.timeout_s <= trio.current_time() - began < 60
    assert "writes are not answered" in caplog.text
    assert used(moved.worker)["fake"] == len(moved.first.written) == 0
    assert 1 < moved.first.most_writes <= moved.worker.device.in_flight.batch_size
    assert used(moved.worker)["second"] > 0
    await moved.check()


async def test_a_drain_goes_on_where_one_tier_does_not_answer(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    third = FakeTier(EXTENTS, "third")
    worker.device.tiers.register(third, TierPolicy(-9))
    count = used(worker)["fake"]
    assert count > 2
    moved.second.hold_writes, moved.second.cancellable = True, False
    worker.device.set_tier_policy("second", ["priority=5"])
    worker.device.set_tier_policy("fake", ["priority=1", "drain=Y"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.mover.run)
        await trio.sleep(worker.device.tiers.timeout_s + 5)
        assert entries(worker)["second"].state == "late"
        assert used(worker) == {"fake": 1, "second": 1, "third": count - 1}
        moved.second.writes[0].finish()
        await trio.sleep(1)
        assert used(worker) == {"fake": 0, "second": 1, "third": count - 1}
        nursery.cancel_scope.cancel()
    await worker.check()


async def test_a_limit_is_not_exceeded_and_the_next_tier_goes_on(
    moved: Moved, autojump_clock: MockClock
) -> None:
    moved.worker.device.set_tier_policy("fake", ["limit=1M"])
    await move_out(moved)
    assert used(moved.worker)["fake"] == 1
    assert entries(moved.worker)["fake"].state == "full"
    assert used(moved.worker)["second"] > 0
    await moved.check()


async def test_at_its_limit_the_oldest_segments_move_on(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    await move_out(moved, first=1500)
    count, before = used(worker)["fake"], used(worker)["second"]
    assert count >= 3
    table = worker.log.table
    by_age = sorted((s for s in table.segments() if tier_of(worker, s) == 0), key=table.sequence_of)
    worker.device.set_tier_policy("fake", [f"limit={(count - 1) * MIB}"])
    await run_mover(worker)
    assert [tier_of(worker, segment) for segment in by_age[:2]] == [1, 1]
    assert tier_of(worker, by_age[-1]) == 0
    assert entries(worker)["fake"].available >= 1
    assert worker.device.mover.statistics().demoted_segments == used(worker)["second"] - before >= 2
    await moved.check()


async def test_a_tier_of_the_same_priority_gets_no_demoted_segments(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    worker.device.set_tier_policy("second", ["priority=-1"])
    worker.device.set_tier_policy("fake", ["limit=1M"])
    before = used(worker)
    await run_mover(worker)
    assert used(worker) == before


async def test_a_drained_tier_is_emptied_onto_the_others_and_can_go(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    count = used(worker)["fake"]
    with pytest.raises(InvalidArgument, match="drain it first"):
        worker.device.remove_tier("fake")
    worker.device.set_tier_policy("fake", ["drain=Y"])
    await run_mover(worker)
    assert used(worker) == {"fake": 0, "second": count}
    assert worker.device.mover.statistics().drained_segments == count
    worker.device.remove_tier("fake")
    assert list(entries(worker)) == ["second"]
    moved.hold()
    await worker.check()


async def test_the_only_tier_is_drained_into_memory_where_there_is_room(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    worker.device.remove_tier("second")
    worker.device.set_tier_policy("fake", ["drain=Y"])
    await run_mover(worker)
    stuck = used(worker)["fake"]
    assert stuck > 0, "the pool has no room for all of them"
    for page in range(300):
        worker.discard(page)
    worker.cache.pool_limit_bytes += 2 * MIB
    await run_mover(worker, 20)
    assert used(worker)["fake"] == 0
    await worker.check()


async def test_a_policy_outlives_the_worker(moved: Moved, autojump_clock: MockClock) -> None:
    worker = moved.worker
    await move_out(moved)
    worker.device.set_tier_policy("fake", ["drain=Y", "priority=7", "limit=5M"])
    following = moved.next_worker()
    following.expected = worker.expected
    following.cache.pool_limit_bytes += 2 * MIB
    assert str(entries(following)["fake"].policy) == f"priority=7 limit={5 * MIB} drain=Y"
    await run_mover(following)
    assert used(following)["fake"] == 0
    await following.check()


async def test_a_segment_that_cannot_be_read_stays_and_the_others_go(
    moved: Moved, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = moved.worker
    await move_out(moved)
    await move_out(moved, first=1500)
    count = sum(used(worker).values())
    table = worker.log.table
    bad = next(s for s in table.segments() if tier_of(worker, s) == 0)
    where = table.location_of(bad)
    assert isinstance(where, Location)
    begin = moved.first.begin_read

    def refuse(extent: int, generation: int, offset: int, length: int, done: object) -> None:
        moved.first.fail_reads = extent == where.extent
        begin(extent, generation, offset, length, done)  # type: ignore[arg-type]
        moved.first.fail_reads = False

    moved.first.begin_read = refuse  # type: ignore[method-assign]
    worker.device.set_tier_policy("fake", ["drain=Y"])
    await run_mover(worker, 20)
    assert used(worker) == {"fake": 1, "second": min(count - 1, EXTENTS)}
    assert worker.device.mover.statistics().stuck_moves == 1
    assert sum("stays on its tier" in record.message for record in caplog.records) == 1
    moved.first.begin_read = begin  # type: ignore[method-assign]
    await run_mover(worker, 60)
    assert used(worker)["fake"] == 0
    await moved.check()


async def test_where_the_new_tier_fails_it_rests_and_the_segment_stays(
    moved: Moved, autojump_clock: MockClock
) -> None:
    worker = moved.worker
    await move_out(moved)
    count = used(worker)["fake"]
    moved.second.fail_writes = True
    worker.device.set_tier_policy("fake", ["drain=Y"])
    await run_mover(worker, 2)
    assert used(worker) == {"fake": count, "second": 0}
    assert entries(worker)["second"].health.is_resting
    moved.second.fail_writes = False
    await run_mover(worker, 20)
    assert used(worker) == {"fake": 0, "second": count}
    await moved.check()


async def test_the_pages_of_each_tier_are_counted(moved: Moved, autojump_clock: MockClock) -> None:
    worker = moved.worker
    await move_out(moved)
    await run_mover(worker)
    on_tier = len(worker.on_tier())
    found = {s.tier: s.tier_pages for s in (e.statistics() for e in worker.device.tiers)}
    assert found == {"fake": on_tier, "second": 0}


class Far(FakeTier):
    is_remote = True


async def test_a_store_waits_two_seconds_at_most_for_another_machine(
    moved: Moved, autojump_clock: MockClock
) -> None:
    """A write that hangs there: the store is refused, and the kernel keeps the page."""
    far = Far(EXTENTS)
    far.hold_writes, far.cancellable = True, False
    worker = Tiered(moved.memory, far)
    errors: list[tuple[float, str]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        full = worker.fill()
        began = trio.current_time()
        try:
            await worker.write(full)
        except Exception as exc:
            errors.append((trio.current_time() - began, type(exc).__name__))
        await wait_all_tasks_blocked()
        far.hold_writes = False
        for write in list(far.writes):
            write.finish()
        nursery.cancel_scope.cancel()
    assert [name for _, name in errors] == ["PoolFull"]
    assert 2 <= errors[0][0] < 3


async def test_a_full_disk_is_waited_for_without_that_bound(
    moved: Moved, autojump_clock: MockClock
) -> None:
    moved.hold(writes=True)
    worker = moved.worker
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.writeback.run)
        full = worker.fill()
        nursery.start_soon(worker.write, full)
        await trio.sleep(10)
        assert moved.first.writes, "it waits still"
        for write in list(moved.first.writes):
            write.finish()
        moved.hold()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert full in worker.expected


async def test_a_tier_does_not_go_whatever_its_own_count_says(
    moved: Moved, autojump_clock: MockClock
) -> None:
    """The segment table is the truth: a page there would be an error for good."""
    worker = moved.worker
    await move_out(moved)
    count = entries(worker)["fake"].extents.in_use
    assert count
    entries(worker)["fake"].extents.in_use = 0
    with pytest.raises(InvalidArgument, match=r"^tier 'fake' has segment \d+; drain it first$"):
        worker.device.remove_tier("fake")
    entries(worker)["fake"].extents.in_use = count
    await moved.check()

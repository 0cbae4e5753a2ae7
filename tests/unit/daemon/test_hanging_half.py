"""A mirror of two files, of which the disk of one does not answer: it takes nothing from the other.

Everything is as the worker makes it, but for the engine: it never ends a read of the first file.
"""

from __future__ import annotations

import os
from pathlib import Path

import trio
from trio.testing import MockClock

from fuseswap.daemon import tier_files
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.worker_tiers import WorkerTiers
from fuseswap.tiers.io_engine import Ended
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.tier_spec import parse_tier
from fuseswap.units import MIB
from tests.support.tier_reads import read_extent
from tests.unit.daemon.test_device_files import OLD

READS = 400  # more than there are buffers


class HangingEngine:
    """An `Engine`: reads of ``hangs`` are begun, and that is all."""

    in_flight = 0

    def __init__(self) -> None:
        self.hangs = -1
        self.begun = 0

    def know(self, fd: int) -> None:
        pass

    def forget(self, fd: int) -> None:
        pass

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        assert not write
        if fd == self.hangs:
            self.begun += 1
            return
        found = os.preadv(fd, [memory], at)
        trio.lowlevel.current_trio_token().run_sync_soon(ended, found)

    def reap(self) -> bool:
        return False

    async def run(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        pass


async def test_its_reads_take_no_buffer_from_the_other(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    spec = parse_tier(f"mirror:file:{tmp_path}/a+file:{tmp_path}/b,encrypt=no")
    one = tier_files.open_tier(spec, "swap0", 10 * MIB)
    header = os.memfd_create("header")
    tiers = WorkerTiers(settings_from(OLD, ""), {"header": header}, [one], None)
    os.close(header)
    assert tiers.engine is not None
    tiers.engine.close()
    tiers.engine = engine = HangingEngine()
    (tier,) = tiers.tiers()
    assert isinstance(tier, MirroredTier)
    engine.hangs = one.fds[0]
    found: list[bytes] = []

    async def read(length: int) -> None:
        found.append(await read_extent(tier, 1, 0, length))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        with trio.fail_after(20):
            async with trio.open_nursery() as readers:
                for number in range(READS):
                    length = (100, 20_000, 130_000, MIB)[number % 4]
                    readers.start_soon(read, length)
            await read(MIB)
        nursery.cancel_scope.cancel()
    assert len(found) == READS + 1
    assert 0 < engine.begun < READS, "once it is known to hang it is asked now and then"
    tiers.close()
    tier_files.give_back(one)


async def test_another_tier_has_buffers_of_its_own(tmp_path: Path) -> None:
    made = [
        tier_files.open_tier(
            parse_tier(f"file:{tmp_path}/{name},name={name},encrypt=no"), "swap0", 10 * MIB
        )
        for name in ("hangs", "well")
    ]
    header = os.memfd_create("header")
    tiers = WorkerTiers(settings_from(OLD, ""), {"header": header}, made, None)
    os.close(header)
    assert tiers.engine is not None
    tiers.engine.close()
    tiers.engine = engine = HangingEngine()
    hangs, well = tiers.tiers()
    engine.hangs = made[0].fds[0]
    for number in range(READS):
        length = (100, 20_000, 130_000, MIB)[number % 4]
        hangs.begin_read(1, 1, 0, length, lambda found: None)
    with trio.fail_after(20):
        for length in (100, 20_000, 130_000, MIB):
            assert len(await read_extent(well, 1, 0, length)) == length
    tiers.close()
    for one in made:
        tier_files.give_back(one)

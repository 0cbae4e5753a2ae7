"""The remote tier and its process: each of them dies, hangs, or is replaced by another."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from fuseswap.linux.protect import read_status_kib
from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.callbacks import Answer, await_callback
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.tiers.tier_process import Ended
from fuseswap.units import SEGMENT_BYTES
from tests.support.leftovers import containers, too_long
from tests.support.tier_processes import TierHost, tier_host, worker_of
from tests.support.tier_reads import GENERATION, read_extent, write_extent

pytestmark = pytest.mark.slow

_LONGEST_S = 30


class Files:
    """The directory that is the server, and the rules its client obeys."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rule("")

    def rule(self, word: str) -> None:
        """See `tests.support.tier_clients.FilesClient`."""
        new = self.directory / "new"
        new.write_text(word)
        new.rename(self.directory / "rules-of-client")

    @property
    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*-*[0-9]"))

    @property
    def log(self) -> list[str]:
        path = self.directory / "log"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    async def until_logged(self, count: int) -> None:
        await eventually(lambda: len(self.log) >= count)


async def eventually(holds: Callable[[], bool]) -> None:
    with trio.fail_after(_LONGEST_S):
        while not holds():
            await trio.sleep(0.01)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
async def host(files: Files) -> AsyncIterator[TierHost]:
    with tier_host("files", str(files.directory)) as host:
        yield host


def segment(seed: int, length: int = SEGMENT_BYTES) -> memoryview:
    return memoryview(random.Random(seed).randbytes(length))


def begin_reads(tier: RemoteTier, extent: int, count: int) -> list[Answer[bytes | OSError]]:
    """Of 3000 bytes each, from 5000 to 5000."""
    answers = []
    for number in range(count):
        answer: Answer[bytes | OSError] = Answer()
        tier.begin_read(extent, GENERATION, number * 5000, 3000, answer)
        answers.append(answer)
    return answers


async def expect(answers: list[Answer[bytes | OSError]], data: memoryview) -> None:
    for number, answer in enumerate(answers):
        with trio.fail_after(_LONGEST_S):
            assert await answer.wait() == bytes(data[number * 5000 : number * 5000 + 3000])


async def test_an_encrypted_segment_is_longer(host: TierHost) -> None:
    data = segment(1, wire.LARGEST_BYTES)
    async with worker_of(host) as tier:
        await write_extent(tier, 1, data)
        assert await read_extent(tier, 1, 0, wire.LARGEST_BYTES) == data
        with pytest.raises(OSError, match="too many"):
            await read_extent(tier, 1, 0, wire.LARGEST_BYTES + 1)


@pytest.mark.parametrize("rule", ["hang", ""])
async def test_a_process_that_is_killed_loses_nothing(
    host: TierHost, files: Files, rule: str
) -> None:
    data = [segment(seed) for seed in range(6)]
    async with worker_of(host) as tier:
        await write_extent(tier, 0, data[0])
        files.rule(rule)
        reads = begin_reads(tier, 0, 100)
        writes: list[Answer[OSError | None]] = [Answer() for _ in range(1, 6)]
        for extent, write in enumerate(writes, 1):
            tier.begin_write(extent, GENERATION, data[extent], write)
        await files.until_logged(4)
        for _ in range(3):
            host.kill()
            host.start()
            await trio.sleep(0.05)
        files.rule("")
        await expect(reads, data[0])
        for write in writes:
            with trio.fail_after(_LONGEST_S):
                assert await write.wait() is None
        for extent in range(1, 6):
            assert await read_extent(tier, extent, 0, SEGMENT_BYTES) == data[extent]
        assert tier.processes >= 2


async def test_requests_before_there_is_a_process_wait_for_it(files: Files) -> None:
    host = TierHost("files", str(files.directory))
    try:
        async with worker_of(host) as tier:
            written: Answer[OSError | None] = Answer()
            tier.begin_write(0, GENERATION, segment(1), written)
            await trio.sleep(0.05)
            host.start()
            assert await written.wait() is None
    finally:
        host.close()


async def test_a_worker_that_comes_after_another_hears_nothing_of_it(
    host: TierHost, files: Files
) -> None:
    """What the old one had asked for is never put into a place of the new one's."""
    data = segment(1)
    async with worker_of(host) as tier:
        await write_extent(tier, 0, data)
        files.rule("hang")
        begin_reads(tier, 0, 200)
        writing: Answer[OSError | None] = Answer()
        tier.begin_write(1, GENERATION, segment(2), writing)
        await files.until_logged(10)
    heard_before = len(files.log)
    async with worker_of(host) as tier:
        reads = begin_reads(tier, 0, 150)
        await files.until_logged(heard_before + 10)
        files.rule("")
        await expect(reads, data)
        await write_extent(tier, 1, segment(3))
        assert await read_extent(tier, 1, 0, SEGMENT_BYTES) == segment(3)


async def test_what_a_dead_worker_did_not_release_goes_with_the_next_write(
    host: TierHost, files: Files
) -> None:
    async with worker_of(host) as tier:
        await write_extent(tier, 1, segment(1))
    async with worker_of(host) as tier:
        begin = partial(tier.begin_write, 1, GENERATION + 1, segment(2))
        assert await await_callback(begin) is None
        await eventually(lambda: len(files.segments) == 1)
        read = partial(tier.begin_read, 1, GENERATION + 1, 0, SEGMENT_BYTES)
        assert await await_callback(read) == segment(2)


async def test_a_process_that_stands_still_is_too_late_and_its_places_are_kept(
    host: TierHost, files: Files
) -> None:
    data, other = segment(1), segment(2)
    async with worker_of(host, timeout_s=1.0, write_timeout_s=2.0) as tier:
        await eventually(lambda: tier.processes == 1)
        await write_extent(tier, 0, data)
        await write_extent(tier, 1, other)
        host.stop()
        late = begin_reads(tier, 0, 200)
        writing: Answer[OSError | None] = Answer()
        tier.begin_write(2, GENERATION, data, writing)
        for answer in late:
            found = await answer.wait()
            assert isinstance(found, OSError)
            assert found.errno == errno.ETIMEDOUT
        error = await writing.wait()
        assert error is not None
        assert error.errno == errno.ETIMEDOUT
        host.go_on()
        await eventually(lambda: not tier.busy_places)
        assert await read_extent(tier, 1, 5000, 9000) == other[5000:14000]


async def test_places_of_a_process_that_hangs_come_back_with_the_next(
    host: TierHost, files: Files
) -> None:
    data = segment(1)
    async with worker_of(host, timeout_s=1.0) as tier:
        await write_extent(tier, 0, data)
        host.stop()
        for answer in begin_reads(tier, 0, 70):
            assert isinstance(await answer.wait(), OSError)
        assert tier.busy_places == 64
        host.kill()
        host.start()
        await eventually(lambda: not tier.busy_places)
        await expect(begin_reads(tier, 0, 100), data)


async def test_reads_never_stand_behind_writes(host: TierHost, files: Files) -> None:
    data = segment(1)
    async with worker_of(host) as tier:
        await write_extent(tier, 0, data)
        host.stop()
        writes: list[Answer[OSError | None]] = [Answer() for _ in range(20)]
        for extent, write in enumerate(writes, 1):
            tier.begin_write(extent, GENERATION, data, write)
        reads = begin_reads(tier, 0, 3)
        host.go_on()
        await expect(reads, data)
        for write in writes:
            await write.wait()
        at = {line.split()[0]: number for number, line in reversed([*enumerate(files.log)])}
        last_write = max(n for n, line in enumerate(files.log) if line.startswith("write"))
        assert at["read"] < last_write - 10


async def test_a_release_waits_for_a_write_that_is_under_way(host: TierHost, files: Files) -> None:
    """A write that was too late is released, and must not be left at the server."""
    async with worker_of(host, write_timeout_s=0.2) as tier:
        await eventually(lambda: tier.processes == 1)
        files.rule("hang")
        written: Answer[OSError | None] = Answer()
        tier.begin_write(1, GENERATION, segment(1), written)
        assert isinstance(await written.wait(), OSError)
        tier.release(1, GENERATION)
        files.rule("")
        await files.until_logged(2)
        assert [line.split()[0] for line in files.log] == ["write", "release"]
        await eventually(lambda: not files.segments)


async def test_a_release_that_comes_late_does_not_hit_the_next_write(
    host: TierHost, files: Files
) -> None:
    """The same segment to the same extent: its write had failed, it was released, and again."""
    async with worker_of(host) as tier:
        files.rule("fail")
        with pytest.raises(OSError, match="tier0"):
            await write_extent(tier, 1, segment(1))
        files.rule("")
        host.stop()
        tier.release(1, GENERATION)
        written: Answer[OSError | None] = Answer()
        tier.begin_write(1, GENERATION, segment(1), written)
        host.go_on()
        assert await written.wait() is None
        await eventually(lambda: any(line.startswith("release") for line in files.log))
        assert await read_extent(tier, 1, 0, SEGMENT_BYTES) == segment(1)


async def test_releases_without_a_process_are_bounded(files: Files) -> None:
    host = TierHost("files", str(files.directory))
    try:
        async with worker_of(host) as tier:
            for extent in range(5000):
                tier.release(extent % 60, GENERATION)
            assert tier.releases_dropped == 5000 - 4096
            host.start()
            await eventually(lambda: len(files.log) == 4096)
    finally:
        host.close()


async def test_a_client_that_raises_anything_is_an_io_error(host: TierHost, files: Files) -> None:
    async with worker_of(host) as tier:
        await write_extent(tier, 0, segment(1))
        for rule, code in (("break", errno.EIO), ("fail", errno.ENOSPC)):
            files.rule(rule)
            with pytest.raises(OSError, match="tier0") as error:
                await write_extent(tier, 1, segment(1))
            assert error.value.errno == code
            with pytest.raises(OSError, match="tier0") as error:
                await read_extent(tier, 0, 0, 10)
            assert error.value.errno == code
        files.rule("")
        files.segments[0].write_bytes(b"short")
        with pytest.raises(OSError, match="tier0"):
            await read_extent(tier, 0, 0, 10)


async def test_the_process_ends_without_workers_and_supervisor(host: TierHost) -> None:
    async with worker_of(host) as tier:
        await write_extent(tier, 0, segment(1))
        host.process_end.close()
        assert await read_extent(tier, 0, 0, 10) == segment(1)[:10]
    host.worker_end.close()
    assert host.wait() == Ended.ALONE


async def test_the_process_ends_when_told_and_deletes(host: TierHost, files: Files) -> None:
    async with worker_of(host) as tier:
        await write_extent(tier, 0, segment(1))
    assert files.segments
    host.worker_end.send(wire.end_packet(forget=True))
    assert host.wait() == Ended.TOLD
    assert not files.segments


async def test_the_pulse_stands_still_with_the_process(host: TierHost) -> None:
    async with worker_of(host) as tier:
        await write_extent(tier, 0, segment(1))
    incarnation, age_s = wire.read_pulse(host.memory)
    assert incarnation
    assert age_s < wire.PULSE_LOST_S
    host.stop()
    await trio.sleep(0.1)
    at_ns = os.pread(host.memory, 16, 0)
    await trio.sleep(2 * wire.PULSE_S)
    assert os.pread(host.memory, 16, 0) == at_ns
    host.go_on()
    await eventually(lambda: os.pread(host.memory, 16, 0) != at_ns)


async def test_a_process_that_has_grown_too_large_ends(files: Files) -> None:
    with tier_host("files", str(files.directory), memory_limit_bytes=1 << 20) as host:
        assert host.wait() == Ended.GROWN


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user locks no memory")
async def test_its_memory_is_locked(files: Files) -> None:
    with tier_host("files", str(files.directory), locked=True) as host:
        async with worker_of(host) as tier:
            await write_extent(tier, 0, segment(1))
            assert host.process is not None
            assert read_status_kib(f"/proc/{host.process.pid}", "VmLck") > 1 << 14


async def test_nothing_grows(host: TierHost) -> None:
    """With each request of a kind, its containers are as they were."""
    async with worker_of(host) as tier:
        data = segment(1)
        for extent in range(10):
            await write_extent(tier, extent, data)
            tier.release(extent, GENERATION - 1)
            await expect(begin_reads(tier, 0, 150), data)
        found = containers(tier)
    assert not tier.busy_places
    places = sum(kind.places for kind in wire.KINDS)
    assert not too_long(found, {"_Line.free": places, "RemoteTier._answer": 64}, 8), found

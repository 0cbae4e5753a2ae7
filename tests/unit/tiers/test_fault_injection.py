"""Faults on purpose: each does what the file says, and nothing once it is healed."""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.backing_file import open_backing
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.fault_injection import Faults, FaultyEngine
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_engine import open_engine
from fuseswap.units import MIB, SEGMENT_BYTES
from tests.support.tier_reads import read_extent, write_extent


class Rules:
    """The file, replaced as a test does it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set()

    def set(self, **rules: Any) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(rules))
        new.rename(self.path)


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    return Rules(tmp_path / "faults")


@pytest.fixture
async def faulty(rules: Rules, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[FileTier]:
    """A tier of nine extents on a real file."""
    fd = open_backing(str(tmp_path / "backing"), 11 * MIB, "swap0").fd
    engine = FaultyEngine(open_engine(), Faults(str(rules.path)))
    nursery.start_soon(engine.run)
    yield FileTier(DirectFile(fd, engine))
    assert engine.in_flight == 0
    engine.close()
    os.close(fd)


@pytest.fixture
def segment() -> memoryview:
    view = memoryview(mmap.mmap(-1, SEGMENT_BYTES))
    view[:] = os.urandom(SEGMENT_BYTES)
    return view


def flipped_bits(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


async def test_without_rules_it_is_the_engine_itself(faulty: FileTier, segment: memoryview) -> None:
    await write_extent(faulty, 2, segment)
    assert await read_extent(faulty, 2, 77, 5000) == bytes(segment[77:5077])


@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
async def test_a_call_fails_until_it_is_healed(
    faulty: FileTier, rules: Rules, segment: memoryview, name: str
) -> None:
    rules.set(write={"errno": name})
    message = os.strerror(getattr(errno, name))
    with pytest.raises(OSError, match=message):
        await write_extent(faulty, 0, segment)
    assert await read_extent(faulty, 0, 0, 10) == bytes(10), "nothing was written"
    rules.set(read={"errno": name})
    await write_extent(faulty, 0, segment)
    with pytest.raises(OSError, match=message):
        await read_extent(faulty, 0, 0, 10)
    rules.set()
    assert await read_extent(faulty, 0, 0, 10) == bytes(segment[:10])


async def test_some_calls_fail(faulty: FileTier, rules: Rules, segment: memoryview) -> None:
    await write_extent(faulty, 0, segment)
    rules.set(read={"errno": "EIO", "probability": 0.5})
    failed = 0
    for _ in range(200):
        try:
            await read_extent(faulty, 0, 0, 1)
        except OSError:
            failed += 1
    assert 50 < failed < 150


async def test_a_request_waits_while_others_go_on(
    faulty: FileTier,
    rules: Rules,
    segment: memoryview,
    mock_clock: MockClock,
) -> None:
    rules.set(write={"latency_s": 60})
    async with trio.open_nursery() as writing:
        writing.start_soon(write_extent, faulty, 1, segment)
        await wait_all_tasks_blocked()
        rules.set()
        assert await read_extent(faulty, 1, 0, 10) == bytes(10), "it is not written yet"
        mock_clock.jump(60)
    assert await read_extent(faulty, 1, 0, 10) == bytes(segment[:10])


async def test_a_bit_of_what_is_read_is_wrong_once(
    faulty: FileTier, rules: Rules, segment: memoryview
) -> None:
    await write_extent(faulty, 1, segment)
    rules.set(read={"flip": True})
    for expected in (1, 0, 1):
        found = await read_extent(faulty, 1, 4096, 8192)
        assert flipped_bits(found, bytes(segment[4096:12288])) == expected
    rules.set()
    assert await read_extent(faulty, 1, 5, 3000) == bytes(segment[5:3005])


async def test_a_bit_of_what_is_written_stays_wrong(
    faulty: FileTier, rules: Rules, segment: memoryview
) -> None:
    before = bytes(segment)
    rules.set(write={"flip": True})
    await write_extent(faulty, 1, segment)
    rules.set()
    assert bytes(segment) == before, "memory is left alone"
    assert flipped_bits(await read_extent(faulty, 1, 0, SEGMENT_BYTES), before) == 1


async def test_a_short_write_is_found(faulty: FileTier, rules: Rules, segment: memoryview) -> None:
    rules.set(write={"short": True})
    with pytest.raises(OSError, match=f"short write: 1044480 of {SEGMENT_BYTES} bytes"):
        await write_extent(faulty, 3, segment)
    rules.set(write={"short": True, "probability": 0.2})
    for extent in range(9):
        await write_extent(faulty, extent, segment)
        assert await read_extent(faulty, extent, 0, SEGMENT_BYTES) == bytes(segment), (
            "in pieces, but whole"
        )


WRONG = (
    "",
    "[]",
    '{"writes": {}}',
    '{"write": 7}',
    '{"write": {"eror": "EIO"}}',
    '{"write": {"errno": "EVERY"}}',
    '{"write": {"errno": 5}}',
    '{"write": {"probability": 2}}',
    '{"write": {"probability": true}}',
    '{"write": {"latency_s": "2"}}',
    '{"write": {"flip": 1}}',
    '{"read": {"short": true}}',
)


@pytest.mark.parametrize("text", WRONG)
def test_rules_that_are_wrong_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "faults"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=f"FUSESWAP_FAULTS: {path}: ") as caught:
        Faults(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"):
        Faults(str(tmp_path / "nowhere"))


async def test_rules_that_become_wrong_change_nothing(
    faulty: FileTier, rules: Rules, segment: memoryview, caplog: pytest.LogCaptureFixture
) -> None:
    rules.set(write={"errno": "EIO"})
    with pytest.raises(OSError, match="Input/output"):
        await write_extent(faulty, 0, segment)
    rules.set(wriet={})
    for _ in range(2):
        with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="Input/output"):
            await write_extent(faulty, 0, segment)
    assert caplog.text.count("going on as before") == 1

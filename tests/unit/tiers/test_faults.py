"""Faults on purpose: each does what the file says, and nothing once it is healed."""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.errors import InvalidArgument
from fuseswap.host.backing import open_backing
from fuseswap.tiers.faults import Faults, FaultyTier
from fuseswap.tiers.file import FileTier
from fuseswap.tiers.threads import IoThreads
from fuseswap.units import MIB
from tests.fake_tier import FakeTier


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
def below() -> FakeTier:
    return FakeTier(4)


@pytest.fixture
def faulty(rules: Rules, below: FakeTier) -> FaultyTier:
    return FaultyTier(below, Faults(str(rules.path)))


@pytest.fixture
def segment() -> Iterator[memoryview]:
    with mmap.mmap(-1, SEGMENT_BYTES) as memory, memoryview(memory) as view:
        view[:] = os.urandom(SEGMENT_BYTES)
        yield view


def flipped_bits(one: bytes, other: bytes) -> int:
    assert len(one) == len(other)
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


async def test_without_rules_it_is_the_tier_itself(faulty: FaultyTier, segment: memoryview) -> None:
    assert faulty.extent_count == 4
    await faulty.write(2, segment)
    assert await faulty.read(2, 77, 5000) == bytes(segment[77:5077])


@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
async def test_a_call_fails_until_it_is_healed(
    faulty: FaultyTier, rules: Rules, segment: memoryview, below: FakeTier, name: str
) -> None:
    rules.set(write={"errno": name})
    message = os.strerror(getattr(errno, name))
    with pytest.raises(OSError, match=message):
        await faulty.write(0, segment)
    assert below.written == []
    rules.set(read={"errno": name})
    await faulty.write(0, segment)
    with pytest.raises(OSError, match=message):
        await faulty.read(0, 0, 10)
    rules.set()
    assert await faulty.read(0, 0, 10) == bytes(segment[:10])


async def test_some_calls_fail(faulty: FaultyTier, rules: Rules, segment: memoryview) -> None:
    await faulty.write(0, segment)
    rules.set(read={"errno": "EIO", "probability": 0.5})
    failed = 0
    for _ in range(200):
        try:
            await faulty.read(0, 0, 1)
        except OSError:
            failed += 1
    assert 50 < failed < 150


async def test_a_call_takes_time(
    faulty: FaultyTier, rules: Rules, segment: memoryview, autojump_clock: MockClock
) -> None:
    rules.set(write={"latency_s": 2}, read={"latency_s": 0.5})
    start = trio.current_time()
    await faulty.write(0, segment)
    assert trio.current_time() - start == 2
    await faulty.read(0, 0, 1)
    assert trio.current_time() - start == 2.5


async def test_a_bit_of_what_is_read_is_wrong_once(
    faulty: FaultyTier, rules: Rules, segment: memoryview
) -> None:
    await faulty.write(1, segment)
    rules.set(read={"flip": True})
    for expected in (1, 0, 1):
        assert flipped_bits(await faulty.read(1, 5, 3000), bytes(segment[5:3005])) == expected
    rules.set()
    assert await faulty.read(1, 5, 3000) == bytes(segment[5:3005])


async def test_a_bit_of_what_is_written_stays_wrong(
    faulty: FaultyTier, rules: Rules, segment: memoryview
) -> None:
    before = bytes(segment)
    rules.set(write={"flip": True})
    await faulty.write(1, segment)
    rules.set()
    assert bytes(segment) == before, "memory is left alone"
    assert flipped_bits(await faulty.read(1, 0, SEGMENT_BYTES), before) == 1


async def test_a_short_write_is_found_by_the_file_tier(
    rules: Rules, tmp_path: Path, segment: memoryview
) -> None:
    fd = open_backing(str(tmp_path / "backing"), 9 * MIB)
    threads = IoThreads(1)
    faults = Faults(str(rules.path))
    tier = FaultyTier(FileTier(fd, threads, faults.pwrite), faults)
    try:
        rules.set(write={"short": True})
        with pytest.raises(OSError, match=f"short write: 1044480 of {SEGMENT_BYTES} bytes"):
            await tier.write(3, segment)
        rules.set(write={"short": True, "probability": 0.2})
        done = 0
        for _ in range(20):
            await tier.write(3, segment)
            done += await tier.read(3, 0, SEGMENT_BYTES) == bytes(segment)
        assert done == 20, "what is written in pieces is whole"
    finally:
        threads.close()
        os.close(fd)


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
    faulty: FaultyTier, rules: Rules, segment: memoryview, caplog: pytest.LogCaptureFixture
) -> None:
    rules.set(write={"errno": "EIO"})
    with pytest.raises(OSError, match="Input/output"):
        await faulty.write(0, segment)
    rules.set(wriet={})
    for _ in range(2):
        with caplog.at_level(logging.ERROR), pytest.raises(OSError, match="Input/output"):
            await faulty.write(0, segment)
    assert caplog.text.count("going on as before") == 1

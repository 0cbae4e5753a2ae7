"""Stripes that share a pool limit: never more together than that, whoever dies when."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, cast

import pytest
import trio

from fuseswap.daemon.pool_share import PoolShare
from fuseswap.daemon.pool_table import PoolTable
from fuseswap.errors import HostError
from fuseswap.filesystem.device import Device
from fuseswap.units import MIB, SEGMENT_SHIFT
from tests.support.effort import scaled

LIMIT = 512


class Died(Exception):
    """The worker was killed just here."""


class Mortal(PoolTable):
    """A worker's view of the table; the worker dies before the write that `lives` is left for."""

    lives = -1  # for ever
    opened: ClassVar[list[PoolTable]] = []

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opened.append(self)

    def _write(self) -> None:
        self.lives -= 1
        if self.lives == 0:
            raise Died

    def grant(self, stripe: int, frames: int) -> None:
        self._write()
        super().grant(stripe, frames)

    def aim(self, stripe: int, frames: int) -> None:
        self._write()
        super().aim(stripe, frames)

    def tell(self, stripe: int, held: int, hungry: int, oldest: int, seen: int) -> None:
        self._write()
        super().tell(stripe, held, hungry, oldest, seen)


class Frames:
    """Of a pool that holds whatever the test says, within its limit."""

    def __init__(self, frame_count: int) -> None:
        self.frame_count = frame_count
        self.limit = self.held = 0


class Stripe:
    """One stripe: frames that outlive its worker, and the worker of the moment."""

    def __init__(self, path: Path, number: int, frame_count: int = 4096) -> None:
        self.path, self.number = path, number
        self.frames = Frames(frame_count)
        self.has_tier = False
        self.oldest_age_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Another worker attaches."""
        self.table = Mortal(self.path)
        self.share = PoolShare(self.table, self.number)
        limit_bytes = int(self.share.parameters()["pool_limit_bytes"])
        self.frames.limit = min(limit_bytes >> SEGMENT_SHIFT, self.frames.frame_count)

    @property
    def device(self) -> Device:
        frames = self.frames

        class Cache:
            log = SimpleNamespace(
                frames=frames,
                eviction_queue=SimpleNamespace(oldest=lambda: (1, self.oldest_age_s)),
            )

            @property
            def pool_limit_bytes(self) -> int:
                return frames.limit << SEGMENT_SHIFT

            @pool_limit_bytes.setter
            def pool_limit_bytes(self, limit: int) -> None:
                frames.limit = min(limit >> SEGMENT_SHIFT, frames.frame_count)

        evictor = SimpleNamespace(has_backing_file=self.has_tier)
        return cast(Device, SimpleNamespace(cache=Cache(), evictor=evictor))

    def serve(self) -> None:
        """What the serving thread does, then the feeder's."""
        self.share.keep_to_target(self.device)
        self.share.look()

    def fill(self, held: int) -> None:
        """Hold so many frames, or as many as the limit allows; what is above it stays."""
        self.frames.held = min(held, max(self.frames.limit, self.frames.held))

    def evict(self) -> None:
        """What is above the limit leaves, as with a tier."""
        self.frames.held = min(self.frames.held, self.frames.limit)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Attachments of other tests have the numbers of descriptors from 128 on."""
    yield
    while Mortal.opened:
        Mortal.opened.pop().close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "pool"
    PoolTable.create(found, 2, LIMIT)
    return found


def settle(*stripes: Stripe, rounds: int = 100) -> None:
    for _ in range(rounds):
        for stripe in stripes:
            stripe.evict()
            stripe.serve()


def check(stripes: list[Stripe], limit: int) -> None:
    rows = stripes[0].table.rows()
    assert sum(row.granted for row in rows) <= limit
    for stripe, row in zip(stripes, rows, strict=True):
        assert row.target <= row.granted
        assert stripe.frames.limit <= row.granted
        assert stripe.frames.held <= row.granted


@pytest.mark.parametrize("seed", range(scaled(40)))
def test_together_they_never_hold_more_than_the_limit(tmp_path: Path, seed: int) -> None:
    """Workers die before any write; dead ones stay dead for a while, with all that they hold."""
    draw = random.Random(seed)
    count = draw.choice([2, 3, 8])
    limit = draw.randrange(8 * count, 600)
    PoolTable.create(tmp_path / "pool", count, limit)
    stripes = [
        Stripe(tmp_path / "pool", number, draw.choice([16, 100, 4096])) for number in range(count)
    ]
    dead: set[int] = set()
    for _ in range(400):
        stripe = draw.choice(stripes)
        if stripe.number in dead:
            if draw.random() < 0.2:
                dead.remove(stripe.number)
                stripe.begin()
            continue
        stripe.has_tier = draw.random() < 0.5
        stripe.oldest_age_s = draw.choice([0.0, 30.0, 300.0])
        stripe.fill(draw.choice([0, 20, stripe.frames.held, 10_000]))
        if draw.random() < 0.3:
            stripe.evict()
        if draw.random() < 0.1:
            stripe.table.lives = draw.randrange(1, 5)
        try:
            for decides in draw.choices([False, True], k=3):
                if decides:
                    stripe.share.look()
                else:
                    stripe.share.keep_to_target(stripe.device)
                check(stripes, limit)
        except Died:
            dead.add(stripe.number)
        check(stripes, limit)


def test_who_needs_more_gets_what_the_other_does_not_use(path: Path) -> None:
    busy, idle = Stripe(path, 0), Stripe(path, 1)
    for _ in range(60):
        busy.fill(10_000)
        settle(busy, idle, rounds=1)
    assert busy.frames.held > LIMIT * 3 // 4
    assert busy.frames.limit + idle.frames.limit <= LIMIT


def test_what_was_given_comes_back(path: Path) -> None:
    busy, idle = Stripe(path, 0), Stripe(path, 1)
    for _ in range(60):
        busy.fill(10_000)
        settle(busy, idle, rounds=1)
    busy.frames.held = 0
    for _ in range(60):
        idle.fill(10_000)
        settle(busy, idle, rounds=1)
    assert idle.frames.held > LIMIT * 3 // 4


@pytest.mark.parametrize(("has_tier", "moves"), [(True, True), (False, False)])
def test_of_two_that_are_full_the_older_pages_leave(
    path: Path, has_tier: bool, moves: bool
) -> None:
    """Where they can: without a tier what is stored stays."""
    old, new = Stripe(path, 0), Stripe(path, 1)
    for stripe in (old, new):
        stripe.has_tier, stripe.oldest_age_s = has_tier, 10.0
        stripe.fill(10_000)
    old.oldest_age_s = 500.0
    for _ in range(30):
        for stripe in (old, new):
            stripe.fill(10_000)
        settle(old, new, rounds=1)
    assert (new.frames.held - old.frames.held > LIMIT // 8) is moves


def test_a_step_is_bounded(path: Path) -> None:
    busy, idle = Stripe(path, 0), Stripe(path, 1)
    settle(busy, idle)
    before = busy.frames.limit
    busy.fill(10_000)
    busy.serve()
    busy.serve()
    assert before < busy.frames.limit <= before + LIMIT // 16


def test_a_dead_stripe_that_was_hungry_holds_nobody_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.clock_gettime", lambda clock: now)
    dead, other = Stripe(path, 0), Stripe(path, 1)
    for stripe in (dead, other):
        stripe.has_tier = True
    dead.oldest_age_s, other.oldest_age_s = 0.0, 500.0
    dead.fill(10_000)
    dead.serve()
    assert dead.table.row(0).hungry
    now += 60
    before = other.frames.limit
    for _ in range(10):
        other.fill(10_000)
        other.serve()
    assert other.frames.limit >= before


def test_a_lowered_limit_is_kept_to_by_all(path: Path) -> None:
    first, second = Stripe(path, 0), Stripe(path, 1)
    for stripe in (first, second):
        stripe.has_tier = True
        stripe.fill(10_000)
    first.table.limit = 128
    settle(first, second)
    assert first.frames.held + second.frames.held <= 128
    assert sum(row.granted for row in first.table.rows()) <= 128


def test_a_raised_limit_is_used(path: Path) -> None:
    first, second = Stripe(path, 0), Stripe(path, 1)
    first.table.limit = 2 * LIMIT
    for _ in range(100):
        for stripe in (first, second):
            stripe.fill(10_000)
        settle(first, second, rounds=1)
    assert first.frames.held + second.frames.held > 2 * LIMIT * 9 // 10


def test_nothing_is_decided_while_another_has_the_lock(path: Path) -> None:
    """Of another process: a POSIX lock is one of a process.  It goes with that."""
    stripe = Stripe(path, 0)
    code = (
        "import sys\nfrom pathlib import Path\nfrom fuseswap.daemon.pool_table import PoolTable\n"
        f"table = PoolTable(Path({str(path)!r}))\nassert table.try_lock()\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=os.getcwd(),
    ) as holder:  # fmt: skip
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        before = stripe.table.rows()
        stripe.serve()
        assert stripe.table.rows() == before
        holder.kill()
    stripe.serve()
    assert stripe.table.rows() != before


def test_a_worker_that_pauses_decides_nothing(path: Path) -> None:
    stripe = Stripe(path, 0)

    async def serve_for_a_moment() -> None:
        with trio.move_on_after(0.01):
            await stripe.share.serve(stripe.device, lambda: None)

    trio.run(serve_for_a_moment)
    assert not stripe.share.is_active()
    before = stripe.table.rows()
    stripe.frames.held = 200
    stripe.share.look()
    assert stripe.table.rows() == before


def test_a_device_without_stripes_has_its_limit_alone() -> None:
    share = PoolShare(None, 0)
    assert share.parameters() == {}
    assert share.most_frames() == 0
    share.look()
    assert not share.is_active()


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\0" * 4096, b"x" * 4097):
        (tmp_path / "pool").write_bytes(content)
        with pytest.raises(HostError):
            PoolTable(tmp_path / "pool")
    with pytest.raises(HostError):
        PoolTable(tmp_path / "none")


def test_a_new_table_is_shared_out_evenly(tmp_path: Path) -> None:
    PoolTable.create(tmp_path / "pool", 3, 100)
    table = Mortal(tmp_path / "pool")
    assert [(row.granted, row.target) for row in table.rows()] == [(33, 33)] * 3
    assert (table.count, table.limit) == (3, 100)
    assert PoolShare(table, 1).parameters() == {"pool_limit_bytes": str(33 * MIB)}

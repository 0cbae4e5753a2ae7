"""What is told of a request while it is carried out."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock

from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import SegmentId
from tests.support.moving_segments import Moved
from tests.support.sealed_segments import all_sealed


def test_a_segment_is_done_when_its_write_has_ended() -> None:
    request = ReclaimRequest.parse("all")
    request.total, request.left = 5, [SegmentId(7), SegmentId(8)]
    assert str(request) == "all: 3 of 5 segments"
    assert request.progress(2) == "all: 1 of 5 segments"
    request.left.clear()
    assert request.progress(1) == "all: 4 of 5 segments"
    assert request.progress(0) == "all: 5 of 5 segments"


def test_writes_of_others_make_it_no_less_than_nothing() -> None:
    request = ReclaimRequest.parse("idle=5")
    request.total, request.left = 2, [SegmentId(7)]
    assert request.progress(4) == "idle=5: 0 of 2 segments"


def test_without_segments_it_is_idle() -> None:
    assert ReclaimRequest.parse("all").progress(3) == "idle"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is none of all, incompressible, idle=SECONDS"),
        ("idle=x", "'idle=x' is none of all, incompressible, idle=SECONDS"),
        ("all speed=3", "'speed=3' is neither max=SIZE nor tier=NAME"),
        ("all tier=", "'tier=' is neither max=SIZE nor tier=NAME"),
        ("all max=lots", "'lots' is not a size"),
    ],
)
def test_nonsense_is_one_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(reason)):
        ReclaimRequest.parse(text, leaves=True)


def test_what_stays_in_memory_has_no_tier() -> None:
    with pytest.raises(InvalidArgument, match="more than there can be"):
        ReclaimRequest.parse("all tier=file0")


async def test_at_most_so_much_and_to_one_tier(moved: Moved, autojump_clock: MockClock) -> None:
    worker = moved.worker
    for page in range(3 * 266 + 10):
        worker.store(page)
    sealed = all_sealed(worker.log.table)
    assert len(sealed) == 3
    one = worker.log.table.live_bytes[sealed[0]]
    with pytest.raises(InvalidArgument, match=r"^there is no tier 'x'; there are: fake, second$"):
        worker.writeback.ask(ReclaimRequest.parse("all tier=x", leaves=True))
    request = ReclaimRequest.parse(f"all max={2 * one + 1000} tier=second", leaves=True)
    worker.writeback.ask(request)
    assert request.total == 2
    with trio.move_on_after(5):
        await worker.writeback.run()
    assert not request.left
    assert moved.in_use == [0, 2], "the other one has the higher priority"
    worker.writeback.ask(ReclaimRequest.parse("all", leaves=True))
    with trio.move_on_after(5):
        await worker.writeback.run()
    assert moved.in_use[0] > 0
    await moved.check()

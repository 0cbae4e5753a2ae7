"""What is told of a request while it is carried out."""

from __future__ import annotations

from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.units import SegmentId


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

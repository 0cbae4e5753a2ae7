"""Block traces of other programs become traces of pages."""

from __future__ import annotations

import io

import pytest

from fuseswap.cli import trace
from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.importers import FORMATS, import_file, size_of
from fuseswap.laboratory.trace_format import Event, TraceReader, TraceWriter
from tests.support.effort import scaled

MSR = """\
128166372003061629,usr,0,Read,8192,8192,41286
128166372013061629,usr,0,Write,12288,512,1963
nonsense
"""
SNIA = """\
1455592850.5,0.001,R,3,4096,4096
1455592851.0,0.002,W,3,0,65536
"""
BLKTRACE = """\
  8,0    3        1     0.000000000   697  Q   W 16 + 8 [kworker]
  8,0    3        2     0.000001000   697  G   W 16 + 8 [kworker]
  8,0    1        3     0.500000000   700  Q   R 24 + 16 [cc1]
  8,0    1        4     0.700000000   700  Q   D 0 + 1024 [kworker]
CPU3 (sda):
"""


def imported(text: str, kind: str, seed: int = 0) -> tuple[list[Event], int]:
    file = io.BytesIO()
    skipped = import_file(io.StringIO(text), kind, TraceWriter(file, {}), seed)
    file.seek(0)
    reader = TraceReader(file)
    found = list(reader.events())
    assert reader.reason == "imported"
    return found, skipped


def shown(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.kind, event.page) for event in events]


def test_msr() -> None:
    events, skipped = imported(MSR, "msr")
    assert shown(events) == [(LOAD, 2), (LOAD, 3), (STORE, 3)]
    assert abs(events[2].time_ns - 1_000_000_000) < 2048
    assert skipped == 1


def test_snia() -> None:
    events, skipped = imported(SNIA, "snia")
    assert shown(events) == [(LOAD, 1), *((STORE, page) for page in range(16))]
    assert skipped == 0


def test_blktrace_counts_what_is_queued() -> None:
    events, skipped = imported(BLKTRACE, "blktrace")
    assert shown(events) == [(STORE, 2), (LOAD, 3), (LOAD, 4), (DISCARD, 0)]
    assert events[-1].number == 128
    assert skipped == 2


def test_each_store_has_contents_of_its_own_and_the_size_of_its_page() -> None:
    line = "1.0,0,W,0,4096,4096\n"
    events, _ = imported(line * 3, "snia", 7)
    assert len({event.number for event in events}) == 3
    assert {event.size for event in events} == {size_of(1, 7)}
    assert imported(line * 3, "snia", 7)[0] == events != imported(line * 3, "snia", 8)[0]


def test_times_of_hours_do_not_turn_over() -> None:
    lines = "".join(f"{hours * 3600}.0,0,R,0,0,4096\n" for hours in (0, 1, 5, 50))
    events, _ = imported(lines, "snia")
    assert [round(event.time_ns / 3.6e12) for event in events] == [0, 1, 5, 50]


@pytest.mark.parametrize("kind", ["msr", "snia", "blktrace"])
@pytest.mark.parametrize(
    "line",
    ["-1,a,0,Read,-5,-5,1", "1e999,0,R,0,1,1", "0,0,R,0,99999999999999999999999,4096", ",,,,,,"],
)
def test_a_line_of_nonsense_is_left_out_or_bounded(kind: str, line: str) -> None:
    events, skipped = imported(f"{line}\n" * scaled(4), kind)
    assert len(events) + skipped >= 1
    assert len(events) <= 2 * scaled(4), "a request that is not aligned has two pages"


def test_the_command_offers_each_format() -> None:
    assert list(trace._FORMATS) == sorted(FORMATS)

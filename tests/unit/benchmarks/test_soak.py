"""What ``scripts/soak`` makes of what it reads: sums, deaths, kernel errors, pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fuseswap.errors import InvalidArgument
from fuseswap.units import MIB
from tests.benchmarks.soak.kills import SIGNALS, parse_kinds
from tests.benchmarks.soak.pause import Event, parse_reads, summary, waits_ms
from tests.benchmarks.soak.record import COUNTED, POOL, Outcome, Totals, deaths_in, kernel_errors

SUPERVISOR = "2026-11-21 12:53:11 supervisor: "
LOG = f"""
{SUPERVISOR}worker 11 ended with -9; starting another (number 1)
2026-11-21 12:53:12,345 worker[12] ERROR: worker 1 ended with -9; a line of somebody else
{SUPERVISOR}worker 12 is stuck: killed
{SUPERVISOR}worker 12 ended with -9; starting another (number 2)
{SUPERVISOR}worker 13 ended with -11; starting another (number 3)
{SUPERVISOR}worker 14 ended with 1; starting another (number 4)
{SUPERVISOR}worker 15 replaced by 16, pause 12 ms
{SUPERVISOR}worker 16 ended with -9; starting another (number 6)
"""
GOOD_END = {"bad_pages": 0, "touches": 10, "pages": 20, "micros_per_touch": 5.0}


def look(pool: int = MIB, **counters: int) -> dict[str, int]:
    return {**dict.fromkeys(COUNTED, 0), POOL: pool, **counters}


def outcome(end: Mapping[str, Any] | None = GOOD_END, **changes: Any) -> Outcome:
    totals = Totals()
    totals.add(changes.pop("look", look()))
    plain: dict[str, Any] = {"limit_bytes": MIB, "restarts": 1, "sent": {}, "deaths": {}}
    return Outcome(
        totals=totals, returncode=changes.pop("returncode", 0), end=end, **plain, **changes
    )


def test_counters_go_on_where_a_worker_began_at_zero() -> None:
    totals = Totals()
    for stores in (5, 9, 2, 3, 1):
        totals.add(look(succ_stores=stores))
    assert totals["succ_stores"] == 9 + 3 + 1


def test_a_counter_that_stands_still_while_another_falls_counts_twice() -> None:
    """The same number is another worker's."""
    totals = Totals()
    totals.add(look(succ_stores=5, tier_loads=2))
    totals.add(look(succ_stores=1, tier_loads=2))
    assert (totals["succ_stores"], totals["tier_loads"]) == (6, 4)


def test_the_peak_of_the_pool_is_of_all_looks() -> None:
    totals = Totals()
    for pool in (1, 3, 2):
        totals.add(look(pool=pool * MIB))
    assert (totals.peak_pool_bytes, totals.looks) == (3 * MIB, 3)


def test_deaths_are_told_by_their_end_and_a_stuck_one_is_no_sigkill() -> None:
    assert deaths_in(LOG) == {"SIGKILL": 2, "stuck": 1, "SIGSEGV": 1, "exit 1": 1}


def test_kernel_errors_count_from_the_mark_on() -> None:
    log = "I/O error, dev loop0\nMARK\nAdding 1k swap\nRead-error on swap-device (7:0:8)\n"
    assert kernel_errors(log, "MARK") == ["Read-error on swap-device (7:0:8)"]
    assert len(kernel_errors(log, "a mark that the ring has lost")) == 2


def test_a_good_soak_has_no_fault() -> None:
    assert outcome().faults == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"end": {**GOOD_END, "bad_pages": 3}}, "3 BAD PAGES"),
        ({"end": None, "returncode": -7}, "the process under pressure died (SIGBUS)"),
        ({"look": look(pool=2 * MIB)}, "the pool had 2M"),
        ({"look": look(checksum_errors=1)}, "checksum_errors: 1"),
        ({"kernel_errors": ["I/O error"]}, "kernel: I/O error"),
    ],
)
def test_faults(changes: dict[str, Any], fault: str) -> None:
    found = outcome(**changes)
    assert found.faults == [fault]
    assert found.lines()[-1].endswith(fault)


def test_refused_stores_are_told_and_no_fault() -> None:
    found = outcome(look=look(failed_stores=4))
    assert found.faults == []
    assert "stores refused   4" in found.lines()


def test_kinds_of_kills() -> None:
    assert parse_kinds("STOP,exception") == ("STOP", "exception")
    assert parse_kinds(",".join(SIGNALS)) == tuple(SIGNALS)
    for wrong in ("", "KILL,", "TERM"):
        with pytest.raises(InvalidArgument, match="no way to end a worker"):
            parse_kinds(wrong)


def test_long_reads_are_parsed_and_a_line_that_is_cut_off_is_not() -> None:
    assert parse_reads("filled\n1.5 0.25\n2.0 0.5\n3.0") == [(1.5, 0.25), (2.0, 0.5)]


def test_an_event_is_charged_with_the_longest_read_that_was_in_flight() -> None:
    events = [Event("SIGKILL", 10.0, 10.5), Event("SIGKILL", 20.0, 20.5)]
    reads = [(9.0, 0.5), (9.9, 0.3), (10.4, 0.2), (10.6, 5.0)]
    assert waits_ms(events, reads) == pytest.approx([300.0, 0.0])


def test_summary_has_a_line_for_each_kind() -> None:
    events = [
        Event("SIGKILL", 0.0, 1.0),
        Event("restart", 2.0, 3.0, said_ms=12.0),
        Event("SIGKILL", 4.0, 5.0),
    ]
    reads = [(0.5, 0.1), (2.5, 0.02), (4.5, 0.3)]
    assert summary(events, reads) == [
        "SIGKILL  median 200 ms, worst 300 ms (2)",
        "restart  median 20 ms, worst 20 ms (1); by the supervisor: median 12 ms, worst 12 ms (1)",
    ]

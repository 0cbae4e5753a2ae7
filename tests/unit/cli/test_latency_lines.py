"""Times of requests, as ``status`` and ``top`` show them."""

from __future__ import annotations

from fuseswap.cli.latency_lines import latency_lines


def test_a_line_for_each_kind_of_request() -> None:
    stats = {
        "stored_pages": 3,
        "latency_p50_us.load.memory": 12,
        "latency_p50_us.load.tier:disk": 130,
        "latency_p99_us.load.memory": 40,
        "latency_p99_us.load.tier:disk": 900,
        "latency_p999_us.load.memory": 247,
        "latency_p999_us.load.tier:disk": 12_000,
        "latency_max_us.load.memory": 2_100,
        "latency_max_us.load.tier:disk": 14_000_000,
    }
    assert latency_lines(stats) == [
        "",
        "  load memory      p50   12us  p99   40us  p99.9  247us  max 2100us",
        "  load tier:disk   p50  130us  p99  900us  p99.9   12ms  max    14s",
    ]


def test_nothing_of_a_worker_that_has_none() -> None:
    assert latency_lines({"stored_pages": 3}) == []

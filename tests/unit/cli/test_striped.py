"""Commands that are given a set of stripes, without a device."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from fuseswap import cli
from fuseswap.cli import restart, striped_up
from fuseswap.cli.savings import savings
from fuseswap.cli.status import device_status
from fuseswap.cli.stripe_status import GREATEST, combined, parameters_of, statistics_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.stripe_set import StripeSet
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import MIB


@pytest.fixture(autouse=True)
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StripeSet:
    """A set that is a table and no more."""
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    one = StripeSet("fast")
    one.create(2, 64)
    return one


def stripe(number: int, **changed: Any) -> dict[str, Any]:
    """The status of one, as far as it matters."""
    return {
        "name": f"fast/{number}", "status": "running", "reason": None, "loop": f"/dev/loop{number}",
        "swap_priority": 7, "swap_used_bytes": 4096, "size_bytes": 64 * MIB, "restarts": number,
        "mountpoint": "m", "swapfile": "s", "supervisor_pid": 1, "worker_pid": 2, "standby_pid": 3,
        "worker_rss_bytes": 1, "standby_rss_bytes": 2, "supervisor_rss_bytes": 3,
        "discards": True, "resumes": True, "memory_locked": True, "io_flusher": True,
        "oom_score_adj": -1000, "log": [f"log of {number}"], "warnings": [],
        "stats": {"stored_pages": 10 + number, "tier_read_p99_us.file": 100 * number},
        "params": {"dedup": "auto", "pool_limit_bytes": "1", "busy_poll_us": str(number)},
        "tiers": [{"name": "file"}], **changed,
    }  # fmt: skip


def test_one_whose_files_are_damaged_is_told_of(found: StripeSet) -> None:
    (found.directory / "1").mkdir(mode=0o700)
    (found.directory / "1" / "config.json").write_text("{")
    damaged = device_status(Runtime("fast/1"))
    assert damaged["status"] == "unreadable"
    whole = combined("fast", 2, 64 * MIB, [stripe(0), damaged])
    assert (whole["status"], whole["size_bytes"], whole["restarts"]) == ("unreadable", 64 * MIB, 0)
    assert whole["oom_score_adj"] == 0
    assert "fast/1: " in whole["reason"]


def test_one_status_of_two() -> None:
    whole = combined("fast", 2, 64 * MIB, [stripe(0), stripe(1)])
    assert (whole["name"], whole["status"], whole["reason"]) == ("fast", "running", None)
    assert (whole["size_bytes"], whole["restarts"], whole["swap_priority"]) == (128 * MIB, 1, 7)
    assert whole["loop"] == "/dev/loop0,/dev/loop1"
    assert whole["worker_pid"] is None
    assert whole["stats"] == {"stored_pages": 21, "tier_read_p99_us.file": 100}
    assert whole["params"] == {
        "dedup": "auto", "pool_limit_bytes": str(64 * MIB), "busy_poll_us": "0,1"
    }  # fmt: skip
    assert [tier["name"] for tier in whole["tiers"]] == ["0/file", "1/file"]
    assert whole["stripes"] == [stripe(0), stripe(1)]
    assert json.loads(json.dumps(whole)) == whole


def test_the_greatest_counts_where_a_sum_says_nothing() -> None:
    units = ("percent", "microseconds", "1 or 0")
    assert {row.name for row in STATISTICS if row.unit in units} == GREATEST


def test_a_set_is_as_its_worst_stripe() -> None:
    bad = stripe(1, status="silent", reason="no answer", stats={}, params={}, warnings=["leaks"])
    whole = combined("fast", 2, 64 * MIB, [stripe(0), bad])
    assert (whole["status"], whole["reason"]) == ("silent", "fast/1: no answer")
    assert whole["log"] == ["log of 1"]
    assert whole["warnings"] == ["fast/1: leaks"]
    assert whole["stats"]["stored_pages"] == 10
    whole = combined("fast", 2, 64 * MIB, [stripe(0)])
    assert whole["status"] == "incomplete"
    assert "1 of 2" in whole["reason"]


def test_no_stripe_answers() -> None:
    silent = {"status": "silent", "stats": {}, "params": {}, "tiers": []}
    whole = combined("fast", 2, MIB, [stripe(0, **silent), stripe(1, **silent)])
    assert (whole["stats"], whole["params"]) == ({}, {})
    assert savings(whole["stats"], in_bytes=True) == []


def test_numbers_are_added_up() -> None:
    assert statistics_of([{"a": 1}, {"a": 2, "b": 3}]) == {"a": 3, "b": 3}
    limits = [{"writeback_limit_bytes": "1"}, {"writeback_limit_bytes": "2"}]
    assert parameters_of(limits) == {"writeback_limit_bytes": "3"}
    none = [{"writeback_limit_bytes": "none"}, {"writeback_limit_bytes": "none"}]
    assert parameters_of(none) == {"writeback_limit_bytes": "none"}


def test_a_command_is_run_for_each_stripe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restart, "restart", lambda runtime: f"did {runtime.stripe}")
    assert cli.main(["restart", "fast"]) == 0
    assert capsys.readouterr().out == "fast/0: did 0\nfast/1: did 1\n"
    assert cli.main(["restart", "fast/1"]) == 0
    assert capsys.readouterr().out == "fast/1: did 1\n"


def test_it_ends_where_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def fail(runtime: Any) -> str:
        asked.append(runtime.name)
        raise HostError("not now")

    monkeypatch.setattr(restart, "restart", fail)
    assert cli.main(["restart", "fast"]) == 2
    assert asked == ["fast/0"]
    assert "not now" in capsys.readouterr().err


def test_all_are_restarted_though_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = [Runtime(name) for name in ("alone", "fast/0", "fast/1")]

    def fail_once(runtime: Runtime) -> str:
        if runtime.name == "alone":
            raise HostError("alone was not restarted")
        return "restarted"

    monkeypatch.setattr(restart, "all_devices", lambda: devices)
    monkeypatch.setattr(restart, "restart", fail_once)
    assert cli.main(["restart", "--all"]) == 2
    said = capsys.readouterr()
    assert said.out == "fast/0: restarted\nfast/1: restarted\n"
    assert said.err == "fuseswap: alone was not restarted\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "fast/0"),
        ("down", "fast/0"),
        ("explain", "fast", "0"),
        ("set", "fast", "nothing=1"),
        ("set", "fast", "dedup"),
        ("set", "fast", "pool_limit_bytes=15M"),
        ("get", "fast", "nothing"),
        ("up", "other", "--stripes", "9"),
        ("up", "other", "--stripes", "0"),
        ("up", "other", "--stripes", "3", "--pool-limit", "23M"),
        ("up", "other", "--stripes", "2", "--tier", "block:/dev/nothing"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_pool_limit_is_the_sets(found: StripeSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["set", "fast", "pool_limit_bytes=128M"]) == 0
    assert found.limit_frames() == 128
    assert cli.main(["get", "fast", "pool_limit_bytes"]) == 0
    assert capsys.readouterr().out == f"{128 * MIB}\n"


def test_how_many_stripes() -> None:
    def count(name: str, stripes: int | None) -> int:
        return striped_up.count_of(argparse.Namespace(name=name, stripes=stripes))

    assert count("other", None) == 0
    assert count("other", 1) == 0
    assert count("other", 2) == 2
    assert count("fast", None) == 2
    assert count("fast", 1) == 1
    with pytest.raises(InvalidArgument):
        count("fast/0", None)

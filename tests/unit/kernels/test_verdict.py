"""What a guest said becomes a verdict, also where it was cut off in the middle of a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kernels.scenario import parse
from tests.kernels.verdict import Verdict, judge, parse_events

RESULT = {
    "seconds": 61.5,
    "up_s": 4.0,
    "down_s": 1.0,
    "down_exit": 0,
    "hog_exit": 0,
    "hog": {"phase": "end", "done": 1.0, "bad_pages": 0},
    "stalled": False,
    "longest_silence_s": 2.5,
    "kills": 0,
    "failed_ups": 0,
    "bystander_exits": [0, 0, 0, 0],
    "statistics": {"failed_stores": 3},
}
BOOT = {"uptime": 5.5}
TICK = {"swapped": 20480, "free": 8192, "phase": "touch", "done": 0.25, "bad_pages": 0}
HUNG = "[   95.1] INFO: task kworker/0:1:73 blocked for more than 40 seconds."
OOM = "[   60.2] Out of memory: Killed process 210 ({}) total-vm:432000kB, anon-rss:10kB"


def lines_of(**events: dict[str, Any]) -> str:
    return "".join(json.dumps({"event": name, **rest}) + "\n" for name, rest in events.items())


def verdict(
    result: dict[str, Any] | None = None,
    *,
    console: str = "",
    ended: str = "off",
    name: str = "6.12-384-c",
) -> Verdict:
    """Of a whole course, with what ``result`` changes in its end."""
    lines = lines_of(boot=BOOT, tick=TICK, result={**RESULT, **(result or {})})
    return judge(parse(name), ended, 70.0, console, lines)


def test_a_worker_without_its_filter_has_failed() -> None:
    assert verdict({"statistics": {"seccomp": 1}}).passed
    assert verdict({"statistics": {"seccomp": 0}}).why == [
        "the worker's system calls were not filtered"
    ]


def test_a_whole_course_passes() -> None:
    found = verdict()
    assert found.passed
    assert (found.seconds, found.boot_s, found.swapped_mib) == (61.5, 5.5, 20)
    assert found.least_free_mib == 8.0
    assert found.statistics == {"failed_stores": 3}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hog_exit": 1, "hog": {"phase": "end", "bad_pages": 7}}, "7 bad pages"),
        ({"hog_exit": -11}, "the hog ended with -11"),
        ({"stalled": True, "hog_exit": -9}, "the hog made no progress"),
        ({"down_exit": 2}, "down: 2"),
        ({"failed_ups": 1}, "1 times no new supervisor"),
        ({"bystander_exits": [0, -7, 0, 1]}, "2 bystanders lost"),
    ],
)
def test_what_is_wrong_with_a_course_is_said(change: dict[str, Any], why: str) -> None:
    found = verdict(change)
    assert why in found.why
    assert not found.passed


def test_a_kill_that_never_came_is_no_success() -> None:
    assert verdict(name="6.12-384-c-kill.worker").why == ["nothing was killed"]
    assert verdict({"kills": 3}, name="6.12-384-c-kill.worker").passed


def test_hung_tasks_and_panics_are_read_from_the_console() -> None:
    newer = HUNG.replace("kworker/0:1:73 blocked", "hog:145 blocked in I/O wait")
    console = (
        f"{HUNG}\n{HUNG}\n{newer}\n[ 96.0] Kernel panic - not syncing: hung_task: blocked tasks\n"
    )
    found = judge(parse("6.12-384-c"), "off", 96.0, console, lines_of(boot=BOOT, tick=TICK))
    assert found.hung_tasks == ["hog", "kworker/0:1"]
    assert found.why == [
        "panic: hung_task: blocked tasks",
        "hung: hog, kworker/0:1",
        "no result",
    ]
    assert (found.phase, found.done) == ("touch", 0.25)


def test_a_guest_without_a_word_names_who_was_blocked() -> None:
    console = "[ 61.0] task:kswapd0         state:D stack:0     pid:49\n"
    lines = lines_of(boot=BOOT, tick=TICK)
    found = judge(parse("6.12-384-c"), "silent", 90.0, console, lines)
    assert found.hung_tasks == ["kswapd0"]
    assert "blocked: kswapd0" in found.why


def test_the_end_of_init_is_told_apart() -> None:
    console = "[ 50.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
    assert verdict(console=console).init_died


def test_the_killer_may_take_nobody_where_memory_suffices() -> None:
    assert verdict(console=OOM.format("hog")).why == ["OOM killer took hog"]


def test_where_memory_runs_out_the_hog_has_to_go() -> None:
    name = "6.12-384-c-oom"
    assert verdict(name=name).why == ["the hog was not killed: 0"]
    gone = {"hog_exit": -9}
    assert verdict(gone, name=name, console=OOM.format("hog-python")).passed
    found = verdict(gone, name=name, console=f"{OOM.format('hog')}\n{OOM.format('sh')}")
    assert found.why == ["OOM killer took sh"]
    assert found.oom_kills == ["hog", "sh"]


def test_bad_pages_of_a_guest_that_stood_still_count() -> None:
    lines = lines_of(boot=BOOT, tick={**TICK, "bad_pages": 2})
    assert judge(parse("6.12-384-c"), "silent", 90.0, "", lines).why == [
        "the guest was silent",
        "2 bad pages",
        "no result",
    ]


def test_errors_of_the_swap_and_segfaults_are_counted() -> None:
    console = "Read-error on swap-device (7:0:1024)\nI/O error, dev loop0, sector 8 op 0x0\n"
    found = verdict(console=f"{console}[ 3.0] sh[1]: segfault at 0 ip 0 sp 0 error 6\n")
    assert (found.swap_errors, found.segfaults) == (2, ["sh"])


def test_a_guest_without_a_word_did_not_boot() -> None:
    assert judge(parse("6.1-192-c"), "off", 3.0, "", "").why == ["it did not boot"]


def test_an_error_of_the_course_is_the_reason() -> None:
    lines = lines_of(boot=BOOT, failed={"error": "RuntimeError: up: 2"})
    assert judge(parse("6.1-192-c"), "off", 9.0, "", lines).why == ["RuntimeError: up: 2"]


def test_what_is_cut_off_or_no_event_is_left_out() -> None:
    text = 'sh: not found\n{"phase": "fill"}\n{"event": "boot", "uptime": 5}\n{"event": "ti'
    assert parse_events(text) == [{"event": "boot", "uptime": 5}]

"""The run queue: more threads than processors, read without a new file or memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from fuseswap.linux.run_queue import RunQueue


def loadavg(path: Path, runnable: int) -> str:
    """The kernel's file, rewritten in place: what is open sees it."""
    path.write_text(f"4.01 1.77 0.72 {runnable}/302 9675\n")
    return str(path)


@pytest.mark.parametrize(("runnable", "crowded"), [(1, False), (2, False), (3, True), (130, True)])
def test_it_is_crowded_where_threads_wait(tmp_path: Path, runnable: int, crowded: bool) -> None:
    queue = RunQueue(loadavg(tmp_path / "loadavg", runnable), processors=2)
    assert queue.is_crowded() is crowded
    queue.close()


def test_each_look_is_new(tmp_path: Path) -> None:
    path = tmp_path / "loadavg"
    queue = RunQueue(loadavg(path, 5), processors=4)
    seen = []
    for runnable in (4, 5, 1, 200):
        loadavg(path, runnable)
        seen.append(queue.is_crowded())
    assert seen == [False, True, False, True]
    queue.close()


def test_a_thread_at_real_time_priority_counts_as_a_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = RunQueue(loadavg(tmp_path / "loadavg", 1), processors=2)
    monkeypatch.setattr("os.sched_getscheduler", lambda pid: os.SCHED_RR)
    assert queue.is_crowded()
    queue.close()


@pytest.mark.parametrize("text", ["", "nothing", "0.1 0.2 0.3 x/3 1\n"])
def test_what_it_cannot_read_is_no_crowd(tmp_path: Path, text: str) -> None:
    path = tmp_path / "loadavg"
    path.write_text(text)
    assert not RunQueue(str(path), processors=1).is_crowded()


def test_without_the_file_there_is_no_crowd(tmp_path: Path) -> None:
    assert not RunQueue(str(tmp_path / "missing"), processors=1).is_crowded()


def test_a_file_that_is_mounted_over_it_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As lxcfs does: the process behind it may be swapped out."""
    path = loadavg(tmp_path / "loadavg", 100)
    real = os.stat

    def stat(of: str) -> os.stat_result:
        found = list(real(of))
        found[2] += of == path  # st_dev
        return os.stat_result(found)

    monkeypatch.setattr("os.stat", stat)
    assert not RunQueue(path, processors=1).is_crowded()


def test_closed_there_is_no_crowd(tmp_path: Path) -> None:
    queue = RunQueue(loadavg(tmp_path / "loadavg", 100), processors=1)
    assert queue.is_crowded()
    for _ in range(2):
        queue.close()
    assert not queue.is_crowded()


def test_the_kernel_counts_threads_that_run() -> None:
    """On the machine itself, where this thread and a spinning child of ours run."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        try:
            queue = RunQueue(processors=1)
            assert any(queue.is_crowded() for _ in range(100_000))
            queue.close()
        finally:
            child.kill()


def test_a_look_keeps_no_memory(tmp_path: Path) -> None:
    queue = RunQueue(loadavg(tmp_path / "loadavg", 2), processors=2)
    queue.is_crowded()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            queue.is_crowded()
        assert tracemalloc.get_traced_memory()[0] - before < 512
    finally:
        tracemalloc.stop()
        queue.close()

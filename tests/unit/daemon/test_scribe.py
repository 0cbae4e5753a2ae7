"""The scribe: it may wait, those who hand it something never do."""

from __future__ import annotations

import os
import threading
from functools import partial

from fuseswap.daemon.scribe import MAX_LINES, Scribe
from fuseswap.errors import HostError


def written(fd: int) -> list[str]:
    os.set_blocking(fd, False)
    return os.read(fd, 1 << 20).decode().splitlines()


def test_in_the_order_they_came() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)
    scribe.say("first")
    scribe.do(lambda: os.write(write, b"job\n"))
    scribe.say("last")
    scribe.start()
    assert scribe.flush()
    assert written(read) == ["first", "job", "last"]


def test_a_line_has_nothing_that_a_terminal_obeys() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)
    scribe.say("server: \x1b[2J\nthe places")
    assert scribe.flush()
    assert written(read) == [r"server: \x1b[2J", "the places"]


def test_lines_that_find_no_room_are_counted() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)
    for number in range(MAX_LINES + 7):
        scribe.say(str(number))
    assert scribe.flush()
    lines = written(read)
    assert len(lines) == MAX_LINES + 1
    assert lines[1].endswith("7 lines were dropped")
    assert lines[-1] == str(MAX_LINES - 1)


def test_who_says_something_does_not_wait_for_a_log_that_is_full() -> None:
    """As a tmpfs without memory: here a pipe that nobody reads."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, bytes(4096))
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    scribe = Scribe(write, may_swap=True)
    scribe.start()
    for number in range(2 * MAX_LINES):
        scribe.say(str(number))
    assert not scribe.flush(0.01)
    while not scribe.flush(0.01):
        os.read(read, 1 << 16)


def test_a_job_waits_once_and_its_error_is_a_line() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)
    may, done = threading.Event(), []

    def job() -> None:
        done.append(0)
        raise OSError(28, "No space left on device")

    scribe.do(may.wait)
    scribe.do(job)
    scribe.do(job)
    scribe.start()
    may.set()
    assert scribe.flush()
    scribe.do(job)
    assert scribe.flush()
    assert len(done) == 2
    assert ["No space left" in line for line in written(read)] == [True, True]


def test_a_job_with_a_mistake_is_logged_and_does_not_end_the_thread() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)

    def mistaken() -> None:
        raise KeyError("protection")

    def refused() -> None:
        raise HostError("state.json is not JSON")

    scribe.do(mistaken)
    scribe.do(refused)
    scribe.say("last")
    assert scribe.flush()
    lines = written(read)
    assert lines[0].endswith("a job failed")
    assert "KeyError: 'protection'" in lines
    assert lines[-2].endswith("cannot be written: state.json is not JSON")
    assert lines[-1] == "last"


def test_jobs_that_wait_do_not_make_room_for_more_lines() -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=True)
    for _ in range(MAX_LINES):
        scribe.do(partial(os.write, write, b""))
    scribe.say("one too many")
    assert scribe.flush()
    scribe.say("told now")
    assert scribe.flush()
    told, dropped = written(read)
    assert told == "told now"
    assert dropped.endswith(" 1 lines were dropped")

"""Workers found by their command line, and none that only looks like one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

from fuseswap.daemon import strays


@contextmanager
def process(name: str, directory: str) -> Iterator[Popen[bytes]]:
    """One with the command line of a worker, that waits."""
    arguments = json.dumps({"name": name, "directory": directory, "fds": {"header": 3}})
    program = "print(flush=True); input()"
    command = [sys.executable, "-c", program, "fuseswap.daemon.worker", arguments]
    with Popen(command, stdin=PIPE, stdout=PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.kill()


def test_by_name_and_directory() -> None:
    with process("swap0", "/run/here") as ours, process("swap0", "/run/elsewhere"):
        assert strays.workers_of("swap0", "/run/here") == [ours.pid]
        assert strays.workers_of("swap1", "/run/here") == []
        assert strays.arguments_of(ours.pid)["fds"] == {"header": 3}


def test_end_waits_for_the_end() -> None:
    with process("swap0", "/run/here") as ours:
        strays.end([ours.pid])
        assert ours.wait(0) == -9
    strays.end([ours.pid])
    assert strays.arguments_of(ours.pid) == {}

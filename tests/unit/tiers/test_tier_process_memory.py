"""A tier process has its memory before a request comes: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, resource
from fuseswap.linux.watermarks import Watermarks
from fuseswap.tiers.tier_process_memory import ProcessMemory

class Short(Watermarks):
    near = True

    def are_near(self):
        return self.near

marks = Short()
memory = ProcessMemory(marks)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

faults()
before = faults()
pages = [b"x" * (100_000 + number) for number in range(35)]
print(faults() - before)
memory.look()
print(os.sched_getscheduler(0) == os.SCHED_RR)
marks.near = False
memory.look()
print(os.sched_getscheduler(0) == os.SCHED_OTHER)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="real-time priority is root's")
def test_what_a_request_takes_is_there_and_the_rest_comes_first() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    faults, short, rich = done.stdout.split()
    assert int(faults) <= 2
    assert (short, rich) == ("True", "True")

"""Mappings that requests use have all their pages before, in a process whose memory is locked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, resource
from fuseswap.linux import syscalls
from fuseswap.tiers import remote_wire

syscalls.mlockall(syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
fd = os.memfd_create("tier")
os.ftruncate(fd, 4 << 20)
os.pwrite(fd, b"kept", 0)
memory = remote_wire.map_memory(fd)
page = bytes(4096)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for at in range(4096, len(memory), 4096):
    memory[at : at + 4096] = page
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, memory[:4].decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a limit of an ordinary user's")
def test_no_page_of_shared_memory_is_made_by_a_request() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    faults, content = done.stdout.split()
    assert int(faults) <= 2, "1023 with MAP_POPULATE alone"
    assert content == "kept"

"""Processor time of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from fuseswap.host.processor import used_seconds


def test_own_time_counts() -> None:
    before = used_seconds(os.getpid())
    assert before is not None
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    after = used_seconds(os.getpid())
    assert after is not None
    assert after - before >= 0.03  # in steps of 0.01 s


def test_a_process_that_has_ended_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert used_seconds(process.pid) is None

"""A thread that comes upon an error which was not foreseen does not go away unnoticed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGIN = """
import time
from fuseswap.daemon.thread_ends import end_with_any_thread
end_with_any_thread()
"""
_IO = """
import trio
from fuseswap.tiers.io_threads import IoThreads
async def main():
    IoThreads(1).submit(lambda: 1 // 0, print)
    await trio.sleep(60)
trio.run(main)
"""
_FEEDER = """
from fuseswap.store.memory_reserve import FeederThread
class Region:
    def populate(self, offset, length):
        return 1 // 0
feeder = FeederThread()
feeder.populate(Region(), 0, 4096, print)
feeder.start()
time.sleep(60)
"""
_SCRIBE = """
import os
from fuseswap.daemon.scribe import Scribe
scribe = Scribe(1, may_swap=False)
scribe._write = lambda line: 1 // 0
scribe.say("something")
scribe.start()
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("name", "code"), [("io-0", _IO), ("feeder", _FEEDER), ("scribe", _SCRIBE)]
)
def test_a_worker_ends_with_each_of_its_threads(name: str, code: str) -> None:
    """What was ordered of it never comes: the next worker orders it anew."""
    ended = subprocess.run(
        [sys.executable, "-c", _BEGIN + code], capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == 1
    assert f"thread '{name}' of process" in ended.stderr
    assert "ZeroDivisionError" in ended.stderr

"""Events all over a swap of 1 TiB, and a simulation of them that takes little memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from fuseswap.frontswap.trace_ring import LOAD
from fuseswap.laboratory.trace_extent import MOST_PAGES
from tests.benchmarks.simulated_scale import events_of


def test_what_is_loaded_was_stored() -> None:
    events = list(events_of(40_000, 1))
    stored: set[int] = set()
    for event in events:
        assert 0 <= event.page < MOST_PAGES
        if event.kind == LOAD:
            assert event.page in stored
        else:
            stored.add(event.page)
    assert max(stored) > MOST_PAGES // 2
    assert events == list(events_of(40_000, 1)) != list(events_of(40_000, 2))


@pytest.mark.slow
def test_memory_is_not_that_of_the_swap() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.simulated_scale", "--events", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    found = re.search(r"memory of the process: (\d+) MiB", done.stdout)
    assert found is not None
    assert int(found[1]) < 300

"""Traces for policies: the same by their seed, possible for a kernel, and no policy at fault."""

from __future__ import annotations

from functools import partial

import pytest

from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_extent import extent_of
from tests.benchmarks.policies import POLICIES, line, run_one
from tests.benchmarks.policy_traces import MEMORY_PAGES, WORKLOADS, trace

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", WORKLOADS)
def test_it_is_what_a_kernel_may_ask_for(name: str) -> None:
    stored: set[int] = set()
    before_ns, count = 0, 0
    for event in trace(name, 12_000, 3):
        assert event.time_ns >= before_ns
        before_ns, count = event.time_ns, count + 1
        if event.kind == LOAD:
            assert event.page in stored
        elif event.kind == STORE:
            stored.add(event.page)
        else:
            assert event.kind == DISCARD
            stored.difference_update(range(event.page, event.page + event.number))
    assert count >= 12_000
    assert len(stored) > MEMORY_PAGES


def test_a_seed_makes_all_of_it() -> None:
    assert list(trace("build", 5000, 3)) == list(trace("build", 5000, 3))
    assert list(trace("build", 5000, 3)) != list(trace("build", 5000, 4))


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_runs(policy: str) -> None:
    events = partial(trace, "browser", 9000, 1)
    found = run_one(events, extent_of(events()), policy, 1)
    assert 0 < found.hit_ratio < 1
    assert found.written["file"] > 0
    assert line("browser", {policy: found}).count("|") == 3

"""A policy of a plugin in a simulation: selected by the configuration, asked, and never slow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.plugged import Plugged
from fuseswap.laboratory.sim_config import config_from
from fuseswap.laboratory.sim_policies import guarded
from fuseswap.laboratory.sim_results import Results
from fuseswap.laboratory.simulation import simulate
from fuseswap.laboratory.synthetic import synthetic
from fuseswap.laboratory.trace_extent import Extent
from fuseswap.laboratory.trace_format import Event
from fuseswap.reclaim.policy import Candidate

pytestmark = pytest.mark.slow

PAGES = 6000


class Newest:
    def __init__(self) -> None:
        self.asked = 0

    def evict_which(self, candidates: Sequence[Candidate]) -> int:
        self.asked += 1
        return len(candidates) - 1


def run(name: str, policy: Newest) -> Results:
    def events() -> Iterator[Event]:
        return synthetic(12_000, PAGES, 3)

    device = {"pool-limit": "8M", "eviction-policy": name, "recomp-algorithm": "none"}
    config = config_from("one", {"device": device, "tier disk": {"size": "30M"}})
    plugged = Plugged(policies=(guarded("newest", policy, "a test"),))
    return simulate(events, config, Extent(PAGES, 0.24), plugged=plugged)


def test_the_configuration_selects_one() -> None:
    policy = Newest()
    results = run("newest", policy)
    assert policy.asked > 5
    assert results.errors == 0
    unasked = Newest()
    assert run("default", unasked).lines() != results.lines()
    assert not unasked.asked


def test_one_that_is_not_there() -> None:
    with pytest.raises(InvalidArgument, match="there are: default, newest"):
        run("odd", Newest())

"""python -m tests.benchmarks.policies: policies on six traces, by `fuseswap simulate`'s numbers.

    --events N    of each trace (40000)
    --seed N      of traces and simulation (1)
    --trace NAME  this one alone; again: more

Every policy gets the same events.  The table has the mean time of a load, the share of loads that
are answered from memory, and MiB written to the tier.  Policies are those of the examples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fuseswap.filesystem.plugged import Plugged
from fuseswap.laboratory.sim_config import config_from
from fuseswap.laboratory.sim_policies import guarded
from fuseswap.laboratory.sim_results import Results
from fuseswap.laboratory.simulation import simulate
from fuseswap.laboratory.trace_extent import Extent, extent_of
from fuseswap.laboratory.trace_format import Event
from fuseswap.units import MIB
from tests.benchmarks.policy_traces import WORKLOADS, trace

sys.path.append(str(Path(__file__).parents[2] / "docs" / "examples" / "fuseswap_examples"))

DEVICE = {"pool-limit": "8M", "load-us": "8", "store-us": "10", "zstd-gain": "20"}
TIER = {"size": "256M", "read-us": "100", "write-us": "100", "bandwidth": "1G"}
# Which parameters are not the default's.
POLICIES: dict[str, dict[str, str]] = {
    "default": {},
    "s3_fifo": {"eviction-policy": "s3_fifo"},
    "cost_age": {"cleaning-policy": "cost_age"},
    "size_aware": {"admission-policy": "size_aware"},
    "largest_first": {"eviction-policy": "largest_first"},
}


def examples() -> dict[str, Any]:
    """New objects of the example package, by name."""
    from fuseswap_examples.cost_age import CostAge
    from fuseswap_examples.largest_first import LargestFirst
    from fuseswap_examples.s3_fifo import S3Fifo
    from fuseswap_examples.size_aware import SizeAware

    return {
        "s3_fifo": S3Fifo(), "cost_age": CostAge(), "size_aware": SizeAware(),
        "largest_first": LargestFirst(),
    }  # fmt: skip


def run_one(
    events: Callable[[], Iterable[Event]], extent: Extent, policy: str, seed: int
) -> Results:
    """One simulation; raises `HostError` where a policy was at fault."""
    sections = {"device": {**DEVICE, **POLICIES[policy]}, "tier file": TIER}
    guards = tuple(guarded(name, one, "an example") for name, one in examples().items())
    config = config_from(policy, sections)
    results = simulate(events, config, extent, seed, plugged=Plugged(policies=guards))
    assert not any(guard.health.counters.plugin_faults for guard in guards)
    return results


def line(name: str, found: Mapping[str, Results]) -> str:
    """A row of the table: three numbers for each policy."""
    cells = [
        f"{one.faults.mean_s * 1e6:.1f} us, {one.hit_ratio * 100:.1f} %, "
        f"{sum(one.written.values()) // MIB} MiB"
        for one in found.values()
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.policies")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", action="append", choices=WORKLOADS)
    options = parser.parse_args()
    print(f"| trace | {' | '.join(POLICIES)} |\n|{'---|' * (len(POLICIES) + 1)}")
    for name in options.trace or WORKLOADS:
        events = partial(trace, name, options.events, options.seed)
        extent = extent_of(events())
        found = {policy: run_one(events, extent, policy, options.seed) for policy in POLICIES}
        print(line(name, found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

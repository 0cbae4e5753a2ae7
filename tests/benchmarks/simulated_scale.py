"""python -m tests.benchmarks.simulated_scale: speed and memory of a simulated swap of 1 TiB.

    --events N    (1000000)  --seed N  (1)  --profile: where the time goes, too

A quarter of the events store pages in order, in runs at places all over the swap.  The rest loads
and stores those by Zipf's law, and scans them.  It prints events in a second of processor time
and the most memory the process had.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

from fuseswap.codecs.registry import LZ4
from fuseswap.frontswap.trace_ring import LOAD, STORE
from fuseswap.laboratory.sim_config import config_from
from fuseswap.laboratory.simulation import simulate
from fuseswap.laboratory.trace_extent import MOST_PAGES, Extent
from fuseswap.laboratory.trace_format import COMPRESSED, HOLE, Event
from fuseswap.units import MIB

GAP_NS = 100_000
RUN_PAGES = 4096
SCAN_PAGES = 256
SKEW = 4.0

SECTIONS = {
    "device": {"size": "1T", "pool-limit": "64M", "recomp-algorithm": "none"},
    "tier disk": {"size": "512G", "read-us": "80", "bandwidth": "2G"},
}


def events_of(count: int, seed: int) -> Iterator[Event]:
    """``count`` of them on `MOST_PAGES` pages; memory does not depend on ``count``."""
    chance = random.Random(seed)
    stored = max(count // 4, 1)
    spread = MOST_PAGES // (stored // RUN_PAGES + 1)
    scan, left, now_ns = 0, 0, 0
    for number in range(count):
        now_ns += GAP_NS
        if number < stored:
            index, kind = number, STORE
        else:
            if not left and chance.random() < 0.25 / SCAN_PAGES:
                scan, left = chance.randrange(stored), SCAN_PAGES
            if left:
                left -= 1
                index, kind = (scan + SCAN_PAGES - left) % stored, LOAD
            else:
                index = int(stored * chance.random() ** SKEW) * 7919 % stored
                kind = LOAD if chance.random() < 0.6 else STORE
        page = index // RUN_PAGES * spread + index % RUN_PAGES
        if kind == LOAD:
            yield Event(now_ns, LOAD, page, 0, 0, HOLE, 0)
        else:
            own = number * 0x9E3779B97F4A7C15 + seed & (1 << 64) - 1
            yield Event(now_ns, STORE, page, own, 300 + own % 3000, COMPRESSED, LZ4)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulated_scale")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    config = config_from("scale", SECTIONS)
    extent = Extent(MOST_PAGES, options.events * GAP_NS / 1e9)

    def events() -> Iterable[Event]:
        return events_of(options.events, options.seed)

    took_s = _drained(events)
    profile = cProfile.Profile() if options.profile else None
    with profile or nullcontext():
        found = simulate(events, config, extent, options.seed)
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{options.events} events, {found.processor_s:.1f} s of processor time, of which "
        f"{took_s:.1f} s make them: {options.events / found.processor_s:.0f} a second\n"
        f"memory of the process: {peak // MIB} MiB, of which the pool {found.memory_peak // MIB}\n"
        f"{found.hit_ratio * 100:.1f} % of loads from memory, "
        f"{sum(found.written.values()) // MIB} MiB written, {found.refused} refused"
    )
    return 0


def _drained(events: Callable[[], Iterable[Event]]) -> float:
    """Seconds of processor time to make them."""
    began = time.process_time()
    for _ in events():
        pass
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())

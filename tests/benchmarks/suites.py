"""The list of suites; ``suite.py`` says what one is."""

from __future__ import annotations

from tests.benchmarks import (
    background_run,
    below_run,
    busy_run,
    churn_run,
    contended_run,
    io_run,
    memory_run,
    stripes_run,
    swap_run,
    tiers_run,
    writeback_run,
)
from tests.benchmarks.suite import Suite


def all_suites() -> dict[str, Suite]:
    """Every suite by name, in the order they run."""
    return {
        "io": Suite(io_run.PEERS, io_run.run),
        "swap": Suite(swap_run.PEERS, swap_run.run),
        "stripes": Suite(stripes_run.PEERS, stripes_run.run),
        "contended": Suite(contended_run.PEERS, contended_run.run),
        "writeback": Suite(writeback_run.PEERS, writeback_run.run),
        "tiers": Suite(tiers_run.PEERS, tiers_run.run),
        "below": Suite(below_run.PEERS, below_run.run),
        "busy": Suite(busy_run.PEERS, busy_run.run),
        "churn": Suite(churn_run.PEERS, churn_run.run),
        "memory": Suite(memory_run.PEERS, memory_run.run),
        "background": Suite(background_run.PEERS, background_run.run),
    }

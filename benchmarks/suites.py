"""What a suite is, and the list of them.

A suite is a module with two names: ``PEERS``, how to make each peer it can measure, by
name; and ``run``, which measures the given ones and returns a `SuiteResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.corpus import DEFAULT_DIR
from benchmarks.peers import Peer
from benchmarks.results import SuiteResult

BASELINE = "fuseswap"

PeerFactory = Callable[[], Peer]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured."""

    rounds: int  # of each job and peer
    seconds: float  # of each fio job, and so of churn
    touches: int  # random touches of each pressure run
    reads: int = 20_000  # timed reads of each peer of `memory`
    corpus: Path = DEFAULT_DIR  # of `memory`; made where there is none


@dataclass(frozen=True, slots=True)
class Suite:
    """A module's two names."""

    peers: Mapping[str, PeerFactory]
    run: Callable[[Settings, Sequence[Peer]], SuiteResult]

    def make_peers(self, wanted: Sequence[str] | None) -> list[Peer]:
        """The wanted ones that this suite knows, in its own order; None means all."""
        return [make() for name, make in self.peers.items() if wanted is None or name in wanted]


def all_suites() -> dict[str, Suite]:
    """Every suite by name, in the order they run."""
    from benchmarks import (  # they import this module
        background_run,
        busy_run,
        churn_run,
        io_run,
        memory_run,
        swap_run,
        writeback_run,
    )

    return {
        "io": Suite(io_run.PEERS, io_run.run),
        "swap": Suite(swap_run.PEERS, swap_run.run),
        "writeback": Suite(writeback_run.PEERS, writeback_run.run),
        "busy": Suite(busy_run.PEERS, busy_run.run),
        "churn": Suite(churn_run.PEERS, churn_run.run),
        "memory": Suite(memory_run.PEERS, memory_run.run),
        "background": Suite(background_run.PEERS, background_run.run),
    }


def interleaved(rounds: int, items: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Round-robin: (round, item).  Each round starts one item later: no peer is always first."""
    for number in range(rounds):
        start = number % len(items)
        for item in (*items[start:], *items[:start]):
            yield number, item

"""What a suite is, how long it may take, and whose turn it is.

A suite is a module with two names: ``PEERS``, how to make each peer it can measure, by
name; and ``run``, which measures the given ones and returns a `SuiteResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.benchmarks.corpus import DEFAULT_DIR
from tests.benchmarks.peers import Peer
from tests.benchmarks.results import SuiteResult

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
    quick: bool = False  # less data, where a suite knows how
    corpus: Path = DEFAULT_DIR  # of `memory`; made where there is none


@dataclass(frozen=True, slots=True)
class Suite:
    """A module's two names."""

    peers: Mapping[str, PeerFactory]
    run: Callable[[Settings, Sequence[Peer]], SuiteResult]

    def make_peers(self, wanted: Sequence[str] | None) -> list[Peer]:
        """The wanted ones that this suite knows, in its own order; None means all."""
        return [make() for name, make in self.peers.items() if wanted is None or name in wanted]


def interleaved(rounds: int, items: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Round-robin: (round, item).  Each round starts one item later: no peer is always first."""
    for number in range(rounds):
        start = number % len(items)
        for item in (*items[start:], *items[:start]):
            yield number, item

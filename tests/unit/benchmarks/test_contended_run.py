"""The suite `contended`: each peer beside each number of processes, and what those lose."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from fuseswap.units import GIB
from tests.benchmarks import computing, contended_run, report
from tests.benchmarks.contended_run import PEERS, PROCESSES, TARGETS
from tests.benchmarks.peers import Peer
from tests.benchmarks.results import ratios
from tests.benchmarks.suite import Settings
from tests.benchmarks.swap_run import Pressure

pytestmark = pytest.mark.slow

SETTINGS = Settings(rounds=2, seconds=1.0, touches=1000)
MICROS = {"fuseswap": 50.0, "swapfile": 100.0}


class FakePeer(Peer):
    """Its path is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(name, GIB)

    @property
    def path(self) -> str:
        return self.name

    def describe(self) -> str:
        return "none"

    def prepare(self) -> None:
        return

    def teardown(self) -> None:
        return


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What was swapped to, beside how many; nothing is, and nothing computes."""
    found: list[tuple[int, str]] = []
    beside: list[int] = []

    @contextlib.contextmanager
    def nothing(peer: Peer) -> Iterator[None]:
        yield

    class Fake(computing.Computing):
        def __init__(self, processes: int) -> None:
            self.processes = processes

        def begin(self) -> None:
            beside.append(self.processes)

        def lost(self) -> dict[str, float]:
            return {"computed_percent": 90.0, "computing_lost_s": 0.5}

    @contextlib.contextmanager
    def fake_computing(processes: int) -> Iterator[Fake]:
        yield Fake(processes)

    def press(pressure: Pressure, device: str) -> dict[str, float]:
        found.append((beside[-1], device))
        return {"total_seconds": 2.0, "micros_per_touch": MICROS[device]}

    monkeypatch.setattr(contended_run, "active_area", nothing)
    monkeypatch.setattr(contended_run, "computing", fake_computing)
    monkeypatch.setattr(contended_run, "press", press)
    return found


def test_each_peer_runs_beside_each_number_in_each_round(pressed: list[tuple[int, str]]) -> None:
    contended_run.run(SETTINGS, [FakePeer(name) for name in MICROS])
    assert sorted(pressed) == sorted(2 * [(n, name) for n in PROCESSES for name in MICROS])


@pytest.mark.usefixtures("pressed")
def test_targets_are_of_the_jobs_with_processes_beside() -> None:
    result = contended_run.run(SETTINGS, [FakePeer(name) for name in MICROS])
    judged = {one.job: one.is_met for one in ratios(result) if one.target}
    assert judged == {"beside-1": True, "beside-2": True, "beside-4": True}
    assert "beside-0" in report.tables(result)


@pytest.mark.usefixtures("pressed")
def test_what_is_lost_is_only_said_where_there_is_anything_to_lose() -> None:
    result = contended_run.run(SETTINGS, [FakePeer("fuseswap")])
    for one in result.measurements:
        assert ("computing_lost_s" in one.values) == (one.job != "beside-0")


def test_targets_name_peers_that_there_are() -> None:
    assert {one.peer for one in TARGETS} <= set(PEERS)


def test_computing_processes_count_and_end() -> None:
    with computing.computing(2) as beside:
        began = beside.loops()
        assert beside.alone_per_s > 0
        beside.begin()
        while beside.loops() < began + 10:
            os.sched_yield()
        lost = beside.lost()
    assert lost["computed_percent"] > 0
    assert lost["computing_lost_s"] < 60


@pytest.mark.parametrize(
    ("counted", "percent", "lost_s"), [(1000, 100.0, 0.0), (750, 75.0, 2.5), (0, 0.0, 10.0)]
)
def test_the_loss_is_what_they_would_have_computed(
    monkeypatch: pytest.MonkeyPatch, counted: int, percent: float, lost_s: float
) -> None:
    """Ten seconds, 100 loops a second alone, one processor."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with computing.counters(1) as (memory, _):
        beside = computing.Computing(memory, 1)
        beside.alone_per_s = 100.0
        beside.begin()
        now[0] = 10.0
        memory[:8] = counted.to_bytes(8, "little")
        assert beside.lost() == {"computed_percent": percent, "computing_lost_s": lost_s}


def test_none_compute_where_none_shall() -> None:
    with computing.computing(0) as beside:
        assert beside.loops() == 0

"""The suite `tiers`: what is compared with what, and what did not happen is not measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.tiers.tier_spec import parse_tier
from fuseswap.units import GIB, MIB
from tests.benchmarks import report, tiers_run, written_back
from tests.benchmarks.counters import Traffic
from tests.benchmarks.peers import Peer
from tests.benchmarks.results import Measurement, SuiteResult, ratios
from tests.benchmarks.suite import Settings
from tests.benchmarks.swap_run import Pressure
from tests.benchmarks.tier_peers import FileTierPeer, TierPeer
from tests.benchmarks.tiers_run import FAR, LIMITS, NBD, PEERS, REMOTE, SIZES

SETTINGS = Settings(rounds=2, seconds=1.0, touches=100)
PRESSURE = Pressure(MIB, MIB, 25)


class FakeTierPeer(TierPeer):
    """Moves ``pages`` to its tier whenever it is looked at."""

    def __init__(self, name: str, pages: int) -> None:
        super().__init__(name, GIB, GIB)
        self.moved = 0
        self._pages = pages
        self.parameters: dict[str, str] = {}

    def _about(self) -> str:
        return "none"

    def set(self, name: str, value: str) -> None:
        self.parameters[name] = value

    def traffic(self) -> Traffic:
        self.moved += self._pages
        return Traffic(self.moved, self.moved, 0, 0)


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The peers that were swapped to, in order; nothing is."""
    active: list[str] = []

    @contextlib.contextmanager
    def area(peer: Peer) -> Iterator[None]:
        active.append(peer.name)
        yield

    def press(pressure: Pressure, device: str) -> dict[str, float]:
        return {"total_seconds": 2.0, "micros_per_touch": float(pressure.touches)}

    monkeypatch.setattr(tiers_run, "active_area", area)
    monkeypatch.setattr(tiers_run, "press", press)
    return active


def test_peers_are_pressed_in_turn_with_a_small_pool(pressed: list[str]) -> None:
    peers = [FakeTierPeer("a", 5), FakeTierPeer("b", 7)]
    found = list(tiers_run.swaps(SETTINGS, peers, SIZES, PRESSURE))
    assert pressed == ["a", "b", "b", "a"]
    assert [one.values["evicted_pages"] for one in found] == [5, 7, 7, 5]
    assert {one.values["micros_per_touch"] for one in found} == {25}
    assert all(peer.parameters == {"pool_limit_bytes": str(SIZES.pool_bytes)} for peer in peers)


def test_a_tier_to_which_nothing_went_is_an_error(pressed: list[str]) -> None:
    with pytest.raises(HostError, match="nothing went to its tier"):
        list(tiers_run.swaps(SETTINGS, [FakeTierPeer("a", 0)], SIZES, PRESSURE))
    assert pressed == ["a"]


@pytest.mark.parametrize("encrypt", [True, False])
def test_up_gets_words_for_a_tier_as_large_as_the_device(encrypt: bool) -> None:
    line = FileTierPeer("x", GIB, 64 * MIB, encrypt=encrypt).up_command()
    spec = parse_tier(line[line.index("--tier") + 1])
    assert (spec.kind, spec.size_bytes, spec.encrypt) == ("file", GIB, encrypt)
    assert "--backing" not in line
    assert line[line.index("--pool-limit") + 1] == str(64 * MIB)


@pytest.mark.parametrize(
    ("state", "over"),
    [
        ("idle\n", True),
        ("all: 0 of 3 segments\n", False),
        ("all: 2 of 3 segments\n", False),
        ("all: 3 of 3 segments\n", True),
    ],
)
def test_writing_back_is_over_when_nothing_is_left(state: str, over: bool) -> None:
    assert written_back.is_over(state) is over


def test_who_cannot_be_written_back_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert written_back.main([str(tmp_path / "gone")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def result() -> SuiteResult:
    """Over the network a read takes us 2 ms and nbdfuse 1 ms, in two rounds."""
    rates = {"fuseswap": 4000.0, FAR: 500.0, NBD: 1000.0}
    found = [
        Measurement("reads", peer, at, {"iops": rate * (1 + at)})
        for at in range(2)
        for peer, rate in rates.items()
    ]
    found.append(Measurement("writeback", "fuseswap", 0, {"mib_per_s": 100.0}))
    found.append(Measurement("writeback", FAR, 0, {"mib_per_s": 50.0}))
    return tiers_run.result_of(SETTINGS, [FakeTierPeer("fuseswap", 1)], SIZES, PRESSURE, found)


def test_ratios_are_of_what_both_have_done_and_of_the_pairs() -> None:
    found = [(one.job, one.baseline, one.peer, one.metric) for one in ratios(result())]
    assert ("reads", FAR, NBD, "iops") in found
    assert ("reads", "fuseswap", NBD, "iops") in found
    assert ("writeback", "fuseswap", FAR, "mib_per_s") in found
    assert ("writeback", FAR, NBD, "mib_per_s") not in found
    assert not [one for one in found if REMOTE in one], "it was not measured"
    (ratio,) = [one for one in ratios(result()) if one.baseline == FAR]
    assert ratio.ratio == 0.5


def test_each_baseline_has_a_table() -> None:
    lines = report.tables(result()).splitlines()
    heads = [line for line in lines if " /  " in line and "ratio" in line]
    assert ["fuseswap /" in heads[0], f"{FAR} /" in heads[1], len(heads)] == [True, True, 2]
    below = lines[lines.index(heads[1]) + 1].split()
    assert below[:4] == ["reads", "iops", NBD, "0.50"]


def test_limits_and_pairs_name_peers_that_there_are() -> None:
    assert {limit.peer for limit in LIMITS} <= set(PEERS)
    assert {name for pair in result().pairs for name in pair} <= set(PEERS)

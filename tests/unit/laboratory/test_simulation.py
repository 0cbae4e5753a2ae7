"""Simulations: the same each time, checked by an oracle, and able to find a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.core.modules import is_compiled
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.laboratory.oracle import WrongPage
from fuseswap.laboratory.sim_config import SimConfig, config_from
from fuseswap.laboratory.sim_results import Results, Times, table
from fuseswap.laboratory.simulation import simulate
from fuseswap.laboratory.synthetic import synthetic
from fuseswap.laboratory.trace_extent import Extent
from fuseswap.laboratory.trace_format import Event
from fuseswap.reclaim.relocation import Relocation
from tests.support.effort import scaled

pytestmark = pytest.mark.slow

PAGES = 24000
CONFIG = """\
[device]
pool-limit = 8M
[tier disk]
size = 6M
read-us = 80
priority = 5
[tier net]
size = 40M
read-us = 300
remote = yes
"""


def two_tiers(**device: str) -> SimConfig:
    return config_from(
        "two",
        {
            "device": {"pool-limit": "8M", **device},
            "tier disk": {"size": "6M", "read-us": "80", "priority": "5"},
            "tier net": {"size": "40M", "read-us": "300", "remote": "yes"},
        },
    )


def run(count: int, seed: int, faults: int | None = None, **device: str) -> Results:
    def events() -> Iterator[Event]:
        return synthetic(count, PAGES, seed)

    return simulate(events, two_tiers(**device), Extent(PAGES, count * 2e-5), seed, faults)


def test_pages_leave_for_tiers_and_come_back_right() -> None:
    found = run(20_000, 1)
    assert found.checked == sum(found.places.values()) > 5000
    assert found.places["tier disk"] > 300
    assert found.written["disk"] > 4 << 20
    assert found.errors == found.refused == 0
    assert found.memory_peak <= 9 << 20
    assert found.faults.percentile_s(99) > 80e-6


def test_faults_by_a_seed_make_errors_and_never_wrong_bytes() -> None:
    """Also by hand, for hours: fuseswap simulate --synthetic 100000000 --faults N."""
    results = [run(16_000 + scaled(8000), seed, seed) for seed in (2, 4)]
    assert sum(found.errors for found in results) > 0


def test_the_output_is_the_same_to_the_byte(tmp_path: Path) -> None:
    config = tmp_path / "two.conf"
    config.write_text(CONFIG)
    command = [
        sys.executable, "-m", "fuseswap", "simulate", "--synthetic", "12000", "--pages", str(PAGES),
        "--seed", "2", "--faults", "2", "--config", str(config), "--config", str(config),
    ]  # fmt: skip
    outputs = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True
        ).stdout
        for salt in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert b"written to disk" in outputs[0]


@pytest.mark.parametrize("planted", [False, True])
def test_a_recheck_that_eviction_skips_is_found(
    monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    """A segment dies while it is written to a slow tier."""
    slow = config_from(
        "slow", {"device": {"pool-limit": "8M"}, "tier disk": {"size": "30M", "bandwidth": "1M"}}
    )

    def events() -> Iterator[Event]:
        return synthetic(30_000, 6000, 1)

    if not planted:
        simulate(events, slow, Extent(6000, 0.6), 1)
        return
    monkeypatch.setattr(Relocation, "_is_at", lambda self, ref, where: True)
    with pytest.raises(WrongPage, match="stay in use"):
        simulate(events, slow, Extent(6000, 0.6), 1)


@pytest.mark.skipif(is_compiled(), reason="compiled classes can't be changed")
def test_a_stale_page_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Swapfile.write
    writes: list[int] = []

    def forgetful(self: Swapfile, offset: int, data: memoryview) -> int:
        writes.append(offset)
        return len(data) if not len(writes) % 500 else write(self, offset, data)

    monkeypatch.setattr(Swapfile, "write", forgetful)
    with pytest.raises(WrongPage, match="was loaded as"):
        run(30_000, 3)


def test_a_failing_seed_prints_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fuseswap.cli.commands import main
    from fuseswap.laboratory import simulation

    def wrong(*args: object) -> Results:
        raise WrongPage("page 7 holds nothing")

    monkeypatch.setattr(simulation, "simulate", wrong)
    assert (
        main(["simulate", "--synthetic", "10", "--pages", "9", "--seed", "5", "--faults", "3"]) == 2
    )
    again = "fuseswap simulate --synthetic 10 --pages 9 --seed 5 --faults 3"
    assert again in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        ({"other": {}}, "neither device nor tier"),
        ({"device": {"colour": "red"}}, "no parameter 'colour'"),
        ({"tier a": {"size": "1G", "speed": "1"}}, "there is no 'speed'"),
        ({"tier a": {}}, "has a size"),
        ({"tier a": {"size": "1G", "faults": "rain"}}, "no fault 'rain'"),
        ({"tier a": {"size": "1G", "remote": "maybe"}}, "yes or no"),
        ({"device": {"load-us": "99999999999"}}, "more than a minute"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    sections: dict[str, dict[str, str]], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        config_from("a", sections)


def test_percentiles_are_a_little_high_at_most() -> None:
    times = Times()
    for us in range(1, 1001):
        times.add(us / 1e6)
    assert 990e-6 <= times.percentile_s(99) <= 990e-6 * 1.05
    assert times.mean_s == pytest.approx(500.5e-6)


def test_a_table_has_a_column_for_each() -> None:
    rows = table([Results("one"), Results("two", places={"tier x": 3, "memory": 1})]).splitlines()
    assert rows[0].split() == ["one", "two"]
    assert rows[3].split() == ["from", "memory", "-", "25.00", "%"]
    assert rows[4].split() == ["from", "tier", "x", "-", "75.00", "%"]

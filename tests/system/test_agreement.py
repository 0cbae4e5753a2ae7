"""A simulation agrees with the device whose trace it runs: within a tenth, in what policies change.

The device is a real one, with a tier in a file and a pool of a quarter of what is swapped out.
Recompression is off: how much of a busy machine its thread gets is not in the trace.
"""

from __future__ import annotations

from pathlib import Path

from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, succeed
from tests.support.recorded import record, simulated
from tests.system.test_pressure import press

SIZE = 160 * MIB
MEMORY = 64 * MIB
TOUCHES = 12_000
POOL = "16M"
TIER_SIZE = "256M"
MOST = 0.1


def under_pressure(device: TestDevice) -> None:
    succeed("set", device.name, "recomp_algorithm=none")
    touching = ("--seconds", "3600", "--touches", str(TOUCHES))
    assert press(device, SIZE, MEMORY, *touching)["bad_pages"] == 0


def test_a_simulation_agrees_with_its_device(tmp_path: Path) -> None:
    trace = tmp_path / "pressure.trace"
    up = ("--size", "1G", "--pool-limit", POOL, "--priority", "32767")
    device = record(trace, tmp_path / "tier", up, TIER_SIZE, under_pressure)
    same = {"size": "1G", "pool-limit": POOL, "recomp-algorithm": "none"}
    simulation = simulated(trace, same, TIER_SIZE)
    assert 0.05 < device.hit_ratio < 0.8, "else it says nothing about policies"
    assert device.written_bytes > 16 * MIB
    for name, difference in device.differences(simulation).items():
        assert difference < MOST, f"{name}: {device}, simulated {simulation}"

"""Swapoff of a device whose server is dead."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, device_up, must, succeed
from tests.support.valkey_cluster import one_server

SLEEPER = "import os, time; m = os.urandom(22 << 20); print(len(m), flush=True); time.sleep(3600)"


@contextmanager
def swapped_out(device: TestDevice) -> Iterator[None]:
    """A process that sleeps, a quarter of it on the device."""
    with MemoryCgroup(f"fuseswap-{device.name}", 16 * MIB) as cgroup:
        enter = f"import os; open('{cgroup.path}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        command = [sys.executable, "-c", enter + SLEEPER]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline()
                cgroup.set_limit(64 * MIB)  # swapoff has room for what comes back
                yield
            finally:
                process.kill()


def test_swapoff_asks_a_dead_server_once_and_not_for_each_page(tmp_path: Path) -> None:
    """Each page that it could not bring back is named; one after the other took hours."""
    with one_server(tmp_path / "server") as server:
        far = f"valkey://127.0.0.1:{server.port}?timeout=1,name=far"
        with device_up("--size", "64M", "--priority", "32767", "--tier", far) as device:
            succeed("set", device.name, "tier_timeout=5")
            with swapped_out(device):
                succeed("writeback", device.name)
                stored = device.stat("stored_pages")
                assert stored > 1100
                server.kill()
                must("swapoff", device.loop, timeout_s=400)
                log = Runtime(device.name).log_path.read_text()
        pages: set[int] = set()
        for line in re.findall(r"cannot be read: pages? ([\d, -]+) \(", log):
            for run in line.split(", "):
                first, _, last = run.partition("-")
                pages |= {*range(int(first), int(last or first) + 1)}
        assert len(pages) > 1000

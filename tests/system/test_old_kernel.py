"""``--resend off``: the worker is killed again and again, and nobody notices but by the wait.

This kernel could send requests again; with the switch it is not asked to, as before 6.9.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, device_up, wait_until, worker_of
from tests.system.fio_jobs import DATA, SHAPES, write_and_verify
from tests.system.test_pressure import press

KILLS = 10


class Killer:
    """Kills each worker of ``device`` after some hundred requests."""

    def __init__(self, device: TestDevice) -> None:
        self._device = device
        self._runtime = Runtime(device.name)
        self._source = random.Random(7)
        self._enough = Event()
        self.kills = 0
        self.replayed = 0

    def run(self) -> None:
        """Until told that it is enough."""
        while True:
            wanted = self._source.randrange(100, 2000)
            wait_until("requests", lambda n=wanted: self._is_due(n))  # type: ignore[misc]
            if self._enough.is_set():
                return
            killed = self._worker_pid()
            os.kill(killed, signal.SIGKILL)
            wait_until("another worker", lambda k=killed: self._worker_pid() not in (0, k))  # type: ignore[misc]
            self.replayed += self._device.stat("replayed_requests")
            self.kills += 1

    def stop(self) -> None:
        """After the kill that is under way."""
        self._enough.set()

    def _is_due(self, wanted: int) -> bool:
        """Once there is no load any more, there are no requests to wait for either."""
        return self._enough.is_set() or self._device.stat("requests") > wanted

    def _worker_pid(self) -> int:
        return worker_of(self._runtime.name)


@contextmanager
def killing(device: TestDevice) -> Iterator[Killer]:
    """Workers die in here; afterwards what a survivor says must agree."""
    killer = Killer(device)
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(killer.run)
        try:
            yield killer
        finally:
            killer.stop()
            task.result()
    status = device.status()
    assert status["recovery"] == "journal"
    assert status["restarts"] == killer.kills
    assert killer.replayed > 0, "no worker died with a request in hand"
    assert device.stat("checksum_errors") == 0


@pytest.mark.no_swap
def test_fio_sees_no_error(tmp_path: Path) -> None:
    options = ("--size", "64M", "--no-swapon", "--resend", "off")
    with device_up(*options) as device, killing(device) as killer:
        # One in five or so dies with a request in hand.
        while killer.kills < KILLS or not killer.replayed:
            target = str(device.swapfile)
            write_and_verify(tmp_path, target, *SHAPES["range-deep"], *DATA["compressible"])


def test_swap_has_no_bad_page(tmp_path: Path) -> None:
    """With requests that wait: for room in a small pool, for pages on the backing file."""
    small = ("--pool-limit", "16M", "--backing", str(tmp_path / "backing"))
    options = ("--size", "1G", "--priority", "200", "--resend", "off", *small)
    with device_up(*options) as device, killing(device) as killer:
        while killer.kills < KILLS:
            report = press(device, 160 * MIB, 64 * MIB, "--seconds", "3")
            assert report["bad_pages"] == 0

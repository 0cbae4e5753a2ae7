"""A process in a memory cgroup that goes on touching its pages for as long as a test needs."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fuseswap.linux.cgroup import MemoryCgroup
from tests.support.mounted_devices import COMMAND_TIMEOUT_S, TestDevice, wait_until
from tests.system.test_pressure import command_in


class Pressure:
    """The process, once it touches what it has filled."""

    def __init__(self, cgroup: MemoryCgroup, size_bytes: int) -> None:
        command = command_in(cgroup, size_bytes, "--seconds", "3600")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.report: dict[str, Any] = {}
        self._reports = 0
        self._touching = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.report = json.loads(line)
            self._reports += 1
            if self.report["phase"] != "fill":
                self._touching.set()
        self._touching.set()

    def wait_until_filled(self) -> None:
        assert self._touching.wait(COMMAND_TIMEOUT_S)
        assert self.report["phase"] == "touch"

    def wait_until_it_goes_on(self, reports: int = 4) -> None:
        """So many more reports, of which there are two a second where nothing is in its way."""
        before = self._reports
        wait_until("it to go on", lambda: self._reports >= before + reports, COMMAND_TIMEOUT_S)
        assert self.report["phase"] == "touch", self.report
        assert self.report["bad_pages"] == 0

    def finish(self) -> dict[str, Any]:
        """Have it check every page; its last report."""
        self._process.terminate()
        self._process.wait(COMMAND_TIMEOUT_S)
        self._thread.join()
        assert self._process.returncode == 0, f"{self._process.returncode}: {self.report}"
        assert self.report["phase"] == "end"
        return self.report

    def kill(self) -> None:
        """Whatever has happened."""
        with self._process:  # closes the pipe
            self._process.kill()
            self._thread.join()


@contextmanager
def pressure_on(device: TestDevice, size_bytes: int, memory_bytes: int) -> Iterator[Pressure]:
    with MemoryCgroup(f"fuseswap-{device.name}", memory_bytes) as cgroup:
        pressure = Pressure(cgroup, size_bytes)
        try:
            pressure.wait_until_filled()
            yield pressure
        finally:
            pressure.kill()

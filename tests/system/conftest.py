"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from fuseswap.linux import syscalls
from tests.support.mounted_devices import prepare_environment, remove_locks, wind_up_watchdogs


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    assert os.geteuid() == 0, "mounts and swap need root: sudo ./scripts/test"
    prepare_environment()
    # Cold pages of this process go to the devices it tests (DAMON), and while one of them does
    # not answer, the watchdog that would end that has to run.
    with suppress(OSError):  # as protect.py: not permitted in some containers
        syscalls.mlockall(syscalls.MCL_CURRENT | syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
    yield
    remove_locks()


@pytest.fixture(autouse=True)
def _watchdogs() -> None:
    wind_up_watchdogs()

"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment import real_devices
from tests.support.mounted_devices import wind_up_watchdogs


@pytest.fixture(scope="package", autouse=True)
def _environment() -> Iterator[None]:
    with real_devices():
        yield


@pytest.fixture(autouse=True)
def _watchdogs() -> None:
    wind_up_watchdogs()

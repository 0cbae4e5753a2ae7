"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment import real_devices
from tests.support.mounted_devices import (
    TRANSPORTS,
    TestDevice,
    device_mounted,
    wind_up_watchdogs,
)


@pytest.fixture(scope="package", autouse=True)
def _environment() -> Iterator[None]:
    with real_devices():
        yield


@pytest.fixture(autouse=True)
def _watchdogs() -> None:
    wind_up_watchdogs()


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDevice]:
    """One mount a module and transport; tests use different parts of it or clean up."""
    directory = tmp_path_factory.mktemp("mnt")
    with device_mounted(directory, "size=64M", transport=request.param) as mounted:
        yield mounted

"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.mounted_devices import (
    TRANSPORTS,
    TestDevice,
    device_mounted,
    prepare_environment,
    remove_locks,
    wind_up_watchdogs,
)


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    assert os.geteuid() == 0, "mounts and swap need root: sudo ./scripts/test"
    prepare_environment()
    yield
    remove_locks()


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

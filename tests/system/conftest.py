"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

import os

import pytest

from tests.devices import prepare_environment


@pytest.fixture(scope="session", autouse=True)
def _environment() -> None:
    assert os.geteuid() == 0, "mounts and swap need root: sudo ./scripts/test"
    prepare_environment()

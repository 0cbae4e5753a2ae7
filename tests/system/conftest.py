"""Every test here needs root, and children that import this very source."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.devices import prepare_environment, remove_locks


@pytest.fixture(scope="session", autouse=True)
def _environment() -> Iterator[None]:
    assert os.geteuid() == 0, "mounts and swap need root: sudo ./scripts/test"
    prepare_environment()
    yield
    remove_locks()

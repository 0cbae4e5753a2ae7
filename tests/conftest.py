"""How long a test may take before it is ended: see `timeout` in pyproject.toml for most."""

from __future__ import annotations

import pytest

# The watchdog of tests/devices.py comes first, and then a teardown in which each step hangs.
_REAL_DEVICE_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"mount", "system"} & {*item.path.parts}:
            item.add_marker(pytest.mark.timeout(_REAL_DEVICE_TIMEOUT_S))

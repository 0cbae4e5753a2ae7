"""Bounds on time, which no machine is too slow for: a test is ended where it hangs.

For most tests that is `timeout` in pyproject.toml.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.support import beside

# The watchdog of tests/support/mounted_devices.py comes first, and then a teardown in which each
# step hangs.
_REAL_DEVICE_TIMEOUT_S = 900

# By default an example that takes more than 200 ms is a failure.
settings.register_profile(
    "any-machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if beside.uses_real_devices(item):
            item.add_marker(pytest.mark.timeout(_REAL_DEVICE_TIMEOUT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    beside.prepare_path(item)

"""Bounds on time, which no machine is too slow for: a test is ended where it hangs.

For most tests that is `timeout` in pyproject.toml.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.support import beside
from tests.support.effort import EFFORT, scaled

# The watchdog of tests/support/mounted_devices.py comes first, and then a teardown in which each
# step hangs.
_REAL_DEVICE_TIMEOUT_S = 900

# By default an example that takes more than 200 ms is a failure.
settings.register_profile(
    "any-machine",
    max_examples=scaled(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EFFORT < 1 and (slow := [item for item in items if item.get_closest_marker("slow")]):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]
    for item in items:
        if beside.uses_real_devices(item):
            item.add_marker(pytest.mark.timeout(_REAL_DEVICE_TIMEOUT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    beside.prepare_path(item)

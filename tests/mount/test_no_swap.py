"""A test that runs beside others can't enable swap, whatever it asks for."""

from __future__ import annotations

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import call, leftovers, new_name, taken_down


@pytest.mark.no_swap
def test_swapon_is_refused() -> None:
    name = new_name()
    with taken_down(name):
        done = call("up", name, "--size", "64M", "--priority", "0")
        assert done.returncode == 2
        assert "has the mark no_swap" in done.stderr
        assert leftovers(name, str(Runtime(name).default_mountpoint)) == []

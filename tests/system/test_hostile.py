"""An ordinary user who tries everything does a swap run no harm: ``scripts/hostile``, shortly."""

from __future__ import annotations

import re
import sys

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import swap_area
from tests.benchmarks.hostile.user import NAMES
from tests.support.mounted_devices import leftovers, run, taken_down

COMMAND = [sys.executable, "-m", "tests.benchmarks.hostile"]
SHORT = ("--seconds", "16", "--slice", "4", "--size", "128M", "--limit", "48M", "--no-control")


def test_no_page_no_restart_and_all_is_refused_or_bounded() -> None:
    with taken_down("hostile"):
        done = run([*COMMAND, *SHORT])
        assert done.returncode == 0, done.stderr + done.stdout
        assert leftovers("hostile", str(Runtime("hostile").default_mountpoint)) == []
        assert swap_area.areas() == []
    assert "bad pages 0 of" in done.stdout
    assert "restarts  0" in done.stdout
    for name in NAMES:
        said = re.search(rf"^  {re.escape(name)} +(\d+) \w+", done.stdout, re.MULTILINE)
        assert said is not None, name
        assert int(said[1]) > 0

"""Variables that exist for tests, and those of Python, mean nothing to root's processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.daemon import crash_points, environment
from fuseswap.tiers import fault_injection
from tests.support.mounted_devices import SOURCE, device_mounted, processes_of, standby_of

# Python imports it before anything else, wherever it finds it.
_TELL = """
from pathlib import Path
words = Path("/proc/self/cmdline").read_text().split(chr(0))
if any(word.startswith("fuseswap.daemon.") for word in words):
    Path({told!r}).write_text("ran")
"""


def test_a_device_comes_up_without_heeding_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(_TELL.format(told=str(told)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/path:{SOURCE}")
    monkeypatch.setenv(crash_points.VARIABLE, "nowhere")
    monkeypatch.setenv(fault_injection.VARIABLE, str(tmp_path / "none"))
    (tmp_path / "mnt").mkdir()
    with device_mounted(tmp_path / "mnt", "size=64M", "standby=on") as device:
        standby_of(device.name)
        found = processes_of(device.name)
        assert len(found) == 3
        for pid in found:
            pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
            names = {pair.partition("=")[0] for pair in pairs if pair}
            assert names <= {*environment.KEPT, "MALLOC_ARENA_MAX", "PYTHONMALLOC"}
    assert not told.exists()

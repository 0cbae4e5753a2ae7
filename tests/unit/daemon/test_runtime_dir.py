"""The runtime directory is its user's alone: nothing in it can be planted, read or held."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon import runtime_dir
from fuseswap.daemon.device_files import DeviceState, settings_from
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.errors import HostError
from tests.unit.daemon.test_device_files import OLD


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As /tmp/fuseswap-UID, in a directory where anybody may have been first."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setattr(runtime_dir, "runtime_root", lambda: shared / "fuseswap-0")
    return shared / "fuseswap-0"


def test_every_file_is_private_whatever_the_umask(root: Path) -> None:
    runtime = Runtime("swap0")
    with runtime.lock():
        runtime.create(settings_from(OLD, ""))
        runtime.write_state(DeviceState())
        runtime.note_loop("/dev/loop0", 7)
        os.close(runtime.open_log())
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in root.rglob("*")}
    assert found == {
        ".swap0.lock": 0o600,
        "swap0": 0o700,
        "config.json": 0o600,
        "state.json": 0o600,
        "loop": 0o600,
        "log": 0o600,
    }
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / ".swap0.lock").write_text("kept")
    root.symlink_to(target)
    for use in (lambda: Runtime("swap0"), all_devices):
        with pytest.raises(HostError, match="is a symbolic link"):
            use()
    assert (target / ".swap0.lock").read_text() == "kept"


def test_a_lock_truncates_nothing_and_is_not_a_link(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    root.mkdir(mode=0o700)
    lock = root / ".swap0.lock"
    lock.symlink_to(target)
    with pytest.raises(HostError, match="symbolic links"), Runtime("swap0").lock():
        pass
    lock.unlink()
    lock.write_text("kept")
    lock.chmod(0o644)
    with Runtime("swap0").lock():
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        assert lock.read_text() == "kept"
        with open(lock) as second, pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_another_planted_is_not_listed(root: Path) -> None:
    (root / "swap0").mkdir(parents=True)
    (root / "swap0" / "config.json").write_text("{}")
    root.chmod(0o777)
    for use in (lambda: Runtime("swap0"), all_devices):
        with pytest.raises(HostError, match="can be written to by others"):
            use()

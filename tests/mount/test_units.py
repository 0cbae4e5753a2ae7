"""What the unit leaves to its processes, as systemd rates it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.mounted_devices import SOURCE, run

UNIT = SOURCE / "mount" / "fuseswap@.service"
MOST = 4.5
# Each would give the processes a mount namespace of their own (systemd.exec(5)).
NAMESPACED = (
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "InaccessiblePaths",
    "MountAPIVFS", "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts",
    "PrivateTmp", "ProcSubset",
    "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs",
    "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem",
    "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootImage", "TemporaryFileSystem",
)  # fmt: skip


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    """The template's name says nothing to systemd-analyze."""
    path = tmp_path / "fuseswap@swap0.service"
    path.write_text(UNIT.read_text())
    return path


def test_the_exposure_is_small(instance: Path) -> None:
    threshold = f"--threshold={round(10 * MOST)}"
    done = run(["systemd-analyze", "security", "--offline=yes", threshold, str(instance)])
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = re.findall(r"exposure level .*: ([0-9.]+)", done.stdout)
    assert float(found) <= MOST


def test_no_mount_namespace() -> None:
    lines = UNIT.read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert names.isdisjoint(NAMESPACED)

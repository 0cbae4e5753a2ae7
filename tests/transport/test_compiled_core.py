"""The compiled core does what the interpreted one does, to the last byte of shared memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.compiled_core import BUILD_TIMEOUT_S, SOURCE, compiled_core

pytestmark = pytest.mark.timeout(2 * BUILD_TIMEOUT_S)


def trace(core: Path, directory: Path) -> dict[str, Path]:
    """What a run with the package in ``core`` leaves, by name."""
    directory.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{core}:{SOURCE}", "PYTHONHASHSEED": "0"}
    command = (sys.executable, "-m", "tests.support.core_trace", directory)
    done = subprocess.run(
        command, env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path for path in directory.iterdir()}


def test_both_leave_the_same_bytes(tmp_path: Path) -> None:
    compiled = trace(compiled_core(), tmp_path / "compiled")
    interpreted = trace(SOURCE, tmp_path / "interpreted")
    assert compiled.pop("core").read_text() == "compiled"
    assert interpreted.pop("core").read_text() == "interpreted"
    assert set(compiled) == set(interpreted)
    for name, path in compiled.items():
        assert path.stat().st_size > 0, name
        assert path.read_bytes() == interpreted[name].read_bytes(), name

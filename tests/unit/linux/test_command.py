"""Commands of util-linux: found, ended with us, and complained of in one line."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux import command, ending

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script, where PATH does not lead."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(command, "SYSTEM_PATH", str(tmp_path))
    path = tmp_path / "the-tool"
    path.write_text("#!/bin/sh\necho found\n")
    path.chmod(0o755)
    return path


def test_a_tool_is_found_outside_of_path(tool: Path) -> None:
    assert command.run("the-tool") == "found\n"


def test_path_comes_first(tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "the-tool").write_text("#!/bin/sh\necho their own\n")
    (own / "the-tool").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:/usr/bin:/bin")
    assert command.run("the-tool") == "their own\n"


@needs_root
@pytest.mark.parametrize("theirs", ["own", "own/the-tool"])
def test_root_runs_nothing_that_another_user_may_change(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """He may have prepared the PATH of whoever becomes root."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "the-tool").write_text("#!/bin/sh\necho their own\n")
    (own / "the-tool").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:/usr/bin:/bin")
    assert command.run("the-tool") == "their own\n"
    os.chown(tmp_path / theirs, 65534, 65534)
    assert command.run("the-tool") == "found\n"
    os.chown(tmp_path / theirs, 0, 0)
    (tmp_path / theirs).chmod(0o777)
    assert command.run("the-tool") == "found\n"
    tool.unlink()
    with pytest.raises(HostError, match="'the-tool' is missing"):
        command.run("the-tool")


@needs_root
def test_roots_programs_get_the_language_and_a_path(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLKID_FILE", "/tmp/theirs")
    monkeypatch.setenv("LANG", "C.UTF-8")
    tool.write_text("#!/bin/sh\nexec env\n")
    found = dict(line.split("=", 1) for line in command.run("the-tool").splitlines())
    assert found["LANG"] == "C.UTF-8"
    assert found["PATH"] == "/usr/bin:/bin:/usr/sbin:/sbin"
    assert "BLKID_FILE" not in found


def test_one_that_is_nowhere_is_missing(tool: Path) -> None:
    tool.unlink()
    with pytest.raises(HostError, match=r"^'the-tool' is missing; install util-linux$"):
        command.run("the-tool")


def test_a_signal_to_us_ends_it(tool: Path, tmp_path: Path) -> None:
    """It does not go on behind our back, and nobody waits for it."""
    tool.write_text(
        f"#!/bin/sh\ntrap 'echo ended >{tmp_path}/said; exit' TERM\nkill -TERM $PPID\n"
        "while :; do sleep 0.1; done\n"
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), ending.raised():
            command.run("the-tool")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - began < command.TIMEOUT_S
    assert (tmp_path / "said").read_text() == "ended\n"


def test_ctrl_c_on_the_terminal_is_not_for_it(tool: Path) -> None:
    tool.write_text("#!/bin/sh\nps -o pgid= -p $$\n")
    assert int(command.run("the-tool")) != os.getpgrp()

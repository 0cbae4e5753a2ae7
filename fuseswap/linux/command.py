"""Run a util-linux command with a timeout, and say in one line what it said."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence

from fuseswap.errors import HostError
from fuseswap.linux import ending, search_path

SYSTEM_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
TIMEOUT_S = 60.0
_END_TIMEOUT_S = 2.0


def which(tool: str) -> str | None:
    """Where ``tool`` is, also outside an ordinary user's PATH, which a cron job has, too.

    For root it is one that no other user may change.
    """
    for directory in f"{search_path.directories()}:{SYSTEM_PATH}".split(":"):
        found = shutil.which(tool, path=directory)
        if found and (os.geteuid() != 0 or search_path.is_ours(found)):
            return found
    return None


def run(*arguments: str, timeout_s: float | None = TIMEOUT_S) -> str:
    """Standard output of a command.  Raises `HostError` with its last line of complaint.

    ``timeout_s`` None waits without an end: a swapoff that is stopped half-way leaves
    pages without an owner.
    """
    process = None
    line = " ".join(arguments)
    try:
        with ending.held():  # from here on it is known, and can be ended
            process = _start(arguments)
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        assert process is not None
        process.kill()  # and no wait: one stuck in the kernel would take us along
        raise HostError(f"'{line}' did not end within {timeout_s} s") from None
    except KeyboardInterrupt:
        if process is not None:
            process.terminate()
            _wait_a_little(process)
        raise
    if process.returncode != 0:
        said = (err.strip() or out.strip() or "no reason given").splitlines()[-1]
        raise HostError(f"'{line}' failed: {said}")
    return out


def _start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    tool = which(arguments[0])
    if tool is None:
        raise HostError(f"'{arguments[0]}' is missing; install util-linux")
    return subprocess.Popen(
        [tool, *arguments[1:]],
        env=search_path.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for us
    )


def _wait_a_little(process: subprocess.Popen[str]) -> None:
    """One that was asked to end leaves things as they are then; one in the kernel may not."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_TIMEOUT_S)

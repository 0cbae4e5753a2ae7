"""Run a util-linux command with a timeout, and say in one line what it said."""

from __future__ import annotations

import subprocess

from fuseswap.errors import HostError

TIMEOUT_S = 60.0


def run(*arguments: str, timeout_s: float | None = TIMEOUT_S) -> str:
    """Standard output of a command.  Raises `HostError` with its last line of complaint.

    ``timeout_s`` None waits without an end: a swapoff that is stopped half-way leaves
    pages without an owner.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        raise HostError(f"'{arguments[0]}' is missing; install util-linux") from None
    line = " ".join(arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()  # and no wait: one stuck in the kernel would take us along
        raise HostError(f"'{line}' did not end within {timeout_s} s") from None
    if process.returncode != 0:
        said = (err.strip() or out.strip() or "no reason given").splitlines()[-1]
        raise HostError(f"'{line}' failed: {said}")
    return out

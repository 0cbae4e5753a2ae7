"""Run a util-linux command with a timeout, and say in one line what it said."""

from __future__ import annotations

import subprocess

from fuseswap.errors import HostError

TIMEOUT_S = 60.0


def run(*arguments: str, timeout_s: float | None = TIMEOUT_S) -> str:
    """Standard output of a command.  Raises `HostError` with its last line of complaint.

    ``timeout_s`` None waits for ever: a swapoff that is stopped half-way leaves pages
    nobody owns.
    """
    try:
        done = subprocess.run(
            arguments,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise HostError(f"'{arguments[0]}' is missing; install util-linux") from None
    except subprocess.TimeoutExpired:
        raise HostError(f"'{' '.join(arguments)}' did not end within {timeout_s} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise HostError(f"'{' '.join(arguments)}' failed: {said}")
    return done.stdout

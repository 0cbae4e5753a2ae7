"""Run a command that touches a mount or a device which may hang, and never hang with it.

`subprocess.run(timeout=...)` kills the child and then waits for it without a limit; a
child in an uninterruptible wait (a request that a dead server has taken) would take the
benchmark along.  Here the wait after the kill is bounded too, and a child that stays is
left behind and named by its pid.  Every child has its own session, so that Ctrl-C reaches
the benchmark alone, which then tears down in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import fuseswap
from fuseswap.errors import HostError
from fuseswap.linux.cgroup import MemoryCgroup

TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 5.0

ROOT = Path(fuseswap.__file__).resolve().parent.parent


def tell(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def environment(python_path: Sequence[Path] = (ROOT,)) -> dict[str, str]:
    """What children run with: they measure the tree this package lies in, if not told otherwise."""
    return {**os.environ, "PYTHONPATH": ":".join(map(str, python_path))}


def start(
    arguments: Sequence[str], log: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server that runs until `stop`; what it says goes to ``log``.  Raises `HostError`.

    ``variables``: of its environment, beside ours.
    """
    output = subprocess.DEVNULL if log is None else os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**environment(), **(variables or {})},
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _missing(arguments[0]) from None
    finally:
        if output >= 0:
            os.close(output)


def begin_in(
    cgroup: MemoryCgroup, arguments: Sequence[str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a process that lives in ``cgroup``; what it prints goes to ``output``."""
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=output,
        cwd="/",
        env=environment(),
        preexec_fn=cgroup.enter,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL.  Raises `HostError` where it stays.

    To the session it leads (`start`, `run`): fio's jobs are its children, and outlive it.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_TIMEOUT_S)
            return
    raise HostError(f"process {process.pid} can't be killed: it hangs in the kernel (see dmesg)")


def run(
    arguments: Sequence[str],
    *,
    timeout_s: float = TIMEOUT_S,
    kill: bool = True,
    python_path: Sequence[Path] = (ROOT,),
) -> str:
    """Standard output of a command.  Raises `HostError` where it fails or takes too long.

    ``kill`` False leaves it running after ``timeout_s``: a swapoff that is stopped half-way
    leaves pages nobody owns.  ``python_path``: where a Python finds its packages.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=environment(python_path),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _missing(arguments[0]) from None
    line = " ".join(arguments)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        if kill:
            stop(process)
        state = "was killed" if kill else f"goes on as process {process.pid}"
        raise HostError(f"'{line}' did not end within {timeout_s:.0f} s and {state}") from None
    except BaseException:
        if kill:
            stop(process)
        raise
    if process.returncode != 0:
        said = (err.decode().strip() or out.decode().strip() or "no reason given").splitlines()[-1]
        raise HostError(f"'{line}' failed: {said}")
    return out.decode()


def _missing(program: str) -> HostError:
    return HostError(f"'{program}' is missing; run: sudo scripts/install bench")

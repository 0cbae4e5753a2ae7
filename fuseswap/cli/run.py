"""``fuseswap run``: one command in a memory cgroup of its own, with a swap device of its own.

What it prints, its input and its exit code stay its own.  Two lines at the end, on standard error,
say what it would have needed and what it took.

A second process waits beside this one, and cleans up where this one is killed (``run_guard.py``).
So nothing is left, however it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from fuseswap.cli.run_guard import clean_up
from fuseswap.cli.status import device_status
from fuseswap.cli.up import require_root
from fuseswap.daemon import bring_up, config
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import InvalidArgument
from fuseswap.linux import swap_area
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.linux.ending import Undo
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import MIB

_LEAST_MEMORY = 4 * MIB
_HIGHEST_PRIORITY = 32767
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_NOT_FOUND, _NOT_STARTED = 127, 126  # as a shell says it


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "run",
        help="run a command in little memory, with a swap of its own",
        description="Run a command in a memory cgroup and with a swap device of its own.",
    )
    parser.add_argument("--memory", metavar="SIZE", required=True, help="of the cgroup: 2G, 25%%")
    parser.add_argument("--size", metavar="SIZE", help="of the swap (default: of all memory)")
    parser.add_argument(
        "--pool-limit",
        default=config.DEFAULT_POOL_LIMIT,
        help="most memory for compressed pages (default 25%%)",
    )
    parser.add_argument("--compressor", default=config.DEFAULT_COMPRESSOR, help="default lz4")
    parser.add_argument("words", nargs="+", metavar="-- COMMAND", help="and its arguments")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Returns the command's exit code, or 128 and the signal that it died of."""
    total_bytes = swap_area.memory_bytes()
    limit = parse_size(options.memory, total_bytes)
    if limit < _LEAST_MEMORY:
        raise InvalidArgument(
            f"--memory {options.memory} is less than {format_size(_LEAST_MEMORY)}"
        )
    runtime = Runtime(f"run-{os.getpid()}")
    wanted = config.DeviceConfig.parse(
        name=runtime.name,
        size=options.size or str(total_bytes),
        pool_limit=options.pool_limit,
        compressor=options.compressor,
        transport=config.DEFAULT_TRANSPORT,
        mountpoint=str(runtime.default_mountpoint),
        priority=_HIGHEST_PRIORITY,
        memory_bytes=total_bytes,
    )
    require_root("'run' (a memory cgroup and swap)")
    cgroup = MemoryCgroup(f"fuseswap-{runtime.name}", limit)
    with _cleaned_up(runtime, cgroup):
        with runtime.lock(), Undo() as undo:
            bring_up.up(runtime, wanted, undo, swapon=True)
        with cgroup:
            code = _run(options.words, cgroup)
            cgroup.kill()
            if code not in (_NOT_FOUND, _NOT_STARTED):
                _tell(options.words, runtime, cgroup)
    return code


def _run(command: Sequence[str], cgroup: MemoryCgroup) -> int:
    """Until it ends; what we are told to do, it is told.  Returns its exit code."""
    try:
        process = subprocess.Popen(command, preexec_fn=cgroup.enter)
    except FileNotFoundError:
        print(f"fuseswap: there is no command '{command[0]}'", file=sys.stderr)
        return _NOT_FOUND
    except OSError as exc:
        print(f"fuseswap: {command[0]}: {exc.strerror}", file=sys.stderr)
        return _NOT_STARTED

    def forward(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has got it as we have
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _tell(command: Sequence[str], runtime: Runtime, cgroup: MemoryCgroup) -> None:
    stats = device_status(runtime)["stats"]
    held, stored = cgroup.peak_bytes(), stats.get("mem_used_max")
    needed = cgroup.peak_with_swap_bytes()
    if held is None or stored is None:
        return
    name = shlex.quote(os.path.basename(command[0]))
    if needed is not None:
        print(f"{name}: needed up to {format_size(needed)} of memory", file=sys.stderr)
    print(
        f"{name}: took up to {format_size(held)}, and {format_size(stored)} "
        "for what was swapped out",
        file=sys.stderr,
    )


@contextlib.contextmanager
def _cleaned_up(runtime: Runtime, cgroup: MemoryCgroup) -> Iterator[None]:
    """Take cgroup and device away afterwards, also where this process is killed."""
    command = [sys.executable, "-m", "fuseswap.cli.run_guard", runtime.name, cgroup.name]
    guard = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
        cwd="/",
    )
    assert guard.stdin is not None
    try:
        yield
    finally:
        with guard:
            clean_up(runtime, cgroup)
            guard.stdin.write(b"done")

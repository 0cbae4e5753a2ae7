"""What a benchmark ran on: without it, its numbers mean nothing."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import halt_poll, swap_area
from tests.benchmarks import command

_TOOLS = (
    ("fio", "--version"),
    ("nbdkit", "--version"),
    ("nbdfuse", "--version"),
    ("git", "-C", str(command.ROOT), "describe", "--always", "--dirty"),
)


def describe() -> dict[str, object]:
    """Kernel, processors and how they idle, memory (bytes), interpreter, load, tools."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_count": os.cpu_count(),
        "cpu_model": _cpu_model(),
        "memory_bytes": swap_area.memory_bytes(),
        "python_version": sys.version,
        "python": sys.executable,
        "damon": damon_is_on(),
        "guest_halt_poll_ns": halt_poll.guest_halt_poll_ns(),
        "load_average_before": os.getloadavg(),
        "tools": {tool[0]: _version(tool) for tool in _TOOLS},
    }


def halt_polling() -> str:
    """A note: whether a processor that idles polls before it sleeps, which decides on a fault."""
    polled_ns = halt_poll.guest_halt_poll_ns()
    if polled_ns is None:
        return "halt polling: not this machine's"
    return f"halt polling: on, {polled_ns} ns" if polled_ns else "halt polling: off"


def damon_is_on() -> bool:
    """Whether a kdamond runs: it may swap out cold pages of any process, without pressure."""
    states = Path("/sys/kernel/mm/damon/admin/kdamonds").glob("*/state")
    return any(state.read_text().strip() == "on" for state in states)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def _version(tool: tuple[str, ...]) -> str | None:
    """First line of what a tool says of itself; None where it is missing (and not needed)."""
    try:
        return command.run(tool).partition("\n")[0]
    except HostError:
        return None

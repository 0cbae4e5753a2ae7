"""``fuseswap demo``: a process three times the size of its memory cgroup, before and after."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fuseswap.cli.progress import progress
from fuseswap.cli.status import device_status
from fuseswap.cli.up import require_root
from fuseswap.daemon import bring_up, config, device_info, take_down
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import swap_area
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.linux.ending import Undo
from fuseswap.sizes import decimal_or_nan, format_size, parse_size
from fuseswap.units import MIB

_TIMES = 3
_LEAST_MEMORY = 32 * MIB  # Python itself takes 16
_MOST_SECONDS = 86400.0


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="a memory-pressure run, before and after",
        description="Put a process three times its memory cgroup under pressure; verify its pages.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    parser.add_argument("--memory", default="128M", help="of the cgroup (default 128M)")
    parser.add_argument("--seconds", default="10", help="of random touches (default 10)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Use the device if it is up; else bring one up for the demo and take it down after."""
    limit = parse_size(options.memory)
    if limit < _LEAST_MEMORY:
        raise InvalidArgument(
            f"--memory {options.memory} is less than {format_size(_LEAST_MEMORY)}"
        )
    seconds = decimal_or_nan(options.seconds)
    if not seconds <= _MOST_SECONDS:
        raise InvalidArgument(f"--seconds is {options.seconds}, not 0 to {_MOST_SECONDS:g}")
    require_root("'demo' (a memory cgroup and swap)")
    room = swap_area.available_bytes()
    if _TIMES * limit > room:
        raise HostError(
            f"--memory {options.memory}: {format_size(_TIMES * limit)} of pages would be stored, "
            f"and {format_size(room)} of memory are available"
        )
    runtime = Runtime(options.name)
    with runtime.lock(), Undo() as undo:
        own = not device_info.is_up(runtime)
        if own:
            bring_up.up(runtime, _demo_config(runtime, limit), undo, swapon=True)
        code = _demonstrate(runtime, limit, seconds)
        if own:
            take_down.down(runtime)
    return code


def _demo_config(runtime: Runtime, limit: int) -> config.DeviceConfig:
    return config.DeviceConfig.parse(
        name=runtime.name,
        size=str(max(limit * (_TIMES + 1), 512 * MIB)),
        pool_limit=config.DEFAULT_POOL_LIMIT,
        compressor=config.DEFAULT_COMPRESSOR,
        transport=config.DEFAULT_TRANSPORT,
        mountpoint=str(runtime.default_mountpoint),
        priority=config.DEFAULT_PRIORITY,
        memory_bytes=swap_area.memory_bytes(),
    )


def _demonstrate(runtime: Runtime, limit: int, seconds: float) -> int:
    device = device_info.describe(runtime).loop
    area = swap_area.area_of(device) if device else None
    if area is None:
        raise HostError(f"{runtime.name} is not enabled as swap; try: fuseswap down, then up")
    size = _TIMES * limit
    if area.size_bytes - area.used_bytes < size:
        raise HostError(f"{runtime.name} has less than {format_size(size)} free; use --memory")
    print(f"A process of {format_size(size)} in a memory cgroup of {format_size(limit)}:")
    before = _stats(runtime)
    with MemoryCgroup(f"fuseswap-demo-{runtime.name}", limit) as cgroup:
        end, peak = _press(runtime, cgroup, size, seconds)
    _tell(before, peak, end)
    return 0 if end["bad_pages"] == 0 else 2


def _press(
    runtime: Runtime, cgroup: MemoryCgroup, size: int, seconds: float
) -> tuple[dict[str, Any], dict[str, int]]:
    """Run the process, show progress; returns its last report and the fullest statistics."""
    command = [sys.executable, "-m", "fuseswap.cli.pressure"]
    command += ["--size", str(size), "--seconds", str(seconds)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=cgroup.enter,
        cwd="/",
        process_group=0,  # Ctrl-C is for us
    )
    assert process.stdout is not None
    peak: dict[str, int] = {}
    line: dict[str, Any] = {}
    with process, _killed_on_failure(process), progress() as shown:
        for text in process.stdout:
            line = json.loads(text)
            now = _stats(runtime)
            if now["stored_pages"] >= peak.get("stored_pages", 0):
                peak = now
            data, total = now["orig_data_size"], now["mem_used_total"]
            shown.show(
                f"  {line['phase']:<7}{shown.bar(line['done'], 1)}swapped out "
                f"{format_size(data):>7} held in {format_size(total):>7}  "
                f"bad pages {line.get('bad_pages', 0)}"
            )
    if process.returncode not in (0, 1) or line.get("phase") != "end":
        raise HostError(f"the demo process ended with {process.returncode}; see dmesg")
    return line, peak


@contextmanager
def _killed_on_failure(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _stats(runtime: Runtime) -> dict[str, int]:
    stats: dict[str, int] = device_status(runtime)["stats"]
    if not stats:
        raise HostError(f"{runtime.name} does not answer (fuseswap status {runtime.name})")
    return stats


def _tell(before: dict[str, int], peak: dict[str, int], end: dict[str, Any]) -> None:
    data, total = peak["orig_data_size"], max(1, peak["mem_used_total"])
    rows = (
        ("swapped out at the fullest", before["orig_data_size"], data),
        ("memory it took", before["mem_used_total"], total),
    )
    print(f"  {'':<28}{'before':>10}{'after':>10}")
    for title, old, new in rows:
        print(f"  {title:<28}{format_size(old):>10}{format_size(new):>10}")
    print(
        f"  saved {format_size(data - total)}: {data / total:.2f} times smaller, "
        f"{peak['same_filled_pages']} same-filled pages for nothing"
    )
    print(
        f"  {end['touches']} random touches, {end['micros_per_touch']} us each; "
        f"{end['pages']} pages verified, {end['bad_pages']} bad pages"
    )

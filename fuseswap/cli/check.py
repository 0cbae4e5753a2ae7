"""``fuseswap check``: is this host fit to serve swap, and if not, why."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuseswap.cli import advice
from fuseswap.cli.output import print_json
from fuseswap.cli.parser import whole
from fuseswap.daemon import config, memory_limits
from fuseswap.daemon.runtime_dir import MAX_STRIPES, runtime_root
from fuseswap.linux import halt_poll, shared_memory, swap_area, sysctl, zswap
from fuseswap.linux.command import which
from fuseswap.sizes import format_size, parse_size

_CAP_SYS_RESOURCE = 24
_FUSE_NUMBER = os.makedev(10, 229)
_LOOP_CONTROL_NUMBER = os.makedev(10, 237)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; a failed one that is ``needed`` makes the host unfit."""

    good: bool
    needed: bool
    text: str


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "check",
        help="is this host fit, and why not",
        description="Say whether this host is fit to serve swap, and if not, why. Changes nothing.",
    )
    parser.add_argument(
        "--stripes",
        type=whole,
        default=1,
        choices=range(1, MAX_STRIPES + 1),
        metavar="N",
        help="of a device with so many (default 1)",
    )
    parser.add_argument("--json", action="store_true", help="an object a check, as JSON")
    parser.add_argument(
        "--advise",
        action="store_true",
        help="which settings of the machine it would change instead, why, and the commands",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one line a check; 0 where the host is fit, 2 where it is not."""
    if options.advise:
        return advice.show(as_json=options.json)
    found = {check.__name__.strip("_"): check() for check in _CHECKS}
    found |= {"memory_limit": _memory_limit(options.stripes)}
    found |= {"settings": _settings(), "zswap": _zswap()}
    findings = list(found.values())
    if options.json:
        print_json([{"name": name, **asdict(finding)} for name, finding in found.items()])
    for finding in () if options.json else findings:
        mark = "ok  " if finding.good else "FAIL" if finding.needed else "note"
        print(f"{mark}  {finding.text}")
    unfit = [finding for finding in findings if finding.needed and not finding.good]
    if unfit:
        print(f"fuseswap: this host is not fit: {unfit[0].text}", file=sys.stderr)
        return 2
    if not options.json:
        print("this host is fit")
    return 0


def _root() -> Finding:
    good = os.geteuid() == 0
    return Finding(good, True, "root" if good else "not root; swapon, loop and mlockall need it")


def _fuse() -> Finding:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
        number = os.fstat(fd).st_rdev
        os.close(fd)
    except PermissionError as exc:
        return Finding(False, True, f"/dev/fuse: {exc.strerror}; ask for access to it, or be root")
    except OSError as exc:
        return Finding(False, True, f"/dev/fuse: {exc.strerror}; modprobe fuse")
    if number != _FUSE_NUMBER:
        return Finding(
            False, True, f"/dev/fuse is another device; {_make_node('fuse', number=229)}"
        )
    return Finding(True, True, "/dev/fuse opens")


def _make_node(name: str, number: int) -> str:
    return f"rm -f /dev/{name}; mknod -m 666 /dev/{name} c 10 {number}"


def _loop() -> Finding:
    try:
        number = os.stat("/dev/loop-control").st_rdev
    except OSError:
        return Finding(False, True, "no /dev/loop-control; modprobe loop")
    if number != _LOOP_CONTROL_NUMBER:
        text = f"/dev/loop-control is another device; {_make_node('loop-control', number=237)}"
        return Finding(False, True, text)
    return Finding(True, True, "loop devices")


def _tools() -> Finding:
    missing = [tool for tool in ("losetup", "mkswap", "swapon", "swapoff") if not which(tool)]
    if missing:
        return Finding(False, True, f"missing: {', '.join(missing)}; install util-linux and mount")
    return Finding(True, True, "losetup, mkswap, swapon, swapoff")


def _fusermount() -> Finding:
    good = which("fusermount3") is not None
    text = "fusermount3" if good else "no fusermount3: ordinary users can't mount; install fuse3"
    return Finding(good, False, text)


def _memory() -> Finding:
    if os.geteuid() != 0:
        return Finding(False, False, "unevictable memory: can only be tried as root")
    try:
        kind, files = shared_memory.create_files({"probe": 4096})
    except Exception as exc:
        return Finding(False, True, f"unevictable memory: {exc}")
    for fd in files.values():
        os.close(fd)
    return Finding(True, True, f"unevictable memory: {kind}")


def _kernel() -> Finding:
    release = platform.release()
    major, minor = (int(part) for part in release.split(".")[:2])
    if (major, minor) >= (6, 9):
        return Finding(True, False, f"Linux {release}: sends again what a dead worker had taken")
    return Finding(
        True, False, f"Linux {release}: requests in flight are kept in a journal (6.9+: not needed)"
    )


def _capabilities() -> Finding:
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    good = bool(effective >> _CAP_SYS_RESOURCE & 1)
    return Finding(
        good,
        False,
        "CAP_SYS_RESOURCE"
        if good
        else "no CAP_SYS_RESOURCE: the worker can be neither spared by the OOM killer "
        "nor marked IO_FLUSHER",
    )


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding(good, True, f"Python {platform.python_version()}")


def _headroom() -> Finding:
    available = swap_area.available_bytes()
    good = available > 256 << 20
    return Finding(good, False, f"{format_size(available)} of memory available")


def _memory_limit(stripes: int) -> Finding:
    pool_bytes = parse_size(config.DEFAULT_POOL_LIMIT, swap_area.memory_bytes())
    limit = memory_limits.tightest()
    if limit is None:
        return Finding(True, False, "no memory cgroup limits this shell")
    if limit.left_bytes < memory_limits.needed_bytes(pool_bytes, stripes):
        return Finding(False, False, memory_limits.shortage(limit, pool_bytes, stripes))
    left = format_size(limit.left_bytes)
    return Finding(True, False, f"the memory cgroup {limit.path.parent} has {left} left")


def _settings() -> Finding:
    total = swap_area.memory_bytes()
    current = sysctl.Sysctl(runtime_root()).read()
    lacking = sysctl.missing(sysctl.recommended(total), current)
    if not lacking:
        kept = format_size(sysctl.cost_bytes(current, total))
        return Finding(True, False, f"settings of vm keep up to {kept} free for swap-outs")
    wanted = " ".join(f"vm.{name}={value}" for name, value in lacking.items())
    kept = format_size(sysctl.cost_bytes({**current, **lacking}, total))
    return Finding(
        False,
        False,
        "may stall when the whole machine is short of memory; `up` sets it (--tune), or: sysctl "
        f"{wanted} (up to {kept} are then kept free)",
    )


def _zswap() -> Finding:
    front = zswap.Zswap(runtime_root())
    found = front.read()
    if not found:
        return Finding(True, False, "this kernel has no zswap")
    if not front.is_on:
        return Finding(True, False, "zswap is off")
    how = f"{found.get('compressor', '?')}, {found.get('max_pool_percent', '?')} % of memory"
    if front.set_by_us():
        return Finding(True, False, f"zswap stands in front ({how}), as up --below-zswap has it")
    return Finding(
        False,
        False,
        f"zswap stands in front of every swap unasked ({how}): a device gets what it hands down; "
        f"use up --below-zswap, or: echo N > {zswap.PARAMETERS / 'enabled'}",
    )


def _idle() -> Finding:
    polls_ns = halt_poll.guest_halt_poll_ns()
    if polls_ns == 0:
        return Finding(
            False,
            False,
            "idle processors of this virtual machine sleep at once, which doubles the time of a "
            f"fault; if you may: echo {halt_poll.WORTH_NS} > {halt_poll.HALT_POLL}",
        )
    if polls_ns is None:
        return Finding(True, False, "idle processors: as the kernel has it")
    return Finding(True, False, f"idle processors poll for up to {polls_ns // 1000} us")


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _root, _fuse, _loop, _tools, _fusermount, _memory, _capabilities, _kernel, _python, _idle,
    _headroom,
)  # fmt: skip

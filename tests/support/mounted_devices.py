"""Real devices for tests: brought up by the command, and taken down whatever happens.

A wedged swap can hang the machine, so: every command has a timeout, a watchdog aborts the
FUSE connection of a device whose test takes far too long, and the teardown goes swapoff,
losetup -d, umount, kill, each step whether or not the one before succeeded.

Whatever swap is active takes cold pages of any process of the machine, at any time (DAMON pages
out without pressure).  So a device with swap on is never quiet: no test may write to its file,
end it for good, or compare its counters exactly, unless it is in `strangers_elsewhere`.  One that
a process of ours is swapped to has half a GiB of room for the others, or that process is killed.

Timeouts are for what hangs.  They are far above what a slow and busy machine takes, since they
cost nothing until something is wrong.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import fuseswap
from fuseswap.daemon import crash_points
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import loop, mount, swap_area
from fuseswap.tiers import fault_injection

SOURCE = Path(fuseswap.__file__).resolve().parent.parent
TRANSPORTS = ("devfuse", "pyfuse3")
COMMAND_TIMEOUT_S = 240.0  # the longest, fio and the soak, take 15 s on two idle processors
WAIT_TIMEOUT_S = 60.0  # a worker that is stopped with nothing to do is replaced after 15 s
WATCHDOG_S = 300.0  # of one test, however many share the device; the longest takes 40 s
_DOWN_TIMEOUT_S = 120.0  # swapoff of 1 GiB takes 3 s
_UNKILLABLE_S = 5.0
NOBODY = 65534
# A command as an ordinary user, who may read this source wherever it lies (CI may have it
# under /root), and no more.
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
_OF_TESTS = frozenset((crash_points.VARIABLE, fault_injection.VARIABLE))
_numbers = itertools.count(1)
_left_behind: list[subprocess.Popen[str]] = []


def new_name() -> str:
    """A device name nobody else uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


def fuseswap_command(*arguments: str) -> list[str]:
    """The command as a list; its device fails where a variable of the tests says so."""
    if arguments[:1] == ("up",) and not _OF_TESTS.isdisjoint(os.environ):
        arguments = (*arguments, "--testing")
    return [sys.executable, "-m", "fuseswap", *arguments]


def run(
    command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run any command to its end, with a timeout.

    One that a dead swap holds can't be killed: it is left behind, and not waited for.
    """
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException:
        process.kill()
        try:
            process.wait(_UNKILLABLE_S)
        except subprocess.TimeoutExpired:
            _left_behind.append(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def call(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run ``fuseswap ARGUMENTS``."""
    return run(fuseswap_command(*arguments), **more)


def succeed(*arguments: str) -> str:
    """Standard output of ``fuseswap ARGUMENTS``, which must succeed."""
    done = call(*arguments)
    assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
    return done.stdout


def must(*command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Standard output of a command that must succeed."""
    done = run(command, timeout_s)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
    return done.stdout


def wait_until(
    what: str,
    condition: Callable[[], bool],
    timeout_s: float = WAIT_TIMEOUT_S,
    every_s: float = 0.02,
) -> None:
    """Poll ``condition`` until it holds; fails with ``what`` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(every_s)


@dataclass(frozen=True, slots=True)
class TestDevice:
    """A mounted device."""

    __test__ = False  # not a test class, for all its name says

    name: str
    mountpoint: Path
    transport: str
    info: dict[str, Any]

    @property
    def swapfile(self) -> Path:
        """The one file."""
        return self.mountpoint / "swapfile"

    @property
    def loop(self) -> str:
        """The loop device."""
        found = self.info["loop"]
        assert isinstance(found, str)
        return found

    def stat(self, name: str) -> int:
        """A statistic, now."""
        return int((self.mountpoint / "stats" / name).read_text())

    def wait_for_pool_below(self, limit_bytes: int) -> None:
        """Poll ``pool_total_size``, slowly: reading statistics is work, too, for housekeeping."""
        wait_until(
            f"a pool of less than {limit_bytes} bytes",
            lambda: self.stat("pool_total_size") < limit_bytes,
            every_s=0.3,
        )

    def param(self, name: str) -> str:
        """A parameter, now."""
        return (self.mountpoint / "params" / name).read_text().strip()

    def status(self) -> dict[str, Any]:
        """What ``fuseswap status NAME --json`` says."""
        found: dict[str, Any] = json.loads(succeed("status", self.name, "--json"))
        return found


@contextmanager
def device_up(*options: str, transport: str = "devfuse") -> Iterator[TestDevice]:
    """``fuseswap up``, and down for certain."""
    name = new_name()
    mountpoint = Runtime(name).default_mountpoint
    with _watched(name, mountpoint):
        printed = succeed("up", name, "--json", "--transport", transport, *options)
        yield TestDevice(name, mountpoint, transport, json.loads(printed))


@contextmanager
def device_mounted(
    directory: Path, *options: str, transport: str = "devfuse"
) -> Iterator[TestDevice]:
    """``fuseswap mount``, and down for certain."""
    name = new_name()
    with _watched(name, directory):
        chosen = ",".join((f"name={name}", f"transport={transport}", *options))
        succeed("mount", "none", str(directory), "-o", chosen)
        yield TestDevice(name, directory, transport, {})


@contextmanager
def taken_down(name: str) -> Iterator[None]:
    """For a test that brings ``name`` up itself."""
    with _watched(name, Runtime(name).default_mountpoint):
        yield


@contextmanager
def strangers_elsewhere() -> Iterator[None]:
    """A second swap device, of the highest priority, which takes everybody's cold pages.

    Devices that come up in here with a lower priority stay empty, so a test may write to their
    file and take them away.  They have to come up later: the kernel goes on filling each
    processor's current cluster, in whatever area that is (tests/benchmarks/swap_run.py).
    """
    with device_up("--size", "4G", "--priority", "32767"):
        yield


class _Watchdog:
    """Aborts one mount unless it is wound up again in time."""

    running: ClassVar[set[_Watchdog]] = set()

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._timer = self._start()
        self.running.add(self)

    def _start(self) -> threading.Timer:
        timer = threading.Timer(WATCHDOG_S, abort, [self._mountpoint])
        timer.daemon = True
        timer.start()
        return timer

    def wind_up(self) -> None:
        """`WATCHDOG_S` from now."""
        self._timer.cancel()
        self._timer = self._start()

    def stop(self) -> None:
        self._timer.cancel()
        self.running.discard(self)


def wind_up_watchdogs() -> None:
    """Another test begins, maybe with a device that the one before it used."""
    for watchdog in _Watchdog.running:
        watchdog.wind_up()


@contextmanager
def _watched(name: str, mountpoint: Path) -> Iterator[None]:
    watchdog = _Watchdog(str(mountpoint))
    try:
        yield
    finally:
        try:
            watchdog.wind_up()
            tear_down(name, str(mountpoint))
        finally:
            watchdog.stop()
    assert leftovers(name, str(mountpoint)) == []


def tear_down(name: str, mountpoint: str) -> None:
    """`down`, with another worker if there is none; else by hand; and if that hangs, by force.

    A swapoff that nobody answers can't be killed.  Cutting the connection ends it.
    """
    if not leftovers(name, mountpoint):
        return
    device = _loop_of(name, mountpoint)
    for command in ("down", "restart", "down"):
        if leftovers(name, mountpoint):
            with suppress(subprocess.TimeoutExpired):
                call(command, name, timeout_s=_DOWN_TIMEOUT_S)
    for step in (_detach, _cut_off, _detach):
        if not leftovers(name, mountpoint) and not _is_attached(device, mountpoint):
            return
        step(device, mountpoint)
    for pid in processes_of(name):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    wait_until("the processes to end", lambda: not processes_of(name))
    Runtime(name).remove()
    wait_until(f"{device} to be detached", lambda: not _is_attached(device, mountpoint))


def _loop_of(name: str, mountpoint: str) -> str | None:
    """By its file, or as `up` noted it."""
    with suppress(OSError):
        noted = Runtime(name).noted_loop()[0]
        if _is_attached(noted, mountpoint):
            return noted
    return loop.find(f"{mountpoint}/swapfile")


def _is_attached(device: str | None, mountpoint: str) -> bool:
    """After a lazy umount its file has lost its path."""
    return device is not None and loop.backing_of(device) in (f"{mountpoint}/swapfile", "/swapfile")


def _detach(device: str | None, mountpoint: str) -> None:
    if device and _is_attached(device, mountpoint):
        with suppress(subprocess.TimeoutExpired):
            if swap_area.area_of(device):
                run(["swapoff", device], timeout_s=WAIT_TIMEOUT_S)
        with suppress(subprocess.TimeoutExpired):
            run(["losetup", "--detach", device])
    if mount.is_mounted(mountpoint):
        run(["umount", mountpoint])


def _cut_off(device: str | None, mountpoint: str) -> None:
    abort(mountpoint)
    if mount.is_mounted(mountpoint):
        run(["umount", "--lazy", mountpoint])


def abort(mountpoint: str) -> None:
    """The emergency exit: every request at this mount fails from now on."""
    connections = Path("/sys/fs/fuse/connections")
    number = mount.connection_of(mountpoint)
    if number is None:
        return
    if not any(connections.iterdir()):
        run(["mount", "-t", "fusectl", "none", str(connections)])
    with suppress(OSError):
        (connections / number / "abort").write_text("1")


def leftovers(name: str, mountpoint: str) -> list[str]:
    """What of a device is still there, in words."""
    found = []
    device = loop.find(f"{mountpoint}/swapfile")
    if device:
        found.append(f"loop device {device}")
        if swap_area.area_of(device):
            found.append(f"swap on {device}")
    if mount.is_mounted(mountpoint):
        found.append(f"mount at {mountpoint}")
    found += [f"process {pid}" for pid in processes_of(name)]
    if Runtime(name).directory.exists():
        found.append(f"directory {Runtime(name).directory}")
    return found


def processes_of(name: str) -> list[int]:
    """Supervisor, worker and standby of ``name``, and its tier processes."""
    found = tier_processes_of(name)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"fuseswap.daemon.supervisor" in words or b"fuseswap.daemon.worker" in words:
                text = f'"name": "{name}"'
                if name.encode() in words or any(text.encode() in word for word in words):
                    found.append(int(path.parent.name))
    return found


def tier_processes_of(name: str) -> list[int]:
    """Those of the remote tiers of ``name``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            text = f'"device": "{name}"'
            if b"fuseswap.tiers.tier_process" in words and text.encode() in words[-2]:
                found.append(int(path.parent.name))
    return found


def worker_of(name: str) -> int:
    """The worker of ``name`` that serves."""
    pid = Runtime(name).state().worker_pid
    assert pid is not None
    return pid


def standby_of(name: str) -> int:
    """The standby of ``name``, once it is prepared."""
    runtime = Runtime(name)

    def pid() -> int:
        return runtime.state().standby_pid or 0

    wait_until("a standby", lambda: pid() in processes_of(name))
    return pid()


def kill_all(name: str) -> None:
    """SIGKILL for supervisor, worker and standby: the end of what they hold."""
    while found := processes_of(name):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)

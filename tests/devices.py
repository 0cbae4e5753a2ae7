"""Real devices for tests: brought up by the command, and taken down whatever happens.

A wedged swap can hang the machine, so: every command has a timeout, a watchdog aborts the
FUSE connection of a device that outlives its test by far, and the teardown goes swapoff,
losetup -d, umount, kill, each step whether or not the one before succeeded.
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
from typing import Any

import fuseswap
from fuseswap.host import loop, mount, swap
from fuseswap.host.runtime import Runtime, runtime_root

SOURCE = Path(fuseswap.__file__).resolve().parent.parent
TRANSPORTS = ("devfuse", "pyfuse3")
COMMAND_TIMEOUT_S = 90.0
WATCHDOG_S = 150.0
NOBODY = 65534
# A command as an ordinary user, who may read this source wherever it lies (CI may have it
# under /root), and no more.
AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip
_CAP_SYS_RESOURCE = 24
_numbers = itertools.count(1)


def prepare_environment() -> None:
    """Have every child import this source and use a runtime directory of the tests' own."""
    os.environ["PYTHONPATH"] = str(SOURCE)
    os.environ.setdefault("FUSESWAP_RUNTIME_DIR", "/run/fuseswap-test")


def new_name() -> str:
    """A device name nobody else uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


def remove_locks() -> None:
    """What commands on `new_name` devices leave by design: an empty lock file each."""
    for path in runtime_root().glob(f".t{os.getpid()}-*.lock"):
        path.unlink()


def fuseswap_command(*arguments: str) -> list[str]:
    """The command as a list."""
    return [sys.executable, "-m", "fuseswap", *arguments]


def run(
    command: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run any command to its end, with a timeout."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout_s, **more
    )


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
    what: str, condition: Callable[[], bool], timeout_s: float = 15.0, every_s: float = 0.02
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
def _watched(name: str, mountpoint: Path) -> Iterator[None]:
    watchdog = threading.Timer(WATCHDOG_S, abort, [str(mountpoint)])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        try:
            tear_down(name, str(mountpoint))
        finally:
            watchdog.cancel()
    assert leftovers(name, str(mountpoint)) == []


def tear_down(name: str, mountpoint: str) -> None:
    """`down`; where that fails, the same by hand and harder."""
    if leftovers(name, mountpoint):
        with suppress(subprocess.TimeoutExpired):
            call("down", name)
    if not leftovers(name, mountpoint):
        return
    device = loop.find(f"{mountpoint}/swapfile")
    if device:
        with suppress(subprocess.TimeoutExpired):
            if swap.area_of(device):
                run(["swapoff", device])
            run(["losetup", "--detach", device])
    if mount.is_mounted(mountpoint):
        run(["umount", mountpoint])
    if mount.is_mounted(mountpoint):
        abort(mountpoint)
        run(["umount", "--lazy", mountpoint])
    for pid in processes_of(name):
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    wait_until("the processes to end", lambda: not processes_of(name))
    Runtime(name).remove()


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
        if swap.area_of(device):
            found.append(f"swap on {device}")
    if mount.is_mounted(mountpoint):
        found.append(f"mount at {mountpoint}")
    found += [f"process {pid}" for pid in processes_of(name)]
    if Runtime(name).directory.exists():
        found.append(f"directory {Runtime(name).directory}")
    return found


def processes_of(name: str) -> list[int]:
    """Supervisor and worker of ``name``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"fuseswap.supervisor" in words or b"fuseswap.worker" in words:
                text = f'"name": "{name}"'
                if name.encode() in words or any(text.encode() in word for word in words):
                    found.append(int(path.parent.name))
    return found


def may_set_resources() -> bool:
    """Whether this root has CAP_SYS_RESOURCE (many containers and virtual machines do not)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    raise AssertionError("no CapEff")

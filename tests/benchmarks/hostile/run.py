"""Slices of a swap run with and without a hostile user, and the end of the device under him.

    up -> mkswap, swapon -> pressure: quiet, hostile, busy, hostile, ... -> swapoff, up, down

`busy` is a user who takes a processor, and as much memory, disk and processes, and leaves the swap
alone.  So what he costs as a user of the machine is known, which no file system can change.  All
have their own memory cgroup, so none of them takes memory from another.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from fuseswap.daemon.processes import all_of
from fuseswap.daemon.runtime_dir import Runtime, runtime_root
from fuseswap.errors import HostError
from fuseswap.linux import mount, private_files, syscalls
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.sizes import format_size
from fuseswap.units import MIB
from tests.benchmarks import command, swap_run
from tests.benchmarks.command import tell
from tests.benchmarks.command_line import LOCK
from tests.benchmarks.hostile.attempts import Targets
from tests.benchmarks.hostile.record import BUSY, HOSTILE, QUIET, Outcome, Tally, Work, work
from tests.benchmarks.hostile.user import NOBODY
from tests.benchmarks.peers import Fuseswap, prepared

NAME = "hostile"

_POLL_S = 0.05
_ROUND_TIMEOUT_S = 120.0  # beyond the slice, on a machine that is busy with other things
_STATUS_EVERY_S = 2.0
_STATUS_TIMEOUT_S = 240.0  # 0.4 s on an idle machine; it has no claim to a processor
_FILL_TIMEOUT_S = 300.0
_VERIFY_TIMEOUT_S = 300.0
_USER_BYTES = 512 * MIB
_VICTIM = "as root wrote it\n"
_MANY = 12  # statistics and parameters are many, and each is like the next


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.  The device is twice as large as the process."""

    seconds: float
    slice_s: float
    size_bytes: int
    limit_bytes: int
    processes: int
    control: bool  # slices with a busy user
    seed: int

    def kinds(self) -> list[str]:
        """Of all slices, in turn; the hostile ones change their place among the others."""
        turn = (QUIET, HOSTILE, BUSY) if self.control else (QUIET, HOSTILE)
        other = (HOSTILE, QUIET, BUSY) if self.control else (HOSTILE, QUIET)
        kinds: list[str] = []
        while len(kinds) * self.slice_s < self.seconds:
            kinds += turn if len(kinds) // len(turn) % 2 == 0 else other
        return kinds

    def describe(self) -> str:
        """One line."""
        return (
            f"a process of {format_size(self.size_bytes)} in a memory cgroup of "
            f"{self.limit_bytes // MIB} MiB, {len(self.kinds())} slices of {self.slice_s:g} s, "
            f"{self.processes} hostile processes, seed {self.seed}"
        )

    def pressure(self) -> list[str]:
        """It touches until it is told to end."""
        return [
            sys.executable, "-m", "fuseswap.cli.pressure", "--size", str(self.size_bytes),
            "--seconds", "1e9", "--seed", str(self.seed),
        ]  # fmt: skip


@dataclass
class _Found:
    """What is noted on the way; as long as the run has slices."""

    works: list[Work] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    slowest_status_s: dict[str, float] = field(default_factory=dict)
    went_wrong: list[str] = field(default_factory=list)


class _Given(NamedTuple):
    """What there is beside the device."""

    public: str  # the mount, at a path that everybody may walk
    home: str
    links: dict[str, str]


def run(plan: Plan) -> Outcome:
    """One run, from nothing to nothing.  Raises `HostError`."""
    device = Fuseswap(
        NAME,
        2 * plan.size_bytes,
        loop=True,
        pool_limit_bytes=plan.size_bytes // 4,
        backing_bytes=2 * plan.size_bytes,
    )
    runtime = Runtime(NAME)
    found = _Found()
    with (
        tempfile.TemporaryDirectory(prefix="fuseswap-hostile-", dir="/tmp") as place,
        _victims(device, found) as links,
        prepared([device]),
        _also_at(device.mountpoint, f"{place}/mnt") as public,
    ):
        os.chmod(place, 0o755)
        home = f"{place}/home"
        os.mkdir(home, 0o700)
        os.chown(home, NOBODY, NOBODY)
        given = _Given(public, home, links)
        with swap_run.active_area(device):
            end, targets = _press(plan, device, given, found)
            restarts = runtime.state().restarts
        _end_under_attack(plan, device, targets, found)
    return Outcome(
        found.works, found.tally, end, restarts, found.slowest_status_s, found.went_wrong
    )


@contextlib.contextmanager
def _also_at(mountpoint: str, path: str) -> Iterator[str]:
    """The mount at a path that everybody may walk: its own lies in a directory that is closed."""
    os.mkdir(path)
    syscalls.mount(mountpoint, path, "", 4096, "")  # MS_BIND
    try:
        yield path
    finally:
        syscalls.umount(path, lazy=True)
        os.rmdir(path)


def _press(
    plan: Plan, device: Fuseswap, given: _Given, found: _Found
) -> tuple[dict[str, Any] | None, Targets]:
    """All slices; the last line of the process under pressure, None where it died."""
    with (
        MemoryCgroup(f"fuseswap-{NAME}", plan.limit_bytes) as cgroup,
        tempfile.TemporaryFile() as output,
    ):
        process = command.begin_in(cgroup, plan.pressure(), output)
        try:
            _wait_for(process, output, "touch", _FILL_TIMEOUT_S)
            targets = _targets(device, given, process.pid, cgroup.path)
            for number, kind in enumerate(plan.kinds()):
                if process.poll() is None:
                    _slice(plan, kind, number, targets, output, found)
            process.send_signal(signal.SIGTERM)
            _wait_for(process, output, "end", _VERIFY_TIMEOUT_S)
        finally:
            if process.poll() is None:
                command.stop(process)
        lines = _lines(output)
    return (lines[-1] if lines and lines[-1]["phase"] == "end" else None), targets


def _slice(
    plan: Plan, kind: str, number: int, targets: Targets, output: IO[bytes], found: _Found
) -> None:
    before = len(_lines(output))
    with _beside(plan, kind, number, targets, found) as is_round:
        end = time.monotonic() + plan.slice_s
        latest = end + _ROUND_TIMEOUT_S
        while time.monotonic() < end or not (is_round() or time.monotonic() > latest):
            asked = time.monotonic()
            _ask_status(found)
            took = time.monotonic() - asked
            found.slowest_status_s[kind] = max(found.slowest_status_s.get(kind, 0.0), took)
            time.sleep(max(_POLL_S, min(_STATUS_EVERY_S, end - time.monotonic())))
        lines = _lines(output)[before:]
    if done := work(kind, lines):
        found.works.append(done)
        tell(f"slice {number + 1} {kind}: {done.rate:.0f} touches a second")


def _ask_status(found: _Found) -> None:
    """As root does; nothing in it may move the cursor of a terminal."""
    said = command.run((sys.executable, "-m", "fuseswap", "status"), timeout_s=_STATUS_TIMEOUT_S)
    if not all(line.isprintable() for line in said.splitlines()):
        found.went_wrong.append(f"status shows control characters: {said!r}")


@contextlib.contextmanager
def _beside(
    plan: Plan, kind: str, seed: int, targets: Targets, found: _Found
) -> Iterator[Callable[[], bool]]:
    """The user's processes, in a session each, from now until they are killed.

    Yields whether each has tried everything once; those that try nothing have.
    """
    if kind == QUIET:
        yield lambda: True
        return
    outputs = []
    with contextlib.ExitStack() as stack:
        cgroup = stack.enter_context(MemoryCgroup(f"fuseswap-{NAME}-user", _USER_BYTES))
        for number in range(plan.processes):
            output = stack.enter_context(tempfile.TemporaryFile())
            outputs.append(output)
            words = [sys.executable, "-m", "tests.benchmarks.hostile.user", kind]
            words += [str(plan.seed + 1000 * seed + number), targets.to_json()]
            process = command.begin_in(cgroup, words, output)
            stack.callback(_end_user, process, output, kind, found)
        yield lambda: kind == BUSY or all(map(_is_round, outputs))


def _is_round(output: IO[bytes]) -> bool:
    lines = _lines(output)
    return bool(lines) and lines[-1]["rounds"] > 0


def _end_user(
    process: subprocess.Popen[bytes], output: IO[bytes], kind: str, found: _Found
) -> None:
    if process.poll() is not None:
        found.went_wrong.append(f"the {kind} process ended with {process.returncode}")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    lines = _lines(output)
    if lines:
        found.tally.add(lines[-1])


def _end_under_attack(plan: Plan, device: Fuseswap, targets: Targets, found: _Found) -> None:
    """He sits in copies of the mount, and holds what he can: `down` and `up` go on."""
    with _beside(plan, HOSTILE, 999, targets, found):
        time.sleep(min(plan.slice_s, 3.0))
        device.prepare()  # takes it down, and brings it up again


def _targets(device: Fuseswap, given: _Given, under_pressure: int, cgroup: Path) -> Targets:
    """All of it is there: root looks."""
    runtime = Runtime(NAME)
    loop = os.path.basename(device.path)
    directories, texts, swapfiles, private, sockets = [], [], [], [], []
    for mountpoint in (device.mountpoint, given.public):
        swapfiles.append(f"{mountpoint}/swapfile")
        directories.append(mountpoint)
        texts.append(f"{mountpoint}/metrics")
        for name in ("stats", "params"):
            directories.append(f"{mountpoint}/{name}")
            below = sorted(os.listdir(f"{mountpoint}/{name}"))[:_MANY]
            texts += [f"{mountpoint}/{name}/{each}" for each in below]
    for path in [*runtime.directory.iterdir(), *runtime_root().glob(".*")]:
        if path.is_socket():
            sockets.append(str(path))
        elif path.is_file():
            private.append(str(path))
    known = [str(device.backing), str(LOCK)]
    connection = mount.connection_of(device.mountpoint)
    targets = Targets(
        name=NAME,
        runtime_dir=str(runtime.directory),
        mounts=(device.mountpoint, given.public),
        directories=directories,
        texts=texts,
        swapfiles=swapfiles,
        private=private,
        known=known,
        sockets=sockets,
        pids=(*all_of(runtime), under_pressure),
        devices=_there(device.path, "/dev/loop-control", "/dev/kmsg"),
        attributes=_there(
            f"/sys/fs/fuse/connections/{connection}/abort",
            f"/sys/block/{loop}/queue/read_ahead_kb",
            f"/sys/block/{loop}/uevent",
            "/proc/sys/vm/swappiness",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/fs/aio-max-nr",
            "/proc/sysrq-trigger",
            f"{cgroup}/cgroup.procs",
        ),
        links=given.links,
        home=given.home,
    )
    absent = [
        path
        for path in (*directories, *texts, *swapfiles, *private, *known, *sockets)
        if not os.path.lexists(path)
    ]
    if absent or not sockets:
        raise HostError(f"not there to be attacked: {', '.join(absent) or 'a socket'}")
    return targets


def _there(*paths: str) -> list[str]:
    """Containers lack some."""
    return [path for path in paths if os.path.exists(path)]


@contextlib.contextmanager
def _victims(device: Fuseswap, found: _Found) -> Iterator[dict[str, str]]:
    """Links that the user may plant where root might write.  Through none does root write."""
    private_files.make_directory(runtime_root())
    victim = runtime_root() / "victim"
    victim.write_text(_VICTIM)
    places = (
        "/tmp/fuseswap", "/tmp/fuseswap-0", f"/tmp/fuseswap-{NOBODY}", f"{device.backing}.new",
        f"/var/tmp/fuseswap-bench-{NAME}", f"{runtime_root()}/planted",
    )  # fmt: skip
    try:
        yield dict.fromkeys(places, str(victim))
        if victim.read_text() != _VICTIM:
            found.went_wrong.append(f"root wrote to {victim}, through a link")
    finally:
        for path in places:
            if os.path.islink(path):
                os.unlink(path)
        victim.unlink(missing_ok=True)


def _lines(output: IO[bytes]) -> list[dict[str, Any]]:
    """All whole lines of JSON so far."""
    fd = output.fileno()  # shared with the child, and so is its position: pread
    said = os.pread(fd, os.fstat(fd).st_size, 0).split(b"\n")[:-1]
    return [json.loads(line) for line in said]


def _wait_for(
    process: subprocess.Popen[bytes], output: IO[bytes], phase: str, timeout_s: float
) -> None:
    """Raises `HostError` where it takes too long."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None:
        lines = _lines(output)
        if lines and lines[-1]["phase"] == phase:
            return
        if time.monotonic() > deadline:
            raise HostError(f"waited {timeout_s:.0f} s for the process under pressure: {phase}")
        time.sleep(_POLL_S)

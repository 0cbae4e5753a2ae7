"""One guest: qemu without KVM, from start to the verdict's raw material.

Three disks: root and source, read-only, and a scratch disk of its own.  Serial port 0 is the
console, port 1 what `guest/run.py` says; both are files in the directory of the run.  A
guest that says nothing for ``silence_s`` stands still, and one that takes longer than
``limit_s`` is ended as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.kernels import cache
from tests.kernels.load import load_of
from tests.kernels.scenario import Scenario
from tests.support.valkey_cluster import Server, one_server

_POLL_S = 0.25
# By processes that go on where the others stand still.
_REPORTS = ('{"event": "counted"', '{"event": "waits"', '{"event": "logged"')
_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT  # looks, and leaves it to be reaped
_SCRATCH_MIB = 4096
# la57: one more level of page tables costs at every miss.  cx16: qemu 7.2 translates
# cmpxchg16b without a lock prefix wrongly, and Linux 6.12 dies in kmem_cache_alloc.
_CPU = "max,la57=off,cx16=off"
_APPEND = (
    "console=ttyS0 root=/dev/vda mitigations=off nokaslr tsc=reliable random.trust_cpu=on "
    "loglevel=5 panic=-1 quiet"
)
_HUNG_TASKS = {
    "kernel.hung_task_timeout_secs": 40,
    "kernel.hung_task_panic": 1,
    "kernel.panic_print": 3,  # every task's stack, and memory
    "kernel.sysrq": 511,
}
_HOST = "10.0.2.2"  # as a guest sees it: its loopback
_NETWORK = ("-netdev", "user,id=net0,ipv6=off", "-device", "virtio-net-pci,netdev=net0,romfile=")
_UP_OPTIONS = {
    "none": ["--pool-limit", "90%"],
    "packed": ["--backing", "/scratch/backing"],
    "in-place": ["--backing", "/scratch/backing", "--backing-layout", "in-place"],
    "remote": ["--pool-limit", "15%"],
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all guests of one call."""

    silence_s: float = 90.0
    limit_s: float = 600.0
    stacks_after_s: int = 30
    touches: int | None = None
    up_options: tuple[str, ...] | None = None
    parameters: tuple[str, ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Images:
    """What guests are booted from."""

    root: Path
    source: Path
    kernels: dict[str, Path]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a guest left behind; ``ended`` is off, silent, late or stopped.

    ``cpu_s``: processor time of qemu, which other processes of the host change little.
    """

    ended: str
    wall_s: float
    cpu_s: float
    console: str
    lines: str


class Machine:
    """A guest for one scenario, in a directory of its own."""

    def __init__(self, scenario: Scenario, images: Images, settings: Settings) -> None:
        self._scenario = scenario
        self._images = images
        self._settings = settings
        runs = cache.directory() / "runs"
        runs.mkdir(exist_ok=True)
        stamp = time.strftime("%m%d-%H%M%S-")
        self.directory = Path(tempfile.mkdtemp(dir=runs, prefix=f"{scenario.name}-{stamp}"))
        self._out = self.directory / "out"
        self._console = self.directory / "console"
        self._server: Server | None = None  # another machine's memory

    def run(self, stop: threading.Event, said: Callable[[str], None]) -> Outcome:
        """Boot it and wait for its end; ``said`` gets each line of the scenario."""
        scratch = self.directory / "scratch.ext4"
        with contextlib.ExitStack() as opened:
            if self._scenario.backing == "remote":
                self._server = opened.enter_context(one_server(self.directory / "server"))
            return self._run(scratch, stop, said)

    def _run(self, scratch: Path, stop: threading.Event, said: Callable[[str], None]) -> Outcome:
        with tempfile.TemporaryDirectory() as content:
            (Path(content) / "scenario.json").write_text(json.dumps(self._told()))
            cache.make_ext4(scratch, _SCRATCH_MIB, Path(content), ("-T", "largefile4", "-m", "0"))
        began = time.monotonic()
        with open(self.directory / "qemu", "wb") as log:
            guest = subprocess.Popen(self._command(scratch), stdout=log, stderr=log)
        try:
            ended = self._wait(guest, stop, said)
        finally:
            os.kill(guest.pid, signal.SIGKILL)  # Popen.kill would reap it where it has ended
            _, _, usage = os.wait4(guest.pid, 0)
            guest.returncode = 0  # reaped, without Popen's knowledge
            if not self._settings.keep:
                scratch.unlink()
        wall_s = time.monotonic() - began
        cpu_s = round(usage.ru_utime + usage.ru_stime, 1)
        return Outcome(ended, round(wall_s, 1), cpu_s, _text(self._console), _text(self._out))

    def _told(self) -> dict[str, Any]:
        """What `guest/run.py` reads."""
        settings, scenario = self._settings, self._scenario
        load = asdict(load_of(scenario))
        if settings.touches is not None:
            load["touches"] = settings.touches
        options = settings.up_options
        remote = (
            ["--tier", f"valkey://{_HOST}:{self._server.port}"] if self._server is not None else []
        )
        # By default the kernel refuses at once what is larger than memory and swap.
        overcommit = {"vm.overcommit_memory": 1} if scenario.out_of_memory else {}
        return {
            **asdict(scenario),
            **load,
            "up_options": [*_UP_OPTIONS[scenario.backing], *remote, *(options or ())],
            "parameters": list(settings.parameters),
            "sysctl": {**_HUNG_TASKS, **overcommit, **settings.sysctl},
            "stacks_after_s": settings.stacks_after_s,
            "patience_s": settings.silence_s,
        }

    def _command(self, scratch: Path) -> list[str]:
        disks = [(self._images.root, "on"), (self._images.source, "on"), (scratch, "off")]
        return guest_command(
            self._images.kernels[self._scenario.kernel],
            self._scenario.memory_mib,
            self._console,
            self._out,
            *(word for path, readonly in disks for word in drive_words(path, readonly)),
            *(_NETWORK if self._server is not None else ()),
        )

    def _wait(
        self,
        guest: subprocess.Popen[bytes],
        stop: threading.Event,
        said: Callable[[str], None],
    ) -> str:
        return wait_for(guest, self._out, self._settings, stop, said)


def drive_words(path: Path, readonly: str) -> tuple[str, str]:
    """A disk of a guest.

    unsafe: nobody needs it afterwards, and its last flush took 40 s on a busy host.
    """
    rest = f"readonly={readonly},cache=unsafe,discard=unmap"
    return "-drive", f"file={path},format=raw,if=virtio,{rest}"


def guest_command(
    kernel: Path, memory_mib: int, console: Path, out: Path, *devices: str
) -> list[str]:
    """The command line of qemu, with the words of its disks.

    Whatever becomes of us, no guest is left behind.
    """
    return [
        "setpriv", "--pdeathsig", "KILL", "nice", "-n", "15",
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi,tb-size=256",
        "-cpu", _CPU, "-smp", "2", "-m", str(memory_mib),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-serial", f"file:{console}", "-serial", f"file:{out}",
        *devices,
        "-kernel", str(kernel / "vmlinuz"), "-initrd", str(kernel / "initrd"),
        "-append", _APPEND + _clock_words(),
    ]  # fmt: skip


def wait_for(
    guest: subprocess.Popen[bytes],
    out: Path,
    settings: Settings,
    stop: threading.Event,
    said: Callable[[str], None],
) -> str:
    """How the guest ended, as in `Outcome`; ``said`` gets each line of the file ``out``."""
    began = heard = time.monotonic()
    at = 0
    while True:
        ended = os.waitid(os.P_PID, guest.pid, _ENDED) is not None
        lines, at = _new_lines(out, at)
        now = time.monotonic()
        if any(not line.startswith(_REPORTS) for line in lines):
            heard = now
        for line in lines:
            said(line)
        if ended:
            return "off"
        if stop.wait(_POLL_S):
            return "stopped"
        if now - heard > settings.silence_s:
            return "silent"
        if now - began > settings.limit_s:
            return "late"


def _clock_words() -> str:
    """The frequency that a guest would measure wrongly on a busy machine: three times too fast.

    qemu hands the time stamp counter of the host through.
    """
    if Path("/sys/devices/system/cpu/cpu0/cpufreq").exists():
        return ""  # then what is there is the frequency of now
    found = re.search(r"^cpu MHz\s*: (\S+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f" tsc_early_khz={round(float(found[1]) * 1000)}" if found else ""


def _text(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""


def _new_lines(path: Path, at: int) -> tuple[list[str], int]:
    """Whole lines of the file from ``at``, and where the rest begins."""
    if not path.exists() or os.stat(path).st_size == at:
        return [], at
    with open(path, "rb") as file:
        file.seek(at)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return data[:end].decode(errors="replace").splitlines(), at + end

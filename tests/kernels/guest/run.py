"""Does one scenario in the guest and says what it sees, one JSON object a line.

    swap on -> bystanders, watcher -> hog (killing what is to be killed) -> status -> swap off

The scenario lies in ``/scratch/scenario.json``; `machine.py` reads what is said here.  A line
comes every other second, or the machine stands still.  Standard library only: imports take memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICK_S = 2.0
DEVICE = "t0"
RUNTIME = Path("/run/fuseswap") / DEVICE
PROGRAMS = Path("/source/programs")
SCRATCH = Path("/scratch")
FUSESWAP = ("guest-python", "-m", "fuseswap")
BYSTANDERS = 4
BYSTANDER_MIB = 4
KILL_BOTH_PAUSE_S = 0.1  # the supervisor is about to say "attach" to its next worker
# Where in the hog's course something is killed: it still grows, it touches, it checks.
KILL_AT = (("fill", 0.85), ("touch", 0.4), ("verify", 0.3))
_COUNTERS = (
    "failed_requests",
    "failed_stores",
    "reject_alloc_fail",
    "pool_limit_hit",
    "tier_read_errors",
    "stored_pages",
    "mem_used_total",
    "mem_used_max",
    "mem_fixed",
    "seccomp",
)


# What the reporter says every few seconds.
REPORT_EVERY_S = 4
_REPORTED = (
    "stored_pages",
    "pool_total_size",
    "pool_unused_bytes",
    "reserve_bytes",
    "reserve_empty",
    "reserve_refused",
    "reserve_given_back",
    "memory_stalls",
    "pool_limit_hit",
    "failed_stores",
    "segments_cleaned",
    "requests",
    "discards",
    "serving_faults",
)
PROTECTED = -1000  # from the OOM killer, as a machine's own services are


def say(event: str, **fields: object) -> None:
    """One line to the host."""
    uptime = round(time.clock_gettime(time.CLOCK_BOOTTIME), 1)
    print(json.dumps({"event": event, "uptime": uptime, **fields}), flush=True)


def meminfo() -> dict[str, int]:
    """Fields of /proc/meminfo in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}


class Log:
    """fuseswap's own log, passed on as it grows: where the guest stands still it is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def pass_on(self) -> None:
        """Say what is new in it."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                new = file.read(4096)
        except FileNotFoundError:
            return
        self._at += len(new)
        if new:
            say("fuseswap", text=new.decode(errors="replace"))


LOG = Log(RUNTIME / "log")


def tick(**fields: object) -> None:
    """Say how much memory there is, and what fuseswap says."""
    LOG.pass_on()
    memory = meminfo()
    swapped = memory["SwapTotal"] - memory["SwapFree"]
    say("tick", free=memory["MemFree"], available=memory["MemAvailable"], swapped=swapped, **fields)


def end_of(process: subprocess.Popen[str], what: str, timeout_s: float = 240) -> str:
    """What it says until its end; ticks while it runs.  Killed where it takes too long."""
    began = time.monotonic()
    while True:
        try:
            output, _ = process.communicate(timeout=TICK_S)
        except subprocess.TimeoutExpired:
            tick(waiting=what[:60])
            if time.monotonic() - began > timeout_s:
                process.kill()
        else:
            return output.strip()


def begin(*command: str) -> subprocess.Popen[str]:
    """Start a command whose output is asked for later."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    expose(process.pid)
    return process


def expose(pid: int) -> None:
    """Let the OOM killer have a process of ours, which we are not to be ourselves."""
    with contextlib.suppress(OSError):  # it has ended, or protects itself already
        Path(f"/proc/{pid}/oom_score_adj").write_text("0")


def call(*command: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    with begin(*command) as process:
        output = end_of(process, " ".join(command))
        return process.returncode, output


def must(*command: str) -> str:
    """Output of a command that has to succeed."""
    code, output = call(*command)
    if code:
        raise RuntimeError(f"{' '.join(command)}: {code}: {output}")
    return output


def begin_reporters() -> list[subprocess.Popen[bytes]]:
    """Have it said, whatever becomes of us, what fuseswap counts and where its threads wait."""
    what = [str(REPORT_EVERY_S), str(RUNTIME / "log"), str(RUNTIME / "mnt/stats"), *_REPORTED]
    commands = [str(PROGRAMS / "reporter"), *what], [str(PROGRAMS / "waiters"), FUSESWAP[0]]
    return [subprocess.Popen(command) for command in commands]


class Swap:
    """The swap of the guest, whatever it is."""

    def __init__(self, scenario: dict[str, Any]) -> None:
        self.kind = kind = scenario["swap"]
        self._size_mib = scenario["swap_mib"]
        self._parameters = scenario["parameters"]
        options = ("--size", f"{self._size_mib}M", *scenario["up_options"])
        self.up_command = (*FUSESWAP, "up", DEVICE, *options)
        self._area = str(SCRATCH / "swapfile") if kind == "file" else "/dev/zram0"

    def on(self) -> None:
        """Make it and switch it on."""
        if self.kind == "fuseswap":
            must(*self.up_command)
            if self._parameters:
                must(*FUSESWAP, "set", DEVICE, *self._parameters)
            return
        if self.kind == "file":
            with open(self._area, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_mib << 20)
            os.chmod(self._area, 0o600)
        else:
            zram = Path("/sys/block/zram0")
            (zram / "comp_algorithm").write_text("lz4")
            (zram / "disksize").write_text(f"{self._size_mib}M")
        must("mkswap", self._area)
        must("swapon", self._area)

    def off(self) -> int:
        """Switch it off: the command's exit code."""
        command = (
            (*FUSESWAP, "down", DEVICE) if self.kind == "fuseswap" else ("swapoff", self._area)
        )
        code, output = call(*command)
        if code:
            say("log", text=f"{command[-2]}: {output}")
        return code

    def statistics(self) -> dict[str, Any]:
        """What fuseswap counts, where it is fuseswap."""
        if self.kind != "fuseswap":
            return {}
        code, output = call(*FUSESWAP, "status", DEVICE, "--json")
        if code:
            say("log", text=f"status: {output}")
            return {}
        status = json.loads(output)
        found = {**status, **status.get("stats", {})}
        names = ("status", "restarts", *_COUNTERS)
        return {name: found[name] for name in names if name in found}


class Killer:
    """Kills worker, supervisor or both at the moments of KILL_AT."""

    def __init__(self, what: str, up_command: tuple[str, ...]) -> None:
        self._what = what
        self._left = [] if what == "none" else list(KILL_AT)
        self._up_command = up_command
        self._ups: list[subprocess.Popen[str]] = []
        self.kills = 0

    def look(self, phase: str, done: float) -> None:
        """Kill where it is time to."""
        order = ("fill", "touch", "verify", "end")
        if not self._left or phase not in order:
            return
        at, fraction = self._left[0]
        if order.index(phase) < order.index(at) or (phase == at and done < fraction):
            return
        self._left.pop(0)
        state = json.loads((RUNTIME / "state.json").read_text())
        self.kills += 1
        say("kill", what=self._what, phase=phase, done=done)
        if self._what in ("worker", "both"):
            _kill(state["worker_pid"])
        if self._what == "both":
            time.sleep(KILL_BOTH_PAUSE_S)
        if self._what in ("supervisor", "both"):
            _kill(state["supervisor_pid"])
            # As a service manager would: somebody has to give the device a supervisor again.
            self._ups.append(begin(*self._up_command))

    def failed_ups(self) -> int:
        """How many of the `up` that were to bring a supervisor back failed."""
        failed = 0
        for process in self._ups:
            output = end_of(process, "up")
            if process.returncode:
                failed += 1
                say("log", text=f"up: {output}")
        return failed


def _kill(pid: int) -> None:
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Hog:
    """The hog, its last report and how it ended."""

    def __init__(self, command: list[str], watcher: int) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        expose(self._process.pid)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._watcher = watcher
        self.report: dict[str, Any] = {}
        self.stalled = False
        self.longest_silence_s = 0.0

    def follow(self, killer: Killer, patience_s: float) -> None:
        """Until it ends; ticks, kills, and ends it where it makes no progress."""
        rest = b""
        heard = ticked = time.monotonic()
        while True:
            ready, _, _ = select.select([self._pipe], [], [], TICK_S / 2)
            now = time.monotonic()
            if ready:
                data = os.read(self._pipe, 4096)
                if not data:
                    break
                self.longest_silence_s = max(self.longest_silence_s, now - heard)
                heard = now
                os.write(self._watcher, b".")
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.report = json.loads(line)
                    killer.look(self.report["phase"], self.report["done"])
            if now - heard > patience_s and not self.stalled:
                self.stalled = True
                self._process.kill()
            if now - ticked > TICK_S:
                ticked = now
                bad = self.report.get("bad_pages", 0)
                phase, done = self.report.get("phase"), self.report.get("done")
                tick(phase=phase, done=done, bad_pages=bad)
        self._process.wait()

    @property
    def exit_code(self) -> int:
        """Negative: the signal it died of."""
        return self._process.returncode


def hog_command(scenario: dict[str, Any]) -> list[str]:
    """The command line of the hog, with what it needs made ready."""
    kind, size_mib, touches = scenario["hog"], scenario["hog_mib"], scenario["touches"]
    if kind == "python":
        size = ["--size", str(size_mib << 20), "--seconds", "100000", "--touches", str(touches)]
        return ["hog-python", "-m", "fuseswap.cli.pressure", *size]
    command = [str(PROGRAMS / "hog"), "anon" if kind == "c" else kind, str(size_mib), str(touches)]
    if kind == "tmpfs":
        must("mount", "-t", "tmpfs", "-o", f"size={size_mib + 8}m", "hog", "/mnt")
        command.append("/mnt/hog")
    if kind == "cache":
        command.append(f"{SCRATCH}/cached:{scenario['cache_mib']}")
    return command


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """The whole course; what `verdict.py` judges."""
    for name, value in scenario["sysctl"].items():
        Path("/proc/sys", name.replace(".", "/")).write_text(str(value))
    if scenario["backing"] == "remote":
        must("ifconfig", "eth0", "10.0.2.15", "netmask", "255.255.255.0", "up")
    swap = Swap(scenario)
    began = time.monotonic()
    swap.on()
    up_s = time.monotonic() - began
    tick(after="up", total=meminfo()["MemTotal"])
    bystanders = [
        subprocess.Popen([str(PROGRAMS / "bystander"), str(BYSTANDER_MIB)])
        for _ in range(BYSTANDERS)
    ]
    for bystander in bystanders:
        expose(bystander.pid)
    theirs, watcher = os.pipe()
    subprocess.Popen([str(PROGRAMS / "watcher"), str(scenario["stacks_after_s"])], stdin=theirs)
    reporters = begin_reporters() if swap.kind == "fuseswap" else []
    killer = Killer(scenario["kill"], swap.up_command)
    hog = Hog(hog_command(scenario), watcher)
    began = time.monotonic()
    hog.follow(killer, scenario["patience_s"])
    seconds = time.monotonic() - began
    os.write(watcher, b".")
    failed_ups = killer.failed_ups()
    tick(after="hog", exit_code=hog.exit_code)
    if scenario["hog"] == "tmpfs":
        must("umount", "/mnt")
    statistics = swap.statistics()
    for reporter in reporters:  # it has a file of the mountpoint open now and then
        reporter.kill()
        reporter.wait()
    began = time.monotonic()
    down = swap.off()
    down_s = time.monotonic() - began
    for bystander in bystanders:
        bystander.terminate()
    return {
        "seconds": round(seconds, 2),
        "up_s": round(up_s, 2),
        "down_s": round(down_s, 2),
        "down_exit": down,
        "hog_exit": hog.exit_code,
        "hog": hog.report,
        "stalled": hog.stalled,
        "longest_silence_s": round(hog.longest_silence_s, 2),
        "kills": killer.kills,
        "failed_ups": failed_ups,
        "bystander_exits": [bystander.wait() for bystander in bystanders],
        "statistics": statistics,
    }


def main() -> int:
    """Run what scenario.json says."""
    scenario = json.loads((SCRATCH / "scenario.json").read_text())
    Path("/proc/self/oom_score_adj").write_text(str(PROTECTED))
    say("boot", kernel=os.uname().release)
    Path("/proc/sys/kernel/printk").write_text("8")  # what the OOM killer and sysrq have to say
    try:
        if "moments" in scenario:
            from tests.kernels.guest import moments  # the others are spared its memory

            say("result", **moments.in_guest(scenario["moments"], say))
        else:
            say("result", **run(scenario))
    except Exception as exc:
        LOG.pass_on()
        say("failed", error=f"{type(exc).__name__}: {exc}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

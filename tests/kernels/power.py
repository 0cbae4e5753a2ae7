"""Power cuts: a disk's writes are recorded, and at random points it is looked at what is there.

    plan -> record (here, or in a guest) -> log -> cuts -> disk as it was -> `after_cut.check`

`scripts/kernels power` is the command.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernels import cache, write_log
from tests.kernels.after_cut import check, mounted
from tests.kernels.guest.moments import Course, Marks, marks_in, plan
from tests.kernels.power_cuts import choose, replayed
from tests.kernels.power_promises import promises
from tests.kernels.write_recorder import FILE_SYSTEM_BYTES, Recording, loop_device

_FUSESWAP = (str(Path(sys.executable).with_name("fuseswap")),)
_SHOWN = 20  # complaints
_SAID_EVERY = 10  # cuts


@dataclass(frozen=True, slots=True)
class Cuts:
    """How many, of which seed; every so many the real command brings a file up."""

    count: int = 100
    seed: int = 1
    command_every: int = 10


@contextmanager
def own_devices() -> Iterator[None]:
    """A runtime directory apart from the machine's own, and from that of another such run."""
    runtime = tempfile.mkdtemp(dir="/run", prefix="fuseswap-power-")
    os.environ["FUSESWAP_RUNTIME_DIR"] = runtime
    os.environ["PYTHONPATH"] = str(cache.CHECKOUT)
    try:
        yield
    finally:
        if not end_devices():
            shutil.rmtree(runtime)


def end_devices() -> list[Path]:
    """Take down what is up in there; what is left all the same."""
    runtime = Path(os.environ["FUSESWAP_RUNTIME_DIR"])
    for device in [path for path in runtime.iterdir() if path.is_dir()]:
        subprocess.run((*_FUSESWAP, "down", device.name), check=False)
    return [path for path in runtime.iterdir() if path.is_dir()]


def new_recording() -> Recording:
    """In the directory of runs."""
    runs = cache.directory() / "runs"
    runs.mkdir(exist_ok=True)
    return Recording(Path(tempfile.mkdtemp(dir=runs, prefix=time.strftime("power-%m%d-%H%M%S-"))))


def record_here(recording: Recording, seed: int, rounds: int) -> None:
    """The plan of ``seed``, on a recorded disk of this machine.  Raises `CommandFailed`."""
    runtime = os.environ["FUSESWAP_RUNTIME_DIR"]
    with tempfile.TemporaryDirectory() as nothing:
        recording.make(Path(nothing))
    place = recording.directory / "mounted"
    with loop_device(recording) as device, mounted(device, place, "-o", "nodiscard,commit=1"):
        marks = Marks(device, FILE_SYSTEM_BYTES)
        try:
            course = Course(_FUSESWAP, Path(runtime), place, marks, _say)
            course.run(plan(seed, rounds))
        except RuntimeError as exc:
            raise cache.CommandFailed(str(exc).strip()) from None
        finally:
            marks.close()
            end_devices()  # where a step failed


def _say(event: str, *, step: int, of: int, what: str) -> None:
    print(f"power: {event} {step} of {of}: {what}", flush=True)


def look(recording: Recording, cuts: Cuts) -> dict[str, Any]:
    """Check so many cuts of what was recorded; the record of the run."""
    began = time.monotonic()
    entries = write_log.read(recording.log)
    with open(recording.log, "rb") as log:
        marks = [
            (number, mark)
            for number, data in write_log.written_from(entries, log.fileno(), FILE_SYSTEM_BYTES)
            for mark in marks_in(data)
        ]
    if not marks:
        raise write_log.BadLog(f"{recording.log} has no moments")
    chosen = choose(entries, cuts.count, cuts.seed, marks[0][0])
    counts: Counter[str] = Counter()
    complaints = []
    with replayed(entries, recording.log, recording.base, chosen) as disks:
        for number, (cut, disk) in enumerate(disks):
            said = [mark for at, mark in marks if at < cut.at]
            by_command = cuts.command_every and not number % cuts.command_every
            found = check(
                disk,
                recording.directory / "mounted",
                promises(said),
                _FUSESWAP if by_command else (),
            )
            counts += found.counts
            counts["nothing lost" if cut.is_whole else "with losses"] += 1
            if number % _SAID_EVERY == 0:
                print(f"power: cut {number + 1} of {len(chosen)}", flush=True)
            now = f"{said[-1]['is']} {said[-1]['what']}" if said else "before the first moment"
            complaints += [f"cut {number} at {cut.at} ({now}): {one}" for one in found.complaints]
    in_plain = any(not mark["encrypt"] and mark["what"] == "store" for _, mark in marks)
    if in_plain and not counts["plain pages where they may be"]:
        complaints.append("no cut had a plain page of a device without encryption: a blind search")
    return {
        "passed": not complaints,
        "cuts": len(chosen),
        "seed": cuts.seed,
        "entries": len(entries),
        "flushes": sum(entry.is_flush for entry in entries),
        "moments": sum(mark["is"] == "end" for _, mark in marks),
        "log_mib": recording.log.stat().st_size >> 20,
        "seconds": round(time.monotonic() - began, 1),
        "counts": dict(counts),
        "complaints": complaints,
    }


def report(record: dict[str, Any], recording: Recording, *, keep: bool) -> int:
    """Say it, and write it down; 1 where something was complained of."""
    (recording.directory / "power.json").write_text(json.dumps(record) + "\n")
    counts = ", ".join(f"{name} {count}" for name, count in sorted(record["counts"].items()))
    print(
        f"power: {record['cuts']} cuts in {record['seconds']} s, of {record['entries']} entries "
        f"({record['log_mib']} MiB), {record['flushes']} flushes, {record['moments']} moments\n"
        f"    {counts}"
    )
    for complaint in record["complaints"][:_SHOWN]:
        print(f"    {complaint}")
    if record["passed"]:
        if not keep:
            shutil.rmtree(recording.directory)
        return 0
    print(
        f"power: {len(record['complaints'])} complaints; again: scripts/kernels power "
        f"--log {recording.directory} --cuts {record['cuts']} --seed {record['seed']}",
        file=sys.stderr,
    )
    return 1

"""Random moments of devices with backing files, for power cuts; in a guest or on the host.

    plan (of a seed)  ->  each step: "begin", the command, "end", written to the disk itself

The marks lie behind the file system, each a block of its own, without a flush.  So the log of the
disk's writes says what had been asked for, and what had been answered, at each cut.  Nothing else
is changed by them.  Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 4096
MARKS_BYTES = 1 << 20
MARK_MAGIC = b"fuseswap moment "
MIB = 1 << 20
# In pages of devices that encrypt, and of those that do not.  Noise, so that no codec changes it.
SECRET = random.Random("secret").randbytes(64)
PLAIN = random.Random("plain").randbytes(64)
SIZE_MIB = 16
FILE_BYTES = (SIZE_MIB + 2) * MIB
FILES = ("f0", "f1", "f2")
TIERS = ("t0", "t1")
_STORED = 3 * MIB // BLOCK
_TRIES = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One command; ``file`` is what it begins or ends to use, ``options`` are of `up`."""

    what: str
    device: str = ""
    file: str = ""
    encrypt: bool = True
    options: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class _Device:
    name: str
    packed: bool
    encrypt: bool
    tiers: dict[str, bool] = field(default_factory=dict)  # file, and whether it is drained


def plan(seed: int, rounds: int) -> list[Step]:
    """So many devices, one after the other, each with random moments between `up` and `down`."""
    chosen = random.Random(seed)
    there: set[str] = set()  # files that are no device's, and that `down` leaves
    steps: list[Step] = []
    for number in range(rounds):
        steps += _round(chosen, there, number)
    return steps


def _round(chosen: random.Random, there: set[str], number: int) -> Iterator[Step]:
    file = chosen.choice(FILES)
    how = "as it is" if file in there else chosen.choice(("made", "made", "blank", "empty"))
    if how in ("blank", "empty"):
        yield Step(how, file=file)
        there.add(file)
    # Twice as often with one: without it there is nothing to find.
    device = _Device(f"p{number}", chosen.random() < 0.7, chosen.random() < 0.7)
    backing = () if device.encrypt else ("encrypt=no",)
    layout = () if device.packed else ("in-place",)
    yield Step("up", device.name, file, device.encrypt, (*backing, *layout))
    yield _store(chosen, device)
    yield Step("writeback", device.name)
    for _ in range(chosen.randint(1, 4)):
        yield from _moment(chosen, device)
    if chosen.random() < 0.3:
        yield Step("die", device.name)
    yield Step("down", device.name)


def _store(chosen: random.Random, device: _Device) -> Step:
    return Step("store", device.name, encrypt=device.encrypt, seed=chosen.getrandbits(32))


def _moment(chosen: random.Random, device: _Device) -> Iterator[Step]:
    kinds = ["store", "writeback"]
    if device.packed:
        kinds += ["add"] * 2 if len(device.tiers) < len(TIERS) else []
        kinds += ["drain", "remove"] * 2 if device.tiers else []
    kind = chosen.choice(kinds)
    if kind == "store":
        yield _store(chosen, device)
    elif kind == "writeback":
        yield Step("writeback", device.name)
    elif kind == "add":
        tier = next(one for one in TIERS if one not in device.tiers)
        device.tiers[tier] = False
        yield Step("add", device.name, tier, device.encrypt)
        yield _store(chosen, device)
        yield Step("writeback", device.name)
    else:
        tier = chosen.choice(sorted(device.tiers))
        if not device.tiers[tier]:
            yield Step("drain", device.name, tier)
            device.tiers[tier] = True
        if kind == "remove":
            del device.tiers[tier]
            yield Step("remove", device.name, tier)


class Marks:
    """The blocks behind the file system on ``device``, one after the other."""

    def __init__(self, device: str, at: int) -> None:
        self._fd = os.open(device, os.O_RDWR | os.O_DIRECT)
        self._block = mmap.mmap(-1, BLOCK)
        self._at = at
        self._next = 0

    def write(self, fields: dict[str, Any]) -> None:
        """One mark; not flushed.  Raises `ValueError` where it has no room."""
        text = MARK_MAGIC + json.dumps({"number": self._next, **fields}).encode()
        if len(text) > BLOCK:
            raise ValueError(f"a mark of {len(text)} bytes")
        self._block[:] = text.ljust(BLOCK, b"\0")
        os.pwrite(self._fd, self._block, self._at + self._next * BLOCK % MARKS_BYTES)
        self._next += 1

    def close(self) -> None:
        """It is not used any more."""
        os.close(self._fd)


def marks_in(data: bytes) -> Iterator[dict[str, Any]]:
    """What was said in the blocks of one write."""
    for at in range(0, len(data), BLOCK):
        block = data[at : at + BLOCK]
        if block.startswith(MARK_MAGIC):
            yield json.loads(block[len(MARK_MAGIC) :].rstrip(b"\0"))


class Course:
    """Does the steps with the command ``fuseswap``, with files in ``directory``.

    Raises `RuntimeError` where a command fails.
    """

    def __init__(
        self,
        fuseswap: Sequence[str],
        runtime: Path,
        directory: Path,
        marks: Marks,
        say: Callable[..., None],
    ) -> None:
        self._fuseswap = tuple(fuseswap)
        self._runtime = runtime
        self._directory = directory
        self._marks = marks
        self._say = say

    def run(self, steps: Sequence[Step]) -> None:
        """All of them, in order."""
        for number, step in enumerate(steps):
            self._say("tick", step=number + 1, of=len(steps), what=step.what)
            self._marks.write({"is": "begin", **asdict(step)})
            self._do(step)
            self._marks.write({"is": "end", **asdict(step)})

    def _do(self, step: Step) -> None:
        path = str(self._directory / step.file)
        if step.what in ("blank", "empty"):
            self._make(path, FILE_BYTES if step.what == "blank" else 0)
        elif step.what == "store":
            self._store(step)
        elif step.what == "die":
            self._kill(step.device)
        else:
            self._call(*_words(step, path))

    def _make(self, path: str, size: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.truncate(fd, size)
        os.fsync(fd)
        os.close(fd)

    def _store(self, step: Step) -> None:
        """Pages with a marker, incompressible or not, and the discard of some."""
        chosen = random.Random(step.seed)
        marker = SECRET if step.encrypt else PLAIN
        fd = os.open(self._runtime / step.device / "mnt/swapfile", os.O_RDWR)
        try:
            for page in chosen.sample(range(1, SIZE_MIB * MIB // BLOCK), _STORED):
                noise = chosen.randbytes(chosen.choice((256, 2048, BLOCK - len(marker))))
                os.pwrite(fd, (marker + noise).ljust(BLOCK, b"\0"), page * BLOCK)
        finally:
            os.close(fd)

    def _kill(self, device: str) -> None:
        """Every process of it, as an out of memory killer that takes them all."""
        state = json.loads((self._runtime / device / "state.json").read_text())
        for name in ("supervisor_pid", "standby_pid", "worker_pid"):
            if state.get(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(state[name], signal.SIGKILL)

    def _call(self, *words: str) -> None:
        # A guest of a busy machine may not answer in time; these may be asked for again.
        tries = _TRIES if words[0] == "writeback" or "drain" in words else 1
        for _ in range(tries):
            done = subprocess.run(
                (*self._fuseswap, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, check=False,
            )  # fmt: skip
            if not done.returncode:
                break
        else:
            raise RuntimeError(f"fuseswap {' '.join(words)}: {done.returncode}: {done.stdout}")


def in_guest(told: dict[str, Any], say: Callable[..., None]) -> dict[str, Any]:
    """All of it in a guest, on its scratch disk; what it did.

    ``told``: the machine-id of the host, which looks at the files later; where marks begin; the
    seed and the rounds of the plan.
    """
    machine_id = Path("/run/machine-id")
    machine_id.write_text(told["machine_id"])
    _replace_etc(machine_id)
    marks = Marks("/dev/vdc", told["marks_at"])
    command = ("guest-python", "-m", "fuseswap")
    steps = plan(told["seed"], told["rounds"])
    Course(command, Path("/run/fuseswap"), Path("/scratch"), marks, say).run(steps)
    marks.close()
    return {"steps": len(steps)}


def _replace_etc(machine_id: Path) -> None:
    """The root file system is read-only, and has no such file."""
    copy = Path("/run/etc")
    shutil.copytree("/etc", copy, symlinks=True)
    shutil.copy(machine_id, copy / "machine-id")
    subprocess.run(("mount", "--bind", copy, "/etc"), check=True)


def _words(step: Step, path: str) -> tuple[str, ...]:
    """The command line of a step behind the program's name."""
    encrypt = "" if step.encrypt else ",encrypt=no"
    if step.what == "up":
        layout = ("--backing-layout", "in-place") if "in-place" in step.options else ()
        return (
            "up", step.device, "--size", f"{SIZE_MIB}M", "--pool-limit", "8M", "--no-swapon",
            "--standby", "off", "--tune", "off", "--backing", path + encrypt, *layout,
        )  # fmt: skip
    of_device = ("-d", step.device)
    if step.what == "add":
        # The higher priority, so that what is written next goes there.
        return ("tier", "add", *of_device, f"file:{path},name={step.file},priority=5{encrypt}")
    if step.what in ("drain", "remove"):
        return ("tier", step.what, *of_device, step.file)
    if step.what == "writeback":
        return ("writeback", step.device, "--all")
    return (step.what, step.device)

"""``scripts/corpus``: the memory of real programs as files, to measure compression on.

Exit codes: 0, 1 usage, 2 something failed (a program that is missing or did not come up).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import corpus_pages, corpus_table
from tests.benchmarks.command import tell
from tests.benchmarks.command_line import Parser, positive
from tests.benchmarks.corpus_programs import PROGRAMS, Program, is_stopped, stop, stopped

DEFAULT_DIR = Path("/var/tmp/fuseswap-corpus")
SUFFIX = ".pages"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ``programs`` is a list of `Program`."""
    parser = Parser(
        prog="scripts/corpus",
        description="Dump the anonymous pages of real programs, started for it or running.",
    )
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIR",
        default=DEFAULT_DIR,
        help=f"where the files go, NAME{SUFFIX} each (default {DEFAULT_DIR})",
    )
    parser.add_argument(
        "--programs", metavar="A,B", help=f"only these, of {','.join(PROGRAMS)} (default all)"
    )
    parser.add_argument("--list", action="store_true", help="list the programs, and do nothing")
    parser.add_argument(
        "--max-mib", type=positive, metavar="N", help="at most so much of each, spread evenly"
    )
    parser.add_argument(
        "--pid",
        type=positive,
        action="append",
        metavar="PID",
        help="a running process of yours instead, stopped meanwhile; may be repeated",
    )
    options = parser.parse_args(arguments)
    if options.pid and options.programs is not None:
        parser.error("--pid and --programs exclude each other")
    names = PROGRAMS if options.programs is None else options.programs.split(",")
    if unknown := [name for name in names if name not in PROGRAMS]:
        parser.error(f"no program '{unknown[0]}'; there are {', '.join(PROGRAMS)}")
    options.programs = [PROGRAMS[name] for name in names]
    return options


def make_dir(directory: Path) -> None:
    """Nobody else may look in: it holds memory.  Raises `HostError` where somebody may."""
    try:
        if not directory.is_symlink():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as exc:
        raise HostError(f"cannot make the directory {directory}: {exc.strerror}") from exc
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise HostError(f"{directory} is not a directory of yours; name another")
    if found.st_mode & 0o077:
        raise HostError(f"others may look into {directory}; run: chmod 700 {directory}")


def files(directory: Path) -> list[Path]:
    """The files of a corpus, by name; none where there is no such directory."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def dump(pid: int, path: Path, max_mib: int | None = None) -> None:
    """Write the anonymous pages of a stopped process to ``path``, 4096 bytes each.

    A file that is there is replaced once the new one is whole.  Raises `HostError`.
    """
    found = corpus_pages.find(pid)
    if found.swapped:
        tell(f"note: {found.swapped} pages of process {pid} are in swap and left out")
    if not found.runs:
        raise HostError(f"process {pid} has no anonymous pages in memory")
    runs = found.runs
    if max_mib is not None:
        runs = corpus_pages.thinned(runs, max_mib * MIB // PAGE_SIZE)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for data in corpus_pages.read(pid, runs):
                file.write(data)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def make(
    directory: Path, programs: Sequence[Program], max_mib: int | None = None
) -> Iterator[Path]:
    """Dump each program, and yield its file.  Raises `HostError`."""
    for program in programs:  # before minutes are spent on the others
        program.find()
    make_dir(directory)
    for program in programs:
        began = time.monotonic()
        path = directory / f"{program.name}{SUFFIX}"
        with stopped(program) as pid:
            dump(pid, path, max_mib)
        tell(f"{program.name}: {time.monotonic() - began:.1f} s")
        yield path


def make_of_running(directory: Path, pid: int, max_mib: int | None = None) -> Path:
    """Dump a process that runs already; it goes on afterwards if it did before."""
    _refuse_dangerous(pid)
    make_dir(directory)
    was_stopped = is_stopped(pid)
    path = directory / f"{_name_of(pid)}-{pid}{SUFFIX}"
    try:
        stop(pid)
        dump(pid, path, max_mib)
    finally:
        if not was_stopped:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
    return path


def _refuse_dangerous(pid: int) -> None:
    """Reading one's own memory changes it, and who serves swap must not be stopped."""
    if pid in (1, os.getpid()):
        raise HostError(f"process {pid} can't be stopped for this; name another")
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not command:
            raise HostError(f"process {pid} is the kernel's own, or is ending; name another")
        if b"fuseswap." in command:
            raise HostError(f"process {pid} serves fuseswap; stopping it may hang the machine")


def _name_of(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError as exc:
        raise HostError(f"there is no process {pid}, or it has ended") from exc
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _on_signal(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # an exception: what runs is killed, what was stopped goes on


def main() -> int:
    """Entry point."""
    options = parse()
    if options.list:
        for name, program in PROGRAMS.items():
            state = "" if program.is_installed() else f" (not installed: {program.package})"
            print(f"{name:8} {program.about}{state}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _on_signal)
    made: Iterator[Path]
    try:
        if options.pid:
            made = (make_of_running(options.directory, pid, options.max_mib) for pid in options.pid)
        else:
            made = make(options.directory, options.programs, options.max_mib)
        contents = [corpus_table.survey(path.stem, corpus_table.pages_of(path)) for path in made]
    except (HostError, OSError) as exc:
        print(f"corpus: {exc}", file=sys.stderr)
        return 2
    print(corpus_table.table(contents))
    print(f"in {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

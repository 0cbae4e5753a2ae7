"""The programs of the corpus: how each is started, and when it has something in memory.

A program runs in a session of its own, with the limits on its heap that somebody who is
short of memory would set.  It is ready either when it writes ``ready`` (it then waits), or,
for a compiler, when it has grown to a size while it works.  It is stopped then, and killed
when its pages have been read: nothing of it stays.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import KIB, MIB
from tests.benchmarks import corpus_material
from tests.benchmarks.corpus_material import PROGRAMS_DIR

_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.01
_SENT_AT_ONCE = 500  # Redis commands


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    ``begin`` gets a scratch directory and the executable, and is a context: the pid whose
    pages are wanted, once it is ready (a compiler is a child of its driver).
    """

    name: str
    executable: str  # looked for in PATH
    package: str  # of Debian, that has it
    about: str
    begin: Callable[[Path, str], contextlib.AbstractContextManager[int]]

    def is_installed(self) -> bool:
        """Whether its executable is in PATH."""
        return shutil.which(self.executable) is not None

    def find(self) -> str:
        """Where its executable is.  Raises `HostError` where it is not installed."""
        found = shutil.which(self.executable)
        if found is None:
            raise HostError(
                f"'{self.executable}' is not installed; run: sudo apt-get install "
                f"{self.package} (or leave {self.name} out with --programs)"
            )
        return found


@contextlib.contextmanager
def stopped(program: Program) -> Iterator[int]:
    """The pid of the running program, ready and stopped; it is killed at the end.

    Raises `HostError`: not installed, it ended, or it was not ready in time.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fuseswap-corpus-") as scratch,
        program.begin(Path(scratch), program.find()) as pid,
    ):
        stop(pid)
        yield pid


def stop(pid: int) -> None:
    """SIGSTOP, and wait until every thread has stopped.  Raises `HostError`."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError as exc:
        raise HostError(f"there is no process {pid}, or it has ended") from exc
    except PermissionError as exc:
        raise HostError(f"process {pid} is somebody else's; try as root") from exc
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while not is_stopped(pid):
        if time.monotonic() > deadline:
            raise HostError(f"process {pid} does not stop: it hangs in the kernel")
        time.sleep(_POLL_S)


def is_stopped(pid: int) -> bool:
    """Whether no thread of it runs."""
    return all(_state(task) in "TtZX" for task in _threads(pid))


def _threads(pid: int) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from Path(f"/proc/{pid}/task").iterdir()


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


@contextlib.contextmanager
def _running(
    arguments: Sequence[str],
    scratch: Path,
    *,
    executable: str | None = None,
    source: Iterable[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; ``source`` are lines for its stdin, which stays open.

    The whole session is killed at the end.  What it says on stderr goes to a file `log`.
    """
    with open(scratch / "log", "wb") as log:
        process = subprocess.Popen(
            arguments,
            executable=executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=scratch,
            start_new_session=True,
        )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: noticed where it is waited for
            for line in source:
                process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def _ended(scratch: Path, what: str) -> HostError:
    said = (scratch / "log").read_text(errors="replace").strip().splitlines()
    return HostError(f"{what} ended before it was ready: {said[-1] if said else 'no reason given'}")


def _wait_for_word(process: subprocess.Popen[bytes], scratch: Path) -> None:
    """Until it writes a line `ready`.  Raises `HostError`."""
    name = str(process.args[0]) if isinstance(process.args, list) else "the program"
    deadline = time.monotonic() + _READY_TIMEOUT_S
    assert process.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while b"ready\n" not in said:
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise HostError(f"{name} was not ready in {_READY_TIMEOUT_S:.0f} s")
            piece = os.read(process.stdout.fileno(), 64 * KIB)
            if not piece:
                raise _ended(scratch, name)
            said += piece


def _wait_for_size(
    process: subprocess.Popen[bytes], scratch: Path, command: str, size_bytes: int
) -> int:
    """Until a process ``command`` of the session is that large: its pid.  Raises `HostError`."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while process.poll() is None:
        for pid in _family(process.pid):
            if _name(pid) == command and _anonymous_bytes(pid) >= size_bytes:
                return pid
        if time.monotonic() > deadline:
            raise HostError(f"{command} did not grow to {size_bytes // MIB} MiB in time")
        time.sleep(_POLL_S)
    raise _ended(scratch, command)


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in _threads(pid):
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _name(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _anonymous_bytes(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * KIB
    return 0


def _write(path: Path, lines: Iterable[str]) -> str:
    with open(path, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    return str(path)


@contextlib.contextmanager
def _script(arguments: Sequence[str], scratch: Path) -> Iterator[int]:
    with _running(arguments, scratch) as process:
        _wait_for_word(process, scratch)
        yield process.pid


@contextlib.contextmanager
def _cc1plus(scratch: Path, executable: str) -> Iterator[int]:
    source = _write(scratch / "unit.cpp", corpus_material.source("unit.cpp", 120))
    line = [executable, "-std=c++17", "-O2", "-pipe", "-c", source, "-o", "/dev/null"]
    with _running(line, scratch) as process:
        yield _wait_for_size(process, scratch, "cc1plus", 64 * MIB)


@contextlib.contextmanager
def _rustc(scratch: Path, executable: str) -> Iterator[int]:
    source = _write(scratch / "crate.rs", corpus_material.source("crate.rs", 400))
    line = [executable, "--crate-type=lib", "--emit=metadata,obj", "-O", "--edition=2021"]
    with _running([*line, "--out-dir", str(scratch), source], scratch) as process:
        yield _wait_for_size(process, scratch, "rustc", 64 * MIB)


@contextlib.contextmanager
def _perl(scratch: Path, executable: str) -> Iterator[int]:
    with _script([executable, str(PROGRAMS_DIR / "workload.pl"), str(12 * MIB)], scratch) as pid:
        yield pid


@contextlib.contextmanager
def _java(scratch: Path, executable: str) -> Iterator[int]:
    line = [executable, "-Xmx48m", "-XX:+UseSerialGC", str(PROGRAMS_DIR / "Workload.java")]
    with _script([*line, str(5 * MIB)], scratch) as pid:
        yield pid


@contextlib.contextmanager
def _node(scratch: Path, executable: str) -> Iterator[int]:
    records = _write(scratch / "records.json", corpus_material.json_lines(9000, 30000))
    line = [executable, "--max-old-space-size=128", str(PROGRAMS_DIR / "workload.js"), records]
    with _script(line, scratch) as pid:
        yield pid


@contextlib.contextmanager
def _python(scratch: Path, executable: str) -> Iterator[int]:
    records = _write(scratch / "records.json", corpus_material.json_lines(4000, 8000))
    with _script([executable, str(PROGRAMS_DIR / "workload.py"), "25", records], scratch) as pid:
        yield pid


@contextlib.contextmanager
def _sqlite(scratch: Path, executable: str) -> Iterator[int]:
    lines = corpus_material.sql(30000, 100000)
    with _running(
        [executable, "-batch", ":memory:"], scratch, source=(*lines, ".system echo ready")
    ) as process:
        _wait_for_word(process, scratch)
        yield process.pid


@contextlib.contextmanager
def _redis(scratch: Path, executable: str) -> Iterator[int]:
    # In Debian the server is the program that checks dumps, by another name: so the package
    # that starts a server when it is installed is not needed.
    path = scratch / "socket"
    line = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    with _running(line, scratch, executable=executable) as process:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_READY_TIMEOUT_S)
            _connect(client, path, process, scratch)
            _fill(client, corpus_material.redis_commands(40000))
        yield process.pid


def _connect(
    client: socket.socket, path: Path, process: subprocess.Popen[bytes], scratch: Path
) -> None:
    """Once the server listens: its socket is there a moment before.  Raises `HostError`."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            client.connect(str(path))
            return
        except (FileNotFoundError, ConnectionRefusedError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise _ended(scratch, "redis-server") from None
            time.sleep(_POLL_S)


def _fill(client: socket.socket, commands: Iterable[Sequence[str]]) -> None:
    """Send ``commands`` some at a time and read their answers.  Raises `HostError` on an error."""
    replies = client.makefile("rb")
    waiting: list[bytes] = []

    def answer() -> None:
        client.sendall(b"".join(waiting))
        for _ in waiting:
            reply = replies.readline()
            if reply[:1] not in (b"+", b":"):
                raise HostError(f"redis-server answers: {reply.decode().strip() or 'nothing'}")
        waiting.clear()

    with replies:
        for words in commands:
            parts = [word.encode() for word in words]
            body = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            waiting.append(b"*%d\r\n%s" % (len(parts), body))
            if len(waiting) == _SENT_AT_ONCE:
                answer()
        answer()


_ALL = (
    Program("cc1plus", "g++", "g++", "the C++ compiler, at work", _cc1plus),
    Program("rustc", "rustc", "rustc", "the Rust compiler, at work", _rustc),
    Program("perl", "perl", "perl", "lines and words of Perl's modules", _perl),
    Program("java", "java", "default-jdk-headless", "a compiled source, an index", _java),
    Program("node", "node", "nodejs", "a shop's records and pages", _node),
    Program("python", sys.executable, "python3", "syntax trees, code, records", _python),
    Program("redis", "redis-check-rdb", "redis-tools", "a shop's cache", _redis),
    Program("sqlite", "sqlite3", "sqlite3", "a shop's tables in memory", _sqlite),
)
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _ALL}

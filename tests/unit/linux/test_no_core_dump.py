"""A process that may have the key in its memory leaves no core dump."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.units import MIB

MARKER = os.urandom(64)
GIVE_UP = "from fuseswap.linux.protect import dump_no_core; dump_no_core()"
# As where the limit does not count, and the process may be dumped.
WITHOUT_LIMIT = (
    "import resource; resource.setrlimit = lambda *_: None; "
    "from fuseswap.linux import syscalls; syscalls.set_not_dumpable = lambda: None"
)


def core_of(directory: Path, *steps: str) -> bytes | None:
    """What is dumped by a process that has the marker and crashes after ``steps``."""
    directory.mkdir()
    script = "; ".join([f"import os, mmap; known = bytes.fromhex('{MARKER.hex()}')", *steps])
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; os.abort()"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)),
        check=False,
    )
    assert done.returncode == -signal.SIGABRT
    found = list(directory.iterdir())
    return found[0].read_bytes() if found else None


@pytest.fixture(autouse=True)
def control(tmp_path: Path) -> None:
    """Where a core file is found, and the marker in it; else nothing is shown here."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    limited = resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY
    if limited or pattern.startswith(("|", "@", "/")):
        pytest.skip("this machine puts no core files into the working directory")
    core = core_of(tmp_path / "control")
    assert core
    assert MARKER in core


def test_no_core_is_dumped(tmp_path: Path) -> None:
    assert core_of(tmp_path / "here", GIVE_UP) is None


def test_where_one_is_dumped_nevertheless_it_has_no_memory(tmp_path: Path) -> None:
    core = core_of(tmp_path / "here", WITHOUT_LIMIT, GIVE_UP)
    assert core
    assert len(core) < MIB
    assert MARKER not in core


DUMPABLE = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
WITHOUT_TRACE = "from fuseswap.linux import protect; protect._may_trace = lambda: False"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's processes may be dumped")
@pytest.mark.parametrize(
    ("steps", "dumpable"),
    [
        ([], 1),
        ([GIVE_UP], 0),
        ([WITHOUT_TRACE, "protect.dump_no_core()"], 0),
        ([WITHOUT_TRACE, "protect.dump_no_core(adoptable=True)"], 1),
    ],
)
def test_a_process_gives_up_being_dumpable(steps: list[str], dumpable: int) -> None:
    """But for one whose descriptors could not be taken over then."""
    done = subprocess.run(
        [sys.executable, "-c", "; ".join([*steps, DUMPABLE])],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == f"{dumpable}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's processes may be dumped")
def test_without_limit_and_filter_there_is_no_core_either(tmp_path: Path) -> None:
    no_limit = "import resource; resource.setrlimit = lambda *_: None"
    assert core_of(tmp_path / "here", no_limit, GIVE_UP) is None

"""Reads through a child: the content, the error, and one that does not answer."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.linux.timed_file import Access, begin_reading, read_file, write_file


def end_of(access: Access) -> bytes:
    while True:
        select.select([access], [], [], 10)
        assert access.is_ready()
        content = access.advance()
        if content is not None:
            return content


def test_what_is_no_text_is_written_as_it_was_typed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    write_file(path, "a\udcff")
    assert path.read_bytes() == b"a\xff"


def test_more_than_a_pipe_holds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    write_file(path, "line\n" * 100_000)
    assert read_file(path) == "line\n" * 100_000
    assert end_of(begin_reading(path)) == b"line\n" * 100_000


def test_the_error_of_the_child_is_ours(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read_file(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        end_of(begin_reading(tmp_path))


def test_one_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(HostError, match="does not answer"):
        read_file(path, timeout_s=0.01)
    path.open("w").close()
    os.wait()  # the one left behind


def test_one_left_behind_keeps_nobody_s_pipe_open(tmp_path: Path) -> None:
    """As in ``fuseswap status --json | jq``."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    program = (
        "import sys\nfrom pathlib import Path\nfrom fuseswap.linux.timed_file import read_file\n"
        "try: read_file(Path(sys.argv[1]), timeout_s=0.01)\n"
        "except Exception: print('silent')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.communicate(timeout=60) == (b"silent\n", b"")
    finally:
        process.kill()
        os.close(os.open(path, os.O_WRONLY))  # it reads to the end, and ends


def test_killed_while_it_waits(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    access = begin_reading(path)
    assert not access.is_ready()
    access.kill()
    with pytest.raises(OSError, match="fifo"):
        end_of(access)
    with pytest.raises(ChildProcessError):
        os.wait()

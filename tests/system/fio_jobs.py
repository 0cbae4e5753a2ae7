"""fio with verification: write everything once, in random order, then read and check it."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from tests.support.mounted_devices import COMMAND_TIMEOUT_S, run

SIZE = "48M"

# What the blocks hold.  fio ignores zero_buffers and dedupe_percentage where it verifies; a
# verify_pattern does what they are for: one header a verify_interval, the rest all alike.
_ALIKE = ("--verify_interval=64k", "--bssplit=64k/60:256k/30:1M/10")
_PATTERN = random.Random(5).randbytes(512).hex()
DATA: dict[str, tuple[str, ...]] = {
    "incompressible": ("--verify=crc32c",),
    "compressible": ("--verify=crc32c", "--refill_buffers", "--buffer_compress_percentage=60"),
    "zero": ("--verify=crc32c", "--verify_pattern=0x00", *_ALIKE),
    "zero-unheaded": ("--verify=pattern", "--verify_pattern=0x00"),
    "duplicate": ("--verify=crc32c", f"--verify_pattern=0x{_PATTERN}", *_ALIKE),
    "duplicate-unheaded": ("--verify=pattern", f"--verify_pattern=0x{_PATTERN}"),
}

# How they come: sizes from 512 bytes to 1 MiB, deep or one at a time, aligned to nothing.
SHAPES: dict[str, tuple[str, ...]] = {
    "range-deep": ("--bsrange=512-1M", "--ioengine=libaio", "--iodepth=32", "--direct=1"),
    "split-buffered": (
        "--bssplit=512/20:1k/20:4k/30:60k/20:1M/10", "--ioengine=psync", "--direct=0"
    ),
    "unaligned": ("--bsrange=700-1M", "--bs_unaligned", "--ioengine=psync", "--direct=0"),
}  # fmt: skip


def fio(directory: Path, target: str, *options: str) -> dict[str, Any]:
    """Run one job on ``target``; any error or bad block fails.  Returns its JSON report."""
    command = ["fio", "--name=verify", f"--filename={target}", "--output-format=json", *options]
    done = run(command, COMMAND_TIMEOUT_S, cwd=directory)  # it leaves a state file where it runs
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr}"
    text = done.stdout
    report: dict[str, Any] = json.loads(text[text.index("{") :])["jobs"][0]
    assert report["error"] == 0
    return report


def write_and_verify(directory: Path, target: str, *options: str) -> dict[str, Any]:
    """A random-order write of `SIZE` with a verification of all of it."""
    base = ("--rw=randwrite", f"--size={SIZE}", "--verify_fatal=1", "--do_verify=1")
    report = fio(directory, target, *base, *options)
    # Blocks of odd sizes leave a few gaps that are too small for another.
    assert report["write"]["io_bytes"] == report["read"]["io_bytes"] > 46 << 20
    return report


def read_all(path: Path, offset: int, size: int) -> bytes:
    """A range of the file in one piece."""
    with open(path, "rb", buffering=0) as file:
        return b"".join(
            os.pread(file.fileno(), 1 << 20, at) for at in range(offset, offset + size, 1 << 20)
        )

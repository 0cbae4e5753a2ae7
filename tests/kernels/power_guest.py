"""The moments of a plan in a guest, on a scratch disk whose writes are logged.

The kernel of a guest is one that people use, and its disk is a disk: no loop device of this
machine, and no page cache, lies between its file system and the log.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from pathlib import Path

from tests.kernels import cache, source_image
from tests.kernels.machine import Settings, drive_words, guest_command, wait_for
from tests.kernels.runner import build, say
from tests.kernels.source_image import Source
from tests.kernels.verdict import parse_events
from tests.kernels.write_recorder import FILE_SYSTEM_BYTES, Recording

_MEMORY_MIB = 640  # never short: what it does under pressure other scenarios look at
_LAST_LINES = 4
_MACHINE_ID = Path("/etc/machine-id")
# Behind the other two, which qemu gives the first places.  Not merged: it makes requests of as many
# pieces as a write may have, the log adds one more, and that is an I/O error (qemu 7.2).
_DEVICE = (
    "-device",
    "virtio-blk-pci,drive=recorded,write-cache=on,request-merging=off,addr=0x1d",
)


def record_in_guest(
    recording: Recording, kernel: str, seed: int, rounds: int, settings: Settings
) -> None:
    """Boot it and wait for its end.  Raises `cache.CommandFailed` where it had not done all."""
    root, kernels = build([kernel])
    told = {
        "machine_id": _MACHINE_ID.read_text() if _MACHINE_ID.exists() else "",
        "marks_at": FILE_SYSTEM_BYTES,
        "seed": seed,
        "rounds": rounds,
    }
    with tempfile.TemporaryDirectory() as content:
        (Path(content) / "scenario.json").write_text(json.dumps({"moments": told}))
        recording.make(Path(content))
    source = recording.directory / "source.ext4"
    source_image.make(Source(), source)
    out = recording.directory / "out"
    command = guest_command(
        kernels[kernel],
        _MEMORY_MIB,
        recording.directory / "console",
        out,
        *drive_words(root, "on"),
        *drive_words(source, "on"),
        *(word.replace("--blockdev", "-blockdev") for word in recording.blockdevs()),
        *_DEVICE,
    )
    with (
        open(recording.directory / "qemu", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as guest,
    ):
        try:
            ended = wait_for(guest, out, settings, threading.Event(), lambda line: say(line))
        finally:
            guest.kill()
    source.unlink()
    events = parse_events(out.read_text(errors="replace") if out.exists() else "")
    if ended != "off" or not any(event["event"] == "result" for event in events):
        last = "; ".join(str(event.get("error") or event) for event in events[-_LAST_LINES:])
        raise cache.CommandFailed(f"the guest was {ended}: {last}; see {recording.directory}")

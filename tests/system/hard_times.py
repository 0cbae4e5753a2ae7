"""Load on a device while its processes die: fio in a thread, and what the tests ask of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import TestDevice, wait_until, worker_of
from tests.system.fio_jobs import DATA, SHAPES, write_and_verify


@contextmanager
def verified_load(device: TestDevice, directory: Path) -> Iterator[None]:
    """fio writes and verifies at depth 32 for as long as the block lasts; no error, no bad block.

    At least one pass is complete at the end.
    """
    enough = threading.Event()
    errors: list[BaseException] = []

    def load() -> None:
        try:
            while True:
                options = (*SHAPES["range-deep"], *DATA["compressible"])
                write_and_verify(directory, str(device.swapfile), *options)
                if enough.is_set():
                    return
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
    assert not errors, errors[0]


def send_worker(name: str, number: signal.Signals) -> None:
    """Send the worker a signal and wait until another serves in its place."""
    runtime = Runtime(name)
    before = worker_of(name)
    os.kill(before, number)

    def replaced() -> bool:
        now = runtime.state()
        return now.status == "running" and now.worker_pid != before

    wait_until(f"another worker after {number.name}", replaced)

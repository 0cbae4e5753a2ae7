"""A set of stripes: one name, and a device of its own for each stripe.

    NAME/pool       which makes it a set: how many stripes, and what they share
    NAME/0/, ...    the runtime directory of each, as of any device

A stripe is called ``NAME/0``.  No user can give a device that name.  Every stripe has its own
supervisor, workers, loop device and log.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator

from fuseswap.daemon.pool_table import PoolTable
from fuseswap.daemon.runtime_dir import MAX_STRIPES, POOL, Runtime, all_devices
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import private_files

MAX_NAME = 30  # that of a stripe has two characters more, and stands in files of tiers
_LOCK_TIMEOUT_S = 5.0
_LOWERED_TIMEOUT_S = 5.0


class StripeSet:
    """The set called ``name``, where there is one."""

    def __init__(self, name: str) -> None:
        """Raises `InvalidArgument` for what is no name of a set."""
        runtime = Runtime(name)
        if runtime.set_name is not None:
            raise InvalidArgument(f"'{name}' is one stripe; name all of them: {runtime.set_name}")
        self.name = name
        self.directory = runtime.directory
        self.lock = runtime.lock
        self._path = self.directory / POOL

    def exists(self) -> bool:
        """Whether there is one."""
        return self._path.exists()

    def create(self, count: int, limit_frames: int) -> None:
        """With a limit that is shared out evenly.  Raises `InvalidArgument`, `OSError`."""
        if len(self.name) > MAX_NAME:
            raise InvalidArgument(f"with stripes a name has {MAX_NAME} characters at most")
        private_files.make_directory(self.directory)
        PoolTable.create(self._path, count, limit_frames)

    def remove(self) -> None:
        """When no stripe is left."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def table(self) -> PoolTable:
        """Raises `HostError` where there is no set of that name."""
        return PoolTable(self._path)

    def stripes(self) -> list[Runtime]:
        """All that there should be.  Raises `HostError`."""
        table = self.table()
        try:
            return [Runtime(f"{self.name}/{number}") for number in range(table.count)]
        finally:
            table.close()

    def left(self) -> list[Runtime]:
        """Those that are there in whatever state, also where the table is lost."""
        names = (f"{self.name}/{number}" for number in range(MAX_STRIPES))
        return [stripe for stripe in map(Runtime, names) if stripe.exists()]

    def release(self, stripe: int) -> None:
        """It is down: the others may have what was its."""
        with contextlib.suppress(HostError), self._locked() as table:
            table.aim(stripe, 0)
            table.grant(stripe, 0)
            table.tell(stripe, 0, 0, 0, 0)

    def limit_frames(self) -> int:
        """Of all stripes together.  Raises `HostError`."""
        table = self.table()
        try:
            return table.limit
        finally:
            table.close()

    def set_limit(self, frames: int) -> bool:
        """Change it; whether all stripes keep to it by now.  Raises `HostError`."""
        with self._locked() as table:
            table.limit = frames
        table = self.table()
        try:
            deadline = time.monotonic() + _LOWERED_TIMEOUT_S
            while sum(row.granted for row in table.rows()) > frames:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
            return True
        finally:
            table.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[PoolTable]:
        table = self.table()
        try:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while not table.try_lock():
                if time.monotonic() > deadline:
                    raise HostError(f"the pool of {self.name} is locked; see: fuseswap status")
                time.sleep(0.01)
            yield table
        finally:
            table.close()  # which ends the lock


def find_set(name: str) -> StripeSet | None:
    """The set called ``name``; None for a device, or one of its stripes."""
    if Runtime(name).set_name is not None:
        return None
    found = StripeSet(name)
    return found if found.exists() else None


def devices_named(name: str) -> list[Runtime]:
    """The device of that name, or each stripe of the set.  Raises `InvalidArgument`."""
    found = find_set(name)
    return found.left() if found else [Runtime(name)]


def grouped(name: str | None) -> list[tuple[str, list[Runtime]]]:
    """Every device with its name, or those called ``name``; the stripes of a set are together."""
    groups: dict[str, list[Runtime]] = {}
    if name and (found := find_set(name)) and not found.left():
        raise HostError(f"{name} has lost its stripes; clean up with: fuseswap down {name}")
    for runtime in all_devices() if name is None else devices_named(name):
        own = runtime.name if name == runtime.name else runtime.set_name or runtime.name
        groups.setdefault(own, []).append(runtime)
    return list(groups.items())

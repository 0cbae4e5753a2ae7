"""What is measured: an object with prepare, path and teardown.

A peer owns what it makes (a mount, a device, a file, servers) from `prepare` to
`teardown`; in between, `path` is the file or block device that takes the I/O.  All peers
of a suite are prepared before the first measurement, so that they can be interleaved.
`teardown` works after a `prepare` that failed half-way, and leaves nothing behind.
A peer that can't be prepared is an error: it is never left out silently.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import command
from benchmarks.command import tell
from fuseswap.errors import HostError
from fuseswap.host import mount, swap
from fuseswap.host.runtime import Runtime
from fuseswap.units import MIB

_DOWN_TIMEOUT_S = 180.0


class Peer(ABC):
    """One thing to measure; ``size_bytes`` is what it must hold."""

    discard = False  # whether its swapon asks for discards

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes

    @property
    @abstractmethod
    def path(self) -> str:
        """The file or block device to read and write, once prepared."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the report: what it is and how it was set up."""

    @abstractmethod
    def prepare(self) -> None:
        """Make it ready.  Raises `HostError`."""

    @abstractmethod
    def teardown(self) -> None:
        """Undo `prepare`, also half of it.  Raises `HostError` where something stays behind."""


@contextlib.contextmanager
def prepared(peers: Sequence[Peer]) -> Iterator[None]:
    """Prepare all, and tear all down again in reverse order, whatever happens."""
    with contextlib.ExitStack() as stack:
        for peer in peers:
            tell(f"preparing {peer.name}: {peer.describe()}")
            stack.callback(peer.teardown)
            peer.prepare()
        yield


class Fuseswap(Peer):
    """A device of ours, of which the FUSE file or the loop device is measured."""

    discard = True  # as `fuseswap up` does

    def __init__(
        self, name: str, size_bytes: int, *, transport: str = "devfuse", loop: bool = False
    ) -> None:
        super().__init__(name, size_bytes)
        self._transport = transport
        self._loop = loop
        self._path = ""

    @property
    def path(self) -> str:
        """The FUSE file, or the loop device on it."""
        return self._path

    def describe(self) -> str:
        """Transport, compressor, and the way in."""
        way = "loop device" if self._loop else "file"
        return f"fuseswap, transport {self._transport}, lz4, {way}"

    def prepare(self) -> None:
        """Bring it up without swapon; what a killed benchmark left behind goes first."""
        self.teardown()
        size = str(self.size_bytes)
        answer = self._fuseswap(
            "up", self.name, "--size", size, "--pool-limit", size, "--compressor", "lz4",
            "--transport", self._transport, "--no-swapon", "--json",
        )  # fmt: skip
        info = json.loads(answer)
        self._path = info["loop"] if self._loop else info["swapfile"]

    def teardown(self) -> None:
        """Take it down; where it hangs, by force, which is still an error."""
        device = Runtime(self.name)
        if not device.exists():
            return
        try:
            self._fuseswap("down", self.name, timeout_s=_DOWN_TIMEOUT_S)
        except HostError as exc:
            tell(f"{exc}; ending it by force")
            self._end_by_force(device)
            raise

    def _end_by_force(self, device: Runtime) -> None:
        """Abort its FUSE connection, so that nothing waits for it any more, and kill its worker.

        Only the process under pressure, which has ended by now, can lose pages by that.
        """
        connection = mount.connection_of(str(device.default_mountpoint))
        if connection is not None:
            Path(f"/sys/fs/fuse/connections/{connection}/abort").write_text("1")
        worker = device.state().get("worker_pid", 0)
        with contextlib.suppress(OSError):
            if b"fuseswap.worker" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
        self._fuseswap("down", self.name)

    def _fuseswap(self, *arguments: str, timeout_s: float = 120.0) -> str:
        return command.run((sys.executable, "-m", "fuseswap", *arguments), timeout_s=timeout_s)


class Zram(Peer):
    """The compressed block device in the kernel, with lz4; the first one, if nobody uses it."""

    _DEVICE = "zram0"
    _RESET_TIMEOUT_S = 10.0

    def __init__(self, name: str, size_bytes: int) -> None:
        super().__init__(name, size_bytes)
        self._attributes = Path("/sys/block") / self._DEVICE
        self._before: str | None = None  # the algorithm to restore; None: not ours

    @property
    def path(self) -> str:
        """The block device."""
        return f"/dev/{self._DEVICE}"

    def describe(self) -> str:
        """Device and algorithm."""
        return f"zram, lz4, {self.path}"

    def prepare(self) -> None:
        """Set the algorithm, then the size (the other way round is refused)."""
        if not self._attributes.exists():
            command.run(("modprobe", "zram"))
        if self._read("disksize") != "0":
            raise HostError(f"{self.path} is in use; free it: swapoff {self.path}, zramctl --reset")
        algorithms = self._read("comp_algorithm").split()
        self._before = next(word.strip("[]") for word in algorithms if word.startswith("["))
        self._write("comp_algorithm", "lz4")
        self._write("disksize", str(self.size_bytes))

    def teardown(self) -> None:
        """Reset it and restore the algorithm."""
        if self._before is None:
            return
        deadline = time.monotonic() + self._RESET_TIMEOUT_S
        while True:  # busy for a moment where udev looks at it
            try:
                self._write("reset", "1")
                break
            except HostError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self._write("comp_algorithm", self._before)
        self._before = None

    def _read(self, attribute: str) -> str:
        try:
            return (self._attributes / attribute).read_text().strip()
        except OSError as exc:
            raise HostError(f"no zram here ({exc.strerror}); leave it out with --peers") from exc

    def _write(self, attribute: str, value: str) -> None:
        try:
            (self._attributes / attribute).write_text(value)
        except OSError as exc:
            where = self._attributes / attribute
            raise HostError(f"cannot write {value} to {where}: {exc.strerror}") from exc


class SwapFile(Peer):
    """A plain file on the disk, written once from end to end so that it has no holes."""

    _DIRECTORY = "/var/tmp"

    def __init__(self, name: str, size_bytes: int) -> None:
        super().__init__(name, size_bytes)
        self._path: str | None = None

    @property
    def path(self) -> str:
        """The file."""
        return self._path or self._DIRECTORY

    def describe(self) -> str:
        """Where it lies."""
        return f"plain swap file in {self._DIRECTORY}"

    def prepare(self) -> None:
        """Write it, with what does not compress: some disks store zeros for nothing."""
        fd, self._path = tempfile.mkstemp(prefix="fuseswap-bench-", dir=self._DIRECTORY)
        block = os.urandom(MIB)
        try:
            with open(fd, "wb", buffering=0) as file:
                for _ in range(self.size_bytes // MIB):
                    file.write(block)
                os.fsync(file.fileno())
        except OSError as exc:
            raise HostError(f"cannot write {self._path}: {exc.strerror}") from exc

    def teardown(self) -> None:
        """Delete it, unless it is still swapped to."""
        if self._path is None:
            return
        if swap.area_of(self._path):
            raise HostError(f"{self._path} is still active; swapoff it and delete it")
        Path(self._path).unlink(missing_ok=True)
        self._path = None

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux import mount, swap_area
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import command, counters
from tests.benchmarks.command import tell
from tests.benchmarks.counters import MemoryUse, Traffic

DISK = "/var/tmp"  # where swap files and backing files lie

_DOWN_TIMEOUT_S = 180.0


class Peer(ABC):
    """One thing to measure; ``size_bytes`` is what it must hold."""

    discard = False  # whether its swapon asks for discards
    zswap: Mapping[str, str] = {"enabled": "N"}  # zswap's parameters while it is swapped to

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes

    @property
    @abstractmethod
    def path(self) -> str:
        """The file or block device to read and write, once prepared."""

    @property
    def file(self) -> str:
        """The file below its block device, if it has both."""
        return self.path

    @abstractmethod
    def describe(self) -> str:
        """One line for the report: what it is and how it was set up."""

    @abstractmethod
    def prepare(self) -> None:
        """Make it ready.  Raises `HostError`."""

    @abstractmethod
    def teardown(self) -> None:
        """Undo `prepare`, also half of it.  Raises `HostError` where something stays behind."""

    def traffic(self) -> Traffic:
        """What it moved to a disk so far; nothing where there is none below it."""
        return Traffic(0, 0, 0, 0)

    def pool_bytes(self) -> int:
        """Memory its compressed pages take now; 0 where it has no pool."""
        return 0

    def settle(self) -> None:
        """Do with the stored pages what is to be done before its memory is looked at."""
        return

    def memory(self) -> MemoryUse:
        """What stored pages take in it, by its own count.  Raises `HostError`."""
        raise HostError(f"{self.name} does not count its memory; leave it out with --peers")

    def all_memory_bytes(self) -> int:
        """Memory it takes now with everything: stored pages, tables, processes.

        Without zswap's, which may stand in front of it.
        """
        return 0


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
        self,
        name: str,
        size_bytes: int,
        *,
        transport: str = "devfuse",
        loop: bool = False,
        pool_limit_bytes: int = 0,
        backing_bytes: int = 0,
        layout: str = "packed",
        compressor: str = "lz4",
        parameters: Mapping[str, str] | None = None,
        up_options: Sequence[str] = (),
        python_path: Sequence[Path] = (command.ROOT,),
    ) -> None:
        """No pool limit: its size; no backing bytes: no backing file; ``parameters`` to set.

        ``up_options`` come last in its `up`; ``python_path`` has the tree that is measured.
        """
        super().__init__(name, size_bytes)
        self._transport = transport
        self._loop = loop
        self._pool_limit_bytes = pool_limit_bytes or size_bytes
        self._backing_bytes = backing_bytes
        self.backing = Path(DISK) / f"fuseswap-bench-{name}.backing"
        self._layout = layout
        self._compressor = compressor
        self._parameters = parameters or {}
        self._up_options = up_options
        self._python_path = python_path
        self._path = ""
        self._file = ""
        self._mountpoint = ""

    @property
    def path(self) -> str:
        """The FUSE file, or the loop device on it."""
        return self._path

    @property
    def file(self) -> str:
        """The FUSE file."""
        return self._file

    @property
    def mountpoint(self) -> str:
        """Where statistics and parameters are."""
        return self._mountpoint

    def describe(self) -> str:
        """Transport, compressor, and the way in."""
        way = "loop device" if self._loop else "file"
        text = f"fuseswap, transport {self._transport}, {self._compressor}, {way}"
        if self._pool_limit_bytes != self.size_bytes:
            text += f", pool of {self._pool_limit_bytes // MIB} MiB"
        if self._backing_bytes:
            text += f", {self._layout} backing file of {self._backing_bytes // MIB} MiB in {DISK}"
        return ", ".join((text, *(f"{name}={value}" for name, value in self._parameters.items())))

    def prepare(self) -> None:
        """Bring it up without swapon; what a killed benchmark left behind goes first."""
        self.teardown()
        if self._backing_bytes:  # a file that is there is used, and preallocated, in its size
            with open(os.open(self.backing, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.truncate(BOTH_ENDS_BYTES + self._backing_bytes)
        info = json.loads(self._fuseswap(*self.up_command()))
        self._file = info["swapfile"]
        self._path = info["loop"] if self._loop else self._file
        self._mountpoint = info["mountpoint"]
        for name, value in self._parameters.items():
            self.set(name, value)

    def set(self, name: str, value: str) -> None:
        """Change a parameter.  Raises `HostError`."""
        self._fuseswap("set", self.name, f"{name}={value}")

    def up_command(self) -> list[str]:
        """`up` with all its options."""
        line = [
            "up", self.name, "--size", str(self.size_bytes),
            "--pool-limit", str(self._pool_limit_bytes), "--compressor", self._compressor,
            "--transport", self._transport, "--no-swapon", "--json",
        ]  # fmt: skip
        if self._backing_bytes:
            line += ["--backing", str(self.backing)]
        if self._layout != "packed":
            line += ["--backing-layout", self._layout]
        return [*line, *self._up_options]

    def metrics(self) -> dict[str, int]:
        """Every statistic of one moment, by its name.  Raises `HostError`."""
        return counters.parse_metrics(command.run(("cat", f"{self._mountpoint}/metrics")))

    def traffic(self) -> Traffic:
        """By its own counters."""
        now = self.metrics()
        return Traffic(
            evicted_pages=now["written_back_pages"],
            written_back_pages=now["written_back_pages"],
            written_bytes=now["bd_writes"] * PAGE_SIZE,
            read_bytes=now["bd_reads"] * PAGE_SIZE,
        )

    def pool_bytes(self) -> int:
        """Segments in use, and free ones kept for the next."""
        return self.metrics()["pool_total_size"]

    def memory(self) -> MemoryUse:
        """By its own statistics."""
        now = self.metrics()
        return MemoryUse(
            used_bytes=now["mem_used_total"],
            compressed_bytes=now["compr_data_size"],
            duplicate_pages=now.get("duplicate_pages", 0),
        )

    def all_memory_bytes(self) -> int:
        """By its own statistics, with the processes that serve."""
        now = self.metrics()
        return now["mem_used_total"] + now["mem_fixed"]

    def teardown(self) -> None:
        """Take it down; where it hangs, by force, which is still an error."""
        device = Runtime(self.name)
        try:
            if device.exists():
                self._fuseswap("down", self.name, timeout_s=_DOWN_TIMEOUT_S)
        except HostError as exc:
            tell(f"{exc}; ending it by force")
            self._end_by_force(device)
            raise
        finally:
            self.backing.unlink(missing_ok=True)

    def _end_by_force(self, device: Runtime) -> None:
        """Abort its FUSE connection, so that nothing waits for it any more, and kill its worker.

        Only the process under pressure, which has ended by now, can lose pages by that.
        """
        connection = mount.connection_of(str(device.default_mountpoint))
        if connection is not None:
            Path(f"/sys/fs/fuse/connections/{connection}/abort").write_text("1")
        worker = device.state().worker_pid or 0
        with contextlib.suppress(OSError):
            if b"fuseswap.daemon.worker" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
        self._fuseswap("down", self.name)

    def _fuseswap(self, *arguments: str, timeout_s: float = 120.0) -> str:
        line = (sys.executable, "-m", "fuseswap", *arguments)
        return command.run(line, timeout_s=timeout_s, python_path=self._python_path)


class Zram(Peer):
    """The compressed block device in the kernel, with lz4; the first one, if nobody uses it."""

    _DEVICE = "zram0"
    _RESET_TIMEOUT_S = 10.0
    _SLOT_BYTES = 16  # of its table, for each page of the device

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

    def memory(self) -> MemoryUse:
        """By mm_stat, which leaves its slot table out."""
        return counters.parse_mm_stat(self._read("mm_stat"))

    def all_memory_bytes(self) -> int:
        """By mm_stat, and the slot table."""
        return self.memory().used_bytes + self.size_bytes // PAGE_SIZE * self._SLOT_BYTES

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

    def __init__(self, name: str, size_bytes: int) -> None:
        super().__init__(name, size_bytes)
        self._path: str | None = None

    @property
    def path(self) -> str:
        """The file."""
        return self._path or DISK

    def describe(self) -> str:
        """Where it lies."""
        return f"plain swap file in {DISK}"

    def prepare(self) -> None:
        """Write it, with what does not compress: some disks store zeros for nothing."""
        fd, self._path = tempfile.mkstemp(prefix="fuseswap-bench-", dir=DISK)
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
        if swap_area.area_of(self._path):
            raise HostError(f"{self._path} is still active; swapoff it and delete it")
        Path(self._path).unlink(missing_ok=True)
        self._path = None

    def traffic(self) -> Traffic:
        """By the kernel's counters: it has to be the only swap area.

        Zero-filled pages are in none of them: the kernel marks their slot and writes nothing.
        """
        now = counters.vmstat()
        return Traffic(
            evicted_pages=now["pswpout"],
            written_back_pages=now.get("zswpwb", 0),
            written_bytes=now["pswpout"] * PAGE_SIZE,
            read_bytes=now["pswpin"] * PAGE_SIZE,
        )

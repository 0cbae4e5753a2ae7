"""The tree at the mountpoint: what the filesystem *is*.  Knows no FUSE.

    /swapfile      the swap (mode 0600)
    /stats/NAME    one number each; NAME.VALUE where it has a label
    /params/NAME   readable and writable
    /metrics       everything, as OpenMetrics text; metrics.prom in the classic format
    /pages/NUMBER  where one page is and why, as JSON (mode 0400; not listed)
    /.refusal      why the last value was refused that was written to a parameter (not listed)

Inode numbers are fixed: by the page's number, or by the checksum of the file's name.  The kernel
keeps them while the worker is replaced, perhaps by one with other statistics and parameters.
Text files are rendered when opened: a reader sees one moment, however many reads it takes.  As in
/proc their size is 0: stat(2) renders nothing.
"""

from __future__ import annotations

import os
import re
import stat
from binascii import crc32
from dataclasses import dataclass

from fuseswap.counting import file_name
from fuseswap.errors import InvalidArgument, NoSuchFile, NotPermitted
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.explain import explain
from fuseswap.filesystem.openmetrics import CLASSIC, render_metrics
from fuseswap.filesystem.parameters import PARAMETERS, set_parameter
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import PAGE_SIZE, PageNumber

ROOT = 1
SWAPFILE = 2
STATS = 3
PARAMS = 4
METRICS = 5
PAGES = 6
REFUSAL = 7
METRICS_CLASSIC = 8
_STAT_BASE = 1 << 32  # and 32 bits of checksum
_PARAM_BASE = 2 << 32
PAGE_BASE = 1 << 40
_PAGE_NAME = re.compile("0|[1-9][0-9]{0,9}")  # 2**32 at most

_MAX_PARAMETER_BYTES = 4096


def stat_inode(name: str) -> int:
    """Inode of ``stats/NAME``."""
    return _STAT_BASE + crc32(name.encode("utf-8", "surrogateescape"))


def param_inode(name: str) -> int:
    """Inode of ``params/NAME``."""
    return _PARAM_BASE + crc32(name.encode())


_STATS = {stat_inode(row.name): row.name for row in STATISTICS if not row.labels}
_PARAMS = {param_inode(row.name): row for row in PARAMETERS}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows of an inode; ``blocks`` in units of 512 bytes."""

    inode: int
    mode: int
    size_bytes: int
    blocks: int
    links: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    inode: int
    is_directory: bool


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What df shows, in 4096-byte blocks: the file's pages, and those that are holes."""

    blocks: int
    blocks_free: int


class Tree:
    """Names, inodes and texts over one `Device`."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.swapfile = device.swapfile
        stats = [Entry(name, inode, False) for inode, name in _STATS.items()]
        params = [Entry(row.name, inode, False) for inode, row in _PARAMS.items()]
        root = [
            Entry("swapfile", SWAPFILE, False),
            Entry("stats", STATS, True),
            Entry("params", PARAMS, True),
            Entry("metrics", METRICS, False),
            Entry("metrics.prom", METRICS_CLASSIC, False),
            Entry("pages", PAGES, True),
        ]
        self._directories: dict[int, list[Entry]] = {
            ROOT: root,
            STATS: stats,
            PARAMS: params,
            PAGES: [],
        }
        self._names = {
            directory: {entry.name: entry.inode for entry in entries}
            for directory, entries in self._directories.items()
        }
        self._names[ROOT][".refusal"] = REFUSAL
        self._refusal = ""
        self._created_ns = device.created_ns
        self.uid = os.getuid()
        self.gid = os.getgid()

    @property
    def created_ns(self) -> int:
        """Every time stamp of the tree: when it was mounted."""
        return self._created_ns

    def lookup(self, directory: int, name: str) -> int:
        """Inode of ``name``; raises `NoSuchFile`."""
        if directory == PAGES:
            return self._lookup_page(name)
        try:
            return self._names[directory][name]
        except KeyError:
            inode = stat_inode(name)
            if directory == STATS and "." in name and inode in self._labelled():
                return inode
            raise NoSuchFile(f"no '{name}' in inode {directory}") from None

    def _lookup_page(self, name: str) -> int:
        if _PAGE_NAME.fullmatch(name) and int(name) < self.device.cache.page_count:
            return PAGE_BASE + int(name)
        raise NoSuchFile(f"there is no page '{name}'")

    def _labelled(self) -> dict[int, tuple[str, int]]:
        """The statistics that have labels: inode -> name of the file, number."""
        found = {}
        for key, number in self.device.statistics().items():
            if isinstance(key, tuple):
                name = file_name(*key)
                found[stat_inode(name)] = (name, number)
        return found

    def entries(self, directory: int) -> list[Entry]:
        """The names in ``directory``, in a fixed order; raises `NoSuchFile`."""
        try:
            entries = self._directories[directory]
        except KeyError:
            raise NoSuchFile(f"inode {directory} is no directory") from None
        if directory == STATS:
            labelled = self._labelled().items()
            return entries + [Entry(name, inode, False) for inode, (name, _) in labelled]
        return entries

    def attributes(self, inode: int) -> Attributes:
        """Attributes of ``inode``; raises `NoSuchFile`."""
        if inode == SWAPFILE:
            held = self.device.held_bytes()
            size = self.swapfile.size_bytes
            return Attributes(inode, stat.S_IFREG | 0o600, size, -(-held // 512), 1)
        if inode in self._directories:
            links = 2 + sum(entry.is_directory for entry in self._directories[inode])
            mode = 0o500 if inode == PAGES else 0o555
            return Attributes(inode, stat.S_IFDIR | mode, 0, 0, links)
        mode = 0o644 if inode in _PARAMS else 0o444
        if inode >= PAGE_BASE:
            mode = 0o400  # the word of a same-filled page is somebody's memory
        self._require(inode)
        return Attributes(inode, stat.S_IFREG | mode, 0, 0, 1)

    def _require(self, inode: int) -> None:
        """Raise `NoSuchFile` where there is no text file of that number; renders nothing."""
        last = PAGE_BASE + self.device.cache.page_count
        is_there = (
            inode in (METRICS, METRICS_CLASSIC, REFUSAL) or inode in _STATS or inode in _PARAMS
        )
        if not is_there and not PAGE_BASE <= inode < last and inode not in self._labelled():
            raise NoSuchFile(f"no file has inode {inode}")

    def text(self, inode: int) -> bytes:
        """Contents of a text file as of now; raises `NoSuchFile`."""
        if inode == METRICS:
            return render_metrics(self.device).encode()
        if inode == METRICS_CLASSIC:
            return render_metrics(self.device, CLASSIC).encode()
        if inode == REFUSAL:
            return self._refusal.encode()
        if inode in _STATS:
            return f"{self.device.statistics()[_STATS[inode]]}\n".encode()
        if _STAT_BASE <= inode < _PARAM_BASE:
            labelled = self._labelled()
            if inode in labelled:
                return f"{labelled[inode][1]}\n".encode()
        if inode in _PARAMS:
            return f"{_PARAMS[inode].get(self.device)}\n".encode()
        if PAGE_BASE <= inode < PAGE_BASE + self.device.cache.page_count:
            return f"{explain(self.device, PageNumber(inode - PAGE_BASE)).as_json()}\n".encode()
        raise NoSuchFile(f"no file has inode {inode}")

    def write_text(self, inode: int, offset: int, data: bytes) -> None:
        """Set a parameter.  Raises `InvalidArgument` (nothing changed) or `NotPermitted`."""
        if inode not in _PARAMS:
            raise NotPermitted("only parameters can be written")
        if offset or len(data) > _MAX_PARAMETER_BYTES:
            raise InvalidArgument("a parameter is written in one piece")
        try:
            text = data.decode("ascii").strip()
        except UnicodeDecodeError:
            raise InvalidArgument("a parameter is plain ASCII") from None
        try:
            set_parameter(self.device, _PARAMS[inode], text)
        except InvalidArgument as exc:
            self._refusal = f"{_PARAMS[inode].name}={text}: {exc}\n"
            raise

    def resize(self, inode: int, size_bytes: int) -> None:
        """Truncate: nothing to do for a parameter (``echo 1 >``); the swapfile keeps its size."""
        if inode == SWAPFILE and size_bytes != self.swapfile.size_bytes:
            raise NotPermitted("the swapfile has a fixed size")
        if inode != SWAPFILE and inode not in _PARAMS:
            raise NotPermitted("only parameters can be written")

    def usage(self) -> FilesystemUsage:
        """What df shows."""
        pages = self.swapfile.size_bytes // PAGE_SIZE
        stored = self.device.cache.slots.stored_pages
        return FilesystemUsage(blocks=pages, blocks_free=pages - stored)

"""What a device is asked to be: the options of `up` and `mount`, validated.

Their defaults live here and nowhere else.  `DeviceConfig.settings` is what supervisor and
worker get, through ``config.json`` (``device_files.py``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from fuseswap.codecs import names
from fuseswap.daemon import tier_files
from fuseswap.daemon.device_files import (
    BACKEND_PREFIX,
    LAYOUTS,
    RESEND,
    GeometryNumbers,
    Settings,
)
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import MIN_POOL_LIMIT_BYTES
from fuseswap.frontswap.raw_size import file_bytes
from fuseswap.linux.heap import HEAP_FILE_BYTES
from fuseswap.sizes import format_size, parse_size
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.backing_file import planned_bytes
from fuseswap.tiers.extent_pool import check_extents
from fuseswap.tiers.io_buffers import BUFFER_BYTES
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES, room_bytes
from fuseswap.tiers.tier import BACKING_NAME
from fuseswap.tiers.tier_spec import TierSpec, parse_backing, parse_tiers
from fuseswap.transport import RESUMING, TRANSPORTS, check_installed
from fuseswap.units import MAX_SEGMENTS, MIB, PAGE_SHIFT, PAGE_SIZE

DEFAULT_SIZE = "2G"
DEFAULT_COMPRESSOR = "lz4"
BELOW_COMPRESSOR = "zstd"  # of a device below zswap: cold pages come, one at a time
DEFAULT_POOL_LIMIT = "25%"
DEFAULT_TRANSPORT = "devfuse"
DEFAULT_PRIORITY = 100
DEFAULT_LAYOUT = LAYOUTS[0]
DEFAULT_RESEND = RESEND[0]
TUNE = ("auto", "on", "off")
DEFAULT_TUNE = TUNE[0]
DEFAULT_STANDBY = True
DEFAULT_BELOW_PERCENT = 5  # of memory, for zswap's pool
MAX_BELOW_PERCENT = 90
DEFAULT_WATCHDOG_S = 5
MIN_WATCHDOG_S = 3  # the heart beats once a second, and a busy machine delays it

MIN_SIZE_BYTES = MIB
MAX_RAW = 8
MAX_SIZE_BYTES = 16 << 40  # page numbers are 32 bits in the log


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A validated request for a device."""

    name: str
    size_bytes: int
    pool_limit_bytes: int
    compressor: str
    transport: str
    mountpoint: str
    priority: int
    backing: str | None
    backing_bytes: int
    backing_layout: str
    backing_encrypt: bool
    resend: str
    watchdog_s: int
    standby: bool
    tiers: tuple[TierSpec, ...] = ()
    raw_bytes: tuple[int, ...] = ()  # of memory for raw0, raw1, ...
    testing: bool = False  # see ``environment.py``
    isolate: bool = False
    seccomp: bool = True
    below_zswap: int = 0  # percent of memory for zswap's pool; 0: not asked for

    @classmethod
    def parse(
        cls,
        *,
        name: str,
        size: str,
        pool_limit: str,
        compressor: str | None,
        transport: str,
        mountpoint: str,
        priority: int,
        memory_bytes: int,
        backing: str = "none",
        backing_layout: str = DEFAULT_LAYOUT,
        resend: str = DEFAULT_RESEND,
        watchdog_s: int = DEFAULT_WATCHDOG_S,
        standby: bool = DEFAULT_STANDBY,
        tiers: Sequence[str] = (),
        raw: Sequence[str] = (),
        testing: bool = False,
        isolate: bool = False,
        seccomp: bool = True,
        below_zswap: int = 0,
    ) -> DeviceConfig:
        """Validate what a person wrote; raises `InvalidArgument`.

        `HostError` where the package of the transport is not installed.
        No compressor: the default of a device, which is another one below zswap.
        """
        size_bytes = _size_bytes(size)
        limit = _pool_limit_bytes(pool_limit, memory_bytes)
        _check_one_of("a transport", transport, TRANSPORTS)
        check_installed(transport)
        _check_one_of("a layout", backing_layout, LAYOUTS)
        _check_one_of("a way to resend", resend, RESEND)
        _check_numbers(priority, watchdog_s, below_zswap)
        plain, encrypt = parse_backing(backing)
        path = None if plain == "none" else os.path.abspath(plain)
        backing_bytes = _backing_bytes(path, backing_layout, size_bytes)
        return cls(
            name=name,
            size_bytes=size_bytes,
            pool_limit_bytes=limit,
            compressor=_full_name(
                compressor or (BELOW_COMPRESSOR if below_zswap else DEFAULT_COMPRESSOR)
            ),
            transport=transport,
            mountpoint=mountpoint,
            priority=priority,
            backing=path,
            backing_bytes=backing_bytes,
            backing_layout=backing_layout,
            backing_encrypt=encrypt,
            resend=resend,
            watchdog_s=watchdog_s,
            standby=standby and transport in RESUMING,
            tiers=_tiers(tiers, path, backing_layout, size_bytes, encrypt=encrypt),
            raw_bytes=_raw_bytes(raw, memory_bytes),
            testing=testing,
            isolate=isolate,
            seccomp=seccomp,
            below_zswap=below_zswap,
        )

    def settings(self, memory_bytes: int) -> Settings:
        """What supervisor and worker need, with the geometry settled.

        Tiers may come at any time, so there are numbers for as many segments as there can be.
        Their table is 128 MiB of addresses, of which segments in use take memory.
        """
        extents = MAX_SEGMENTS if self.backing_layout == "packed" else 0
        geometry = Geometry.for_size(self.size_bytes, memory_bytes, extents)
        return Settings(
            mountpoint=self.mountpoint,
            transport=self.transport,
            size_bytes=self.size_bytes,
            geometry=GeometryNumbers(**asdict(geometry)),
            region_bytes={
                **geometry.region_bytes(),
                "heap": HEAP_FILE_BYTES + BUFFER_BYTES,
                **{
                    f"{BACKEND_PREFIX}raw{number}": file_bytes(size >> PAGE_SHIFT)
                    for number, size in enumerate(self.raw_bytes)
                },
            },
            parameters={
                "compressor": self.compressor,
                "pool_limit_bytes": str(self.pool_limit_bytes),
                **({"isolate": "Y"} if self.isolate else {}),
            },
            backing=self.backing if self.backing_layout == "in-place" else None,
            backing_bytes=self.backing_bytes,
            backing_layout=self.backing_layout,
            backing_encrypt=self.backing_encrypt,
            resend=self.resend,
            watchdog_s=self.watchdog_s,
            standby=self.standby,
            testing=self.testing,
            seccomp=self.seccomp,
            below_zswap=self.below_zswap,
        )


def _full_name(compressor: str) -> str:
    """With its level; raises `InvalidArgument`, and `HostError` where a plugin does not load."""
    if name := names.full_name(compressor):
        return name
    from fuseswap.filesystem.plugged import full_compressor_name  # has all codecs loaded

    return full_compressor_name(compressor)


def _size_bytes(size: str) -> int:
    """Of a device, in whole pages.  Raises `InvalidArgument`."""
    size_bytes = parse_size(size)
    size_bytes -= size_bytes % PAGE_SIZE
    if not MIN_SIZE_BYTES <= size_bytes <= MAX_SIZE_BYTES:
        raise InvalidArgument(
            f"size {size} is not between {format_size(MIN_SIZE_BYTES)} "
            f"and {format_size(MAX_SIZE_BYTES)}"
        )
    return size_bytes


def _pool_limit_bytes(pool_limit: str, memory_bytes: int) -> int:
    """In whole MiB.  Raises `InvalidArgument`."""
    limit = parse_size(pool_limit, percent_of=memory_bytes)
    if limit < MIN_POOL_LIMIT_BYTES:
        raise InvalidArgument(
            f"pool limit {pool_limit} is less than {format_size(MIN_POOL_LIMIT_BYTES)}"
        )
    return limit - limit % MIB


def _check_one_of(what: str, word: str, words: Sequence[str]) -> None:
    """Raise `InvalidArgument` for a word that is none of ``words``."""
    if word not in words:
        raise InvalidArgument(f"'{word}' is not {what}; use {' or '.join(words)}")


def _check_numbers(priority: int, watchdog_s: int, below_zswap: int) -> None:
    """Raise `InvalidArgument` for one that is out of bounds."""
    if not -1 <= priority <= 32767:
        raise InvalidArgument(f"priority {priority} is not between -1 and 32767")
    if watchdog_s and watchdog_s < MIN_WATCHDOG_S:
        raise InvalidArgument(f"watchdog {watchdog_s} is neither 0 nor at least {MIN_WATCHDOG_S}")
    if not 0 <= below_zswap <= MAX_BELOW_PERCENT:
        raise InvalidArgument(
            f"--below-zswap {below_zswap} is not between 1 and {MAX_BELOW_PERCENT} percent"
        )


def _backing_bytes(path: str | None, layout: str, size_bytes: int) -> int:
    """Of the backing file; 0 without.  Raises `InvalidArgument` where it is too small or large."""
    backing_bytes = planned_bytes(path, size_bytes) if path else 0
    needed = size_bytes + BOTH_ENDS_BYTES if layout == "in-place" else 0
    if path and os.path.isfile(path) and size_bytes <= backing_bytes < needed:
        backing_bytes = needed  # made as large as the device: it grows by the ends
    if backing_bytes < needed:
        found = f"{path} has {backing_bytes}" if path else "there is no backing"
        raise InvalidArgument(
            f"the in-place layout needs a backing file of {needed} "
            f"bytes ({format_size(size_bytes)} and {format_size(BOTH_ENDS_BYTES)}), {found}"
        )
    if layout == "packed":
        check_extents(room_bytes(backing_bytes) // MIB, f"backing file {path}")
    return backing_bytes


def _tiers(
    texts: Sequence[str], backing: str | None, layout: str, size_bytes: int, *, encrypt: bool
) -> tuple[TierSpec, ...]:
    """Those of a device, its ``backing`` first.  Raises `InvalidArgument`."""
    specs = parse_tiers(texts, [BACKING_NAME] if backing else [])
    if specs and layout != "packed":
        raise InvalidArgument("the in-place layout has its backing file, and no other tier")
    if backing and layout == "packed":
        specs = (tier_files.backing_spec(backing, BACKING_NAME, encrypt=encrypt), *specs)
    tier_files.check(specs, size_bytes)
    return specs


def _raw_bytes(raw: Sequence[str], memory_bytes: int) -> tuple[int, ...]:
    """Sizes of memory for raw backends, in bytes; raises `InvalidArgument`."""
    if len(raw) > MAX_RAW:
        raise InvalidArgument(f"{len(raw)} times --raw; {MAX_RAW} at most")
    sizes = tuple(parse_size(size, percent_of=memory_bytes) for size in raw)
    for text, size in zip(raw, sizes, strict=True):
        if not MIB <= size <= memory_bytes:
            most = format_size(memory_bytes)
            raise InvalidArgument(f"--raw {text} is not between {format_size(MIB)} and {most}")
    return sizes

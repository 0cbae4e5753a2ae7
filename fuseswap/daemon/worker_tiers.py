"""The tiers of a worker, made of what its supervisor has handed it.

    take, drop   an attachment and its descriptors, prepared, paused or serving
    tiers        all of them, for a device that is built
    get_ready    the engine, before a device that had no tier gets its first

What may wait for memory, `get_ready`, is done in a thread: the thread that serves must not.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import logging
import mmap
import os
import socket
import sys
import zlib
from collections.abc import Container
from typing import Any

from fuseswap.daemon import attachment
from fuseswap.daemon.attachment import LAST_FD, TIER, Attachment
from fuseswap.daemon.device_files import Settings, attachment_from
from fuseswap.errors import FuseswapError, HostError, kept
from fuseswap.frontswap.place_writes import PlaceFile
from fuseswap.linux import syscalls
from fuseswap.linux.heap import HEAP_FILE_BYTES
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.fault_injection import with_faults
from fuseswap.tiers.file_tier import FileTier
from fuseswap.tiers.io_buffers import ATTACHED_SIZES, BUFFER_BYTES, Buffers, resident_buffers
from fuseswap.tiers.io_engine import Engine, open_engine
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.remote_tier import WRITE_TIMEOUT_S, RemoteTier
from fuseswap.tiers.tier import Tier
from fuseswap.tiers.tier_spec import KINDS_OF_FILES
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, SEGMENT_BYTES

log = logging.getLogger("fuseswap.daemon.worker")

_CIPHER = "fuseswap.tiers.segment_cipher"
_PAGE_CIPHER = "fuseswap.tiers.encrypted_file"
_REMOTE_FDS = 3  # worker's end, process's end, memory


class WorkerTiers:
    """Of one worker; `engine` is None until there is a tier, or a file of places."""

    def __init__(
        self,
        settings: Settings,
        fds: dict[str, int],
        attachments: list[Attachment],
        memory_fd: int | None,
    ) -> None:
        """``fds``: the device's.  Buffers lie in ``memory_fd`` behind the heap, or by themselves.

        Whatever the backing file's layout, its descriptor is here.
        """
        self._backing = fds.get("backing")
        self._in_place = settings.backing_layout == "in-place"
        self._encrypts_places = self._in_place and settings.backing_encrypt
        self._memory_fd = memory_fd
        self._attachments = {one.name: one for one in attachments}  # by name, `LAST_FD` at most
        self._device = settings.mountpoint.encode()  # what is read belongs to this one
        self._sockets: dict[str, list[socket.socket]] = {}  # two for each attachment at most
        self.key = b""  # of the shared state, once it is there
        for one in attachments:
            self.import_for(one)
        if self._backing is not None and self._encrypts_places:
            importlib.import_module(_PAGE_CIPHER)
        self.engine: Engine | None = None
        self._buffers: Buffers | None = None
        with contextlib.suppress(OSError):  # the table of descriptors, as large as it may get
            os.close(fcntl.fcntl(fds["header"], fcntl.F_DUPFD_CLOEXEC, LAST_FD))
        if self.is_needed:
            self.open_engine()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything on a file."""
        return self._backing is not None or any(one.startswith(TIER) for one in self._attachments)

    def open_engine(self) -> None:
        """What reads and writes go through; it is there until `close`."""
        if self.engine is None:
            self.engine = with_faults(open_engine())

    def get_ready(self) -> str:
        """The engine is there; the reason where it can't be.  In a thread."""
        try:
            self.open_engine()
        except (FuseswapError, OSError) as exc:
            return str(exc)
        return ""

    @property
    def is_ready(self) -> bool:
        """Whether `get_ready` has nothing to do."""
        return self.engine is not None

    def close(self) -> None:
        """Requests in flight end, since another worker may write there next."""
        if self.engine is not None:
            self.engine.close()
        self.engine = self._buffers = None
        for name in list(self._sockets):
            self._close_sockets(name)

    def _close_sockets(self, name: str) -> None:
        """Those that tiers of this attachment had, which are not used any more."""
        for ours in self._sockets.pop(name, []):
            ours.close()

    # -- which there are ---------------------------------------------------------------

    def take(self, text: str, fds: list[int]) -> Attachment:
        """One more, or the same again; its descriptors get their numbers.  Raises `HostError`."""
        one = attachment_from(json.loads(text), "an attachment")
        if len(fds) != len(one.fds):
            attachment.close(fds)
            raise HostError(f"{one.name}: {len(fds)} of {len(one.fds)} descriptors came")
        try:
            attachment.put(fds, one.fds)
        except OSError as exc:
            raise HostError(f"{one.name} can't be held: {exc.strerror}") from exc
        self._attachments[one.name] = one
        return one

    def drop(self, name: str) -> None:
        """It is not needed any more."""
        one = self._attachments.pop(name, None)
        self._close_sockets(name)
        if one:
            if self.engine is not None:
                for fd in one.fds:
                    self.engine.forget(fd)
            with contextlib.suppress(OSError):
                attachment.close(one.fds)

    # -- what is made of them ----------------------------------------------------------

    def place_file(self) -> PlaceFile | None:
        """The file of places, with that layout."""
        if self._backing is None or not self._in_place:
            return None
        file = self._file(self._backing, self._make_buffers())
        if not self._encrypts_places:
            return file
        from fuseswap.tiers.encrypted_file import EncryptedFile
        from fuseswap.tiers.page_cipher import PageCipher

        return EncryptedFile(file, PageCipher(self.key))

    def tiers(self, known: Container[str] | None = None) -> list[Tier]:
        """All of them, for a device; one that can't be made is missing, and that is logged.

        A worker that did not start for want of one would lose the others' pages too.  ``known``:
        names of those that the worker before had, where no supervisor says what has gone since.
        Its file may be another's by now.
        """
        found: list[Tier] = []
        if self._backing is not None and not self._in_place:
            found.append(FileTier(self._file(self._backing, self._make_buffers())))
        for one in self._attachments.values():
            if one.name.startswith(TIER) and (known is None or one.tier_name in known):
                try:
                    found.append(self.tier(one))
                except (FuseswapError, OSError) as exc:
                    log.error("tier %s is missing: %s", one.tier_name, exc)
        return found

    def import_for(self, one: Attachment) -> None:
        """The code that it needs, in a worker that does not serve."""
        if not self.is_makeable(one):
            importlib.import_module(_CIPHER)

    def is_makeable(self, one: Attachment) -> bool:
        """Whether all code is there that it needs.

        To import it takes memory while the interpreter is locked, so a worker that serves does
        not.  The next one does, before it serves.
        """
        return not one.description.get("encrypt") or _CIPHER in sys.modules

    def tier(self, one: Attachment) -> Tier:
        """The tier of one attachment.  Raises `HostError`."""
        self._close_sockets(one.name)
        leaves = one.description.get("leaves", [])
        made = [self._leaf(one, number, leaf) for number, leaf in enumerate(leaves)]
        if len(made) == 1:
            return made[0]
        if len(made) != 2:
            raise HostError(f"{one.name}: this worker knows no tier of {len(made)} parts")
        marks = mmap.mmap(one.fds[one.description["marks"]], 0)
        halves = made[0], made[1]
        return MirroredTier(one.tier_name, halves, memoryview(marks))

    def try_tier(self, one: Attachment) -> Tier | Exception:
        """As `tier`, for a thread: memory for buffers is taken."""
        try:
            return self.tier(one)
        except (FuseswapError, OSError) as exc:
            return kept(exc)

    def _leaf(self, one: Attachment, number: int, leaf: dict[str, Any]) -> Tier:
        """The tier, or one half of a mirror."""
        encrypt = bool(one.description.get("encrypt"))
        fds = [one.fds[at] for at in leaf["fds"]]
        name = f"{one.tier_name}-{number}" if "marks" in one.description else one.tier_name
        tier: Tier
        if leaf["kind"] in KINDS_OF_FILES:
            extent_bytes = ENCRYPTED_SEGMENT_BYTES if encrypt else SEGMENT_BYTES
            file = self._file(fds[0], resident_buffers(ATTACHED_SIZES))
            tier = FileTier(file, name, extent_bytes=extent_bytes)
        elif len(fds) == _REMOTE_FDS:
            ours = socket.socket(fileno=os.dup(fds[0]))
            self._sockets.setdefault(one.name, []).append(ours)
            tier = RemoteTier(
                name,
                ours,
                fds[2],
                leaf["extent_count"],
                volatile=leaf["volatile"],
                write_timeout_s=leaf.get("write_timeout_s", WRITE_TIMEOUT_S),
            )
        else:
            raise HostError(f"this worker knows no tier of the kind '{leaf['kind']}'")
        if not encrypt:
            return tier
        from fuseswap.tiers.encrypted_tier import EncryptedTier
        from fuseswap.tiers.segment_cipher import SegmentCipher

        # Segments that die meanwhile may reach two places with different bytes, see there.
        place = zlib.crc32(name.encode())
        return EncryptedTier(tier, SegmentCipher(self.key, self._device, place))

    def _file(self, fd: int, buffers: Buffers) -> DirectFile:
        assert self.engine is not None
        return DirectFile(fd, self.engine, buffers)

    def _make_buffers(self) -> Buffers:
        """Of the backing file: in the same shared memory as the heap, or in some of their own."""
        if self._buffers is None:
            memory = None
            if self._memory_fd is not None:
                memory = mmap.mmap(self._memory_fd, BUFFER_BYTES, offset=HEAP_FILE_BYTES)
                syscalls.make_resident(memory)
            self._buffers = Buffers(memory=memory)
        return self._buffers

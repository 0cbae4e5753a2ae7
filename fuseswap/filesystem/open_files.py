"""Open text files: what a reader sees is the moment of its open.

Shared by both transports.  A handle is a number; 0 is the swapfile's and never given
here.  Bounded, since the kernel's side may open without end: `MAX_OPEN` handles, and
`MAX_KEPT_BYTES` of texts.  A text beyond that is not kept, and rendered anew by each read.
"""

from __future__ import annotations

import time

from fuseswap.errors import TooManyOpen
from fuseswap.filesystem.tree import Tree

MAX_OPEN = 4096
MAX_KEPT_BYTES = 4 << 20


class OpenTexts:
    """Handles over the text files of one `Tree`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: dict[int, tuple[int, bytes | None]] = {}
        self._kept_bytes = 0
        # Not from 1: a handle opened with a former worker must not be mistaken for one of ours.
        self._last = time.monotonic_ns()

    def open(self, inode: int, *, readable: bool) -> int:
        """Render ``inode`` and return a handle; raises `NoSuchFile` or `TooManyOpen`."""
        text = self._tree.text(inode)
        if not readable:
            text = b""
        if len(self._open) >= MAX_OPEN:
            raise TooManyOpen(f"{MAX_OPEN} files are open")
        self._last += 1
        fits = self._kept_bytes + len(text) <= MAX_KEPT_BYTES
        self._open[self._last] = (inode, text if fits else None)
        self._kept_bytes += len(text) if fits else 0
        return self._last

    def read(self, handle: int, inode: int, offset: int, size: int) -> bytes:
        """Part of the text; one opened with a former worker is rendered anew."""
        _, text = self._open.get(handle, (inode, None))
        if text is None:
            text = self._tree.text(inode)
        return text[offset : offset + size]

    def inode_of(self, handle: int) -> int:
        """What ``handle`` was opened for, 0 where it is not open."""
        return self._open.get(handle, (0, b""))[0]

    def release(self, handle: int) -> None:
        """Forget ``handle``; one that is not open is fine."""
        _, text = self._open.pop(handle, (0, None))
        self._kept_bytes -= len(text or b"")

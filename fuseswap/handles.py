"""Open text files: what a reader sees is the moment of its open.

Shared by both transports.  A handle is a number; 0 is the swapfile's and never given
here.  Bounded, since the kernel's side may open without end.
"""

from __future__ import annotations

import time

from fuseswap.errors import TooManyOpen
from fuseswap.tree import Tree

MAX_OPEN = 4096


class OpenTexts:
    """Handles over the text files of one `Tree`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: dict[int, tuple[int, bytes]] = {}
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
        self._open[self._last] = (inode, text)
        return self._last

    def read(self, handle: int, inode: int, offset: int, size: int) -> bytes:
        """Part of the text; one opened with a former worker is rendered anew."""
        _, text = self._open.get(handle) or (inode, self._tree.text(inode))
        return text[offset : offset + size]

    def inode_of(self, handle: int) -> int:
        """What ``handle`` was opened for, 0 where it is not open."""
        return self._open.get(handle, (0, b""))[0]

    def release(self, handle: int) -> None:
        """Forget ``handle``; one that is not open is fine."""
        self._open.pop(handle, None)

"""Open text files: what a reader sees is the moment of its open.

Shared by both transports.  A handle is a number, in whose low bits the inode is; 0 is the
swapfile's and never given here.  So one that is not known is still good.

Kept are `MAX_KEPT_BYTES` of texts of `MAX_KEPT` handles.  Beyond that the oldest gives way: its
next read renders it anew.  So a program that opens without end takes nothing from others.
"""

from __future__ import annotations

import time

from fuseswap.filesystem.tree import PAGE_BASE, Tree

MAX_KEPT = 4096
MAX_KEPT_BYTES = 4 << 20
_INODE_BITS = 42
_INODE_MASK = (1 << _INODE_BITS) - 1
_SERIALS = 1 << 63 - _INODE_BITS
assert PAGE_BASE << 1 <= _INODE_MASK  # and 32 bits of page number


class OpenTexts:
    """Handles over the text files of one `Tree`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._kept: dict[int, bytes] = {}  # the oldest first
        self._kept_bytes = 0
        # Not from 0: a handle that a former worker gave is not one of ours.
        self._last = time.monotonic_ns()

    def open(self, inode: int, *, readable: bool) -> int:
        """Render ``inode`` and return a handle; raises `NoSuchFile`."""
        text = self._tree.text(inode)
        self._last += 1
        handle = self._last % _SERIALS << _INODE_BITS | inode
        self.release(handle)  # of two million opens ago
        self._kept[handle] = text if readable else b""
        self._kept_bytes += len(self._kept[handle])
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self.release(next(iter(self._kept)))
        return handle

    def read(self, handle: int, inode: int, offset: int, size: int) -> bytes:
        """Part of the text; rendered anew where it is not kept."""
        text = self._kept.get(handle)
        if text is None:
            text = self._tree.text(inode)
        return text[offset : offset + size]

    def inode_of(self, handle: int) -> int:
        """What ``handle`` was opened for."""
        return handle & _INODE_MASK

    def release(self, handle: int) -> None:
        """Forget ``handle``; one that is not kept is fine."""
        self._kept_bytes -= len(self._kept.pop(handle, b""))

"""Transports: between the kernel's FUSE requests and the tree.  They translate, no more.

Only this layer knows errno and the wire format.  ``devfuse`` (default) reads
``/dev/fuse`` itself; ``pyfuse3`` goes through libfuse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fuseswap.errors import InvalidArgument

if TYPE_CHECKING:  # the supervisor reads the names below, and has no memory for a tree
    from fuseswap.filesystem.tree import Tree

TRANSPORTS = ("devfuse", "pyfuse3")
RESUMING = ("devfuse",)  # libfuse keeps the session of the other in the process that ends


class Transport(Protocol):
    """Serves one mounted file system."""

    async def serve(self) -> None:
        """Answer requests until the file system is unmounted."""


def open_transport(
    name: str, fd: int, mountpoint: str, tree: Tree, *, resend: bool = True
) -> Transport:
    """The transport ``name`` on the mounted descriptor ``fd``; ``resend``: see `DevFuse`.

    Imports only the one asked for: pyfuse3 brings libfuse into locked memory.
    """
    if name == "devfuse":
        from fuseswap.transport.devfuse import DevFuse

        return DevFuse(fd, tree, resend=resend)
    if name == "pyfuse3":
        from fuseswap.transport.pyfuse3 import Pyfuse3

        return Pyfuse3(fd, tree)
    raise InvalidArgument(f"'{name}' is not a transport; use one of: {', '.join(TRANSPORTS)}")

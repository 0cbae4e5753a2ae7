"""Transports: between the kernel's FUSE requests and the tree.  They translate, no more.

Only this layer knows errno and the wire format.  ``devfuse`` (default) reads
``/dev/fuse`` itself; ``pyfuse3`` goes through libfuse, and is an extra of the package.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from fuseswap.errors import HostError, InvalidArgument

if TYPE_CHECKING:  # the supervisor reads the names below, and has no memory for a tree
    from fuseswap.filesystem.tree import Tree

TRANSPORTS = ("devfuse", "pyfuse3")
RESUMING = ("devfuse",)  # libfuse keeps the session of the other in the process that ends


def check_installed(name: str) -> None:
    """Import nothing; raises `HostError` where the package of the transport ``name`` is missing."""
    if name == "pyfuse3" and find_spec("pyfuse3") is None:
        raise HostError(
            "the transport pyfuse3 needs a package that is not installed; "
            "use devfuse, or: pip install 'fuseswap[pyfuse3]'"
        )


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

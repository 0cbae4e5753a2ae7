"""What outlives every worker: the mount, the memory, the backing file, held as descriptors.

Made or adopted once by the supervisor, and inherited by each worker under the same numbers.
systemd keeps a copy of them where it was asked to (``host/notify.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from fuseswap.errors import HostError
from fuseswap.host import memory, mount, notify


class Holdings:
    """`files`: every region, ``fuse``, and ``backing`` where there is one, by name."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self._name = name
        self._config = config
        self.files: dict[str, int] = {}
        self.noted: dict[str, Any] = {"made_backing": False}  # for ``state.json``

    def make(self) -> None:
        """Make the memory, open the backing file, mount.  Raises `HostError`; nothing is left."""
        kind, self.files = memory.create_files(
            self._config["region_bytes"], self._config.get("memory")
        )
        self.noted["memory"] = kind
        if self._config["backing"]:
            self._open_backing()
        try:
            self.files["fuse"] = mount.mount(self._config["mountpoint"])
        except HostError:
            self.close_backing()
            raise

    def _open_backing(self) -> None:
        from fuseswap.host import backing  # only here: the supervisor's memory is locked

        path, size_bytes = self._config["backing"], self._config["backing_bytes"]
        opened = backing.open_backing(path, size_bytes, self._name)
        self.files["backing"] = opened.fd
        self.noted.update(made_backing=opened.made, former_of_backing=opened.former)

    def adopt(self, files: dict[str, int], noted: dict[str, Any]) -> None:
        """Hold what another supervisor held.  Raises `HostError` where it is of no use."""
        self.files = files
        self.noted = noted
        if not self.is_connected():
            raise HostError("the connection to the kernel is cut; first: fuseswap down")

    def is_connected(self) -> bool:
        """Whether the kernel still has the mount, busy or not; asks for no memory."""
        return mount.is_connected(self.files["fuse"])

    def undo(self) -> None:
        """`make` was in vain."""
        mount.unmount(self._config["mountpoint"], lazy=True)
        self.close_backing()

    def abort(self) -> None:
        """Cut the connection: whoever waits for an answer gets an error."""
        os.close(self.files["fuse"])
        mount.unmount(self._config["mountpoint"], lazy=True)

    def close_backing(self) -> None:
        """Give the backing file back: nobody needs what is in it."""
        if "backing" in self.files:
            from fuseswap.host import backing

            with contextlib.suppress(OSError):
                fd, path = self.files["backing"], self._config["backing"]
                backing.close_backing(fd, path, made=self.noted.get("made_backing", False))

    def keep(self, say: Callable[[str], None]) -> None:
        """Leave the descriptors with systemd, if it asked.

        Not those of System V memory: what keeps it locked ends with this process.
        """
        if not notify.is_asked_for():
            return
        try:
            if self.noted["memory"] == "sysv":
                notify.notify("STATUS=System V memory can't outlive the supervisor")
            else:
                notify.store(self.files)
        except OSError as exc:
            say(f"systemd keeps no descriptors: {exc}")

    def forget(self) -> None:
        """Have systemd forget them, or it would keep the memory."""
        with contextlib.suppress(OSError):
            notify.forget(self.files)

"""What outlives every worker: the mount, the memory, backing files, held as descriptors.

Made or adopted once by the supervisor, and inherited by each worker under the same numbers.
systemd keeps a copy of them where it was asked to (``linux/sd_notify.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from fuseswap.daemon import attachment
from fuseswap.daemon.attachment import Attached, Attachment
from fuseswap.daemon.device_files import DeviceState, Settings
from fuseswap.errors import HostError
from fuseswap.linux import mount, sd_notify, shared_memory


class Holdings:
    """`files`: every region, ``fuse``, and ``backing`` where there is one, by name.

    `attached`: what comes and goes beside them.
    """

    def __init__(
        self, settings: Settings, files: dict[str, int], noted: DeviceState, attached: Attached
    ) -> None:
        """Hold ``files``; `noted` has the kind of memory and where the backing file is from."""
        self._settings = settings
        self.files = files
        self.noted = noted
        self.attached = attached

    @classmethod
    def make(cls, name: str, settings: Settings) -> Holdings:
        """Make the memory, open the backing file, mount.  Raises `HostError`; nothing is left.

        Attachments have come from the command under their numbers.  Where this fails they are
        the command's again.
        """
        kind, files = shared_memory.create_files(settings.region_bytes, settings.memory)
        noted = DeviceState(memory=kind, supervisor_pid=os.getpid())
        if settings.backing:
            from fuseswap.tiers import backing_file  # only here: the supervisor's memory is locked

            opened = backing_file.open_backing(settings.backing, settings.backing_bytes, name)
            files["backing"] = opened.fd
            noted = noted._replace(made_backing=opened.made, former_of_backing=opened.former)
        attached = Attached(settings.attachments)
        for fd in attached.files().values():
            os.set_inheritable(fd, False)
        holdings = cls(settings, files, noted, attached)
        try:
            files["fuse"] = mount.mount(settings.mountpoint)
        except HostError:
            holdings._close_backing(is_unused=True)
            raise
        return holdings

    @classmethod
    def adopt(cls, settings: Settings, files: dict[str, int], noted: DeviceState) -> Holdings:
        """Hold what another supervisor held.  Raises `HostError` where it is of no use.

        An attachment that no process has was about to come, or has just gone.
        """
        attached = Attached()
        for one in settings.attachments:
            names = list(one.files)
            if all(name in files for name in names):
                attachment.put([files.pop(name) for name in names], one.fds)
                attached.add(one)
        noted = noted._replace(supervisor_pid=os.getpid())
        holdings = cls(settings, files, noted, attached)
        if not holdings.is_connected():
            raise HostError("the connection to the kernel is cut; first: fuseswap down")
        return holdings

    def is_connected(self) -> bool:
        """Whether the kernel still has the mount, busy or not; asks for no memory."""
        return mount.is_connected(self.files["fuse"])

    def undo(self) -> None:
        """`make` was in vain."""
        mount.unmount(self._settings.mountpoint, lazy=True)
        self._close_backing(is_unused=True)

    def abort(self) -> None:
        """Cut the connection: processes that wait for an answer get an error."""
        os.close(self.files["fuse"])
        mount.unmount(self._settings.mountpoint, lazy=True)

    def close_files(self) -> None:
        """Give backing files back: their contents are not needed any more."""
        self._close_backing()
        files = [(one, file) for one in self.attached.now for file in one.backing_files()]
        if files:
            from fuseswap.tiers import backing_file

            for one, (fd, path, made) in files:
                with contextlib.suppress(OSError):
                    encrypted = one.is_encrypted
                    backing_file.close_backing(fd, path, made=made, encrypted=encrypted)

    def _close_backing(self, *, is_unused: bool = False) -> None:
        if self._settings.backing and "backing" in self.files:
            from fuseswap.tiers import backing_file

            with contextlib.suppress(OSError):
                fd, path = self.files["backing"], self._settings.backing
                encrypted = self._settings.backing_encrypt or is_unused
                made = self.noted.made_backing
                backing_file.close_backing(fd, path, made=made, encrypted=encrypted)

    def keep(self, say: Callable[[str], None]) -> None:
        """Leave the descriptors with systemd, if it asked.

        Not those of System V memory: what keeps it locked ends with this process.
        """
        if not sd_notify.is_asked_for():
            return
        try:
            if self.noted.memory == "sysv":
                sd_notify.notify("STATUS=System V memory can't outlive the supervisor")
            else:
                sd_notify.store({**self.files, **self.attached.files()})
        except OSError as exc:
            say(f"systemd keeps no descriptors: {exc}")

    def keep_with_systemd(self, one: Attachment) -> None:
        """As `keep`, of one that came later.  Raises `OSError`."""
        if sd_notify.is_asked_for() and self.noted.memory != "sysv":
            sd_notify.store(one.files)

    def forget_with_systemd(self, one: Attachment) -> None:
        """It has gone.  Raises `OSError`."""
        sd_notify.forget(one.files)

    def forget(self) -> None:
        """Have systemd forget them, or it would keep the memory."""
        with contextlib.suppress(OSError):
            sd_notify.forget({**self.files, **self.attached.files()})

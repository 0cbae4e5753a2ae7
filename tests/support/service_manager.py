"""A stand-in for systemd: its notify socket, and the descriptors it keeps for a service."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from subprocess import CompletedProcess, run

from tests.support.mounted_devices import COMMAND_TIMEOUT_S, fuseswap_command

_FIRST_FD = 3
_HIGH_FD = 100
_MAX_BYTES = 4096


class ServiceManager:
    """Context manager.  `fields`: what was sent last, by name; `kept`: descriptors by name."""

    def __init__(self) -> None:
        self.address = f"@fuseswap-test-{os.getpid()}-{id(self)}"
        self.fields: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:])
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> ServiceManager:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.sendto(b"END=1", "\0" + self.address[1:])
        self._thread.join()
        self._socket.close()
        for fd in self.kept.values():
            os.close(fd)

    def _listen(self) -> None:
        while True:
            text, fds, _, _ = socket.recv_fds(self._socket, _MAX_BYTES, 1)
            sent = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "END" in sent:
                return
            name = sent.pop("FDNAME", "")
            if "FDSTOREREMOVE" in sent and name in self.kept:
                os.close(self.kept.pop(name))
            if "FDSTORE" in sent:
                (self.kept[name],) = fds
            self.fields.update(sent)

    def start(self, *arguments: str) -> CompletedProcess[str]:
        """Run ``fuseswap ARGUMENTS`` as the service, with what is kept."""
        names = [*self.kept]
        # Out of the way of the numbers they are to have in the child.
        high = [fcntl.fcntl(self.kept[name], fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for name in names]
        environment = {**os.environ, "NOTIFY_SOCKET": self.address}
        if names:
            environment |= {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}

        def hand_over() -> None:
            for number, fd in enumerate(high, start=_FIRST_FD):
                os.dup2(fd, number)

        try:
            return run(
                [
                    "sh",
                    "-c",
                    'export LISTEN_PID=$$; exec "$@"',
                    "sh",
                    *fuseswap_command(*arguments),
                ],
                env=environment,
                pass_fds=range(_FIRST_FD, _FIRST_FD + len(high)),
                preexec_fn=hand_over,
                capture_output=True,
                text=True,
                check=False,
                timeout=COMMAND_TIMEOUT_S,
            )
        finally:
            for fd in high:
                os.close(fd)

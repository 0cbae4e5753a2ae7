"""Runtime files: ``/run/fuseswap/NAME/`` and what lies in it.

    config.json  what `up` was asked for (written once)
    state.json   process ids, protection, restarts (written by the supervisor)
    control      the supervisor's socket (``control.py``)
    log          what supervisor and worker say
    loop         the loop device, for the day its backing file can't be asked any more
    mnt/         the mountpoint, unless another was given

An ordinary user's lie in ``$XDG_RUNTIME_DIR/fuseswap`` (or ``/tmp/fuseswap-UID``).
``FUSESWAP_RUNTIME_DIR`` overrides both.  ``.NAME.lock`` beside the directory is held
while a command changes the device.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuseswap.errors import HostError, InvalidArgument

_LOG_TAIL_BYTES = 16 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def runtime_root() -> Path:
    """The directory of all devices of this user."""
    override = os.environ.get("FUSESWAP_RUNTIME_DIR")
    if override:
        return Path(override)
    if os.geteuid() == 0:
        return Path("/run/fuseswap")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "fuseswap" if base else Path(f"/tmp/fuseswap-{os.geteuid()}")


class Runtime:
    """The runtime directory of one device."""

    def __init__(self, name: str) -> None:
        """Raises `InvalidArgument` for a name that is no file name."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"'{name}' is not a name; use letters, digits, '-', '_', '.'")
        self.name = name
        self.directory = runtime_root() / name
        self.config_path = self.directory / "config.json"
        self.state_path = self.directory / "state.json"
        self.control_path = self.directory / "control"
        self.loop_path = self.directory / "loop"
        self.log_path = self.directory / "log"
        self.default_mountpoint = self.directory / "mnt"

    def exists(self) -> bool:
        """Whether there is a device of that name, in whatever state."""
        return self.config_path.exists()

    def create(self, config: dict[str, Any]) -> None:
        """Make the directory and write the configuration."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_json(self.config_path, config)

    def config(self) -> dict[str, Any]:
        """What `up` was asked for; raises `HostError` where there is no such device."""
        return self._read(self.config_path)

    def state(self) -> dict[str, Any]:
        """What the supervisor last wrote, or an empty dictionary."""
        try:
            return self._read(self.state_path)
        except HostError:
            return {}

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            raise HostError(f"there is no device '{self.name}' (see: fuseswap status)") from None
        return content

    def log_tail(self, lines: int = 5) -> list[str]:
        """The last lines of the log; it is never rotated, so only its end is read."""
        try:
            with open(self.log_path, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:
            return []

    def remove(self) -> None:
        """Delete the directory; the mountpoint in it must not be mounted any more."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @contextmanager
    def lock(self, *, wait: bool = True) -> Iterator[None]:
        """Keep other commands from changing the device meanwhile.

        Raises `BlockingIOError` where another does, and we shall not ``wait``.
        """
        root = runtime_root()
        root.mkdir(parents=True, exist_ok=True, mode=0o755)
        path = root / f".{self.name}.lock"
        while True:
            with open(path, "w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # removed by the one we waited for, and perhaps made anew
                try:
                    yield
                finally:
                    if not self.exists():
                        path.unlink(missing_ok=True)
                return


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` in one step."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.rename(path)


def all_devices() -> list[Runtime]:
    """Every device of this user, by name."""
    root = runtime_root()
    if not root.is_dir():
        return []
    names = sorted(entry.name for entry in root.iterdir() if _NAME.fullmatch(entry.name))
    return [runtime for runtime in map(Runtime, names) if runtime.exists()]

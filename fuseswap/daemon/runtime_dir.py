"""Runtime files: ``/run/fuseswap/NAME/`` and what lies in it.

    config.json  what `up` was asked for; its attachments change (by the supervisor's scribe)
    state.json   process ids, protection, restarts (written by the supervisor)
    control      the supervisor's socket (``control_socket.py``)
    log          what supervisor and worker say
    loop         the loop device, and the number of its attachment (``linux/loop.py``)
    mnt/         the mountpoint, unless another was given

A stripe has all that in ``NAME/0/``, ``NAME/1/`` and so on (``stripe_set.py``).
An ordinary user's lie in ``$XDG_RUNTIME_DIR/fuseswap`` (or ``/tmp/fuseswap-UID``).
``FUSESWAP_RUNTIME_DIR`` overrides both.  ``.NAME.lock`` beside the directory is held
while a command changes the device.  All of it is that user's alone (``linux/private_files.py``).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import (
    DeviceState,
    Settings,
    mountpoint_from,
    settings_from,
    state_from,
)
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import private_files
from fuseswap.linux.json_file import write_json
from fuseswap.spelling import closest

DEFAULT_NAME = "swap0"
POOL = "pool"  # in the directory of a set of stripes: what they share (``pool_table.py``)
MAX_STRIPES = 8  # the kernel has some 25 swap areas at most
_LOG_TAIL_BYTES = 16 << 10
_MOST_NAME = 32
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{_MOST_NAME - 1}}}")
_STRIPE = re.compile(rf"({_NAME.pattern})/([0-9])")  # nobody can give a device such a name


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
        """Raises `InvalidArgument` for a name that is no file name.

        Raises `HostError` where another user can write to the directory of all devices.
        """
        stripe = _STRIPE.fullmatch(name)
        if not stripe and not _NAME.fullmatch(name):
            raise InvalidArgument(f"'{name}' is not a name; {_why_not(name)}")
        self.name = name
        self.set_name = stripe[1] if stripe else None  # of the set that it is a stripe of
        self.stripe = int(stripe[2]) if stripe else 0
        private_files.check_directory(runtime_root())
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

    def has_stripes(self) -> bool:
        """Whether the name is that of a set (``stripe_set.py``)."""
        return (self.directory / POOL).exists()

    def create(self, settings: Settings) -> None:
        """Make the directory and write the configuration."""
        private_files.make_directory(self.directory)
        write_json(self.config_path, settings.to_json())

    def config(self) -> Settings:
        """What `up` was asked for.

        Raises `HostError` where there is no such device, or something else in the file.
        """
        return settings_from(self._read_config(), str(self.config_path))

    def note_attachments(self, attachments: Iterable[Attachment]) -> None:
        """Change these alone: the rest stays as it is.  Raises `HostError` or `OSError`."""
        content = self._read_config()
        if isinstance(content, dict):
            now = [one.to_json() for one in attachments]
            write_json(self.config_path, {**content, "attachments": now})

    def mountpoint(self) -> str:
        """As `config` says, whatever else is wrong there.  Raises `HostError`."""
        return mountpoint_from(self._read_config(), str(self.config_path))

    def state(self) -> DeviceState:
        """As last written, or as before anything was.  Raises `HostError`: it is damaged."""
        try:
            content = self.state_path.read_bytes()
        except OSError:
            return DeviceState()
        return state_from(_parsed(content, self.state_path), str(self.state_path))

    def write_state(self, state: DeviceState) -> None:
        """Replace it in one step.  Raises `OSError`."""
        write_json(self.state_path, state.to_json())

    def _read_config(self) -> object:
        try:
            content = self.config_path.read_bytes()
        except OSError:
            close = closest(self.name, [device.name for device in all_devices()])
            meant = f"; did you mean '{close}'?" if close else " (see: fuseswap status)"
            raise HostError(f"there is no device '{self.name}'{meant}") from None
        return _parsed(content, self.config_path)

    def open_log(self) -> int:
        """To write at its end.  Raises `OSError`."""
        return private_files.open_file(self.log_path, os.O_WRONLY | os.O_APPEND)

    def note_loop(self, device: str, sequence: int | None) -> None:
        """Which it is; the number where there is one.  Raises `OSError`."""
        private_files.replace(self.loop_path, f"{device}\n{sequence or ''}")

    def noted_loop(self) -> tuple[str | None, int | None]:
        """What `note_loop` was told last."""
        try:
            device, _, sequence = self.loop_path.read_text().partition("\n")
        except OSError:
            return None, None
        return device, int(sequence) if sequence.isdecimal() else None

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
        path = runtime_root() / f".{self.name.replace('/', '+')}.lock"
        while True:
            with open(_open_lock(path)) as file:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                    continue  # removed by the one we waited for, and perhaps made anew
                try:
                    yield
                finally:
                    if not self.exists():
                        path.unlink(missing_ok=True)
                return


def _open_lock(path: Path) -> int:
    """Raises `HostError`: this is the first thing that a command makes."""
    try:
        private_files.make_directory(path.parent)
        return private_files.open_file(path, os.O_RDWR)
    except OSError as exc:
        raise HostError(
            f"cannot write to {path.parent}: {exc.strerror}; set FUSESWAP_RUNTIME_DIR to a "
            "directory where that is possible"
        ) from exc


def _parsed(content: bytes, path: Path) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise HostError(f"{path} is not JSON: {exc}") from None


def _why_not(name: str) -> str:
    """Which rule of names it breaks."""
    if not name:
        return "it is empty"
    if len(name) > _MOST_NAME:
        return f"it has {len(name)} characters, and may have {_MOST_NAME}"
    if _NAME.fullmatch(f"x{name[1:]}"):
        return "it has to begin with a letter or a digit"
    return "use letters (a-z, A-Z), digits, '-', '_', '.'"


def all_devices() -> list[Runtime]:
    """Every device of this user, by name; each stripe is one."""
    root = runtime_root()
    private_files.check_directory(root)
    if not root.is_dir():
        return []
    names = [entry.name for entry in root.iterdir() if _NAME.fullmatch(entry.name)]
    for name in [name for name in names if (root / name / POOL).exists()]:
        names += [f"{name}/{stripe}" for stripe in range(MAX_STRIPES)]
    return [runtime for runtime in map(Runtime, sorted(names)) if runtime.exists()]

"""Parameters of a device, through their files at the mountpoint; for `get`, `set` and orders."""

from __future__ import annotations

import errno
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS, find_parameter
from fuseswap.linux.timed_file import read_file, write_file


def help_text() -> str:
    """All parameters, below the help of a command."""
    table = "\n".join(f"  {p.name} ({p.values})\n      {p.help}" for p in PARAMETERS)
    return f"parameters:\n{table}"


def directory_of(name: str) -> Path:
    """Where the parameters of the device ``name`` are."""
    return Path(Runtime(name).mountpoint()) / "params"


def set_value(path: Path, value: str) -> None:
    """Write ``value`` to the parameter file; raises `InvalidArgument` or `HostError`."""
    try:
        write_file(path, value)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            values = find_parameter(path.name).values
            why = _reason(path, value) or f"'{value}' is not valid for {path.name} ({values})"
            raise InvalidArgument(why) from exc
        raise HostError(f"cannot set {path.name}: {exc.strerror}") from exc


def _reason(path: Path, value: str) -> str:
    """Why the worker refused ``value``; "" where it does not say, as an older one."""
    try:
        said = read_file(path.parent.parent / ".refusal")
    except OSError:
        return ""
    about, colon, reason = said.partition(f"{path.name}={value}: ")
    return f"{path.name}: {reason.strip()}" if colon and not about else ""

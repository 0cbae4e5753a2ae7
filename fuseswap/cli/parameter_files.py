"""Parameters of a device, through their files at the mountpoint; for `get`, `set` and orders."""

from __future__ import annotations

import errno
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS, Parameter
from fuseswap.linux.timed_file import read_file, write_file
from fuseswap.spelling import or_rather


def help_text() -> str:
    """All parameters, below the help of a command."""
    table = "\n".join(f"  {p.name} ({p.values})\n      {p.help}" for p in PARAMETERS)
    return f"parameters:\n{table}"


def find(name: str) -> Parameter:
    """The parameter called ``name``; raises `InvalidArgument`, with what may be meant."""
    known = {parameter.name: parameter for parameter in PARAMETERS}
    if name not in known:
        raise InvalidArgument(f"there is no parameter '{name}'{or_rather(name, known)}")
    return known[name]


def directory_of(name: str) -> Path:
    """Where the parameters of the device ``name`` are."""
    return Path(Runtime(name).mountpoint()) / "params"


def set_value(path: Path, value: str) -> None:
    """Write ``value`` to the parameter file; raises `InvalidArgument` or `HostError`."""
    try:
        write_file(path, value)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            values = find(path.name).values
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
    if about or not colon:
        return ""
    reason = reason.strip()
    return reason if reason.startswith(f"{path.name} ") else f"{path.name}: {reason}"

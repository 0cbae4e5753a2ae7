"""What bounds the memory of a device: the cgroups of the process that starts it, the machine.

The pool, the tables and the processes are charged to the cgroup they were started in and to
each of its ancestors.  At a limit the kernel reclaims there, finds locked memory and kills the
worker, and each one after it.  So `require` is asked before anything is made.

Version 1: ``memory.limit_in_bytes``, as far up as the hierarchy is used.  Version 2:
``memory.max`` and ``memory.high``.  Cgroups above the root of a namespace can't be
seen, nor can a file that may not be read: both are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux.swap_area import memory_bytes
from fuseswap.sizes import format_size
from fuseswap.units import MIB

_NO_LIMIT_BYTES = 1 << 60  # version 1 writes 2^63 less a page
_LIMIT_FILES = ("memory.limit_in_bytes", "memory.max", "memory.high")
_USAGE_FILES = ("memory.usage_in_bytes", "memory.current")
_FILE_CACHE = frozenset(
    {"total_active_file", "total_inactive_file", "active_file", "inactive_file"}
)
_CROWDED_SHARE = 0.75
_MARGIN_BYTES = 96 * MIB  # kernel and other processes


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit of one cgroup: the file that holds it, and the room left below it."""

    path: Path
    limit_bytes: int
    left_bytes: int


def fixed_bytes() -> int:
    """What a device takes beside its pool: processes, standby, reserve of frames, tables."""
    return 90 * MIB


def needed_bytes(pool_limit_bytes: int, stripes: int = 1) -> int:
    """The most a device with this pool limit takes, or ``stripes`` that share it."""
    return pool_limit_bytes + stripes * fixed_bytes()


def tightest(proc: Path = Path("/proc/self")) -> MemoryLimit | None:
    """The limit with the least left below it, None where there is none."""
    return min(limits(proc), key=lambda limit: limit.left_bytes, default=None)


def require(pool_limit_bytes: int, proc: Path = Path("/proc/self"), *, stripes: int = 1) -> None:
    """Raise `HostError` where a limit leaves no room for a device with this pool limit.

    Or for so many ``stripes`` that share it.
    """
    total = memory_bytes()
    if pool_limit_bytes > total:
        raise HostError(
            f"the pool limit of {format_size(pool_limit_bytes)} is more than the machine's "
            f"{format_size(total)}; use a smaller --pool-limit"
        )
    limit = tightest(proc)
    if limit and limit.left_bytes < needed_bytes(pool_limit_bytes, stripes):
        raise HostError(shortage(limit, pool_limit_bytes, stripes))


def shortage(limit: MemoryLimit, pool_limit_bytes: int, stripes: int = 1) -> str:
    """One line: the cgroup, its limit, the need, the remedy."""
    return (
        f"the memory cgroup {limit.path.parent} is limited to {format_size(limit.limit_bytes)}, "
        f"{format_size(limit.left_bytes)} of it left; needed are "
        f"{format_size(needed_bytes(pool_limit_bytes, stripes))} "
        f"({format_size(pool_limit_bytes)} for the "
        f"pool): use a smaller --pool-limit, raise {limit.path.name}, or start it from outside "
        "(a service of systemd)"
    )


def crowding(pool_limit_bytes: int, total_bytes: int, stripes: int = 1) -> str | None:
    """A line of advice where the pool could leave a machine of ``total_bytes`` too little."""
    needed = needed_bytes(pool_limit_bytes, stripes)
    if needed <= _CROWDED_SHARE * total_bytes and total_bytes - needed >= _MARGIN_BYTES:
        return None
    most = min(int(_CROWDED_SHARE * total_bytes), total_bytes - _MARGIN_BYTES)
    most -= needed_bytes(0, stripes)
    advice = f"; better: --pool-limit {most // MIB}M" if most >= stripes * 8 * MIB else ""
    return (
        f"pool and processes may take {format_size(needed)} of the machine's "
        f"{format_size(total_bytes)}, which leaves the kernel and others little{advice}"
    )


def limits(proc: Path) -> Iterator[MemoryLimit]:
    """Every limit up the path of the process; its own cgroup first."""
    found = _place(proc)
    if found is None:
        return
    top, directory = found
    while True:
        for name in _LIMIT_FILES:
            limit = _number(directory / name)
            if limit is not None and limit < _NO_LIMIT_BYTES:
                left = max(0, limit - _unreclaimable(directory))
                yield MemoryLimit(directory / name, limit, left)
        if directory == top or not directory.is_relative_to(top):
            return
        directory = directory.parent
        if _number(directory / "memory.use_hierarchy") == 0:
            return


def _place(proc: Path) -> tuple[Path, Path] | None:
    """Mountpoint of the hierarchy with the memory controller, and our directory in it."""
    try:
        lines = (proc / "cgroup").read_text(errors="surrogateescape").splitlines()
        mounts = (proc / "mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    memberships = [line.split(":", 2) for line in lines]
    ours = {name: path for _, names, path in memberships for name in names.split(",")}
    kind, path = ("cgroup", ours["memory"]) if "memory" in ours else ("cgroup2", ours.get("", ""))
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        fstype, _, options = rest.split(" ", 2)
        if fstype != kind or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        root, top = fields.split()[3], Path(fields.split()[4])
        inside = path[len(root.rstrip("/")) :] if path.startswith(root) else ""
        directory = top / inside.lstrip("/")
        return top, directory if directory.is_dir() and ".." not in inside else top
    return None


def _unreclaimable(directory: Path) -> int:
    """Memory charged there, without the file cache, which gives way."""
    used = next((n for n in (_number(directory / name) for name in _USAGE_FILES) if n), 0)
    try:
        fields = [line.split() for line in (directory / "memory.stat").read_text().splitlines()]
    except OSError:
        return used
    amounts = {name: int(value) for name, value in fields if name in _FILE_CACHE}
    hierarchical = {name: n for name, n in amounts.items() if name.startswith("total_")}
    return max(0, used - sum((hierarchical or amounts).values()))


def _number(path: Path) -> int | None:
    """The number in a file; None for ``max``, no such file, or one we may not read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None

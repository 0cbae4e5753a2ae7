"""zswap: its parameters, set for a run and put back, and the swap file it sits in front of.

zswap is one for the whole machine.  It takes pages on their way to any swap area, so it has
to be off while another peer is measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import swap_area
from tests.benchmarks.peers import DISK, SwapFile

POOL_PERCENT = 1  # of memory: the smallest zswap's whole percents allow

_PARAMETERS = Path("/sys/module/zswap/parameters")


def pool_limit_bytes() -> int:
    """What `POOL_PERCENT` is on this machine."""
    return swap_area.memory_bytes() * POOL_PERCENT // 100


@contextlib.contextmanager
def configured(wanted: Mapping[str, str], where: Path = _PARAMETERS) -> Iterator[None]:
    """Set parameters by name, and put back what they were, the last one first.

    A kernel without zswap has it switched off.  Raises `HostError` where a value is refused.
    """
    if not where.exists() and wanted == {"enabled": "N"}:
        yield
        return
    with contextlib.ExitStack() as stack:
        for name, value in wanted.items():
            before = _read(where / name)
            stack.callback(_write, where / name, before)
            _write(where / name, value)
        yield


def takes(name: str, value: str, where: Path = _PARAMETERS) -> bool:
    """Whether this kernel takes ``value``; tried, and put back."""
    try:
        with configured({name: value}, where):
            return True
    except HostError:
        return False


class Zswap(SwapFile):
    """A compressed pool of the kernel in front of a plain swap file."""

    # `enabled` comes last, and is put back first.
    zswap: Mapping[str, str] = {
        "compressor": "lzo",
        "max_pool_percent": str(POOL_PERCENT),
        "accept_threshold_percent": "90",
        "shrinker_enabled": "N",
        "enabled": "Y",
    }

    def describe(self) -> str:
        """Compressor, limit and file."""
        settings = " ".join(f"{name}={value}" for name, value in self.zswap.items())
        return f"zswap ({settings}) over a plain swap file in {DISK}"

    def prepare(self) -> None:
        """Raises `HostError` also where the kernel has no zswap."""
        if not _PARAMETERS.exists():
            raise HostError("no zswap in this kernel; leave it out with --peers")
        super().prepare()

    def pool_bytes(self) -> int:
        """Its pool, by /proc/meminfo."""
        return swap_area.meminfo_bytes("Zswap")


def _read(parameter: Path) -> str:
    try:
        return parameter.read_text().strip()
    except OSError as exc:
        raise HostError(f"cannot read {parameter}: {exc.strerror}") from exc


def _write(parameter: Path, value: str) -> None:
    try:
        parameter.write_text(value)
    except OSError as exc:
        raise HostError(f"cannot write {value} to {parameter}: {exc.strerror}") from exc

"""``fuseswap check --advise``: settings of the machine, what each should be for us, and why.

Numbers are measurements that ``docs/decisions.md`` and ``docs/results/`` have with their commands.
Where nothing was measured the line says so.  Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseswap.cli.output import print_json

VM = Path("proc/sys/vm")
HALT_POLL = Path("sys/module/haltpoll/parameters/guest_halt_poll_ns")
_GOVERNOR = Path("sys/devices/system/cpu/cpuidle/current_governor_ro")
_ZSWAP = Path("sys/module/zswap/parameters/enabled")
_ZSWAP_NOTE = Path("run/fuseswap/.zswap.json")  # of `up --below-zswap`


@dataclass(frozen=True, slots=True)
class Advice:
    """One setting; ``command`` makes it what is wanted, None where it is that already."""

    name: str
    current: str
    wanted: str
    measured: str
    command: str | None


def show(*, as_json: bool, root: Path = Path("/")) -> int:
    """Print it; 0, whatever it is."""
    found = list(advice(root))
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "current": one.current,
                    "wanted": one.wanted,
                    "measured": one.measured,
                    "command": one.command,
                }
                for one in found
            ]
        )
        return 0
    for one in found:
        if one.command:
            print(f"set   {one.name} is {one.current}, better {one.wanted}: {one.measured}")
            print(f"      {one.command}")
        else:
            print(f"keep  {one.name} is {one.current}: {one.measured}")
    return 0


def advice(root: Path = Path("/")) -> Iterator[Advice]:
    """For the machine whose ``/proc`` and ``/sys`` are below ``root``; missing settings are out."""
    settings = (
        ("page-cluster", {"3"}, "3", _PAGE_CLUSTER),
        ("swappiness", None, "60", _SWAPPINESS),
        ("watermark_boost_factor", {"0"}, "0", _BOOST),
        ("watermark_scale_factor", None, "", _SCALE),
        ("min_free_kbytes", None, "", _MIN_FREE),
    )
    for name, good, wanted, measured in settings:
        current = _read(root / VM / name)
        if current is None:
            continue
        is_good = current not in _BAD.get(name, ()) if good is None else current in good
        command = None if is_good else f"sysctl -w vm.{name}={wanted}"
        yield Advice(f"vm.{name}", current, current if is_good else wanted, measured, command)
    yield from _zswap(root)
    yield from _halt_poll(root)


_BAD = {"swappiness": {"0"}}
_PAGE_CLUSTER = (
    "a swap run of 6 to 9 s took 12 to 15 s with 0, which guides for zram set; 65 % of the pages "
    "that come back come by read-ahead, and 83 % of those are used"
)
_SWAPPINESS = (
    "not measured here; with 0 the kernel swaps only when free and file pages are nearly gone"
)
_BOOST = (
    "the boost raised the min watermark of a guest from 2.2 to 7.2 MiB, and swap-outs waited; with "
    "0 its run passed in 142 s; `up` sets it"
)
_SCALE = (
    "a guest of 384 MiB had no end after 150 s with 300 and min_free_kbytes 12000, where it took "
    "142 s without; `up --tune on` sets both, try it on your load"
)
_MIN_FREE = "see watermark_scale_factor; both keep up to 31 MiB of 384 free"


def _zswap(root: Path) -> Iterator[Advice]:
    current = _read(root / _ZSWAP)
    if current is None:
        return
    is_ours = (root / _ZSWAP_NOTE).exists()
    measured = (
        "its pool has the hot pages then; with 8 GiB swapped out, zswap at 1 % and the device "
        "take 0.79 of zram's memory; for it use `up --below-zswap 1`"
    )
    if current == "Y" and not is_ours:
        why = f"it takes pages unasked, before every swap area; {measured}"
        yield Advice("zswap", "Y", "N", why, f"echo N > /{_ZSWAP}")
    else:
        yield Advice("zswap", current, current, measured, None)


def _halt_poll(root: Path) -> Iterator[Advice]:
    current = _read(root / HALT_POLL)
    if current is None or _read(root / _GOVERNOR) != "haltpoll":
        return
    measured = (
        "a read of 4 KiB on the loop device took 34.0 us at the median with 0, 16.8 us with 50000; "
        "a host that sells processor time may count the polling"
    )
    command = f"echo 50000 > /{HALT_POLL}" if current == "0" else None
    wanted = "50000" if command else current
    yield Advice("guest_halt_poll_ns", current, wanted, measured, command)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

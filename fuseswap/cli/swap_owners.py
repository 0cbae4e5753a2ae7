"""Whose pages are in the swap of our devices: every process that has some, and what they take."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import cast

from fuseswap.cli.swap_use import DeviceUse, SwapUse, types_of
from fuseswap.daemon.device_info import loop_of
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.daemon.table_files import table_view
from fuseswap.errors import HostError, in_words
from fuseswap.linux import pagemap, swap_area
from fuseswap.linux.process import cgroup_of, command_of, swap_bytes
from fuseswap.units import PageNumber


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, or a cgroup with ``pid`` None."""

    pid: int | None
    name: str
    use: SwapUse


def owners(
    runtimes: Sequence[Runtime], pids: Sequence[int] | None = None
) -> tuple[list[Owner], int | None]:
    """Processes with pages in the swap of ``runtimes``, of ``pids`` alone where these are given.

    And how many pages there are of no process; None with ``pids``.  Raises `HostError`.
    """
    areas = [area.device for area in swap_area.areas() if area.used_bytes]
    with ExitStack() as opened:
        devices = {}
        for runtime in _sound(runtimes):
            if (device := loop_of(runtime)) in areas:
                devices[device] = DeviceUse(opened.enter_context(table_view(runtime)))
        if not devices:
            return [], None if pids else 0
        everyone = pagemap.processes() if pids is None else pids
        found = {pid: by_type for pid in everyone if (by_type := _pages_of(pid))}
        mappers: dict[int, Counter[int]] = {}  # how many processes have a page, by type and page
        for by_type in found.values():
            for kind, pages in by_type.items():
                mappers.setdefault(kind, Counter()).update(pages)
        types = types_of(areas, mappers, devices)
        ours = [(one, types[device]) for device, one in devices.items() if device in types]
        processes = []
        for pid, by_type in found.items():
            use = SwapUse()
            for one, kind in ours:
                if kind in by_type:
                    use.add(one.of(by_type[kind], mappers[kind]))
            if use.pages:
                processes.append(Owner(pid, command_of(pid), use))
        if pids is not None:
            return processes, None
        return processes, sum(
            one.unseen(mappers[types[device]] if device in types else ())
            for device, one in devices.items()
        )


def _sound(runtimes: Sequence[Runtime]) -> Iterator[Runtime]:
    """Of several one that is damaged hides no other.  Raises `HostError` where it is the only."""
    for runtime in runtimes:
        try:
            runtime.config()  # says that there is none
        except HostError as exc:
            if len(runtimes) == 1:
                raise
            print(f"note: {in_words(exc)}", file=sys.stderr)
        else:
            yield runtime


def pages_in(runtime: Runtime, pids: Sequence[int]) -> list[PageNumber]:
    """Pages of ``runtime`` that processes ``pids`` have in swap, in order.  Raises `HostError`.

    All devices are looked at, to know which of them a page is in.
    """
    runtime.config()
    device = loop_of(runtime)
    areas = [area.device for area in swap_area.areas() if area.used_bytes]
    if device is None or device not in areas:
        return []
    found: dict[int, set[int]] = {}
    for pid in pids:
        for kind, pages in _pages_of(pid).items():
            found.setdefault(kind, set()).update(pages)
    with ExitStack() as opened:
        devices = {}
        for one in all_devices():
            if (its := loop_of(one)) in areas:
                unimportant = () if its == device else (HostError,)
                with suppress(*unimportant):
                    devices[its] = DeviceUse(opened.enter_context(table_view(one)))
        kind = types_of(areas, found, devices).get(device, -1)
    return cast("list[PageNumber]", sorted(found.get(kind, ())))


def by_cgroup(processes: Sequence[Owner]) -> list[Owner]:
    """The same, summed up by memory cgroup."""
    cgroups: dict[str, SwapUse] = {}
    for one in processes:
        if one.pid is not None:
            cgroups.setdefault(cgroup_of(one.pid) or "-", SwapUse()).add(one.use)
    return [Owner(None, path, use) for path, use in cgroups.items()]


def _pages_of(pid: int) -> dict[int, array[int]]:
    """Raises `HostError`."""
    try:
        return pagemap.in_swap(pid) if swap_bytes(pid) else {}
    except PermissionError:
        raise HostError("whose pages these are is shown to root alone (sudo)") from None

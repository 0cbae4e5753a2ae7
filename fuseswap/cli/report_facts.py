"""Everything that ``fuseswap report`` draws of a device, or of the stripes of a set.

It comes from what `status` knows, from the tables in shared memory as `ps` reads them, and from one
more look at ``metrics``.  What can't be had is a reason in words: of a device that is degraded or
dead the rest is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuseswap.cli.status import BETWEEN_LOOKS_S, group_status
from fuseswap.cli.swap_survey import MOST_CELLS, MOST_CLUSTERS, Survey, survey
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.table_files import table_view
from fuseswap.errors import FuseswapError, HostError, in_words
from fuseswap.filesystem.metrics_text import Times, times_in
from fuseswap.linux.timed_file import read_file
from fuseswap.units import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Part:
    """The map of one swapfile: of the device ``name``, or of a stripe; or why there is none."""

    name: str
    survey: Survey | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """``status``: as of `status --json`.  ``times``: of all stripes together."""

    name: str
    status: dict[str, Any]
    parts: list[Part]
    times: list[Times] = field(default_factory=list)

    @property
    def stats(self) -> dict[str, int]:
        """Empty where the worker does not say them."""
        found: dict[str, int] = self.status["stats"]
        return found


def gather(name: str, runtimes: Sequence[Runtime]) -> Facts:
    """Of one device or set.  Raises `HostError` where it is gone, or shown to root alone."""
    status = group_status(name, runtimes, BETWEEN_LOOKS_S)
    share = len(runtimes)
    parts = [_part(one, MOST_CELLS // share, MOST_CLUSTERS // share) for one in runtimes]
    times: dict[tuple[str, str], Times] = {}
    for one in status.get("stripes", [status]):
        for found in _times(one):
            _add(times, found)
    return Facts(name, status, parts, [one for one in times.values() if one.count])


def _part(runtime: Runtime, cells: int, most: int) -> Part:
    try:
        page_count = runtime.config().size_bytes // PAGE_SIZE
        with table_view(runtime) as view:
            return Part(runtime.name, survey(view, page_count, cells=cells, most=most))
    except PermissionError:
        raise HostError("'report' shows where pages are; run it as root (sudo)") from None
    except (FuseswapError, OSError) as exc:
        return Part(runtime.name, None, in_words(exc))


def _times(status: dict[str, Any]) -> list[Times]:
    if status["status"] != "running":
        return []
    try:
        return times_in(read_file(Path(status["mountpoint"]) / "metrics"))
    except (HostError, OSError):  # it has just gone
        return []


def _add(times: dict[tuple[str, str], Times], more: Times) -> None:
    known = times.setdefault((more.request, more.place), more)
    if known is not more:
        known.longer += more.longer
        for bound, count in more.buckets.items():
            known.buckets[bound] = known.buckets.get(bound, 0) + count

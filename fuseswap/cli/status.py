"""``fuseswap status``: a table in the manner of zramctl, or everything as JSON.

Of one device it also shows savings, times of requests and tiers.  What tiers do in a second takes
a second look, `BETWEEN_LOOKS_S` after the first.  One whose files can't be read is a line, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseswap import __version__
from fuseswap.cli import watching
from fuseswap.cli.latency_lines import ledger_and_times
from fuseswap.cli.output import print_json
from fuseswap.cli.rates import Rates, Sample, rates
from fuseswap.cli.savings import core_of
from fuseswap.cli.status_reasons import tell_reasons
from fuseswap.cli.tier_lines import HEADINGS, notes, shown
from fuseswap.cli.tier_numbers import counters, tiers_in
from fuseswap.cli.zswap_lines import zswap_lines, zswap_status
from fuseswap.daemon import live_tiers, stripe_set
from fuseswap.daemon.device_files import DeviceState, Settings
from fuseswap.daemon.device_info import loop_of, mountpoint_of
from fuseswap.daemon.processes import alive, supervisor_of, workers_of
from fuseswap.daemon.runtime_dir import Runtime, runtime_root
from fuseswap.errors import HostError, InvalidArgument, in_words
from fuseswap.filesystem.metrics_text import parse_metrics
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.linux import mount, swap_area
from fuseswap.linux.protect import read_status_kib
from fuseswap.linux.sysctl import Sysctl
from fuseswap.linux.timed_file import read_file
from fuseswap.linux.visible import one_line
from fuseswap.sizes import format_size
from fuseswap.spelling import or_rather
from fuseswap.units import MIB


@dataclass(frozen=True, slots=True)
class Column:
    """One column: how it is read from a device's status, and how it is shown."""

    name: str
    help: str
    read: Callable[[dict[str, Any]], Any]
    is_size: bool = False


def _stat(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda status: status["stats"].get(name)


def _ratio(status: dict[str, Any]) -> str | None:
    stats = status["stats"]
    if not stats.get("mem_used_total"):
        return None
    return f"{stats['orig_data_size'] / stats['mem_used_total']:.2f}"


COLUMNS: tuple[Column, ...] = (
    Column("NAME", "name of the device", lambda s: s["name"]),
    Column(
        "STATE",
        "running, degraded, incomplete, silent, dead, unreadable: see below",
        lambda s: s["status"],
    ),
    Column("DISKSIZE", "size of the swap", lambda s: s["size_bytes"], True),
    Column("DATA", "stored pages, uncompressed", _stat("orig_data_size"), True),
    Column("COMPR", "stored pages, compressed", _stat("compr_data_size"), True),
    Column("TOTAL", "memory they take with all overhead", _stat("mem_used_total"), True),
    Column("RATIO", "DATA / TOTAL", _ratio),
    Column("ALGORITHM", "compressor of new pages", lambda s: s["params"].get("compressor")),
    Column("LOOP", "loop device", lambda s: s["loop"]),
    Column("SWAP", "swap priority, or off", lambda s: s["swap_priority"]),
    Column("LIMIT", "pool limit", lambda s: _int(s["params"].get("pool_limit_bytes")), True),
    Column("SAME", "same-filled pages", _stat("same_filled_pages")),
    Column("INCOMPR", "incompressible pages", _stat("stored_incompressible_pages")),
    Column("SAVED-SAME", "saved by same-filled pages", _stat("same_filled_bytes_saved"), True),
    Column("SAVED-DUP", "saved by duplicates", _stat("duplicate_bytes_saved"), True),
    Column("SAVED-COMPR", "saved by compression", _stat("compression_bytes_saved"), True),
    Column("SAVED-RECOMP", "saved by recompression", _stat("recompression_bytes_saved"), True),
    Column("SAVED-WB", "saved by writeback", _stat("writeback_bytes_saved"), True),
    Column("MAX", "the most TOTAL ever was", _stat("mem_used_max"), True),
    Column("FIXED", "memory of the processes that serve", _stat("mem_fixed"), True),
    Column("TRANSPORT", "devfuse or pyfuse3", lambda s: s["transport"]),
    Column("CORE", "compiled or interpreted", lambda s: s["core"]),
    Column("WORKER", "process id of the worker", lambda s: s["worker_pid"]),
    Column("RESTARTS", "times the worker was replaced", lambda s: s["restarts"]),
    Column("MOUNTPOINT", "where it is mounted", lambda s: s["mountpoint"]),
)
BETWEEN_LOOKS_S = 0.5
_LEFT_OFF = "seccomp: off ({})"
NO_DEVICES = "no devices; try: sudo fuseswap up"
DEFAULT_COLUMNS = (
    "NAME", "STATE", "DISKSIZE", "DATA", "COMPR", "TOTAL", "RATIO", "ALGORITHM", "LOOP", "SWAP",
)  # fmt: skip


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    columns = "\n".join(f"  {column.name:<13}{column.help}" for column in COLUMNS)
    parser = commands.add_parser(
        "status",
        help="show devices",
        description="Show devices; of one also what was saved, and each tier.",
        epilog=f"columns:\n{columns}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one device; all, if left out")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("-b", "--bytes", action="store_true", help="sizes in bytes")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-o",
        "--output",
        metavar="COLS",
        help="these columns, separated by commas; +COLS: the usual ones and these",
    )
    which.add_argument("--output-all", action="store_true", help="all columns")
    parser.add_argument("-n", "--noheadings", action="store_true", help="no headings")
    parser.add_argument(
        "-r",
        "--raw",
        action="store_true",
        help="one space between columns; blanks within are \\x20",
    )
    parser.add_argument("--watch", action="store_true", help="again and again; q ends")
    parser.add_argument(
        "--interval", metavar="SECONDS", help="between two looks of --watch (default 2)"
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"fuseswap {__version__}", help="its version"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table or the JSON, once or again and again."""
    _choose(options)
    if options.json and options.watch:
        raise InvalidArgument("--watch or --json, not both; see: fuseswap top --json")
    if options.watch:
        watching.watch(lambda: _lines(options), watching.interval(options.interval))
    elif options.interval is not None:
        raise InvalidArgument("--interval is for --watch")
    elif options.json:
        statuses = _statuses(options)
        print_json(statuses[0] if options.name else statuses)
    else:
        print(*_lines(options), sep="\n")
    return 0


def _statuses(options: argparse.Namespace) -> list[dict[str, Any]]:
    twice = bool(options.name) and (options.json or not _is_plain(options))
    between_s = BETWEEN_LOOKS_S if twice else 0.0
    return [group_status(*group, between_s) for group in stripe_set.grouped(options.name)]


def _is_plain(options: argparse.Namespace) -> bool:
    """Whether it is the table alone, as a script wants it."""
    return bool(options.output or options.output_all or options.noheadings or options.raw)


def _lines(options: argparse.Namespace) -> list[str]:
    columns, statuses = _choose(options), _statuses(options)
    if not statuses and not options.noheadings:
        return [NO_DEVICES]
    shown_ones = [*statuses, *(statuses[0].get("stripes", []) if options.name else [])]
    rows = [[show(column, s, in_bytes=options.bytes) for column in columns] for s in shown_ones]
    headings = [] if options.noheadings else [[column.name for column in columns]]
    lines = raw(headings + rows) if options.raw else table(headings + rows).splitlines()
    tell_reasons(lines, statuses, aside=_is_plain(options))
    if options.name and not _is_plain(options):
        lines += ledger_and_times(statuses[0]["stats"], in_bytes=options.bytes)
        lines += zswap_lines(statuses[0]["zswap"], in_bytes=options.bytes)
        if tiers := statuses[0]["tiers"]:
            rows = [shown(tier, in_bytes=options.bytes) for tier in tiers]
            lines += ["", *table([HEADINGS, *rows]).splitlines(), *notes(tiers)]
    return lines


def group_status(name: str, devices: Sequence[Runtime], between_s: float) -> dict[str, Any]:
    """Of a device, or of the stripes of the set ``name`` together."""
    found = [device_status(runtime, between_s) for runtime in devices]
    whole = stripe_set.find_set(name)
    if whole is None:
        return found[0]
    from fuseswap.cli.stripe_status import combined  # devices have no use for it

    return combined(name, len(whole.stripes()), whole.limit_frames() * MIB, found)


def device_status(runtime: Runtime, between_s: float = 0.0) -> dict[str, Any]:
    """All that is known of a device, also when its worker does not answer.

    Where it has tiers their rates are seen by two looks, ``between_s`` from each other; with 0
    there is one look, and no rate.
    """
    status = standing(runtime)
    if status["status"] == "running":
        mountpoint = Path(status["mountpoint"])
        try:
            given = live_tiers.names(runtime)
            status["stats"], changes = _look(mountpoint / "metrics", between_s if given else 0.0)
            if status["resumes"]:
                status["recovery"] = "journal" if status["stats"]["journal_bytes"] else "resend"
            status["core"] = core_of(status["stats"])
            status["params"] = _read_params(mountpoint / "params")
            status["warnings"] += warnings_of(runtime.name, status["stats"])
            policies = status["params"][live_tiers.PARAMETER]
            found = tiers_in(policies, status["stats"], given)
            status["tiers"] = [tier.with_rates(changes).to_json() for tier in found]
        except (HostError, OSError) as exc:
            status.update(status="silent", reason=in_words(exc))
    return status


def _look(path: Path, between_s: float) -> tuple[dict[str, int], Rates | None]:
    """The statistics, and how those of tiers changed since ``between_s`` before."""
    before = None
    if between_s:
        metrics = parse_metrics(read_file(path))
        before = Sample(time.monotonic(), counters(metrics))
        time.sleep(between_s)
    metrics = parse_metrics(read_file(path))
    return metrics, rates(before, Sample(time.monotonic(), counters(metrics)))


def standing(runtime: Runtime) -> dict[str, Any]:
    """A device as its files and the kernel show it: no ``stats``, ``params`` or ``tiers`` of its
    worker.

    Raises `HostError` where there is no such device.
    """
    try:
        config, state = runtime.config(), alive(runtime.state())
    except HostError as exc:
        if not runtime.exists():
            raise
        return _unreadable(runtime, str(exc))
    device = loop_of(runtime)
    area = swap_area.area_of(device) if device else None
    protection, supervisor = state.protection, state.supervisor_protection
    status: dict[str, Any] = {
        "name": runtime.name,
        "status": str(state.status),
        "reason": state.reason,
        "mountpoint": config.mountpoint,
        "swapfile": config.swapfile,
        "loop": device,
        "swap_priority": area.priority if area else "off",
        "swap_used_bytes": area.used_bytes if area else 0,
        "size_bytes": config.size_bytes,
        "transport": config.transport,
        "discards": config.transport == "devfuse",
        "resumes": config.resumes,
        "recovery": None if config.resumes else "none",
        "supervisor_pid": state.supervisor_pid or None,
        "worker_pid": state.worker_pid,
        "standby_pid": state.standby_pid,
        "core": None,
        "restarts": state.restarts,
        "memory": state.memory,
        "memory_locked": protection.memory_locked if protection else False,
        "io_flusher": protection.io_flusher if protection else False,
        "oom_score_adj": protection.oom_score_adj if protection else 0,
        "seccomp": _seccomp(config, state),
        "supervisor_protection": supervisor._asdict() if supervisor else {},
        "worker_rss_bytes": _rss(state.worker_pid),
        "standby_rss_bytes": _rss(state.standby_pid),
        "supervisor_rss_bytes": _rss(state.supervisor_pid),
        "tuned": Sysctl(runtime_root()).set_by_us(),
        "zswap": zswap_status(config.below_zswap),
        **_nothing_of_worker(),
        "log": runtime.log_tail(),
        "warnings": [_LEFT_OFF.format(state.seccomp_off)] if state.seccomp_off else [],
    }
    if not mount.is_mounted(config.mountpoint):
        why = state.reason or "not mounted"
        status.update(status="dead", reason=f"{why}; clean up with: fuseswap down")
        return status
    if supervisor_of(runtime) is None and not workers_of(runtime):
        status.update(status="dead", reason="no process serves it; clean up with: fuseswap down")
    return status


def _seccomp(config: Settings, state: DeviceState) -> str:
    """Whether the worker has its filter of system calls; ``off`` with the reason, if it has one."""
    if state.protection and state.protection.seccomp:
        return "on"
    if not config.seccomp:
        return "off"
    return f"off ({state.seccomp_off or 'not available here; see the log'})"


def _nothing_of_worker() -> dict[str, Any]:
    return {"warnings": [], "stats": {}, "params": {}, "tiers": []}


def _unreadable(runtime: Runtime, why: str) -> dict[str, Any]:
    """One whose files are damaged: nothing is known but what the kernel says."""
    device = loop_of(runtime)
    area = swap_area.area_of(device) if device else None
    mountpoint = mountpoint_of(runtime)
    return {
        **dict.fromkeys(
            (
                *("size_bytes", "transport", "discards", "resumes", "recovery", "worker_pid"),
                *("standby_pid", "restarts", "memory", "memory_locked", "io_flusher"),
                *("oom_score_adj", "supervisor_protection", "worker_rss_bytes", "seccomp"),
                *("standby_rss_bytes", "supervisor_rss_bytes", "core"),
            )
        ),
        "name": runtime.name,
        "status": "unreadable",
        "reason": f"{why}; clean up with: fuseswap down {runtime.name}",
        "mountpoint": mountpoint,
        "swapfile": f"{mountpoint}/swapfile",
        "loop": device,
        "swap_priority": area.priority if area else "off",
        "swap_used_bytes": area.used_bytes if area else 0,
        "supervisor_pid": supervisor_of(runtime),
        "tuned": Sysctl(runtime_root()).set_by_us(),
        "zswap": zswap_status(0),
        **_nothing_of_worker(),
        "log": runtime.log_tail(),
    }


def warnings_of(name: str, stats: dict[str, int]) -> list[str]:
    """Faults of a device that serves; a line each."""
    held, most = stats.get("mem_worker", 0), stats.get("mem_worker_bound", 0)
    if held <= most:
        return []
    return [
        f"the worker holds {format_size(held)} of its own, and should need {format_size(most)} "
        f"at most: it leaks; give it back with: fuseswap restart {name}"
    ]


def _read_params(directory: Path) -> dict[str, str]:
    return {p.name: read_file(directory / p.name).strip() for p in PARAMETERS}


def _choose(options: argparse.Namespace) -> list[Column]:
    by_name = {column.name: column for column in COLUMNS}
    text = options.output or ""
    names = list(by_name if options.output_all else DEFAULT_COLUMNS)
    if text:
        named = [name.strip().upper() for name in text.removeprefix("+").split(",")]
        names = [*names, *named] if text.startswith("+") else named
    for name in names:
        if name not in by_name:
            raise InvalidArgument(f"there is no column '{name}'{or_rather(name, by_name)}")
    return [by_name[name] for name in names]


def show(column: Column, status: dict[str, Any], *, in_bytes: bool) -> str:
    """A cell of ``column``; ``-`` where nothing is known."""
    value = column.read(status)
    if value is None:
        return "-"
    return format_size(value) if column.is_size and not in_bytes else str(value)


def raw(rows: Sequence[Sequence[str]]) -> list[str]:
    """``rows`` as util-linux has them for programs: a space apart, and none within a cell."""
    shown = ([one_line(cell).replace(" ", "\\x20") for cell in row] for row in rows)
    return [" ".join(row) for row in shown]


def table(rows: Sequence[Sequence[str]]) -> str:
    """``rows``, the first of headings, in columns as wide as they must be."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)


def _rss(pid: int | None) -> int:
    try:
        return read_status_kib(f"/proc/{pid}", "VmRSS") * 1024 if pid else 0
    except OSError:
        return 0

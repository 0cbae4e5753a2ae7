"""scripts/kernels: whole guests short of memory, with fuseswap as their only swap.

    scripts/kernels run                        384 MiB on 6.12, the hog in C
    scripts/kernels run --kernels all --memory 192,384 --hog python,c --control file,zram
    scripts/kernels run 6.12-384-c-kill.both   one scenario by its name
    scripts/kernels run kills oom              groups of them (see: list)
    scripts/kernels run --source ../other      the working tree of another checkout
    scripts/kernels power                      power cuts, on a recorded disk of this machine
    scripts/kernels power --guest              or of a guest; see: power --help
    scripts/kernels report
    scripts/kernels ci                         what scripts/test runs

A guest is booted without KVM, from a kernel of Debian and files of this machine; what is
missing is built first (see: scripts/install kernels).
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kernels import cache, mirror, power_command, results, write_log
from tests.kernels.machine import Settings
from tests.kernels.runner import build, run_all
from tests.kernels.scenario import (
    BACKINGS,
    GROUPS,
    HOGS,
    KERNELS,
    KILLS,
    MEMORY_MIB,
    SWAPS,
    BadName,
    Scenario,
    matrix,
    parse,
)
from tests.kernels.source_image import Source

_CI_LIMIT_S = 1500.0  # they took three minutes on one day, and twelve on another
_CI_SILENCE_S = 120.0


def _choices(options: str, allowed: Sequence[str]) -> list[str]:
    """Words between commas, or all of them."""
    words = list(allowed) if options == "all" else options.split(",")
    unknown = [word for word in words if word not in allowed]
    if unknown:
        raise BadName(f"'{unknown[0]}' is none of {', '.join(allowed)}")
    return words


def wanted(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are named, or the product of the options."""
    named: list[Scenario] = []
    for name in options.scenarios:
        named += GROUPS.get(name) or [parse(name)]
    if named:
        if not options.control:
            return named
        swaps = _choices(options.control, SWAPS[1:])
        with_controls = [one for each in named for one in (*map(each.on, swaps), each)]
        return list(dict.fromkeys(with_controls))
    return list(
        matrix(
            _choices(options.kernels, tuple(KERNELS)),
            [int(size) for size in _choices(options.memory, tuple(map(str, MEMORY_MIB)))],
            _choices(options.hog, HOGS),
            _choices(options.backing, BACKINGS),
            _choices(options.kill, KILLS),
            (options.out_of_memory,),
            _choices(options.control, SWAPS[1:]) if options.control else (),
            options.hog_mib,
        )
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="scripts/kernels", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="groups and their scenarios")
    report = commands.add_parser("report", help="a table of all results")
    report.add_argument("--last", type=int, default=0, help="only so many, the newest")
    report.add_argument("file", nargs="?", type=Path, help="other results than those of the cache")
    building = commands.add_parser("build", help="build what guests are booted from, run none")
    running = commands.add_parser("run", help="run scenarios")
    running.add_argument("scenarios", nargs="*", help="names, or groups; none: see the options")
    running.add_argument("--memory", default="384", help=f"of {MEMORY_MIB}, or all")
    running.add_argument("--hog", default="c", help=f"of {HOGS}, or all")
    running.add_argument("--backing", default="none", help=f"of {BACKINGS}, or all")
    running.add_argument("--kill", default="none", help=f"of {KILLS}, or all")
    running.add_argument("--out-of-memory", action="store_true", help="more than can be held")
    running.add_argument("--control", default="", help="also on a plain swap: file,zram")
    running.add_argument("--repeat", type=int, default=1)
    running.add_argument("--jobs", type=int, default=1, help="guests at a time")
    running.add_argument("--sysctl", action="append", default=[], metavar="NAME=VALUE")
    running.add_argument("--set", action="append", default=[], metavar="PARAMETER=VALUE")
    running.add_argument("--up-options", default="", help="more options of fuseswap up, one word")
    running.add_argument("--hog-mib", type=int, default=0, help="size of the hog")
    running.add_argument("--touches", type=int, help="pages it touches at random")
    running.add_argument("--silence", type=float, default=90.0, help="seconds until it is hung")
    running.add_argument("--limit", type=float, default=600.0, help="seconds for one guest")
    running.add_argument("--stacks-after", type=int, default=30, help="seconds without progress")
    running.add_argument("--keep", action="store_true", help="keep the scratch disk")
    power_command.add_options(commands)
    ci = commands.add_parser("ci", help="what scripts/test runs")
    for one in (running, ci):
        one.add_argument("--source", type=Path, default=cache.CHECKOUT, help="another checkout")
        one.add_argument("--commit", help="of the source; by default its working tree")
        one.add_argument("--dirty", action="store_true", help="its working tree (the default)")
        one.add_argument("-v", "--verbose", action="store_true", help="what guests say")
    for one in (running, building):
        one.add_argument("--kernels", default="6.12", help=f"of {tuple(KERNELS)}, or all")
    return top


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        silence_s=options.silence,
        limit_s=options.limit,
        stacks_after_s=options.stacks_after,
        touches=options.touches,
        up_options=tuple(shlex.split(options.up_options)),
        parameters=tuple(options.set),
        sysctl=dict(pair.split("=", 1) for pair in options.sysctl),
        keep=options.keep,
    )


def _list() -> int:
    for name, scenarios in GROUPS.items():
        print(f"{name} ({len(scenarios)}){'' if name == 'all' else ':'}")
        for scenario in scenarios if name != "all" else ():
            print(f"    {scenario.name}")
    return 0


def _report(options: argparse.Namespace) -> int:
    records = results.read(options.file or results.path())
    print(results.table(records, records[-options.last :]))
    return 0


def _ci(source: Source, verbose: bool) -> int:
    """Both guests at once: each waits for its disk and its swap most of the time."""
    settings = Settings(silence_s=_CI_SILENCE_S, limit_s=_CI_LIMIT_S)
    scenarios = list(GROUPS["ci"])
    names = ", ".join(scenario.name for scenario in scenarios)
    print(f"guests short of memory, up to {_CI_LIMIT_S:.0f} s: {names}", flush=True)
    return run_all(scenarios, source, settings, jobs=2, verbose=verbose, evidence=True)


def main() -> int:
    """The command; 1 where a run did not pass."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = parser().parse_args()
    try:
        if options.command == "list":
            return _list()
        if options.command == "report":
            return _report(options)
        if options.command == "build":
            of_ci = ",".join(sorted({scenario.kernel for scenario in GROUPS["ci"]}))
            named = of_ci if options.kernels == "ci" else options.kernels
            build(_choices(named, tuple(KERNELS)))
            return 0
        if options.command == "power":
            return power_command.run(options)
        source = Source(options.source.resolve(), options.commit)
        if options.command == "ci":
            return _ci(source, options.verbose)
        return run_all(
            wanted(options) * options.repeat,
            source,
            _settings(options),
            jobs=options.jobs,
            verbose=options.verbose,
        )
    except (BadName, cache.CommandFailed, mirror.NoMirror, write_log.BadLog) as exc:
        print(f"kernels: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

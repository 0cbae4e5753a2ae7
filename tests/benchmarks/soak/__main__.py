"""``scripts/soak``: options and modes.

Exit codes: 0 all was well, 1 a page was bad or another fault (or usage), 2 something failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fuseswap.daemon.device_files import RESEND
from fuseswap.errors import InvalidArgument
from fuseswap.units import GIB, MIB
from tests.benchmarks import report
from tests.benchmarks.command import tell
from tests.benchmarks.command_line import Parser, positive, run_as_root, seconds, size
from tests.benchmarks.soak import compare, pause, run
from tests.benchmarks.soak.kills import PAUSE_S, RESTART, SIGNALS, parse_kinds

_RUNTIME_DIR = "/run/fuseswap-soak"


def _kinds(text: str) -> tuple[str, ...]:
    try:
        return parse_kinds(text)
    except InvalidArgument as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def _pause_s(text: str) -> tuple[float, float]:
    low, sign, high = text.partition("-")
    try:
        pause = float(low), float(high)
    except ValueError:
        pause = 1.0, 0.0
    if not sign or not 0 < pause[0] <= pause[1]:
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW-HIGH, such as 0.1-2")
    return pause


def _soak(arguments: list[str]) -> Callable[[], int]:
    parser = Parser(
        prog="scripts/soak",
        description="Kill the worker of a swap device while a process checks its pages.",
        epilog="Other modes: scripts/soak pause --help, scripts/soak compare --help",
    )
    parser.add_argument("--seconds", type=seconds, default=60.0, help="of touches (default 60)")
    parser.add_argument("--layout", choices=run.LAYOUTS, default=run.LAYOUTS[0])
    parser.add_argument(
        "--kills", type=_kinds, default=("KILL",), help=f"of {','.join(SIGNALS)} (default KILL)"
    )
    parser.add_argument("--restarts", action="store_true", help="`fuseswap restart` as well")
    parser.add_argument("--resend", choices=RESEND, default=RESEND[0])
    parser.add_argument("--size", type=size, default=GIB, help="of the process (default 1G)")
    parser.add_argument("--limit", type=size, default=256 * MIB, help="cgroup (default 256M)")
    parser.add_argument(
        "--pool-limit", type=size, help="default 64M; with --layout none, what the device holds"
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_setting,
        help="a parameter of the device; again for more",
    )
    low, high = PAUSE_S
    parser.add_argument(
        "--every",
        type=_pause_s,
        default=PAUSE_S,
        metavar="LOW-HIGH",
        help=f"seconds between two deaths (default {low:g}-{high:g})",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    pool_limit = 2 * options.size if options.layout == run.NO_BACKING else 64 * MIB
    plan = run.Plan(
        seconds=options.seconds,
        size_bytes=options.size,
        limit_bytes=options.limit,
        pool_limit_bytes=options.pool_limit or pool_limit,
        layout=options.layout,
        kinds=(*options.kills, *((RESTART,) if options.restarts else ())),
        up_options=() if options.resend == RESEND[0] else ("--resend", options.resend),
        parameters=dict(options.set),
        pause_s=options.every,
        seed=options.seed,
    )

    def body() -> int:
        tell(run.describe(plan))
        outcome = run.soak(plan)
        print("\n".join(outcome.lines()))
        return 1 if outcome.faults else 0

    return body


def _pause(arguments: list[str]) -> Callable[[], int]:
    parser = Parser(prog="scripts/soak pause", description="What a reader waits for.")
    parser.add_argument("--stored", type=size, default=GIB, help="before (default 1G)")
    parser.add_argument("--rounds", type=positive, default=10, help="of each (default 10)")
    options = parser.parse_args(arguments)

    def body() -> int:
        print("\n".join(pause.measure(options.stored, options.rounds)))
        return 0

    return body


def _compare(arguments: list[str]) -> Callable[[], int]:
    parser = Parser(prog="scripts/soak compare", description="This tree against another.")
    parser.add_argument("other", type=Path, help="the root of another tree")
    parser.add_argument("--rounds", type=positive, default=5, help="default 5")
    parser.add_argument("--seconds", type=seconds, default=3.0, help="a fio job (default 3)")
    options = parser.parse_args(arguments)
    other = options.other.resolve()
    if not (other / "fuseswap" / "__init__.py").exists():
        parser.error(f"{options.other} is not a tree of fuseswap")

    def body() -> int:
        print(report.tables(compare.compare(other, options.rounds, options.seconds)))
        return 0

    return body


_MODES = {"pause": _pause, "compare": _compare}


def main() -> int:
    """Entry point."""
    arguments = sys.argv[1:]
    mode = _MODES.get(arguments[0]) if arguments else None
    body = mode(arguments[1:]) if mode else _soak(arguments)
    return run_as_root("soak", _RUNTIME_DIR, body)


if __name__ == "__main__":
    sys.exit(main())

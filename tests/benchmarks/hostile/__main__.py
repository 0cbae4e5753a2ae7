"""``scripts/hostile``: options.

Exit codes: 0 all was well, 1 a page was bad or another fault (or usage), 2 something failed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from fuseswap.units import MIB
from tests.benchmarks.command import tell
from tests.benchmarks.command_line import Parser, positive, run_as_root, seconds, size
from tests.benchmarks.hostile.run import Plan, run

_RUNTIME_DIR = "/run/fuseswap-hostile"


def _body(arguments: list[str]) -> Callable[[], int]:
    parser = Parser(
        prog="scripts/hostile",
        description="A swap run beside an ordinary user who tries everything he may not.",
    )
    parser.add_argument("--seconds", type=seconds, default=360.0, help="of slices (default 360)")
    parser.add_argument("--slice", type=seconds, default=60.0, help="seconds of one (default 60)")
    parser.add_argument("--size", type=size, default=512 * MIB, help="of the process (512M)")
    parser.add_argument("--limit", type=size, default=192 * MIB, help="its cgroup (192M)")
    parser.add_argument("--processes", type=positive, default=1, help="of the user (default 1)")
    parser.add_argument(
        "--no-control",
        action="store_true",
        help="no slices with a user who leaves the swap alone",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    plan = Plan(
        seconds=options.seconds,
        slice_s=options.slice,
        size_bytes=options.size,
        limit_bytes=options.limit,
        processes=options.processes,
        control=not options.no_control,
        seed=options.seed,
    )

    def body() -> int:
        tell(plan.describe())
        outcome = run(plan)
        print("\n".join(outcome.lines()))
        return 1 if outcome.faults else 0

    return body


def main() -> int:
    """Entry point."""
    return run_as_root("hostile", _RUNTIME_DIR, _body(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())

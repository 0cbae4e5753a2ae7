"""``scripts/bench``: options, one benchmark at a time, suites in order, tables and JSON.

Exit codes: 0 measured (targets met or not), 1 usage, 2 something failed (a peer that is
missing, a bad page, something that could not be torn down).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

from fuseswap.errors import HostError
from tests.benchmarks import machine, plot, report
from tests.benchmarks.command import tell
from tests.benchmarks.command_line import Parser, positive, run_as_root, seconds
from tests.benchmarks.suite import Settings, Suite
from tests.benchmarks.suites import all_suites

_RUNTIME_DIR = "/run/fuseswap-bench"
_QUIET_LOAD = 0.5

_FULL = Settings(rounds=3, seconds=5.0, touches=200_000)
_QUICK = Settings(rounds=1, seconds=1.0, touches=20_000, reads=2_000, quick=True)


def _parse(suites: dict[str, Suite]) -> argparse.Namespace:
    names = sorted({name for suite in suites.values() for name in suite.peers})
    parser = Parser(prog="scripts/bench", description="Measure fuseswap against its peers.")
    parser.add_argument("suite", nargs="?", default="all", choices=(*suites, "all"))
    parser.add_argument("--rounds", type=positive, help=f"default {_FULL.rounds}")
    parser.add_argument(
        "--seconds", type=seconds, help=f"a fio job, or churn (default {_FULL.seconds:g})"
    )
    parser.add_argument("--touches", type=positive, help=f"a swap run (default {_FULL.touches})")
    parser.add_argument(
        "--reads", type=positive, help=f"of each peer of memory, a round (default {_FULL.reads})"
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help=f"pages for memory (default {_FULL.corpus})"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="of memory: a drawing of it")
    parser.add_argument("--peers", help=f"only these, of {','.join(names)}")
    parser.add_argument("--json", type=Path, help="default bench-DATE.json")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    options = parser.parse_args()
    if options.peers is not None:
        options.peers = options.peers.split(",")
        if unknown := sorted(set(options.peers) - set(names)):
            parser.error(f"no peer '{unknown[0]}'; there are {', '.join(names)}")
    if options.plot is not None and options.suite not in ("memory", "all"):
        parser.error(f"--plot draws the suite memory, not {options.suite}")
    base = _QUICK if options.quick else _FULL
    options.settings = Settings(
        rounds=options.rounds or base.rounds,
        seconds=options.seconds or base.seconds,
        touches=options.touches or base.touches,
        reads=options.reads or base.reads,
        quick=base.quick,
        corpus=options.corpus or base.corpus,
    )
    return options


def _run(options: argparse.Namespace, suites: dict[str, Suite]) -> None:
    chosen = suites if options.suite == "all" else {options.suite: suites[options.suite]}
    peers = {name: suite.make_peers(options.peers) for name, suite in chosen.items()}
    if empty := next((name for name, found in peers.items() if not found), None):
        raise HostError(f"suite {empty} has none of the peers {','.join(options.peers)}")
    if os.getloadavg()[0] > _QUIET_LOAD:
        tell(f"note: the machine is not quiet (load {os.getloadavg()[0]:.1f}); expect noise")
    if machine.damon_is_on():
        tell("note: DAMON is on; it may swap out pages of other processes too")
    about = machine.describe()
    where = options.json or Path(f"bench-{datetime.datetime.now():%Y%m%d-%H%M%S}.json")
    results = []
    for name, suite in chosen.items():
        results.append(suite.run(options.settings, peers[name]))
        print(report.tables(results[-1]), end="\n\n", flush=True)
        # After each one: a later suite that fails does not cost the numbers of this one.
        content = report.as_json(results, about, sys.argv[1:])
        where.write_text(json.dumps(content, indent=1) + "\n")
        if options.plot is not None and name == "memory":
            options.plot.write_text(plot.draw(results[-1]))
    print(report.summary(results))
    print(f"everything else is in {where}")


def main() -> int:
    """Entry point."""
    suites = all_suites()
    options = _parse(suites)

    def body() -> int:
        _run(options, suites)
        return 0

    return run_as_root("bench", _RUNTIME_DIR, body)


if __name__ == "__main__":
    sys.exit(main())

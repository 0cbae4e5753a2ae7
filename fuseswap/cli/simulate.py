"""``fuseswap simulate``: a trace through a real device in virtual time, once a configuration."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseswap.cli.config_files import read
from fuseswap.cli.parser import whole
from fuseswap.errors import HostError, InvalidArgument

if TYPE_CHECKING:
    from fuseswap.laboratory.trace_format import Event


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "simulate",
        help="run a trace through a device in virtual time",
        description="Run a trace through store, front end, reclaim and policies of fuseswap, over "
        "tiers in memory, in virtual time. Every load is checked. The same input gives the same "
        "output.",
    )
    parser.add_argument("trace", nargs="?", metavar="TRACE", help="of `fuseswap trace`")
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="what it is of; again: to compare"
    )
    parser.add_argument(
        "--synthetic", type=whole, metavar="N", help="instead of a trace: N events of --seed"
    )
    parser.add_argument(
        "--pages", type=whole, default=16384, metavar="N", help="of those, on so many pages (16384)"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of all chance (0)")
    parser.add_argument(
        "--faults", type=whole, metavar="N", help="have tiers fail, by a schedule of this seed"
    )
    parser.add_argument(
        "--times", action="store_true", help="say on standard error what processor time it took"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; 2 and the command that repeats it where a load was wrong."""
    # trio and the whole device: no other command needs them.
    from fuseswap.laboratory.oracle import WrongPage
    from fuseswap.laboratory.sim_config import SimConfig, config_from
    from fuseswap.laboratory.sim_policies import load_policies
    from fuseswap.laboratory.sim_results import table
    from fuseswap.laboratory.simulation import simulate
    from fuseswap.laboratory.trace_extent import extent_of

    events = _events(options)
    configs = [config_from(Path(path).stem, read(Path(path))) for path in options.config or []]
    extent = extent_of(events())
    all_results = []
    for config in configs or [SimConfig()]:
        try:
            with nullcontext() if options.faults is None else _silence():  # a line for each
                results = simulate(
                    events, config, extent, options.seed, options.faults, load_policies()
                )
        except WrongPage as exc:
            raise HostError(f"{config.name}: {exc}; to see it again: {_again(options)}") from exc
        except Exception as exc:
            exc.add_note(f"to see it again: {_again(options)}")
            raise
        if options.times:
            print(f"{config.name}: {results.processor_s:.2f} s of processor time", file=sys.stderr)
        all_results.append(results)
    print(table(all_results))
    return 0


@contextmanager
def _silence() -> Iterator[None]:
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _events(options: argparse.Namespace) -> Callable[[], Iterable[Event]]:
    """What gives them anew, for each configuration."""
    if (options.trace is None) == (options.synthetic is None):
        raise InvalidArgument("give either a TRACE or --synthetic N")
    if options.synthetic is not None:
        from fuseswap.laboratory.synthetic import synthetic
        from fuseswap.laboratory.trace_extent import MOST_PAGES

        if not 0 < options.pages <= MOST_PAGES:
            raise InvalidArgument(f"--pages is 1 to {MOST_PAGES}")

        return lambda: synthetic(options.synthetic, options.pages, options.seed)

    from fuseswap.cli.trace import open_trace
    from fuseswap.laboratory.trace_format import TraceReader

    def recorded() -> Iterable[Event]:
        with open_trace(options.trace) as file:
            yield from TraceReader(file).events()

    return recorded


def _again(options: argparse.Namespace) -> str:
    """The command line."""
    words = ["fuseswap", "simulate"]
    if options.trace is not None:
        words.append(options.trace)
    else:
        words += ["--synthetic", str(options.synthetic), "--pages", str(options.pages)]
    words += ["--seed", str(options.seed)]
    if options.faults is not None:
        words += ["--faults", str(options.faults)]
    for path in options.config or []:
        words += ["--config", path]
    return shlex.join(words)

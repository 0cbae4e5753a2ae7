"""scripts/kernels power: its options, and which recording is looked at.

scripts/kernels power --cuts 100 --rounds 6     records here; some minutes
scripts/kernels power --guest                   records in a guest
scripts/kernels power --log DIRECTORY           looks at one again: all cuts are the same
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tests.kernels.machine import Settings
from tests.kernels.power import Cuts, look, new_recording, own_devices, record_here, report
from tests.kernels.power_guest import record_in_guest
from tests.kernels.scenario import KERNELS, BadName
from tests.kernels.write_recorder import Recording

_SILENCE_S = 300.0  # one command takes as long in a guest of a busy machine


def add_options(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand."""
    power = commands.add_parser(
        "power",
        help="power cuts of a disk with backing files",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    power.add_argument("--cuts", type=int, default=100, help="half of them between two flushes")
    power.add_argument("--rounds", type=int, default=6, help="devices, one after the other")
    power.add_argument("--seed", type=int, default=1, help="of the moments and of the cuts")
    power.add_argument(
        "--command-every", type=int, default=10, help="cuts with a real `up`; 0: none"
    )
    power.add_argument("--guest", action="store_true", help="record in a guest, not here")
    power.add_argument("--kernel", default="6.12", help=f"of the guest, of {tuple(KERNELS)}")
    power.add_argument("--limit", type=float, default=1800.0, help="seconds for the guest")
    power.add_argument("--log", type=Path, help="a directory that a run has left")
    power.add_argument("--keep", action="store_true", help="also one that passed")


def run(options: argparse.Namespace) -> int:
    """Record, look, say; 1 where something was found.

    Raises `BadName`, `cache.CommandFailed`, `BadLog`.
    """
    if os.geteuid() != 0:
        raise BadName("power mounts disks: it needs root")
    if options.cuts < 1 or options.rounds < 1 or options.command_every < 0:
        raise BadName("--cuts and --rounds are at least 1, --command-every at least 0")
    if options.kernel not in KERNELS:
        raise BadName(f"'{options.kernel}' is none of {', '.join(KERNELS)}")
    if options.log and not (options.log / "log").is_file():
        raise BadName(f"{options.log} has no recording")
    with own_devices():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    keep = options.keep or options.log is not None
    if options.log:
        recording = Recording(options.log.resolve())
    else:
        recording = new_recording()
        if options.guest:
            settings = Settings(silence_s=_SILENCE_S, limit_s=options.limit)
            record_in_guest(recording, options.kernel, options.seed, options.rounds, settings)
        else:
            record_here(recording, options.seed, options.rounds)
    cuts = Cuts(options.cuts, options.seed, options.command_every)
    return report(look(recording, cuts), recording, keep=keep)

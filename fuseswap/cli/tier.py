"""``fuseswap tier``: the places where cold pages go, while the swap is on.

What needs files goes to the supervisor (``daemon/live_tiers.py``), policies go to the device,
through ``params/tier_params``.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from fuseswap.cli import tier_remote
from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.cli.parser import add_commands
from fuseswap.cli.progress import LOOK_EVERY_S, STUCK_AFTER_S, progress
from fuseswap.cli.restart import restart
from fuseswap.cli.status import table
from fuseswap.cli.tier_numbers import TierNumbers, tier_of, tiers_of
from fuseswap.daemon import live_tiers, tier_files
from fuseswap.daemon.live_tiers import PARAMETER
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.sizes import format_size
from fuseswap.spelling import or_rather
from fuseswap.tiers.tier_spec import parse_tier

HEADINGS = (
    "TIER", "STATE", "PRIORITY", "SIZE", "LIMIT", "USED", "SEGMENTS", "READ", "WRITTEN", "ERRORS",
)  # fmt: skip
SETTINGS = ("priority", "limit", "drain")


def add_to(commands: Any) -> None:
    """Add the subcommand, with those of its own."""
    parser = commands.add_parser(
        "tier",
        help="show and change where cold pages go",
        description="Show and change the places where cold pages go, while the swap is on.",
    )
    actions = add_commands(parser, "ACTION")
    one = _action(actions, "list", _list, "show the tiers")
    one.add_argument("--json", action="store_true", help="as JSON")
    one.add_argument("--bytes", action="store_true", help="sizes in bytes")
    one.add_argument(
        "--remote",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="what all devices have on the servers of this one, or on that of valkey://HOST:PORT",
    )
    one = _action(actions, "add", _add, "use another place")
    one.add_argument("spec", metavar="SPEC", help="as file:/path,priority=5,limit=10G,name=NAME")
    one = _action(actions, "set", _set, "change a policy")
    one.add_argument("tier", metavar="TIER")
    one.add_argument("assignment", metavar="SETTING=VALUE", nargs="+", help=", ".join(SETTINGS))
    one = _action(actions, "drain", _drain, "move all that is on a tier elsewhere")
    one.add_argument("tier", metavar="TIER")
    one = _action(actions, "remove", _remove, "do without a tier that is empty")
    one.add_argument("tier", metavar="TIER")
    one.add_argument("--drain", action="store_true", help="drain it first")
    one = _action(actions, "gc", tier_remote.collect, "delete what dead devices left on servers")
    one.add_argument("address", nargs="?", metavar="ADDRESS", help="as for list --remote")
    one.add_argument(
        "--older",
        default="60",
        metavar="MINUTES",
        help="of other machines only what was not seen for so long (default 60)",
    )
    one.add_argument("--yes", action="store_true", help="delete, do not ask")


def _action(actions: Any, name: str, run: Any, what: str) -> Any:
    parser = actions.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument(
        "-d",
        "--device",
        default=DEFAULT_NAME,
        metavar="NAME",
        help=f"of this device (default {DEFAULT_NAME})",
    )
    parser.set_defaults(run=run)
    return parser


def _list(options: argparse.Namespace) -> int:
    if options.remote is not None:
        return tier_remote.show(options)
    tiers = tiers_of(options.device)
    if options.json:
        print_json([tier.to_json() for tier in tiers])
        return 0
    if not tiers:
        print(f"no tiers; try: sudo fuseswap tier add -d {options.device} file:/path")
        return 0
    print(table([HEADINGS, *(_row(tier, options.bytes) for tier in tiers)]))
    return 0


def _row(tier: TierNumbers, in_bytes: bool) -> list[str]:
    size = str if in_bytes else format_size
    numbers = tier.numbers
    return [
        tier.name,
        f"{tier.state}, may forget" if tier.may_forget else tier.state,
        "-" if tier.priority is None else str(tier.priority),
        size(tier.size_bytes),
        "none" if tier.limit_bytes is None else size(tier.limit_bytes),
        size(tier.used_bytes),
        str(tier.segments),
        size(numbers.get("tier_read_bytes", 0)),
        size(numbers.get("tier_written_bytes", 0)),
        str(tier.errors),
    ]


def _add(options: argparse.Namespace) -> int:
    runtime = Runtime(options.device)
    with runtime.lock():
        spec = parse_tier(options.spec, live_tiers.names(runtime))
        one = live_tiers.add(runtime, spec)
        if not live_tiers.is_used(runtime, spec.name):
            _replace_worker(runtime, spec.name)
        live_tiers.set_policy(runtime, spec)
    print(f"{options.device}: tier '{spec.name}' is there")
    for note in tier_files.notes_of(one):
        print(f"note: {note}", file=sys.stderr)
    return 0


def _replace_worker(runtime: Runtime, name: str) -> None:
    """By one that can make something of the tier ``name``, since it encrypts, say.

    Raises `HostError`, with the tier gone again, where that comes to nothing.
    """
    why = "see the log"
    if not runtime.config().resumes:
        why = (
            "its worker has never encrypted, and with pyfuse3 no other can take over; "
            "encrypt=no, or a tier at 'up'"
        )
    else:
        try:
            done = restart(runtime)
            print(f"note: {done}, since that one can encrypt", file=sys.stderr)
        except HostError as exc:
            why = str(exc)
        if live_tiers.is_used(runtime, name):
            return
    live_tiers.remove(runtime, name)
    raise HostError(f"tier '{name}' is not added: {why}")


def _write(device: str, tier: str, words: list[str]) -> None:
    set_value(directory_of(device) / PARAMETER, " ".join([f"tier={tier}", *words]))


def _set(options: argparse.Namespace) -> int:
    tier = tier_of(options.device, options.tier)
    for word in options.assignment:
        name, equals, _ = word.partition("=")
        if not equals or name not in SETTINGS:
            known = [f"{one}=" for one in SETTINGS]
            raise InvalidArgument(f"'{word}' is no setting of a tier{or_rather(name, known)}")
    _write(options.device, tier.name, options.assignment)
    return 0


def _drain(options: argparse.Namespace) -> int:
    drain(options.device, options.tier)
    print(f"{options.device}: tier '{options.tier}' is empty, and nothing is written there")
    return 0


def drain(device: str, name: str) -> None:
    """Until nothing is on the tier ``name``, showing how far that is.

    Raises `HostError` where it does not go on; the tier goes on draining.
    """
    tier = tier_of(device, name)
    _write(device, name, ["drain=Y"])
    first = left = tier.segments
    changed = time.monotonic()
    with progress() as shown:
        while left:
            time.sleep(LOOK_EVERY_S)
            before, left = left, tier_of(device, name).segments
            first = max(first, left)
            done = first - left
            shown.show(f"{shown.bar(done, first)}{done} of {first} segments")
            if left != before:
                changed = time.monotonic()
            elif time.monotonic() - changed > STUCK_AFTER_S:
                raise HostError(
                    f"tier '{name}' does not get empty: add another (fuseswap tier add), or: "
                    f"fuseswap tier set -d {device} {name} drain=N"
                )


def _remove(options: argparse.Namespace) -> int:
    device, name = options.device, options.tier
    tier = tier_of(device, name)
    if options.drain:
        drain(device, name)
    elif tier.segments:
        raise HostError(
            f"tier '{name}' holds {tier.segments} segments; first: "
            f"fuseswap tier drain -d {device} {name}"
        )
    runtime = Runtime(device)
    with runtime.lock():
        live_tiers.remove(runtime, name)
    print(f"{device}: tier '{name}' is removed")
    return 0

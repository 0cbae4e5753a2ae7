"""Commands that are given a set of stripes: all of it, or one stripe after the other.

    up, down, get, set pool_limit_bytes    the set as a whole
    status, top                            their own: they show each stripe
    what changes or orders something       each stripe in turn; a size is shared out

A command that fails at one stripe leaves the ones behind it as they are.  `up`, ``tier add`` and
``backend add`` are undone then.
"""

from __future__ import annotations

import argparse
import io
import json
from contextlib import redirect_stdout
from typing import Any

from fuseswap.cli import backend, config_files, striped_up
from fuseswap.cli.host_settings import restore_settings
from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of, find
from fuseswap.cli.stripe_status import parameters_of
from fuseswap.cli.striped_set import LIMIT, SHARED, set_on_all
from fuseswap.daemon import live_tiers, stripe_configs, stripes
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime, all_devices
from fuseswap.daemon.stripe_set import StripeSet, find_set
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.linux.timed_file import read_file
from fuseswap.tiers.tier_spec import parse_tier
from fuseswap.units import MIB

_SIZES = ("size", "to", "max")  # options that are shared out


def run(options: argparse.Namespace) -> int:
    """Run the command that was asked for: one that ``sets.py`` says is for stripes."""
    command = options.command
    if command == "up":
        count = striped_up.count_of(options)
        return striped_up.run(options, count) if count else _alone(options)
    if command == "down":
        return _down(options)
    found = find_set(getattr(options, "device", getattr(options, "name", "")) or DEFAULT_NAME)
    if found is None:  # one stripe
        return _alone(options)
    if command == "get":
        return _get(found, options.parameter, as_json=options.json)
    if command == "set":
        return _set(found, options)
    if command == "explain":
        raise InvalidArgument(f"pages have numbers in each stripe: name one, as {found.name}/0")
    return _in_turn(found, options)


def _alone(options: argparse.Namespace) -> int:
    code: int = options.run(options)
    return code


def _down(options: argparse.Namespace) -> int:
    """Sets are taken down as a whole, also by ``--all``; the rest is as without any."""
    if options.all and options.name is None:
        for name in dict.fromkeys(one.set_name for one in all_devices() if one.set_name):
            _down_set(StripeSet(name))
        return _alone(options)
    name = DEFAULT_NAME if options.name is None else options.name
    if whole := Runtime(name).set_name:
        raise InvalidArgument(f"'{name}' is a stripe; first: fuseswap down {whole}")
    found = None if options.all else find_set(name)
    if found is None:
        return _alone(options)
    _down_set(found)
    return 0


def _down_set(found: StripeSet) -> None:
    try:
        with found.lock():
            stripes.down_all(found)
    finally:
        restore_settings()
    print(f"{found.name} is down")


def _get(found: StripeSet, wanted: str | None, *, as_json: bool) -> int:
    """As of a device; where stripes differ, a line for each.  As JSON: an object a stripe."""
    names = [find(wanted).name] if wanted else [one.name for one in PARAMETERS]
    if as_json:
        every = found.stripes()
        print_json({one.name: {name: _value(one.name, name) for name in names} for one in every})
        return 0
    for name in names:
        before = "" if wanted else f"{name}="
        if name == LIMIT:
            print(f"{before}{found.limit_frames() * MIB}")
            continue
        values = [(one.name, _value(one.name, name)) for one in found.stripes()]
        if len({value for _, value in values}) == 1 or name in SHARED:
            print(f"{before}{parameters_of([{name: value} for _, value in values])[name]}")
        else:
            print(*(f"{stripe}: {before}{value}" for stripe, value in values), sep="\n")
    return 0


def _value(device: str, name: str) -> str:
    return read_file(directory_of(device) / name).strip()


def _set(found: StripeSet, options: argparse.Namespace) -> int:
    """All names are checked before the first is set; then one after the other, on all stripes."""
    pairs = []
    for assignment in options.assignment:
        name, equals, value = assignment.partition("=")
        if not equals or not value:
            raise InvalidArgument(f"'{assignment}' is not PARAM=VALUE")
        pairs.append((find(name), value))
    for parameter, value in pairs:
        set_on_all(found, parameter.name, value)
    if options.save:
        lasting = {parameter.name: value for parameter, value in pairs if parameter.lasting}
        print(f"saved in {config_files.save(found.name, lasting)}")
    return 0


def _in_turn(found: StripeSet, options: argparse.Namespace) -> int:
    every = found.stripes()
    action = (options.command, getattr(options, "action", None))
    if action == ("tier", "gc") or getattr(options, "remote", None) is not None:
        every = every[:1]  # about servers: once for all devices
    code, answers, done = 0, {}, list[tuple[Runtime, str]]()
    for stripe in every:
        part = _part(options, stripe, len(every))
        added = ""
        if action == ("tier", "add"):
            added = parse_tier(part.spec, live_tiers.names(stripe)).name
        try:
            if getattr(options, "json", False):
                with redirect_stdout(io.StringIO()) as said:
                    code = max(code, _alone(part))
                answers[stripe.name] = json.loads(said.getvalue())
            else:
                if action[1] == "list":
                    print(f"{stripe.name}:")
                code = max(code, _alone(part))
        except (HostError, InvalidArgument):
            _undo(action, done, options)
            raise
        done.append((stripe, added))
    if answers:
        print_json(answers)
    return code


def _part(options: argparse.Namespace, stripe: Runtime, count: int) -> argparse.Namespace:
    """The options for one of ``count`` stripes."""
    changed: dict[str, Any] = {
        key: stripe_configs.part_of(value, count)
        for key in _SIZES
        if (value := getattr(options, key, None)) is not None
    }
    changed["device" if hasattr(options, "device") else "name"] = stripe.name
    if getattr(options, "spec", None):
        changed["spec"] = stripe_configs.tier_of(options.spec, stripe.stripe, count)
    if getattr(options, "file", None):
        changed["file"] = stripe_configs.backing_of(options.file, stripe.stripe)
    return _with(options, **changed)


def _with(options: argparse.Namespace, **changed: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), **changed})


def _undo(
    action: tuple[str, str | None],
    done: list[tuple[Runtime, str]],
    options: argparse.Namespace,
) -> None:
    """Those before the one that failed do without it again; of a tier with its name."""
    for stripe, added in done:
        if action == ("tier", "add"):
            with stripe.lock():
                live_tiers.remove(stripe, added)
        elif action == ("backend", "add"):
            backend.run_remove(_with(options, device=stripe.name))

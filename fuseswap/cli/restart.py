"""``fuseswap restart``: hand over to a freshly started worker, or try again where degraded.

Takes no lock: a `down` that waits for a degraded device holds it, and this is its way out.
"""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.daemon import control_socket
from fuseswap.daemon.device_info import is_up
from fuseswap.daemon.petitions import RESTART
from fuseswap.daemon.processes import supervisor_of, wake
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime, all_devices
from fuseswap.errors import HostError, InvalidArgument, in_words

_TIMEOUT_S = 300.0


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "restart",
        help="replace the worker, without a loss",
        description="Replace the worker of a device by a new one, without a loss.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"default {DEFAULT_NAME}")
    parser.add_argument("--all", action="store_true", help="every device")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was done, with the pause in ms; one that fails keeps no other from it."""
    if options.all and options.name is not None:
        raise InvalidArgument("'restart' takes a name or --all, not both")
    name = DEFAULT_NAME if options.name is None else options.name
    failed: list[str] = []
    for runtime in all_devices() if options.all else [Runtime(name)]:
        try:
            print(f"{runtime.name}: {restart(runtime)}", flush=True)
        except HostError as exc:
            failed.append(in_words(exc))
    if failed:
        raise HostError("; ".join(failed))
    return 0


def restart(runtime: Runtime) -> str:
    """Replace the worker by a new one; returns what was done, in one line.

    Raises `HostError` where it was not: the old worker goes on then, if there was one; or
    where there is no device.
    """
    runtime.mountpoint()
    if not is_up(runtime) or supervisor_of(runtime) is None:
        raise HostError(f"{runtime.name} has no supervisor; try: fuseswap up {runtime.name}")
    wake(runtime)
    try:
        return control_socket.ask(runtime.control_path, RESTART, _TIMEOUT_S)
    except HostError as exc:
        said = [line for line in runtime.log_tail() if " supervisor: " not in line]
        why = said[-1:] if "ended before" in str(exc) else []
        text = ": ".join([f"{runtime.name} was not restarted", str(exc), *why])
        raise HostError(text) from None

"""Tiers of a device that is up: one comes, one goes.  Called by commands, with its lock held.

The command opens the files and hands them to the supervisor.  Where that did not say what became
of them they are left as they are: a worker may write there.
"""

from __future__ import annotations

import json
from pathlib import Path

from fuseswap.daemon import attachment, control_socket, tier_files
from fuseswap.daemon.attachment import ANSWER_TIMEOUT_S, TIER, Attachment
from fuseswap.daemon.control_socket import NoAnswer
from fuseswap.daemon.device_info import is_up
from fuseswap.daemon.petitions import ATTACH, DETACH
from fuseswap.daemon.processes import supervisor_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.timed_file import read_file, write_file
from fuseswap.tiers.tier import BACKING_NAME
from fuseswap.tiers.tier_spec import TierSpec

PARAMETER = "tier_params"
_TIMEOUT_S = 3 * ANSWER_TIMEOUT_S  # the scribe may wait for memory


def add(runtime: Runtime, spec: TierSpec) -> Attachment:
    """Open what ``spec`` asks for, and have the device use it.

    Raises `InvalidArgument` or `HostError`; everything is as before then, but where the
    supervisor did not answer.
    """
    settings = runtime.config()
    require_supervisor(runtime)
    if settings.backing_layout != "packed":
        raise InvalidArgument(f"{runtime.name} has the in-place layout: no tier can be added")
    tier_files.check([spec], settings.size_bytes)
    one = tier_files.open_tier(spec, runtime.name, settings.size_bytes)
    try:
        request = f"{ATTACH} {json.dumps(one.to_json())}"
        control_socket.ask(runtime.control_path, request, _TIMEOUT_S, one.fds)
    except NoAnswer:
        attachment.close(one.fds)
        raise
    except HostError:
        tier_files.give_back(one)
        raise
    attachment.close(one.fds)
    return one


def is_used(runtime: Runtime, name: str) -> bool:
    """Whether the worker has made a tier of ``name``; one that never encrypted can't yet.

    The next worker can (``worker_tiers.py``).  Raises `HostError` without an answer.
    """
    path = Path(runtime.mountpoint()) / "params" / PARAMETER
    try:
        policies = read_file(path, ANSWER_TIMEOUT_S)
    except OSError as exc:
        raise HostError(f"{runtime.name} can't be asked for its tiers: {exc.strerror}") from exc
    return any(f"tier={name}" in line.split() for line in policies.splitlines())


def remove(runtime: Runtime, name: str) -> None:
    """Have the device do without the tier ``name``, and give its files back.

    Raises `HostError`, and changes nothing, where anything is on it.
    """
    require_supervisor(runtime)
    one = next((a for a in runtime.config().attachments if a.name == TIER + name), None)
    if one is None:
        raise InvalidArgument(f"{runtime.name} has no tier '{name}' that can be removed")
    control_socket.ask(runtime.control_path, f"{DETACH} {one.name}", _TIMEOUT_S)
    tier_files.release(one, runtime.name)


def set_policy(runtime: Runtime, spec: TierSpec) -> None:
    """What ``spec`` says of priority and limit, where it does.  Raises `HostError`."""
    words = spec.policy_words()
    if not words:
        return
    text = " ".join([f"tier={spec.name}", *words])
    try:
        write_file(Path(runtime.mountpoint()) / "params" / PARAMETER, text)
    except OSError as exc:
        raise HostError(f"tier '{spec.name}' can't be set up: {exc.strerror}") from exc


def names(runtime: Runtime) -> list[str]:
    """Of its tiers, those that it was given."""
    found = [one.tier_name for one in runtime.config().attachments if one.name.startswith(TIER)]
    if runtime.config().backing and runtime.config().backing_layout == "packed":
        found.insert(0, BACKING_NAME)  # of a device that an older version brought up
    return found


def require_supervisor(runtime: Runtime) -> None:
    """Raises `HostError` where no supervisor would hold a tier's files."""
    runtime.mountpoint()
    if not is_up(runtime) or supervisor_of(runtime) is None:
        raise HostError(f"{runtime.name} has no supervisor; try: fuseswap up {runtime.name}")

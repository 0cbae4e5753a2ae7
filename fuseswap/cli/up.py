"""``fuseswap up``: mount, attach the loop device, make and enable the swap."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fuseswap.cli import below_zswap, config_files, configured, up_again
from fuseswap.cli.host_settings import restore_settings
from fuseswap.cli.output import print_json
from fuseswap.cli.parser import whole
from fuseswap.daemon import bring_up, config, device_info, memory_limits, tier_files
from fuseswap.daemon.device_files import LAYOUTS, RESEND
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime, runtime_root
from fuseswap.errors import FuseswapError, HostError, InvalidArgument, in_words
from fuseswap.linux import sd_notify, swap_area, sysctl
from fuseswap.linux.ending import Undo
from fuseswap.linux.zswap import Zswap
from fuseswap.sizes import format_size
from fuseswap.transport import TRANSPORTS

NOTIFY_TIMEOUT_S = 30.0


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "up",
        help="mount, attach the loop device, make and enable the swap",
        description="Mount, attach the loop device, make and enable the swap.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    _add_device_options(parser)
    parser.add_argument(
        "--stripes",
        type=whole,
        metavar="N",
        help="so many workers and loop devices under one name, which share sizes and pool limit",
    )
    parser.add_argument(
        "--priority", type=whole, default=config.DEFAULT_PRIORITY, help="default 100"
    )
    _add_worker_options(parser)
    parser.add_argument(
        "--notify",
        action="store_true",
        help="tell systemd (Type=notify), and leave the memory in its descriptor store",
    )
    _add_kernel_options(parser)
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="share neither contents nor dictionaries between pages: sizes and times tell one "
        "user of another's",
    )
    parser.add_argument(
        "--seccomp",
        choices=("on", "off"),
        default="on",
        help="the worker may make only the system calls it needs; off for plugins that need more "
        "(default on)",
    )
    parser.add_argument("--no-swapon", action="store_true", help="stop after the loop device")
    parser.add_argument("--json", action="store_true", help="print the device as JSON")
    parser.add_argument(
        "--all", action="store_true", help="every device of the configuration files, and no other"
    )
    # Its processes heed what tests set in the environment: see ``daemon/environment.py``.
    parser.add_argument("--testing", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    """The options that say what a device is."""
    parser.add_argument("--size", default=config.DEFAULT_SIZE, help="of the swap (default 2G)")
    parser.add_argument(
        "--pool-limit",
        default=config.DEFAULT_POOL_LIMIT,
        help="most memory for compressed pages: 512M, or 25%% of RAM (default 25%%)",
    )
    parser.add_argument(
        "--compressor",
        help="lz4 (default; below zswap zstd), zstd[:LEVEL] or a plugin's",
    )
    parser.add_argument(
        "--backing",
        default="none",
        metavar="PATH[,encrypt=no]",
        help="file or block device for cold pages, or none (default); encrypted by default",
    )
    parser.add_argument(
        "--tier",
        action="append",
        default=[],
        metavar="SPEC",
        help="a further place for cold pages, as file:/path,priority=5; again and again",
    )
    parser.add_argument(
        "--backing-layout",
        default=config.DEFAULT_LAYOUT,
        choices=LAYOUTS,
        help="packed: compressed, whole segments (default); in-place: each page at its own offset",
    )
    parser.add_argument(
        "--raw",
        action="append",
        default=[],
        metavar="SIZE",
        help="allow a backend raw0 (again: raw1, ...) of uncompressed pages, to be added later: "
        "see fuseswap backend; takes no memory until then",
    )
    parser.add_argument(
        "--transport", default=config.DEFAULT_TRANSPORT, choices=TRANSPORTS, help="default devfuse"
    )
    parser.add_argument(
        "--resend",
        default=config.DEFAULT_RESEND,
        choices=RESEND,
        help="off: keep requests in flight in a journal, as before Linux 6.9 (default auto)",
    )


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    """When a worker is replaced, and by what."""
    parser.add_argument(
        "--watchdog",
        type=whole,
        default=config.DEFAULT_WATCHDOG_S,
        metavar="SECONDS",
        help="replace a worker that hangs for so long (default 5; 0: never)",
    )
    parser.add_argument(
        "--standby",
        choices=("on", "off"),
        default="on",
        help="keep a second worker ready, for the death of the first (default on)",
    )


def _add_kernel_options(parser: argparse.ArgumentParser) -> None:
    """The settings of the kernel that `up` changes and `down` puts back."""
    parser.add_argument(
        "--tune",
        default=config.DEFAULT_TUNE,
        choices=config.TUNE,
        help="settings of vm that keep swap-outs moving, put back by `down`: what costs no memory "
        "(auto, default), all of them (on), none (off)",
    )
    parser.add_argument(
        "--below-zswap",
        nargs="?",
        type=below_zswap.percent,
        const=config.DEFAULT_BELOW_PERCENT,
        default=0,
        metavar="PERCENT",
        help="switch zswap on in front of it, with a pool of so much of memory (default "
        f"{config.DEFAULT_BELOW_PERCENT}); `down` puts zswap back",
    )


def require_root(what: str) -> None:
    """Raise `HostError` for an ordinary user."""
    if os.geteuid() != 0:
        raise HostError(f"{what} needs root; try: sudo fuseswap ...")


@contextmanager
def _undone_if_ended(runtime: Runtime) -> Iterator[Undo]:
    """What `up` had done, and a line that says so where a signal ended it."""
    try:
        with Undo() as undo:
            yield undo
    except KeyboardInterrupt as exc:
        exc.add_note(f"'up' was interrupted: {runtime.name} is as it was before")
        raise


def config_of(options: argparse.Namespace, memory_bytes: int) -> config.DeviceConfig:
    """What ``options`` ask for; raises `InvalidArgument`."""
    if not options.backing:
        raise InvalidArgument("--backing is empty; give a path, or 'none'")
    return config.DeviceConfig.parse(
        name=options.name,
        size=options.size,
        pool_limit=options.pool_limit,
        compressor=options.compressor,
        transport=options.transport,
        mountpoint=str(Runtime(options.name).default_mountpoint),
        priority=options.priority,
        backing=options.backing,
        backing_layout=options.backing_layout,
        resend=options.resend,
        watchdog_s=options.watchdog,
        standby=options.standby == "on",
        raw=options.raw,
        memory_bytes=memory_bytes,
        tiers=options.tier,
        testing=options.testing,
        isolate=options.isolate,
        seccomp=options.seccomp == "on",
        below_zswap=options.below_zswap,
    )


def run(options: argparse.Namespace) -> int:
    """Bring a device up; one that is up already is described, and changed where files say so."""
    if options.all:
        _refuse_more_than(options, options.parse(["up", "--all"]))
        return _all(options.parse, options.act)
    section = configured.section_of(options.name)
    if section and section.skipped:
        print(f"{options.name} is left out: {section.skipped}")
        return 0
    runtime = Runtime(options.name)
    total_bytes = swap_area.memory_bytes()
    wanted = config_of(options, total_bytes)
    if wanted.below_zswap:
        Zswap(runtime_root()).require()
    require_root("'up' (loop devices and swapon)")
    stored = sd_notify.stored()
    if not options.notify:
        os.environ.pop(sd_notify.SOCKET, None)  # it is somebody else's
    with runtime.lock(), _undone_if_ended(runtime) as undo:
        was_up = device_info.is_up(runtime)
        info = bring_up.up(runtime, wanted, undo, swapon=not options.no_swapon, stored=stored)
        fixed: list[str] = []
        if section:
            plain = options.parse(["up", options.name])
            named = up_again.named_options(options, plain, section)
            fixed = up_again.apply(runtime, wanted, section, named, was_up=was_up)
        pools_bytes = wanted.pool_limit_bytes + total_bytes * wanted.below_zswap // 100
        notes = [] if was_up else [memory_limits.crowding(pools_bytes, total_bytes)]
        if options.tune != "off" and not options.no_swapon:
            if not was_up:
                undo.add(restore_settings)
            settings = sysctl.recommended(total_bytes, thorough=options.tune == "on")
            notes.append(sysctl.Sysctl(runtime_root()).tune(runtime.name, settings))
        if not options.no_swapon:
            notes.append(below_zswap.put_below(runtime, was_up=was_up))
        ready = ("READY=1", f"MAINPID={info.supervisor_pid}")
        sd_notify.notify(*ready, timeout_s=NOTIFY_TIMEOUT_S)
    _tell(options, runtime, info, notes, was_up=was_up)
    if fixed:
        print(
            f"fuseswap: {info.name} is up with another {', '.join(fixed)}, which can't be changed "
            "while it runs",
            file=sys.stderr,
        )
        return 1
    return 0


def _tell(
    options: argparse.Namespace,
    runtime: Runtime,
    info: device_info.DeviceInfo,
    notes: list[str | None],
    *,
    was_up: bool,
) -> None:
    if options.json:
        print_json(asdict(info))
    else:
        what = "is up already" if was_up else "is up"
        print(f"{info.name} {what}: {format_size(info.size_bytes)} on {info.loop}")
    for note in (*filter(None, notes), *notes_of(runtime, was_up=was_up)):
        print(f"note: {note}", file=sys.stderr)


def notes_of(runtime: Runtime, *, was_up: bool) -> list[str]:
    """What a person should know of the device."""
    notes = []
    state = runtime.state()
    if not state.protection or not state.protection.complete:
        notes.append("the worker is not fully protected (see: fuseswap check)")
    if not was_up:
        notes += _notes_of_tiers(runtime)
    if not runtime.config().resumes:
        notes.append("the pyfuse3 transport sees no discards and can't resume after a crash")
    return notes


def _refuse_more_than(options: argparse.Namespace, alone: argparse.Namespace) -> None:
    """Raise `InvalidArgument` for a name or an option that would have no effect."""
    ours = {name: value for name, value in vars(options).items() if not callable(value)}
    if any(value != getattr(alone, name) for name, value in ours.items()):
        raise InvalidArgument(
            "'up --all' takes nothing else: files of configuration have the options of each device"
        )


def _all(
    parse: Callable[[Sequence[str]], argparse.Namespace],
    act: Callable[[argparse.Namespace], int],
) -> int:
    """One after the other, whether or not the one before came up; returns the last fault's code."""
    names = list(config_files.sections())
    if not names:
        print("no configuration file has a device (see: fuseswap config default)")
    code = 0
    for name in names:
        try:
            words = configured.with_section(["up", name], name)
            one = parse(words)
            one.parse, one.act = parse, act
            code = act(one) or code
        except (FuseswapError, OSError) as exc:
            print(f"fuseswap: {name}: {in_words(exc)}", file=sys.stderr)
            code = 1 if isinstance(exc, InvalidArgument) else 2
    return code


def _notes_of_tiers(runtime: Runtime) -> list[str]:
    """What a person should know of its files and servers."""
    settings, state = runtime.config(), runtime.state()
    notes = [note for one in settings.attachments for note in tier_files.notes_of(one)]
    if settings.backing and state.former_of_backing:
        notes.append(
            f"{settings.backing} held pages of '{state.former_of_backing}', which never went "
            "down; they are written over"
        )
    return notes

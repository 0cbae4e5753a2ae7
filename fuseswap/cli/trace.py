"""``fuseswap trace``: write down what a device is asked for, and look at that."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from fuseswap.cli.output import print_json
from fuseswap.cli.parser import add_commands, whole
from fuseswap.daemon import tracing
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.frontswap.trace_ring import DISCARD, EVENT_BYTES, LOAD, MAX_PAGES, STORE
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import KIB, PAGE_SHIFT

if TYPE_CHECKING:
    from fuseswap.laboratory.trace_format import Event
    from fuseswap.laboratory.trace_summary import Contents, Summary

_FORMATS = ("blktrace", "msr", "snia")
_READY_WITHIN_S = 30.0
_WRITTEN_WITHIN_S = 60.0
_KINDS = {LOAD: "load", STORE: "store", DISCARD: "discard"}


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "trace",
        help="record what a device is asked for, and show it",
        description="Record loads, stores and discards of a device, and look at such a record.",
    )
    actions = add_commands(parser, "ACTION")
    start = actions.add_parser("start", help="record to a file, until `trace stop`")
    start.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    start.add_argument("--to", required=True, metavar="FILE", help="a new file")
    start.add_argument("--limit", default="1G", metavar="SIZE", help="of the file (default 1G)")
    start.add_argument(
        "--buffer", default="8M", metavar="SIZE", help="memory for events on their way (8M)"
    )
    start.set_defaults(run=run_start)
    stop = actions.add_parser("stop", help="record no more")
    stop.add_argument("name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0")
    stop.set_defaults(run=run_stop)
    show = actions.add_parser("show", help="print its events, one a line")
    show.add_argument("file", metavar="FILE")
    show.add_argument("--first", type=whole, metavar="N", help="only the first N")
    show.set_defaults(run=run_show)
    summary = actions.add_parser("summary", help="how much, of what, how often again")
    summary.add_argument("file", metavar="FILE")
    summary.add_argument("--json", action="store_true", help="as JSON")
    summary.set_defaults(run=run_summary)
    bringing = actions.add_parser("import", help="make a trace of one of another program")
    bringing.add_argument("file", metavar="FILE", help="text; - for standard input")
    bringing.add_argument("--format", choices=_FORMATS, required=True)
    bringing.add_argument("--to", required=True, metavar="FILE", help="a new file")
    bringing.add_argument("--seed", type=whole, default=0, metavar="N", help="of sizes (0)")
    bringing.set_defaults(run=run_import)


def run_start(options: argparse.Namespace) -> int:
    """Have a recorder, then hand its ring to the device."""
    runtime = Runtime(options.name)
    path = os.path.abspath(options.to)
    capacity = 1 << (max(parse_size(options.buffer), 64 * KIB) // EVENT_BYTES).bit_length() - 1
    limit = parse_size(options.limit)
    with runtime.lock():
        tracing.check(runtime)
        ring = tracing.make_memory(capacity)
        try:
            recorder = _start_recorder(runtime.name, path, limit, ring)
            try:
                tracing.attach(runtime, ring, path, recorder.pid)
            except BaseException:
                recorder.kill()
                recorder.wait()
                os.unlink(path)
                raise
        finally:
            os.close(ring)
    print(f"{runtime.name} is traced to {path}; end it with: fuseswap trace stop {runtime.name}")
    return 0


def _start_recorder(name: str, path: str, limit: int, ring: int) -> subprocess.Popen[bytes]:
    """Once it has its file.  Raises `HostError`."""
    ours, theirs = os.pipe()
    words = [name, path, str(limit), str(ring), str(theirs)]
    with open(ours, "rb") as said, open(os.devnull, "r+b") as null:
        recorder = subprocess.Popen(
            [sys.executable, "-I", "-m", "fuseswap.cli.trace_recorder", *words],
            stdin=null,
            stdout=null,
            stderr=null,
            pass_fds=(ring, theirs),
            start_new_session=True,
            cwd="/",
        )
        os.close(theirs)
        answer = said.read()
    if answer != b"+":
        recorder.wait()
        raise HostError(json.loads(answer) if answer else "the recorder does not start")
    return recorder


def run_stop(options: argparse.Namespace) -> int:
    """Stop the device, then wait for the file."""
    runtime = Runtime(options.name)
    with runtime.lock():
        found = tracing.running(runtime)
        if found is None:
            raise InvalidArgument(f"{runtime.name} is not traced")
        tracing.detach(runtime)
    from fuseswap.laboratory.trace_format import TraceReader

    path = str(found["path"])
    try:
        with open(path, "rb") as file:
            _wait_for(file, path)
            reader = TraceReader(file)
            events = sum(1 for _ in reader.events())
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    if reader.reason is None:
        raise HostError(f"the recorder died: {path} has only its first {events} events")
    print(f"{path}: {events} events, {reader.dropped} dropped")
    return 0


def _is_written(file: BinaryIO) -> bool:
    """Whether a recorder has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _wait_for(file: BinaryIO, path: str) -> None:
    """Until its recorder lets go of it."""
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while _is_written(file):
        if time.monotonic() > deadline:
            raise HostError(f"the recorder does not end; {path} is not complete yet")
        time.sleep(0.05)


# -- what is in one ---------------------------------------------------------------------


def open_trace(path: str) -> BinaryIO:
    """Raises `HostError`."""
    try:
        return open(path, "rb")
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc


def run_show(options: argparse.Namespace) -> int:
    """A line for each event."""
    from fuseswap.laboratory.trace_format import TraceReader
    from fuseswap.laboratory.trace_summary import Contents

    contents = Contents()
    with open_trace(options.file) as file:
        for event in islice(TraceReader(file).events(), options.first):
            print(_line(event, contents))
    return 0


def _line(event: Event, contents: Contents) -> str:
    from fuseswap.laboratory.trace_format import CLASS_NAMES
    from fuseswap.laboratory.trace_summary import place_name

    start = f"{event.time_ns / 1e9:.6f} {_KINDS[event.kind]} {event.page}"
    if event.kind == DISCARD:
        contents.discard(event)
        return f"{start} pages={event.number}"
    if event.kind == LOAD:
        return f"{start} from={place_name(event).replace(' ', '')} size={event.size}"
    kind = "duplicate" if contents.store(event) else CLASS_NAMES[event.kind_of_contents]
    return f"{start} {kind} size={event.size} hash={event.number:016x}"


def run_summary(options: argparse.Namespace) -> int:
    """A page of text, or the JSON."""
    from fuseswap.laboratory.trace_format import TraceReader
    from fuseswap.laboratory.trace_summary import summarize

    with open_trace(options.file) as file:
        unfinished = "not yet" if _is_written(file) else "cut off"
        reader = TraceReader(file)
        found = summarize(reader.events())
        ended = reader.reason or unfinished
    numbers = {**asdict(found), "dropped": reader.dropped, "ended": ended}
    if options.json:
        print_json(numbers)
        return 0
    _print_summary(found)
    print(f"dropped    {reader.dropped}")
    print(f"ended      {ended}")
    return 0


def _print_summary(found: Summary) -> None:
    print(f"time       {found.seconds:.1f} s")
    print(f"pages      {found.pages} ({format_size(found.pages << PAGE_SHIFT)})")
    print(f"stores     {found.stores}, {found.duplicates} of contents that another page had")
    for name, count in sorted(found.classes.items()):
        print(f"             {name} {count}")
    print(f"stored     {found.stored_bytes} bytes")
    print(f"loads      {found.loads}, {found.ahead} of the page behind the one before")
    for name, count in sorted(found.places.items()):
        print(f"             from {name} {count}")
    print(f"discards   {found.discards} of {found.discarded_pages} pages")
    print("sizes      " + " ".join(map(str, found.sizes)) + "  (each 512 bytes more)")
    last = max((at for at, count in enumerate(found.distances) if count), default=0)
    print("distances  " + " ".join(map(str, found.distances[: last + 1])) + "  (0, 1, 2-3, 4-7, …)")
    print(
        "in use     " + " ".join(map(str, found.working_set)) + "  (pages, by tenths of the time)"
    )


def run_import(options: argparse.Namespace) -> int:
    """Write a trace."""
    from fuseswap.laboratory.importers import import_file
    from fuseswap.laboratory.trace_format import TraceWriter

    source = sys.stdin if options.file == "-" else None
    try:
        lines = source or open(options.file, errors="replace")  # noqa: SIM115  closed below
        with lines, open(options.to, "xb") as file:
            about = {"page_count": MAX_PAGES, "source": options.format, "seed": options.seed}
            writer = TraceWriter(file, about)
            skipped = import_file(lines, options.format, writer, options.seed)
    except OSError as exc:
        raise HostError(f"{exc.filename}: {exc.strerror}") from exc
    print(f"{options.to}: {writer.events} events, {skipped} lines left out")
    return 0

"""Parameters: one declarative table.

It makes the files in ``params/``, validates what is written to them, feeds
``fuseswap get`` and ``set`` and the reference in ``docs/parameters.md``.  To add
a parameter, add a row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fuseswap.errors import InvalidArgument, Isolated
from fuseswap.filesystem import policy_settings, recompression_settings
from fuseswap.filesystem.parameter_values import (
    parse_number,
    parse_switch,
    show_limit,
    show_switch,
)
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.sizes import parse_size
from fuseswap.units import MIB, SEGMENT_BYTES

if TYPE_CHECKING:  # commands read the table, and have no memory for a device
    from fuseswap.filesystem.device import Device
    from fuseswap.frontswap.raw_file import RawFile
    from fuseswap.reclaim.policy import Choice

log = logging.getLogger(__name__)

MIN_POOL_LIMIT_BYTES = 8 * MIB
MAX_BUSY_POLL_US = 1000
MAX_TIER_TIMEOUT_S = 600
MAX_BATCH = 12
MIN_RESERVE_BYTES = 4 * MIB
MAX_RESERVE_BYTES = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Parameter:
    """``get`` renders the value as text; ``set`` takes text, raises `InvalidArgument`."""

    name: str
    values: str
    help: str
    get: Callable[[Device], str]
    set: Callable[[Device, str], None]
    lasting: bool = True  # a later worker sets it again


def _set_same_filled(device: Device, text: str) -> None:
    device.cache.encoder.same_filled_pages_enabled = parse_switch(text)


def _set_non_same_filled(device: Device, text: str) -> None:
    device.cache.encoder.non_same_filled_pages_enabled = parse_switch(text)


def _set_pool_limit(device: Device, text: str) -> None:
    limit = parse_size(text)
    if device.host.limit_is_shared():
        raise InvalidArgument("all stripes share one pool limit: name their set instead of one")
    if limit < MIN_POOL_LIMIT_BYTES:
        raise InvalidArgument(f"pool_limit_bytes is at least {MIN_POOL_LIMIT_BYTES}")
    device.cache.pool_limit_bytes = limit - limit % SEGMENT_BYTES


def _set_reserve(device: Device, text: str) -> None:
    size = parse_size(text)
    if not MIN_RESERVE_BYTES <= size <= MAX_RESERVE_BYTES:
        raise InvalidArgument(f"reserve_bytes is {MIN_RESERVE_BYTES} to {MAX_RESERVE_BYTES}")
    device.cache.log.frames.set_ready(size // SEGMENT_BYTES)


def _set_busy_poll(device: Device, text: str) -> None:
    device.busy_poll_us = parse_number(text, 0, MAX_BUSY_POLL_US)


def _set_accept_threshold(device: Device, text: str) -> None:
    device.writeback.accept_threshold_percent = parse_number(text, 1, 99)


def _set_batch_size(device: Device, text: str) -> None:
    device.in_flight.batch_size = parse_number(text, 1, MAX_BATCH)


def _set_writeback_limit(device: Device, text: str) -> None:
    device.budget.left_bytes = None if text == "none" else parse_size(text)


def _set_age(device: Device, text: str) -> None:
    device.writeback.writeback_age_seconds = parse_number(text, 0, 7 * 24 * 3600)


def _policy(of: str, what: str, choice: Callable[[Device], Choice]) -> Parameter:
    def select(device: Device, name: str) -> None:
        choice(device).select(name)
        device.evictor.reset_admission()

    values = "default | NAME of a plugin"
    return Parameter(f"{of}_policy", values, what, lambda device: choice(device).name, select)


def _set_shrinker(device: Device, text: str) -> None:
    device.writeback.shrinker_enabled = parse_switch(text)


def _set_isolate(device: Device, text: str) -> None:
    if parse_switch(text):
        device.cache.dedup.forbid()
        device.recompression.dictionaries.forbid()
    elif device.cache.dedup.is_forbidden:
        raise Isolated


def _set_exclusive_loads(device: Device, text: str) -> None:
    device.swapfile.exclusive_loads = parse_switch(text)


def _set_ratio(device: Device, text: str) -> None:
    percent = parse_number(text, 1, 100)
    if percent < 100:
        _place(device)
    device.cache.encoder.max_compression_ratio = percent


def _set_writethrough(device: Device, text: str) -> None:
    switch = parse_switch(text)
    if switch or device.place is not None:
        _place(device).writethrough = switch


def _show_tiers(device: Device) -> str:
    """A line for each tier that is there, the first written to first."""
    entries = sorted(device.tiers, key=lambda entry: (-entry.policy.priority, entry.number))
    return "\n".join(
        f"tier={entry.tier.name} {entry.policy} state={entry.state}"
        + (" volatile=Y" if entry.tier.volatile else "")
        for entry in entries
        if entry.tier is not None
    )


def _set_tier(device: Device, text: str) -> None:
    words = text.split()
    name = words[0].removeprefix("tier=") if words else ""
    if not words or not words[0].startswith("tier=") or len(words) < 2:
        raise InvalidArgument(f"'{text}' is not: tier=NAME and what is to change")
    device.set_tier_policy(name, words[1:])


def _set_tier_timeout(device: Device, text: str) -> None:
    device.reader.timeout_s = parse_number(text, 1, MAX_TIER_TIMEOUT_S)
    device.tiers.set_timeout(device.reader.timeout_s)
    if device.place is not None:
        device.place.writes.set_timeout(device.reader.timeout_s)


def _place(device: Device) -> RawFile:
    if device.place is None:
        raise InvalidArgument("this needs a backing file with the layout in-place")
    return device.place


PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "compressor",
        "lz4 | zstd:LEVEL | NAME:LEVEL of a plugin",
        "What new pages are compressed with; stored pages keep their codec.",
        lambda device: device.cache.encoder.compressor.name,
        lambda device, text: device.cache.encoder.set_compressor(text),
    ),
    Parameter(
        "pool_limit_bytes",
        "bytes, or 512M, 2G",
        "The most memory compressed pages may take, in whole segments of 1 MiB.",
        lambda device: str(device.cache.pool_limit_bytes),
        _set_pool_limit,
    ),
    Parameter(
        "reserve_bytes",
        "4M to 1024M",
        "Free segments whose memory is there, so that no store waits for the system's.",
        lambda device: str(device.cache.log.frames.ready * SEGMENT_BYTES),
        _set_reserve,
    ),
    Parameter(
        "recomp_algorithm",
        "none | zstd:LEVEL",
        "What cold pages are compressed with again; on their way to the file it is zstd:1.",
        lambda device: device.recompression.algorithm,
        recompression_settings.set_algorithm,
    ),
    Parameter(
        "recompress_age_seconds",
        "0 to 604800 seconds",
        "Segments sealed longer ago than this are recompressed; 0: age alone recompresses nothing.",
        lambda device: str(device.recompression.policy.age_seconds),
        recompression_settings.set_age,
    ),
    Parameter(
        "recompress",
        "all | idle=SECONDS",
        "Recompress now; reading it tells how far that is.",
        lambda device: device.recompression.progress,
        lambda device, text: device.recompression.ask(ReclaimRequest.parse(text)),
        lasting=False,
    ),
    Parameter(
        "recompress_cpu_percent",
        "1 to 100 percent",
        "Recompression takes no more of one processor than this, unless stores wait for it.",
        lambda device: str(device.recompression.thread.cpu_percent),
        recompression_settings.set_cpu_percent,
    ),
    Parameter(
        "dictionary_gain_percent",
        "0 to 100 percent",
        "A dictionary is kept where it saves this much of pages it was not trained on; 100: none.",
        lambda device: str(device.recompression.dictionaries.gain_percent),
        recompression_settings.set_gain,
    ),
    Parameter(
        "same_filled_pages_enabled",
        "Y | N",
        "Keep a page of one repeated 8-byte word as that word alone.",
        lambda device: show_switch(device.cache.encoder.same_filled_pages_enabled),
        _set_same_filled,
    ),
    Parameter(
        "non_same_filled_pages_enabled",
        "Y | N",
        "Take pages that are not same-filled; N refuses them (ENOSPC).",
        lambda device: show_switch(device.cache.encoder.non_same_filled_pages_enabled),
        _set_non_same_filled,
    ),
    Parameter(
        "dedup",
        "auto | on | off",
        "Keep the same contents once, whatever the number of pages; auto: where that is worth it.",
        lambda device: device.cache.dedup.switch,
        lambda device, text: device.cache.dedup.set_switch(text),
    ),
    Parameter(
        "isolate",
        "Y | N",
        "Share neither contents nor dictionaries; Y stays until `down`.",
        lambda device: show_switch(device.cache.dedup.is_forbidden),
        _set_isolate,
    ),
    Parameter(
        "max_compression_ratio",
        "1 to 100 percent",
        "In-place layout: a page that compresses to more than this goes to its place; 100: none.",
        lambda device: str(device.cache.encoder.max_compression_ratio),
        _set_ratio,
    ),
    Parameter(
        "writethrough",
        "Y | N",
        "In-place layout: a page is stored in memory and written to its place at once.",
        lambda device: show_switch(device.place is not None and device.place.writethrough),
        _set_writethrough,
    ),
    Parameter(
        "accept_threshold_percent",
        "1 to 99 percent",
        "Once full, the pool is cleaned or written back until it is this full.",
        lambda device: str(device.writeback.accept_threshold_percent),
        _set_accept_threshold,
    ),
    Parameter(
        "writeback_batch_size",
        f"1 to {MAX_BATCH} segments",
        "At most so many segments are on their way to tiers at once.",
        lambda device: str(device.in_flight.batch_size),
        _set_batch_size,
    ),
    Parameter(
        "writeback_limit_bytes",
        "none, or bytes, or 512M, 2G",
        "How much may still be written out of memory; counts down.",
        lambda device: show_limit(device.budget.left_bytes),
        _set_writeback_limit,
    ),
    Parameter(
        "writeback_age_seconds",
        "0 to 604800 seconds",
        "Segments sealed longer ago than this are written back; 0: age alone moves nothing.",
        lambda device: str(device.writeback.writeback_age_seconds),
        _set_age,
    ),
    Parameter(
        "writeback",
        "all | incompressible | idle=SECONDS | pages=RANGES, max=SIZE, tier=NAME, more",
        "Write back now; reading it tells how far that is.",
        lambda device: device.writeback.request.progress(device.in_flight.count),
        lambda device, text: device.writeback.ask(ReclaimRequest.parse(text, leaves=True)),
        lasting=False,
    ),
    Parameter(
        "tier_params",
        "tier=NAME [priority=N] [limit=SIZE] [drain=Y|N]",
        "Which tier is written to first, how much it may take, and whether it is emptied.",
        _show_tiers,
        _set_tier,
        lasting=False,  # the header keeps it with the tier's name
    ),
    Parameter(
        "tier_timeout",
        f"1 to {MAX_TIER_TIMEOUT_S} seconds",
        "How long servers are asked for a page; then it is an I/O error.",
        lambda device: str(int(device.tiers.timeout_s)),
        _set_tier_timeout,
    ),
    Parameter(
        "scrub",
        "all | tier=NAME, rate=SIZE",
        "Read everything back and verify it; reading it tells what is bad so far.",
        lambda device: str(device.scrubber.request),
        lambda device, text: device.scrubber.ask(ScrubRequest.parse(text)),
        lasting=False,
    ),
    *(_policy(*one) for one in policy_settings.POLICIES),
    Parameter(
        "shrinker_enabled",
        "Y | N",
        "Under memory pressure of the machine, write back before the pool is full.",
        lambda device: show_switch(device.writeback.shrinker_enabled),
        _set_shrinker,
    ),
    Parameter(
        "backends",
        "add=NAME kind=raw order=first|last|N, remove=NAME, shrink=NAME to=SIZE",
        "Who is asked to keep a page, in order; reading it lists them.",
        lambda device: device.backends.describe(),
        lambda device, text: device.backends.ask(text),
        lasting=False,
    ),
    Parameter(
        "exclusive_loads",
        "Y | N",
        "A page that is read goes, a second later; refused on a swap, whose slots are read twice.",
        lambda device: show_switch(device.swapfile.exclusive_loads),
        _set_exclusive_loads,
    ),
    Parameter(
        "busy_poll_us",
        f"0 to {MAX_BUSY_POLL_US} microseconds",
        "How long devfuse asks for the next request before it sleeps; 0 never polls.",
        lambda device: str(device.busy_poll_us),
        _set_busy_poll,
    ),
)


def set_parameter(device: Device, parameter: Parameter, text: str) -> None:
    """Set it now and for every later worker of this device; raises `InvalidArgument`."""
    parameter.set(device, text)
    if parameter.lasting:
        changed = {parameter.name: parameter.get(device)}
        device.state.parameters = {**device.state.parameters, **changed}


def restore_parameters(device: Device, kept: Mapping[str, str], *, strictly: bool) -> None:
    """Set what a former worker had; logs what can't be, as a codec that is not registered now.

    A worker that does not start loses all pages: it goes on with what there is by default.
    Where another can go on, ``strictly``, it raises `InvalidArgument` instead.
    """
    for name, text in kept.items():
        try:
            parameter = find_parameter(name)
            if parameter.lasting:  # the others restore themselves
                parameter.set(device, text)
        except InvalidArgument as exc:
            if strictly:
                raise
            log.error("parameter %s is not what it was: %s", name, exc)


def find_parameter(name: str) -> Parameter:
    """The row called ``name``; raises `InvalidArgument`, naming those there are."""
    for parameter in PARAMETERS:
        if parameter.name == name:
            return parameter
    known = ", ".join(parameter.name for parameter in PARAMETERS)
    raise InvalidArgument(f"there is no parameter '{name}'; there are: {known}")

"""What a section of the configuration means: options of ``up``, and parameters.

Keys are the options of ``up`` without their dashes, the parameters, and what zram-generator calls
them.  `words` writes a section as a person would on the command line, so there is one place
where values are checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fuseswap.cli.config_files import Section, Value, sections
from fuseswap.cli.size_expression import evaluate
from fuseswap.daemon.config import DEFAULT_BELOW_PERCENT
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS, Parameter
from fuseswap.linux.swap_area import memory_bytes
from fuseswap.sizes import parse_size
from fuseswap.spelling import is_whole
from fuseswap.units import MIB

_ON = ("1", "y", "yes", "true", "on")
_OFF = ("0", "n", "no", "false", "off")
_ALGORITHM = re.compile(r"([\w:.+-]+)\s*(?:\(\s*level\s*=\s*(\d+)[^)]*\))?")
_SWAP_OPTIONS = {"", "defaults", "discard", "discard=pages", "discard=once"}


@dataclass(slots=True)
class Wanted:
    """Of one device.  ``skipped``: why there is to be none on this machine."""

    words: list[str] = field(default_factory=list)
    parameters: list[tuple[Parameter, str]] = field(default_factory=list)
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what it is for, and what it does to `Wanted`."""

    name: str
    help: str
    apply: Callable[[Wanted, str], None]


def _option(name: str) -> Callable[[Wanted, str], None]:
    return lambda wanted, text: wanted.words.extend((f"--{name}", text))


def _options(name: str) -> Callable[[Wanted, str], None]:
    """One for each word: SPECs have no spaces."""

    def apply(wanted: Wanted, text: str) -> None:
        for word in text.split():
            wanted.words.extend((f"--{name}", word))

    return apply


def _flag(name: str) -> Callable[[Wanted, str], None]:
    def apply(wanted: Wanted, text: str) -> None:
        if text.lower() not in _ON + _OFF:
            raise InvalidArgument(f"'{text}' is neither yes nor no")
        if text.lower() in _ON:
            wanted.words.append(f"--{name}")

    return apply


def _below_zswap(wanted: Wanted, text: str) -> None:
    """``1`` is a percentage here."""
    if not is_whole(text):
        if text.lower() not in _ON + _OFF:
            raise InvalidArgument(f"'{text}' is neither a percentage nor yes or no")
        text = str(DEFAULT_BELOW_PERCENT if text.lower() in _ON else 0)
    if int(text):
        wanted.words.append(f"--below-zswap={text}")


def _size(name: str) -> Callable[[Wanted, str], None]:
    """As on the command line, or an expression in MiB."""

    def apply(wanted: Wanted, text: str) -> None:
        try:
            parse_size(text, memory_bytes())
        except InvalidArgument:
            text = str(evaluate(text, memory_bytes()))
        wanted.words.extend((f"--{name}", text))

    return apply


def _mib(name: str) -> Callable[[Wanted, str], None]:
    def apply(wanted: Wanted, text: str) -> None:
        wanted.words.extend((f"--{name}", str(evaluate(text, memory_bytes()))))

    return apply


def _resident_limit(wanted: Wanted, text: str) -> None:
    if evaluate(text, memory_bytes()):  # 0 is zram-generator's "no limit"
        _mib("pool-limit")(wanted, text)


def _algorithm(wanted: Wanted, text: str) -> None:
    """The first one; further ones would recompress, which is done here anyway."""
    match = _ALGORITHM.match(text)
    if not match:
        raise InvalidArgument(f"'{text}' is not an algorithm; write it like zstd(level=3)")
    name, level = match.groups()
    wanted.words.extend(("--compressor", f"{name}:{level}" if level else name))


def _host_limit(wanted: Wanted, text: str) -> None:
    if text.lower() == "none":
        return
    if not is_whole(text):
        raise InvalidArgument(f"'{text}' is neither a number of MiB nor none")
    if memory_bytes() > int(text) * MIB:
        wanted.skipped = f"this machine has more memory than host-memory-limit = {text}"


def _fixed(name: str, allowed: set[str]) -> Callable[[Wanted, str], None]:
    def apply(wanted: Wanted, text: str) -> None:
        for word in text.split(","):
            if word.strip() not in allowed:
                words = ", ".join(sorted(allowed - {""}))
                raise InvalidArgument(f"{name} has '{word.strip()}', which it can't; only {words}")

    return apply


KEYS: tuple[Key, ...] = (
    Key("size", "of the swap: 2G, or an expression in MiB as min(ram / 2, 4096)", _size("size")),
    Key("pool-limit", "most memory for compressed pages: 512M, 25%, ...", _size("pool-limit")),
    Key("compressor", "lz4, zstd, zstd:LEVEL, or a plugin's", _option("compressor")),
    Key("stripes", "so many workers and loop devices under one name", _option("stripes")),
    Key("priority", "of the swap", _option("priority")),
    Key("backing", "file or block device for cold pages", _option("backing")),
    Key("backing-layout", "packed or in-place", _option("backing-layout")),
    Key("tier", "further places for cold pages, one SPEC or several", _options("tier")),
    Key("raw", "sizes of raw backends that may come later", _options("raw")),
    Key("transport", "devfuse or pyfuse3", _option("transport")),
    Key("resend", "auto or off", _option("resend")),
    Key("watchdog", "seconds until a worker that hangs is replaced", _option("watchdog")),
    Key("standby", "on or off", _option("standby")),
    Key("tune", "auto, on or off", _option("tune")),
    Key("seccomp", "on or off", _option("seccomp")),
    Key("isolate", "yes or no", _flag("isolate")),
    Key("below-zswap", "percent of memory for zswap in front, yes or no", _below_zswap),
    Key("zram-size", "zram-generator's size, an expression in MiB", _mib("size")),
    Key("zram-resident-limit", "zram-generator's pool-limit, in MiB", _resident_limit),
    Key("compression-algorithm", "zram-generator's compressor", _algorithm),
    Key("swap-priority", "zram-generator's priority", _option("priority")),
    Key("writeback-device", "zram-generator's backing", _option("backing")),
    Key("host-memory-limit", "no device on a machine with more memory, in MiB", _host_limit),
    Key("options", "zram-generator's; discard is always on", _fixed("options", _SWAP_OPTIONS)),
    Key("fs-type", "zram-generator's; swap and nothing else", _fixed("fs-type", {"swap"})),
)
_BY_NAME = {key.name: key for key in KEYS}
_BY_PARAMETER = {parameter.name.replace("_", "-"): parameter for parameter in PARAMETERS}
# With an option of `up`, which checks it before anything is made.
_AS_OPTIONS = {"pool-limit-bytes": "pool-limit"}


def wanted(name: str, section: Section) -> Wanted:
    """Raises `InvalidArgument`, with the file, for a key or a value that is not valid."""
    found = Wanted()
    for key, value in section.items():
        try:
            _apply(found, _AS_OPTIONS.get(key, key), value)
        except InvalidArgument as exc:
            raise InvalidArgument(f"{value.path}: [{name}] {key}: {exc}") from None
    return found


def _apply(found: Wanted, key: str, value: Value) -> None:
    if key in _BY_NAME:
        if value.text:
            _BY_NAME[key].apply(found, value.text)
    elif key in _BY_PARAMETER:
        found.parameters.append((_BY_PARAMETER[key], value.text))
    else:
        raise InvalidArgument("there is no such key (see: fuseswap config default)")


def section_of(name: str) -> Wanted | None:
    """What the files say of the device ``name``; None where they say nothing.

    Raises `InvalidArgument` or `HostError`.
    """
    section = sections().get(name)
    return None if section is None else wanted(name, section)


def with_section(arguments: Sequence[str], name: str) -> list[str]:
    """The ``arguments`` of ``up`` with those of its section before them: the later ones count."""
    section = section_of(name)
    at = arguments.index("up") + 1
    return [*arguments[:at], *(section.words if section else ()), *arguments[at:]]

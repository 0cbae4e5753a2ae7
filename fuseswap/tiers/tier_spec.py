"""What a person writes for a tier: ``KIND:REST``, and options behind it.

    file:/path   block:/dev/sdb   valkey://host:port   mirror:SPEC+SPEC   NAME-OF-PLUGIN:rest

    ,name=NAME       file0, block0, ..., the first that is free
    ,priority=N      the highest is written to first, equal ones take turns (``tier_policy.py``)
    ,limit=SIZE      holds at most so much
    ,size=SIZE       of a file that is made, or of a tier without a size of its own
    ,encrypt=yes|no  whether what is written there can be read by others

An option is a word and ``=`` behind a comma, so a path may hold commas and plus signs.  Nothing
is looked at here but the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import format_size, parse_size
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.units import MIB

FILE, BLOCK, MIRROR = "file", "block", "mirror"
KINDS_OF_FILES = (FILE, BLOCK)
OPTIONS = ("name", "priority", "limit", "size", "encrypt")
TIER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_KIND = re.compile(r"([a-z][a-z0-9_-]{0,30}):(.+)", re.DOTALL)
_OPTION = re.compile(r"(.*),([a-z]+)=([^,]*)", re.DOTALL)
NEXT_PART = re.compile(r"\+(?=[a-z][a-z0-9_-]*:)")
_PARTS = 2  # of a mirror


class TierSpec(NamedTuple):
    """``parts``: of a mirror, without options of their own.  None: as it is by default."""

    name: str
    kind: str
    rest: str
    priority: int | None = None
    limit_bytes: int | None = None
    size_bytes: int | None = None
    encrypt: bool | None = None
    parts: tuple[TierSpec, ...] = ()

    @property
    def leaves(self) -> tuple[TierSpec, ...]:
        """The parts of a mirror, else itself."""
        return self.parts or (self,)

    def policy_words(self) -> list[str]:
        """What it says of priority and limit, for `TierPolicy.changed`."""
        words = []
        if self.priority is not None:
            words.append(f"priority={self.priority}")
        if self.limit_bytes is not None:
            words.append(f"limit={self.limit_bytes}")
        return words


def parse_tier(text: str, taken: Collection[str] = ()) -> TierSpec:
    """``taken``: names of the tiers that there are.  Raises `InvalidArgument`."""
    rest, options = split_options(text)
    kind, rest = kind_of(rest, text)
    name = options.get("name") or _first_free(kind, taken)
    if not TIER_NAME.fullmatch(name):
        raise InvalidArgument(f"'{name}' is no name of a tier: a-z, 0-9, _ and -, 31 most")
    if name in taken:
        raise InvalidArgument(f"there is a tier '{name}' already")
    words = [f"{key}={options[key]}" for key in ("priority", "limit") if key in options]
    policy = TierPolicy().changed(words)
    return TierSpec(
        name=name,
        kind=kind,
        rest=rest,
        priority=policy.priority if "priority" in options else None,
        limit_bytes=policy.limit_bytes,
        size_bytes=_size(options["size"]) if "size" in options else None,
        encrypt=_yes_or_no(options["encrypt"]) if "encrypt" in options else None,
        parts=_parts(rest) if kind == MIRROR else (),
    )


def parse_tiers(texts: Collection[str], taken: Collection[str] = ()) -> tuple[TierSpec, ...]:
    """Several, in order; what one is named the next can't be.  Raises `InvalidArgument`."""
    found: list[TierSpec] = []
    for text in texts:
        found.append(parse_tier(text, {*taken, *(one.name for one in found)}))
    return tuple(found)


def parse_backing(text: str) -> tuple[str, bool]:
    """``PATH[,encrypt=yes|no]``: the path, and whether others can't read what is written there.

    Any other comma is of the path.  Raises `InvalidArgument`.
    """
    path, option, word = text.rpartition(",encrypt=")
    return (path, _yes_or_no(word)) if option else (text, True)


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the options, and these.  Raises `InvalidArgument`."""
    options: dict[str, str] = {}
    while match := _OPTION.fullmatch(text):
        text, key, value = match[1], match[2], match[3]
        if key not in OPTIONS:
            raise InvalidArgument(f"a tier has no option '{key}'; it has: {', '.join(OPTIONS)}")
        if key in options:
            raise InvalidArgument(f"'{key}' is there twice")
        options[key] = value
    return text, options


def kind_of(rest: str, text: str) -> tuple[str, str]:
    """Kind, and what follows it; ``text`` is all that was written.  Raises `InvalidArgument`."""
    match = _KIND.fullmatch(rest)
    if match is None:
        raise InvalidArgument(f"'{text}' is no tier; write it like file:/path or block:/dev/sdb")
    if match[1] in KINDS_OF_FILES and not match[2].startswith("/"):
        raise InvalidArgument(f"'{rest}' is no tier: the path must begin with /")
    return match[1], match[2]


def _parts(rest: str) -> tuple[TierSpec, ...]:
    texts = NEXT_PART.split(rest)
    parts = tuple(TierSpec(f"{number}", *kind_of(one, one)) for number, one in enumerate(texts))
    if len(parts) != _PARTS or any(part.kind == MIRROR for part in parts):
        raise InvalidArgument(f"a mirror is of two tiers, as mirror:file:/a+file:/b, not '{rest}'")
    return parts


def _first_free(kind: str, taken: Collection[str]) -> str:
    number = 0
    while f"{kind}{number}" in taken:
        number += 1
    return f"{kind}{number}"


def _size(text: str) -> int:
    size = parse_size(text)
    if size < MIB:
        raise InvalidArgument(f"size {text} is less than {format_size(MIB)}")
    return size - size % MIB


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise InvalidArgument(f"encrypt is yes or no, not '{text}'")
    return text == "yes"

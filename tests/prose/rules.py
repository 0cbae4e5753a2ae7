"""The rules for words, as checks of proselint beside those of its own that are taken.

sentences   at most 25 words; a piece of code counts as one
subjects    no "somebody", "nobody", "whoever"; no "what is ..." where a noun can stand
repeated    no word twice in a row
work        no number of an issue, no word about how the work was organised
units       a number with decimals has a unit, or says what it is a share of
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from proselint.checks import __register__ as of_proselint
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, CheckResult
from proselint.tools import LintFile

from tests.prose.text import END

MAX_WORDS = 25

# Of proselint's own.  Left out: typography, since pages are plain text too, and its repeated words,
# which it sees in "zstd:1 15.9 us".
TAKEN = (
    "annotations", "archaism", "cliches", "hedging", "industrial_language", "malapropisms",
    "misc", "mixed_metaphors", "mondegreens", "needless_variants", "nonwords",
    "oxymorons", "redundancy", "uncomparables", "weasel_words",
)  # fmt: skip

_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)[.!?][\"')\]]*(?=\s|$)")
_WORD = re.compile(r"\S*[\w\u25ae]\S*")

_SUBJECTS = re.compile(
    r"\b(?:somebody|nobody|whoever)\b"
    r"|(?:^|[.:;,(\u00b6]\s+)(?:(?:and|but|so)\s+)?(what (?:is|was|are|were)\b)(?![^.\u00b6]*\?)",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"(?<![\w-])(?!that\b|had\b)([a-z]+)\s+\1\b", re.IGNORECASE)
_WORK = re.compile(
    r"\bissues?\s+#?\d+|(?<![\w&/])#\d+\b|\b(?:milestone|sprint|assignee|pull request|user story"
    r"|work package|code review)s?\b|\bTODO\b|\b(?:this|next|last) session\b",
    re.IGNORECASE,
)
_DECIMAL = re.compile(r"(?<![\w.:/-])\d+\.\d+(?![\w.])")
_UNIT = (
    r"(?:ns|us|ms|s|min|h|seconds?|minutes?|hours?|days?|bytes?|[KMGT]i?B|[KMGT]|%|percent|GHz"
    r"|pages?|segments?|calls?|requests?|words?|points?)\b|%"
)
_QUALIFIED = re.compile(
    rf"\s*(?:{_UNIT}|(?:times?|to|and|or|of|a|an|per|as|MiB/s|x)\b|[,;)\u00b6]|\()", re.IGNORECASE
)
_VERSION = re.compile(
    r"(?:Linux|Python|kernels?|Debian|qemu|trio|fio|version|since|before|until|to|and|or|from|than)"
    r"\s+\(?$|[<>=]\s*$",
    re.IGNORECASE,
)


class Finding(NamedTuple):
    """One breach of one rule."""

    line: int
    rule: str
    message: str


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """First position and end of each sentence."""
    start = 0
    for block in text.split(END):
        begin = start
        for end in _SENTENCE_END.finditer(block):
            yield begin, start + end.end()
            begin = start + end.end()
        yield begin, start + len(block)
        start += len(block) + len(END)


def too_long(text: str, check: Check) -> Iterator[CheckResult]:
    """Sentences of more words than a reader keeps."""
    for start, end in sentences(text):
        found = list(_WORD.finditer(text, start, end))
        if len(found) > MAX_WORDS:
            begins = " ".join(word.group() for word in found[:4])
            span = (found[0].start(), end)
            message = f"{len(found)} words in one sentence: '{begins} ...'"
            yield CheckResult(check.path, message, span, None)


def named_by(pattern: re.Pattern[str], message: str) -> Callable[..., Iterator[CheckResult]]:
    """A check that complains about each match."""

    def matches(text: str, check: Check) -> Iterator[CheckResult]:
        for match in pattern.finditer(text):
            at = match.start(match.lastindex or 0)
            words = " ".join(text[at : match.end()].split())
            yield CheckResult(check.path, message.format(words), (at, match.end()), None)

    return matches


def without_unit(text: str, check: Check) -> Iterator[CheckResult]:
    """Numbers with decimals that say neither their unit nor a share of what."""
    for match in _DECIMAL.finditer(text):
        before, after = text[max(0, match.start() - 20) : match.start()], text[match.end() :]
        if not _QUALIFIED.match(after) and not _VERSION.search(before):
            message = f"{match.group()} of what?  A number has its unit"
            yield CheckResult(check.path, message, match.span(), None)


def _own() -> tuple[Check, ...]:
    kinds: dict[str, Callable[..., Iterator[CheckResult]]] = {
        "sentences": too_long,
        "subjects": named_by(_SUBJECTS, "'{}': name the thing"),
        "repeated": named_by(_REPEATED, "'{}' stands twice"),
        "work": named_by(_WORK, "'{}' is about how the work was organised"),
        "units": without_unit,
    }
    flags = CheckFlags(allow_quotes=True)
    return tuple(Check(check_type=kind, path=name, flags=flags) for name, kind in kinds.items())


OWN = _own()
_CONFIG = Config(
    max_errors=100_000,
    checks={**dict.fromkeys(TAKEN, True), **{check.path: True for check in OWN}},
)


def findings(text: str) -> list[Finding]:
    """What the rules say of a text of :mod:`tests.prose.text`, line by line."""
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many((*of_proselint, *OWN))
    if not text.strip():
        return []
    return [
        Finding(found.pos[0], found.check_result.check_path, found.check_result.message)
        for found in LintFile("", text).lint(_CONFIG)
    ]

"""The configuration files: what stands in which, and what holds in the end.

    /etc/fuseswap.conf             the first of /etc, /run, /usr/local/lib, /usr/lib that has one
    /etc/fuseswap.conf.d/*.conf    of all four, in the order of their names; of two with one name
                                   the first counts; an empty one hides the others

A section a device, as zram-generator has it.  A key that stands in several files is as in the last
one.  ``FUSESWAP_CONFIG_ROOT`` puts another directory before all four.  Root obeys these files at
boot, so one that another user may change is refused (``linux/trusted_file.py``).
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import private_files, trusted_file

NAME = "fuseswap.conf"
_PLACES = ("etc", "run", "usr/local/lib", "usr/lib")
_NO_DEFAULTS = "\n"  # no section can have that name


@dataclass(frozen=True, slots=True)
class Value:
    """Text of a key, and the file that it stands in."""

    text: str
    path: Path


Section = dict[str, Value]


def root() -> Path:
    """Below which all files are."""
    return Path(os.environ.get("FUSESWAP_CONFIG_ROOT") or "/")


def files() -> list[Path]:
    """All that count, the main one first."""
    places = [root() / place for place in _PLACES]
    main = next((place / NAME for place in places if (place / NAME).exists()), None)
    found: dict[str, Path] = {}
    for place in reversed(places):
        for path in (place / f"{NAME}.d").glob("*.conf"):
            found[path.name] = path
    return ([main] if main else []) + [found[name] for name in sorted(found)]


def sections() -> dict[str, Section]:
    """By name of the device, in the order in which they were first named.

    Raises `InvalidArgument` or `HostError` for a file that can't be read.
    """
    found: dict[str, Section] = {}
    for path in files():
        for name, keys in _read_trusted(path).items():
            section = found.setdefault(name, {})
            section.update({key: Value(text, path) for key, text in keys.items()})
    return found


def _read_trusted(path: Path) -> dict[str, dict[str, str]]:
    def text() -> str:
        found = trusted_file.read_text(str(path), private=False, one_name=False)
        found.encode()  # whether it is UTF-8
        return found

    return read(path, text)


def read(path: Path, text: Callable[[], str] | None = None) -> dict[str, dict[str, str]]:
    """One file, also one that others may change.  Raises `InvalidArgument` or `HostError`."""
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        default_section=_NO_DEFAULTS,
        empty_lines_in_values=False,
    )
    parser.optionxform = lambda optionstr: optionstr.lower().replace("_", "-")  # type: ignore[method-assign]
    try:
        parser.read_string((text or path.read_text)())
    except configparser.MissingSectionHeaderError as exc:
        raise InvalidArgument(f"{path}: line {exc.lineno} stands before any [section]") from None
    except configparser.DuplicateSectionError as exc:
        raise InvalidArgument(f"{path}: line {exc.lineno}: [{exc.section}] again") from None
    except configparser.DuplicateOptionError as exc:
        raise InvalidArgument(f"{path}: line {exc.lineno}: '{exc.option}' again") from None
    except configparser.ParsingError as exc:
        raise InvalidArgument(f"{path}: line {exc.errors[0][0]} is not KEY=VALUE") from None
    except UnicodeError:
        raise InvalidArgument(f"{path} is not text in UTF-8") from None
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    return {name: dict(parser.items(name)) for name in parser.sections()}


def save(name: str, keys: dict[str, str]) -> Path:
    """Have ``keys`` hold for the device ``name`` from now on; returns the file, of mode 0600.

    Raises `HostError`.
    """
    path = root() / "etc" / f"{NAME}.d" / f"90-{name}.conf"
    kept = _read_trusted(path).get(name, {}) if path.exists() else {}
    kept.update({key.replace("_", "-"): value for key, value in keys.items()})
    lines = ["# Written by `fuseswap set --save`.", f"[{name}]"]
    lines += [f"{key} = {value}" for key, value in kept.items()]
    try:
        _make_directory(path.parent)
        trusted_file.directory_at(str(path))
        private_files.replace(path, "\n".join(lines) + "\n")
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    return path


def _make_directory(path: Path) -> None:
    """Mode 0755, with what is missing above it, whatever the umask."""
    for each in (*reversed(path.parents), path):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)

"""``fuseswap install-host``: put what teaches a host to use fuseswap where it belongs.

`pip` installs the command and its modules.  The mount helper, the units, the man pages and the
completion of shells are installed with them, below ``share/`` of the environment.  They are copied
from there.  Each is noted with its hash, so `--uninstall` leaves a file that has changed since.
A Debian package has them in place, and installing them once more is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fuseswap.cli.up import require_root
from fuseswap.errors import HostError
from fuseswap.linux import trusted_file
from fuseswap.linux.json_file import write_json

_UNITS = "usr/local/lib/systemd/system"
# From where in the sources, or below ``share/`` of an environment, to where, and its mode.
_FILES = (
    ("mount/mount.fuseswap", "sbin/mount.fuseswap", 0o755),
    ("mount/fuseswap@.service", f"{_UNITS}/fuseswap@.service", 0o644),
    ("mount/swap-timeout.conf", f"{_UNITS}/swap.d/fuseswap.conf", 0o644),
    (
        "mount/fuseswap-generator",
        "usr/local/lib/systemd/system-generators/fuseswap-generator",
        0o755,
    ),
    (
        "mount/fuseswap.bash-completion",
        "usr/local/share/bash-completion/completions/fuseswap",
        0o644,
    ),
    ("mount/_fuseswap", "usr/local/share/zsh/site-functions/_fuseswap", 0o644),
)
_MAN_PAGES = "docs/man"  # each goes there:
_MAN = "usr/local/share/man/man8"
_COMMAND = "usr/local/bin/fuseswap"
_NOTES = "usr/local/lib/fuseswap-installed.json"
_SHARE = "share/fuseswap"
_PACKAGED = "of-debian-package"  # put there by ``scripts/package``


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "install-host",
        help="put command, mount helper, units, man pages and completion where they belong",
        description="Put command, mount helper, units, man pages and completion in place.",
    )
    parser.add_argument("--prefix", metavar="DIR", default="/", help="below this instead of /")
    parser.add_argument("--uninstall", action="store_true", help="take them away again")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print each path."""
    prefix = Path(options.prefix)
    if not prefix.is_dir():
        raise HostError(f"{prefix} is no directory")
    if prefix == Path("/"):
        require_root("'install-host'")
    if options.uninstall:
        return _uninstall(prefix)
    if (Path(sys.prefix) / _PACKAGED).exists():
        raise HostError("the Debian package has put all of it in place, and apt removes it again")
    for path in _install(prefix):
        print(path)
    return 0


def _install(prefix: Path) -> Iterator[Path]:
    """Yields what is there now.  Raises `HostError`, having changed nothing."""
    command = Path(sys.prefix) / "bin" / "fuseswap"
    contents = [(_source(name), prefix / to, mode) for name, to, mode in _FILES]
    pages = sorted(_source(_MAN_PAGES).glob("*.8"))
    contents += [(page, prefix / _MAN / page.name, 0o644) for page in pages]
    _refuse_a_strangers(command, (source for source, _, _ in contents))
    notes = {}
    for source, target, mode in contents:
        data = source.read_bytes()
        _make_directory(target.parent)
        half = target.with_name(f".{target.name}.new")
        half.write_bytes(data)
        half.chmod(mode)
        half.replace(target)
        notes[str(target.relative_to(prefix))] = hashlib.sha256(data).hexdigest()
        yield target
    link = prefix / _COMMAND
    if not link.exists() or not link.samefile(command):
        _make_directory(link.parent)
        half = link.with_name(f".{link.name}.new")
        half.unlink(missing_ok=True)
        half.symlink_to(command)
        half.replace(link)
    if link.is_symlink():
        notes[_COMMAND] = str(link.readlink())
    yield link
    write_json(prefix / _NOTES, notes)


def _make_directory(path: Path) -> None:
    """Mode 0755, with what is missing above it, whatever the umask."""
    for each in (*reversed(path.parents), path):
        if not each.exists():
            each.mkdir()
            each.chmod(0o755)


def _source(name: str) -> Path:
    """Of an environment, or of a clone that is used as it is."""
    places = (Path(sys.prefix) / _SHARE, Path(__file__).parent.parent.parent)
    for place in places:
        if (place / name).exists():
            return place / name
    raise HostError(f"{name} is not installed in {sys.prefix}; install fuseswap again")


def _refuse_a_strangers(command: Path, others: Iterable[Path]) -> None:
    """Root shall not run what another user may change, here or anywhere above.

    Raises `HostError`.
    """
    try:
        for path in (command, Path(sys.executable), Path(__file__), *others):
            try:
                owner = trusted_file.check(str(path)).st_uid
                why = f"belongs to user {owner}" if owner else ""
            except HostError as exc:
                why = str(exc).partition("; run: ")[0]
            if why:
                raise HostError(
                    f"{path} can be changed by others than root ({why}); install a copy that "
                    "can't: sudo python3 -m venv /usr/local/lib/fuseswap && "
                    "sudo /usr/local/lib/fuseswap/bin/pip install fuseswap"
                )
    except FileNotFoundError as exc:
        raise HostError(f"{exc.filename} is missing; install fuseswap with pip first") from None


def _uninstall(prefix: Path) -> int:
    """0, or 2 where something was changed since and stays."""
    try:
        notes: dict[str, str] = json.loads((prefix / _NOTES).read_text())
    except FileNotFoundError:
        print("nothing was installed here by install-host")
        return 0
    except ValueError:
        raise HostError(f"{prefix / _NOTES} is damaged; remove the files by hand") from None
    code = 0
    for name, noted in notes.items():
        path = prefix / name
        if not os.path.lexists(path):
            continue
        found = str(path.readlink()) if path.is_symlink() else _hash(path)
        if found == noted:
            path.unlink()
            print(f"removed {path}")
        else:
            print(f"fuseswap: {path} was changed since, and stays", file=sys.stderr)
            code = 2
    (prefix / _NOTES).unlink()
    return code


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

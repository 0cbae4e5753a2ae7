"""Settings of the kernel that devices change, and their way back.

Each is a file of one value.  A note in the directory of all devices has the values from before, the
values set, and the devices that wanted them.  The first `up` writes it, before the first value.
The last `down` puts back each value that no other program changed meanwhile.  The next `down` takes
devices that died without one off the list.  A reboot ends note and settings alike.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from fuseswap.linux import private_files
from fuseswap.linux.json_file import write_json

Value = TypeVar("Value", int, str)


class KeptSettings(Generic[Value]):
    """The files ``names`` below ``directory``, and the note at ``note_path``."""

    def __init__(
        self,
        note_path: Path,
        directory: Path,
        names: Sequence[str],
        parse: Callable[[str], Value],
    ) -> None:
        """``names`` in the order they are set; they are put back in the other.

        ``parse``: the text of a file as its value; raises `ValueError`.
        """
        self._note_path = note_path
        self._directory = directory
        self._names = names
        self._parse: Callable[[str], Value] = parse

    def read(self) -> dict[str, Value]:
        """The values that hold; a setting this kernel lacks is left out."""
        found = {}
        for name in self._names:
            try:
                found[name] = self._parse((self._directory / name).read_text().strip())
            except (OSError, ValueError):
                continue
        return found

    def change(
        self, device: str, choose: Callable[[dict[str, Value]], Mapping[str, Value]]
    ) -> dict[str, Value]:
        """Set for ``device`` what ``choose`` makes of the values that hold.

        Returns the values that the kernel refused.
        """
        with self._locked():
            note: dict[str, Any] = self._note()
            refused = {}
            current = self.read()
            for name, value in choose(current).items():
                if note["set"].get(name) != current[name]:  # else ours: the first note holds
                    note["before"][name] = current[name]
                note["set"][name] = value
                self._write_note({**note, "devices": sorted({*note["devices"], device})})
                if not self._write(name, value):
                    refused[name] = value
                    del note["before"][name], note["set"][name]
            note["devices"] = sorted({*note["devices"], device})
            self._write_note(note if note["set"] else None)
        return refused

    def restore(self, alive: set[str]) -> None:
        """Where none of those ``alive`` wanted the settings, put the old ones back."""
        if not self._note_path.exists():
            return
        with self._locked():
            note: dict[str, Any] = self._note()
            note["devices"] = sorted(set(note["devices"]) & alive)
            if note["devices"]:
                self._write_note(note)
                return
            current = self.read()
            for name in reversed(self._names):
                if name in note["set"] and current.get(name) == note["set"][name]:
                    self._write(name, note["before"][name])
            self._write_note(None)

    def set_by_us(self) -> dict[str, Value]:
        """The values that `change` set and that are to be put back."""
        values: dict[str, Value] = self._note()["set"]
        return values

    def _write(self, name: str, value: Value) -> bool:
        try:
            (self._directory / name).write_text(f"{value}\n")
        except OSError:
            return False
        return True

    def _note(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"devices": [], "before": {}, "set": {}}
        try:
            return {**empty, **json.loads(self._note_path.read_text())}
        except (OSError, ValueError):
            return empty

    def _write_note(self, note: dict[str, Any] | None) -> None:
        if note is None:
            self._note_path.unlink(missing_ok=True)
        else:
            write_json(self._note_path, note)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the commands of other devices from the note: its directory is locked."""
        private_files.make_directory(self._note_path.parent)
        fd = os.open(self._note_path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

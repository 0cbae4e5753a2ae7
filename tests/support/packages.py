"""Packages that are as good as installed: a module and its metadata in a directory of the path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


class Packages:
    """Makes them in ``directory``, which is on the path while ``monkeypatch`` holds."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._patch = monkeypatch
        monkeypatch.syspath_prepend(directory)

    def add(
        self, package: str, entry_points: dict[str, dict[str, str]], source: str, version: str
    ) -> None:
        """``entry_points``: by group, then by name, ``MODULE:CLASS``; ``source`` of the module."""
        module = package.replace("-", "_")
        self._patch.delitem(sys.modules, module, raising=False)
        (self._directory / f"{module}.py").write_text(source)
        about = self._directory / f"{module}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: {package}\nVersion: {version}\n")
        lines = []
        for group, entries in entry_points.items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")

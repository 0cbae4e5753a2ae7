"""Clients for tier processes under test, and the process that has them.

files    segments as files below ``rest``; slow or failing as a file of rules there says
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from fuseswap.tiers import tier_process
from fuseswap.tiers.tier_client import ClientSetup, TierClient


class FilesClient:
    """A `fuseswap.tiers.tier_client.TierClient` that says in ``log`` what it was asked."""

    def __init__(self, setup: ClientSetup) -> None:
        self._directory = Path(setup.rest)
        self._rules = self._directory / "rules-of-client"

    def _path(self, extent: int, generation: int) -> Path:
        return self._directory / f"{generation}-{extent}"

    async def _obey(self) -> None:
        """The words of the rules: ``hang``, ``fail``, ``break``, ``late``."""
        with open(self._rules) as file:
            rule = file.read().strip()
        if rule == "hang":
            while "hang" in self._rules.read_text():
                await trio.sleep(0.01)
        elif rule == "late":
            await trio.sleep(0.002)
        elif rule == "fail":
            raise OSError(errno.ENOSPC, "as told")
        elif rule == "break":
            raise ValueError("as told")

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        self._note(f"write {generation}-{extent}")
        await self._obey()
        self._path(extent, generation).write_bytes(data)

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        self._note(f"read {generation}-{extent}")
        await self._obey()
        with open(self._path(extent, generation), "rb") as file:
            return os.pread(file.fileno(), length, offset)

    async def release(self, extent: int, generation: int) -> None:
        self._note(f"release {generation}-{extent}")
        self._path(extent, generation).unlink(missing_ok=True)

    async def clear(self) -> None:
        for path in self._directory.glob("*-*"):
            path.unlink()

    def _note(self, line: str) -> None:
        with open(self._directory / "log", "a") as file:
            file.write(line + "\n")


CLIENTS: dict[str, Callable[[ClientSetup], TierClient]] = {
    **tier_process.CLIENTS,
    "files": FilesClient,
}

if __name__ == "__main__":
    sys.exit(tier_process.main(sys.argv[1], CLIENTS))

"""The worker's log: who logs neither waits nor reads a file."""

from __future__ import annotations

import linecache
import logging
import os

import pytest

from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.worker_log import PlacesFormatter, ScribeHandler
from fuseswap.errors import kept


def test_an_error_is_logged_with_its_places_and_no_source_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, write = os.pipe()
    scribe = Scribe(write, may_swap=False)
    handler = ScribeHandler(scribe)
    handler.setFormatter(PlacesFormatter("%(levelname)s: %(message)s"))
    log = logging.getLogger("fuseswap.test")
    log.propagate = False
    log.addHandler(handler)

    def no_memory(filename: str, module_globals: object = None) -> list[str]:
        raise AssertionError(f"{filename} is read")

    monkeypatch.setattr(linecache, "getlines", no_memory)
    try:
        raise KeyError("page")
    except KeyError as exc:
        log.error("unexpected", exc_info=exc)
        log.error("later", exc_info=kept(exc))
    assert scribe.flush()
    first, place, error, later, error_again, note = os.read(read, 4096).decode().splitlines()
    assert (first, later) == ("ERROR: unexpected", "ERROR: later")
    assert place.startswith(f"  {__file__}:")
    assert place.endswith(" test_an_error_is_logged_with_its_places_and_no_source_is_read")
    assert error == error_again == "  KeyError: 'page'"
    assert note == place, "of one that is kept"

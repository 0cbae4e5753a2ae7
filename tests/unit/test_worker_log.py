"""The worker's log: who logs neither waits nor reads a file."""

from __future__ import annotations

import linecache
import logging
import os

import pytest

from fuseswap.scribe import Scribe
from fuseswap.worker_log import PlacesFormatter, ScribeHandler


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
    assert scribe.flush()
    text = os.read(read, 4096).decode()
    first, place, error = text.splitlines()
    assert first == "ERROR: unexpected"
    assert place.startswith(f"  {__file__}:")
    assert place.endswith(" test_an_error_is_logged_with_its_places_and_no_source_is_read")
    assert error == "  KeyError: 'page'"

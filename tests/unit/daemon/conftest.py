"""What the tests of a module need before they begin."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _no_files_of_others() -> None:
    """Descriptors of the tests before are closed: those that wait in cycles take low numbers.

    Attachments have 128 numbers, and would find all of them taken.
    """
    gc.collect()

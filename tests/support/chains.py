"""A chain of backends in memory, what it counts, and a store that it answers later."""

from __future__ import annotations

import pytest

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.frontswap.chain import Frontswap
from fuseswap.units import PageNumber
from tests.support.fake_backend import FakeBackend


def holders(backends: list[FakeBackend], page: int) -> list[int]:
    return [
        number
        for number, backend in enumerate(backends)
        if any(page == kept for kept, _ in backend.kept.values())
    ]


def refuse(*backends: FakeBackend) -> None:
    for backend in backends:
        backend.error = StoreRefused("full")


def store_later(frontswap: Frontswap, page: int, data: bytes) -> list[int | Exception]:
    """A store that a backend takes later; the answer is put into the list."""
    with pytest.raises(Deferred) as caught:
        frontswap.store(PageNumber(page), data)
    assert caught.value.taken
    answers: list[int | Exception] = []
    caught.value.begin(answers.append)
    return answers

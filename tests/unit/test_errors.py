"""Errors as values: kept without their traceback, raised without a name."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio

from fuseswap.errors import CorruptData, PoolFull, StoreRefused, kept
from fuseswap.tiers.callbacks import await_callback, result_of
from tests.support.leftovers import collector_off


class Failing:
    """Fails as a tier does, several calls deep, and keeps the error."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def _fail(self, kind: type[Exception]) -> None:
        try:
            raise OSError(errno.EIO, "the device")
        except OSError as exc:
            raise kind("a page") from exc

    def go(self, kind: type[Exception]) -> None:
        myself = self
        try:
            myself._fail(kind)
        except Exception as exc:
            self.error = kept(exc)


def leavings(job: Callable[[], object]) -> dict[str, int]:
    with collector_off() as garbage:
        job()
        return garbage.found()


def test_a_kept_error_has_no_frames() -> None:
    failing = Failing()
    failing.go(CorruptData)
    error = failing.error
    assert isinstance(error, CorruptData)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert str(error) == "a page"
    assert not hasattr(error, "__notes__")


def test_a_mistake_keeps_its_places() -> None:
    failing = Failing()
    failing.go(ValueError)
    assert failing.error is not None
    (note,) = failing.error.__notes__
    assert note.endswith(" _fail")
    assert failing.error.__traceback__ is None


@pytest.mark.parametrize("kind", [CorruptData, PoolFull, ValueError])
def test_keeping_one_is_no_cycle(kind: type[Exception]) -> None:
    assert not leavings(lambda: Failing().go(kind))


def test_raising_a_result_is_no_cycle() -> None:
    def begin(done: Callable[[Exception | None], None]) -> None:
        done(StoreRefused("full"))

    async def main() -> None:
        with collector_off() as garbage:
            with suppress(StoreRefused):  # `pytest.raises` would keep it
                result_of(await await_callback(begin))
                raise AssertionError("not raised")
            assert not garbage.found()

    trio.run(main)


async def test_a_result_that_is_no_error_is_returned() -> None:
    found: bytes | OSError = await await_callback(lambda done: done(b"bytes"))
    assert result_of(found) == b"bytes"
    assert result_of(None) is None

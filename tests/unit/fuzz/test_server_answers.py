"""Answers of a memory server in any shape: a segment's bytes, or an error that is foreseen.

`ForgedLinks` answers as coredis would hand it on: what RESP can say, of any kind.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
from coredis.exceptions import RedisError
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fuseswap.errors import FuseswapError
from fuseswap.tiers.remote_identity import Identity, new_identity
from fuseswap.tiers.remote_url import parse_url
from fuseswap.tiers.tier_client import ClientSetup
from fuseswap.tiers.valkey_checks import check_links
from fuseswap.tiers.valkey_client import ValkeyClient
from fuseswap.tiers.valkey_links import Command, Link, Links
from fuseswap.tiers.valkey_registry import _keys, delete_device, holdings, note_alive
from tests.support.fuzzed import NUMBERS, bounded, tries

PLAIN, CLUSTER, SENTINEL = (f"valkey://a:1{more}" for more in ("", "?cluster=yes", "?sentinel=x"))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.binary(max_size=12))
SOME = st.sampled_from([b"a", b"ip", b"port", b"seen", b"maxmemory", b"maxmemory-policy", b"\xff"])
ANSWERS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SOME, inner, max_size=3),
    max_leaves=8,
)
LAYOUTS = st.lists(
    st.lists(st.integers(-1, 16384) | ANSWERS | st.just([b"a", 1]), max_size=4), max_size=3
)
FORESEEN = (FuseswapError, OSError, RedisError, TimeoutError)


class ForgedLink(Link):
    """Says what it is told to, the last one again and again."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said
        self.asked = 0
        self._rests_until = 0.0

    async def ask(self, *commands: Command, timeout_s: float) -> list[Any]:
        await trio.lowlevel.checkpoint()
        found = []
        for _ in commands:
            found.append(self._said[min(self.asked, len(self._said) - 1)])
            self.asked += 1
            if self.asked > 1000:
                raise RedisError("enough")
        return found


class ForgedLinks(Links):
    """To one node that says anything."""

    def __init__(self, url: str, said: list[Any]) -> None:
        super().__init__(parse_url(url), cast("trio.Nursery", None))
        self._forged = ForgedLink(said)

    def link(self, node: Any, *, bulk: bool = False) -> Link:
        return self._forged


IDENTITY = new_identity("swap0", "far")
USES: dict[str, Callable[[Links], Awaitable[object]]] = {
    "check": check_links,
    "holdings": holdings,
    "note_alive": lambda links: note_alive(links, IDENTITY),
    "delete": lambda links: delete_device(links, IDENTITY.id),
    "refresh": lambda links: links.refresh() if links.has_layout else _nothing(),
}


async def _nothing() -> None:
    pass


def foreseen(use: Callable[[], Awaitable[object]]) -> object:
    """The result, or the error that a caller expects."""

    async def main() -> object:
        with trio.move_on_after(1000):
            try:
                return await use()
            except FORESEEN as exc:
                return exc
        raise AssertionError("it does not end")

    with bounded():
        return trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("use", USES)
@tries(120)
@given(
    url=st.sampled_from([PLAIN, CLUSTER, SENTINEL]),
    said=st.lists(ANSWERS | LAYOUTS, min_size=1, max_size=5),
)
def test_what_is_no_answer_is_an_error(use: str, url: str, said: list[Any]) -> None:
    foreseen(lambda: USES[use](ForgedLinks(url, said)))


def client_of(said: list[Any]) -> ValkeyClient:
    setup = ClientSetup("far", PLAIN, Identity(*IDENTITY)._asdict(), 9, 5.0)
    client = ValkeyClient(setup)
    client._links = ForgedLinks(PLAIN, said)
    client._registered.set()
    client._silent = cast("Any", Silent())
    return client


class Silent:
    """Notes nothing."""

    def __init__(self) -> None:
        self.nodes: set[Any] = set()
        self.answered: dict[Any, float] = {}

    def note_time_out(self, *_: Any) -> None:
        pass


@tries(200)
@given(said=ANSWERS)
def test_a_read_is_bytes_or_an_error(said: Any) -> None:
    found = foreseen(lambda: client_of([said]).read_within(1, 2, 0, 100, 3.0))
    assert isinstance(found, OSError) or found == said


@pytest.mark.parametrize("said", [1 << 40, True, [1, 2], None, 0.5, b"x" * 101])
def test_a_number_is_not_so_many_zeros(said: Any) -> None:
    found = foreseen(lambda: client_of([said]).read_within(1, 2, 0, 100, 3.0))
    assert isinstance(found, OSError)
    assert found.errno in (errno.EIO, errno.ENODATA)


def test_keys_without_an_end_are_an_error() -> None:
    links = ForgedLinks(PLAIN, [[b"7", [b"key"]]])
    found = foreseen(lambda: _keys(links, ("a", 1), "prefix", most=20))
    assert isinstance(found, RedisError)
    assert "no end" in str(found)

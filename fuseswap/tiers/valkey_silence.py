"""Nodes of a server that have not answered for all the time that a read may take.

A read waits that long once.  Then its nodes are silent, and reads of what only they have fail at
once.  Meanwhile each silent node is asked for that key until it answers.  So it is used again a
moment after it is back, and no read had to find out.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import trio
from coredis.exceptions import AskError, RedisError, ResponseError

from fuseswap.tiers.valkey_links import Links, Node

log = logging.getLogger(__name__)

_PAUSE_S = 0.2


def is_down(exc: ResponseError) -> bool:
    """Whether a node has said that it answers nothing, for want of the others."""
    return "cluster is down" in str(exc).lower()


class SilentNodes:
    """Those of one tier.  Its tasks are in ``nursery``, one for each silent node.

    ``answered`` has for each node when a request began that it has answered.  It need not be the
    last one: who answers one after the other has one that began lately.
    """

    def __init__(self, name: str, links: Links, nursery: trio.Nursery) -> None:
        self._name = name
        self._links = links
        self._nursery = nursery
        self.nodes: set[Node] = set()  # like the next, of those that there ever were
        self.answered: dict[Node, float] = {}

    def has_all(self, nodes: Collection[Node]) -> bool:
        """Whether none of ``nodes`` is worth a try."""
        return bool(nodes) and self.nodes.issuperset(nodes)

    def note_time_out(self, nodes: Collection[Node], key: bytes, began: float) -> None:
        """A read of ``key`` has found none of ``nodes`` from ``began`` until now."""
        for node in nodes:
            if node not in self.nodes and self.answered.get(node, -1.0) < began:
                self.nodes.add(node)
                log.error("%s: %s:%d is silent: reads fail at once", self._name, *node)
                self._nursery.start_soon(self._ask_on, node, key)

    async def _ask_on(self, node: Node, key: bytes) -> None:
        while node in self._links.nodes:
            if await self._answers(node, key):
                log.warning("%s: %s:%d is not silent any more", self._name, *node)
                break
            await trio.sleep(_PAUSE_S)
        self.nodes.discard(node)

    async def _answers(self, node: Node, key: bytes) -> bool:
        link = self._links.link(node)
        try:
            await link.ask((b"EXISTS", key), timeout_s=self._links.url.timeout_s)
        except AskError:
            return True
        except ResponseError as exc:
            return not is_down(exc)
        except (RedisError, TimeoutError):
            return False
        return True

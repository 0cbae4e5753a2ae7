"""Backends that a person adds and removes while the swap is on: the parameter ``backends``.

Written:

    add=NAME kind=raw size=64M order=first   first (default), last, or its place, from 0; the kind
                                             may be one that a plugin brings
    remove=NAME                              its pages go to the others, then it goes
    shrink=NAME to=64M                       pages go to those behind it; the cache's to the tier

Read: a line for each backend in the order of the chain, and how far the last order is.

Memory outlives the worker, so it is made by others and offered under the backend's name.  The list
(order, names, kinds, numbers) is in the shared header.  A backend is there before it is
registered, and goes after: the next worker has at least those that have pages.  A removal is
forgotten with its worker.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import trio

from fuseswap.counting import gauge
from fuseswap.errors import CorruptData, HostError, InvalidArgument
from fuseswap.filesystem.draining import Draining
from fuseswap.filesystem.plugged import ShelfPlugin
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.links import Link
from fuseswap.frontswap.plugin_backend import PluginBackend
from fuseswap.frontswap.raw_memory import RawMemory
from fuseswap.frontswap.raw_size import slots_in
from fuseswap.frontswap.shelf_notes import ShelfNotes
from fuseswap.sizes import parse_size
from fuseswap.spelling import is_whole
from fuseswap.store.memory_reserve import Feeder
from fuseswap.store.region import Region
from fuseswap.store.superblock import SHELF_NOTES_AT, SharedState
from fuseswap.units import PAGE_SIZE, PageNumber

log = logging.getLogger(__name__)

PARAMETER = "backends"
MAX_BACKENDS = 16  # in the header, 1532 bytes with all parameters
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_ADD_KEYS = {"add", "kind", "size", "order"}


class Added(NamedTuple):
    """One backend as the header has it; ``kind`` "" for those that are always there."""

    name: str
    kind: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class AddedStatistics:
    """What backends that were added have and take."""

    other_backends_bytes: int = gauge(
        "bytes",
        "Pages in backends that were added, 4096 bytes each: they take nothing of mem_used_total.",
        after="writeback_bytes_saved",
    )
    mem_backends: int = gauge(
        "bytes",
        "Memory of raw backends that were added, whatever is in it; no part of mem_used_total.",
        after="mem_worker_bound",
    )


class Backends:
    """The chain as people change it."""

    def __init__(
        self,
        state: SharedState,
        frontswap: Frontswap,
        feeder: Feeder,
        corrupt: Callable[[PageNumber, int, str], CorruptData],
        shrink_cache: Callable[[int], None],
        shelves: Sequence[ShelfPlugin] = (),
    ) -> None:
        """``corrupt``: see `RawMemory`.  ``shrink_cache`` makes the cache leave, to a size.

        ``shelves``: kinds of backends that plugins bring.
        """
        self._notes = ShelfNotes(state.header.buffer, SHELF_NOTES_AT)
        self._shelves = {shelf.kind: shelf for shelf in shelves}
        self._state = state
        self._frontswap = frontswap
        self._feeder = feeder
        self._corrupt = corrupt
        self._shrink_cache = shrink_cache
        self._memories: dict[str, Region] = {}  # by name: as many as there are backends, or less
        self._raw: dict[str, RawMemory | PluginBackend] = {}
        self._kinds: dict[str, str] = {}  # of those
        self._list: list[Added] = []
        self._draining: Draining | None = None
        self._asked = trio.Event()

    # -- memory ------------------------------------------------------------------------

    def offer(self, name: str, memory: Region) -> None:
        """Here is the memory of a backend that may be added, or that was there before."""
        self._memories[name] = memory

    def withdraw(self, name: str) -> None:
        """Its memory goes; raises `InvalidArgument` while the backend is registered."""
        if name in self._raw:
            raise InvalidArgument(f"backend '{name}' is in use: remove it first")
        self._memories.pop(name, None)

    def restore(self) -> None:
        """Register those that a former worker had, before their words are adopted."""
        died_in = self._notes.read_death()
        kept = self._state.parameters.get(PARAMETER)
        self._list = [Added(*fields) for fields in json.loads(kept)] if kept else []
        for place, added in enumerate(self._list):
            if not added.kind:
                continue
            if added.number == died_in:
                log.error("the worker before this one ended inside backend '%s'", added.name)
            if added.name not in self._memories:
                log.error("the memory of backend '%s' is gone: its pages are errors", added.name)
                continue
            try:
                self._register(added, place)
            except (HostError, InvalidArgument) as exc:
                log.error("backend '%s' is missing, its pages are errors: %s", added.name, exc)

    def _register(self, added: Added, place: int) -> None:
        """Raises `HostError` or `InvalidArgument` where a plugin is not there, or can't."""
        raw: RawMemory | PluginBackend
        memory = self._memories[added.name]
        if added.kind == "raw":
            raw = RawMemory(added.name, added.number, memory, self._feeder, self._corrupt)
        elif added.kind in self._shelves:
            raw = self._shelves[added.kind].make(added.name, added.number, memory, self._notes)
        else:
            raise InvalidArgument(f"there is no kind of backends '{added.kind}'")
        self._kinds[added.name] = added.kind
        self._frontswap.register(raw, order=self._frontswap.links.make_room(place))
        self._raw[added.name] = raw

    # -- the parameter -----------------------------------------------------------------

    def ask(self, text: str) -> None:
        """Carry out an order, or begin it; raises `InvalidArgument`, and has changed nothing."""
        parts = (field.partition("=") for field in text.split())
        fields = {key: value for key, _, value in parts}
        if fields.keys() <= _ADD_KEYS and "add" in fields:
            self._add(fields)
        elif fields.keys() == {"remove"}:
            self._remove(fields["remove"])
        elif fields.keys() == {"shrink", "to"}:
            self._shrink(fields["shrink"], parse_size(fields["to"]))
        else:
            raise InvalidArgument(f"'{text}' is none of add=NAME, remove=NAME, shrink=NAME to=SIZE")

    def _add(self, fields: dict[str, str]) -> None:
        name = fields["add"]
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"'{name}' is no name: a-z, 0-9, - and _, 32 at most")
        kind = fields.get("kind", "raw")
        if kind != "raw" and kind not in self._shelves:
            known = ", ".join(("raw", *self._shelves))
            raise InvalidArgument(f"there is no backend of kind '{kind}'; there is: {known}")
        chain = self._chain()
        if name in (one.name for one in chain + self._list):
            raise InvalidArgument(f"there is a backend '{name}' already")
        if len(chain) >= MAX_BACKENDS:
            raise InvalidArgument(f"there are {MAX_BACKENDS} backends already")
        memory = self._memories.get(name)
        if memory is None:
            raise InvalidArgument(f"there is no memory for backend '{name}'")
        if "size" in fields and parse_size(fields["size"]) > memory.size_bytes:
            raise InvalidArgument(f"the memory of backend '{name}' is {memory.size_bytes} bytes")
        place = self._place(fields.get("order", "first"), len(chain))
        numbers = {one.number for one in chain + self._list}
        number = next((n for n in range(1, 256) if n not in numbers), None)
        if number is None:
            raise InvalidArgument("all numbers of backends are taken")
        added = Added(name, kind, number)
        self._notes.forget(number)  # of one that had it before
        before = self._list
        self._keep([*chain[:place], added, *chain[place:]])  # crash point: backend-add
        try:
            self._register(added, place)
        except HostError as exc:
            self._keep(before)
            raise InvalidArgument(str(exc)) from None

    def _place(self, order: str, length: int) -> int:
        if order in ("first", "last"):
            return 0 if order == "first" else length
        if not is_whole(order) or int(order) > length:
            raise InvalidArgument(f"order={order} is none of first, last, 0 to {length}")
        return int(order)

    def _remove(self, name: str) -> None:
        self._find_added(name)
        self._begin(Draining(self._frontswap, name, None))

    def _shrink(self, name: str, to_bytes: int) -> None:
        link = self._frontswap.links.find(name)
        if link.backend.number is None:
            self._shrink_cache(to_bytes)
        else:
            self._begin(Draining(self._frontswap, name, to_bytes))

    def _begin(self, draining: Draining) -> None:
        busy = self._draining
        if busy is not None and not busy.is_done and not busy.error:
            raise InvalidArgument(f"{busy.progress} is under way")
        self._draining = draining
        self._asked.set()

    def _find_added(self, name: str) -> None:
        if name in self._raw:
            return
        self._frontswap.links.find(name)
        raise InvalidArgument(f"backend '{name}' belongs to the device: it stays until `down`")

    async def run(self) -> None:
        """Carry out what takes a while.  Never returns."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            draining = self._draining
            if draining is None:
                continue
            await draining.run()
            if draining.error:
                log.warning("%s", draining.progress)
            elif draining.to_bytes is None:
                self._keep(self._chain())  # crash point: backend-remove
                self._raw.pop(draining.name).close()
                self._kinds.pop(draining.name)

    # -- the list ----------------------------------------------------------------------

    def _chain(self) -> list[Added]:
        """What the header is to have."""
        return [
            Added(name, self._kinds.get(name, ""), number or 0)
            for name, number in (
                (link.backend.name, link.backend.number) for link in self._frontswap.links.chain
            )
        ]

    def _keep(self, chain: list[Added]) -> None:
        """Note it for the next worker, with those whose memory is gone."""
        there = {one.name for one in chain}
        lost = [one for one in self._list if one.kind and one.name not in there | self._raw.keys()]
        kept = {PARAMETER: json.dumps([*chain, *lost], separators=(",", ":"))}
        self._state.parameters = {**self._state.parameters, **kept}
        self._list = [*chain, *lost]

    def describe(self) -> str:
        """The text of the parameter."""
        lines = [self._line(link) for link in self._frontswap.links.chain]
        there = {link.backend.name for link in self._frontswap.links.chain}
        lines += [
            f"{one.name} kind={one.kind} number={one.number} state=lost"
            for one in self._list
            if one.name not in there
        ]
        listed = {one.name for one in self._list} | there
        lines += [
            f"{name} kind=raw size={slots_in(memory.size_bytes) * PAGE_SIZE} state=spare"
            for name, memory in self._memories.items()
            if name not in listed
        ]
        return "\n".join([*lines, *([self._draining.progress] if self._draining else [])])

    def _line(self, link: Link) -> str:
        backend = link.backend
        raw = self._raw.get(backend.name)
        kind = self._kinds.get(backend.name, backend.name)
        size = f" size={raw.size_bytes}" if raw else ""
        state = "draining" if link.draining else "active"
        return f"{backend.name} kind={kind}{size} pages={backend.stored_pages} state={state}"

    def statistics(self) -> AddedStatistics:
        """A snapshot."""
        others = [one for one in self._frontswap.links.backends if one.number]
        return AddedStatistics(
            other_backends_bytes=sum(one.stored_pages for one in others) * PAGE_SIZE,
            mem_backends=sum(raw.size_bytes for raw in self._raw.values()),
        )

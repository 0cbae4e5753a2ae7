"""The training of dictionaries: from pages all over the segments that are to be recompressed.

Part of the task of ``recompression.py``, in whose thread zstd makes one.  When it is time, and
whether the dictionary is kept, ``dictionary_policy.py`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from fuseswap.codecs.recompressor import train
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.reclaim.dictionary_policy import DictionaryPolicy
from fuseswap.reclaim.recompression_policy import RecompressionPolicy
from fuseswap.store.slot_word import codec_of, is_loaded, object_key
from fuseswap.store.store import Store
from fuseswap.units import SegmentId

# Trained is from so many pages of at most so many segments.
_PAGES = 1280
_SEGMENTS = 64


class TrainingMemory(Protocol):
    """What training takes, 24 MiB, is there before it begins (``linux/heap.py``)."""

    def borrow(self) -> bool:
        """Whether it is there now; may wait, and so is called in the thread."""

    def give_back(self) -> None:
        """It is needed no more; while the thread is idle."""


class AnyMemory:
    """That of a process whose requests may wait for memory."""

    def borrow(self) -> bool:
        """See `TrainingMemory`."""
        return True

    def give_back(self) -> None:
        """See `TrainingMemory`."""


class DictionaryTraining:
    """Trains for ``cache``, in ``thread``, with ``memory``; ``may_train``: the machine has some."""

    def __init__(
        self,
        cache: Store,
        thread: BackgroundThread,
        policy: RecompressionPolicy,
        dictionaries: DictionaryPolicy,
        may_train: Callable[[], bool] = lambda: True,
        memory: TrainingMemory | None = None,
    ) -> None:
        self._memory = memory or AnyMemory()
        self._cache = cache
        self._log = cache.log
        self._thread = thread
        self._policy = policy
        self._dictionaries = dictionaries
        self._may_train = may_train

    @property
    def is_due(self) -> bool:
        """Whether it is time to train another one, and there is memory for it."""
        return self._dictionaries.is_due and self._may_train()

    async def train(self) -> bool:
        """Train one from the pages that are to be recompressed; whether that was begun.

        It is not where they are too few.
        """
        segments = self._policy.request.left or await self._policy.all_due()
        pages = sum(
            self._log.table.live[segment] for segment in segments if self._policy.is_there(segment)
        )
        if pages < self._dictionaries.schedule.least_pages:
            return False
        self._dictionaries.begin()
        objects = await self._sample(segments)
        await self._thread.turn()
        if not self._dictionaries.is_on:
            return False
        if not await self._thread.run(self._memory.borrow):
            return False
        job = partial(train, self._dictionaries.recompressor(), objects)
        trained = await self._thread.run(job)
        self._memory.give_back()  # not where this is cancelled: the thread still works then
        self._dictionaries.judge(trained, pages)
        return True

    async def _sample(self, segments: list[SegmentId]) -> list[tuple[int, bytes]]:
        """Objects from all over ``segments``: the codec, and check and payload of each."""
        chosen = segments[:: -(-len(segments) // _SEGMENTS)]
        each = -(-_PAGES // len(chosen))
        found: list[tuple[int, bytes]] = []
        for segment in chosen:
            await trio.lowlevel.checkpoint()
            if self._policy.is_there(segment):
                words = self._cold_keys(segment)
                words = words[:: -(-len(words) // each) or 1]
                found += [(codec_of(word), self._log.stored(word)) for word in words]
        return found

    def _cold_keys(self, segment: SegmentId) -> list[int]:
        """Keys of the objects of ``segment`` that were not loaded since they were stored."""
        words = self._cache.slots.words_in(segment, self._log.owners(segment))
        return list(dict.fromkeys(object_key(word) for word in words if not is_loaded(word)))

"""Statistics: one table, of what each part declares beside where it counts (``counting.py``).

It makes the files in ``stats/``, the OpenMetrics text, ``fuseswap status --json``
and the reference in ``docs/statistics.md``.  To add one, add a field to the class of its part.
Names are those of zswap, zram and frontswap where these have one; ``like`` says whose.
"""

from __future__ import annotations

from fuseswap.balance import Balance
from fuseswap.cache.copier import CopierStatistics
from fuseswap.cache.encoding import EncodingCounters
from fuseswap.cache.loading import LoadingCounters
from fuseswap.cache.merger import MergerStatistics
from fuseswap.cache.pool import StoreCounters
from fuseswap.cache.snapshot import CacheStatistics, CodecStatistics
from fuseswap.counting import arrange
from fuseswap.device import ProcessStatistics, TransportCounters
from fuseswap.dictionary_mover import MoverStatistics
from fuseswap.dictionary_policy import DictionaryStatistics
from fuseswap.frontswap.counters import BackendStatistics, FrontswapStatistics
from fuseswap.memory_watch import MemoryStatistics
from fuseswap.slowpath import PatienceCounters, SlowPathStatistics
from fuseswap.tiers.tier_table import TierStatistics
from fuseswap.writeback_statistics import WritebackStatistics

# `Device.parts` has an object of each.  One comes below those that its rows stand behind.
PARTS: tuple[type, ...] = (
    CacheStatistics,
    FrontswapStatistics,
    StoreCounters,
    EncodingCounters,
    MergerStatistics,
    WritebackStatistics,
    SlowPathStatistics,
    PatienceCounters,
    CopierStatistics,
    Balance,
    DictionaryStatistics,
    MoverStatistics,
    LoadingCounters,
    TransportCounters,
    ProcessStatistics,
    MemoryStatistics,
    CodecStatistics,
    BackendStatistics,
    TierStatistics,
)
STATISTICS = arrange(PARTS)

"""Statistics: one table, of what each part declares beside where it counts (``counting.py``).

It makes the files in ``stats/``, the OpenMetrics text, ``fuseswap status --json``
and the reference in ``docs/statistics.md``.  To add one, add a field to the class of its part.
Names are those of zswap, zram and frontswap where these have one; ``like`` says whose.
"""

from __future__ import annotations

from fuseswap.counting import arrange
from fuseswap.dedup.merger import MergerStatistics
from fuseswap.filesystem.backends import AddedStatistics
from fuseswap.filesystem.balance import Balance
from fuseswap.filesystem.device import TransportCounters
from fuseswap.filesystem.host_numbers import ProcessStatistics, ZswapStatistics
from fuseswap.filesystem.latency import LatencyStatistics
from fuseswap.filesystem.pending_io import PatienceCounters, SlowPathStatistics
from fuseswap.frontswap.cache_statistics import CacheStatistics, CodecStatistics
from fuseswap.frontswap.counters import BackendStatistics, FrontswapStatistics
from fuseswap.frontswap.page_encoder import EncodingCounters
from fuseswap.plugins.health import PluginStatistics
from fuseswap.reclaim.background_thread import ThreadStatistics
from fuseswap.reclaim.dictionary_mover import MoverStatistics
from fuseswap.reclaim.dictionary_policy import DictionaryStatistics
from fuseswap.reclaim.memory_watch import MemoryStatistics
from fuseswap.reclaim.scrubber import ScrubCounters
from fuseswap.reclaim.tier_mover import MoverCounters
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.store.copier import CopierStatistics
from fuseswap.store.full_pool import FullPoolCounters
from fuseswap.store.page_reader import LoadingCounters
from fuseswap.tiers.mirrored_tier import MirrorStatistics
from fuseswap.tiers.tier_table import TierStatistics

# `Device.parts` has an object of each.  One comes below those that its rows stand behind.
PARTS: tuple[type, ...] = (
    CacheStatistics,
    FrontswapStatistics,
    FullPoolCounters,
    EncodingCounters,
    MergerStatistics,
    WritebackStatistics,
    MoverCounters,
    ScrubCounters,
    SlowPathStatistics,
    PatienceCounters,
    CopierStatistics,
    Balance,
    DictionaryStatistics,
    MoverStatistics,
    ThreadStatistics,
    LoadingCounters,
    TransportCounters,
    ProcessStatistics,
    ZswapStatistics,
    AddedStatistics,
    MemoryStatistics,
    CodecStatistics,
    BackendStatistics,
    TierStatistics,
    LatencyStatistics,
    MirrorStatistics,
    PluginStatistics,
)
STATISTICS = arrange(PARTS)

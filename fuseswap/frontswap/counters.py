"""What is counted at the border of frontswap."""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.counting import counter, gauge


@dataclass(slots=True)
class FrontswapStatistics:
    """Counters as Linux's frontswap kept them in debugfs."""

    loads: int = counter(
        "Pages asked for and found in memory, holes among them.", like="frontswap", after="segments"
    )
    succ_stores: int = counter("Pages taken.", like="frontswap")
    failed_stores: int = counter("Pages no backend took; the kernel kept them.", like="frontswap")
    invalidates: int = counter("Stored pages the kernel freed.", like="frontswap")
    duplicate_entry: int = counter(
        "Stores to a page that was stored already; the old version went first.",
        like="zswap",
    )


@dataclass(slots=True)
class BackendStatistics:
    """The part of one backend in them."""

    backend: str
    backend_stores: int = counter("Pages each backend took.", labels=("backend",))
    backend_refusals: int = counter(
        "Pages each backend refused: the next one was asked, or the kernel kept them.",
        labels=("backend",),
    )
    backend_loads: int = counter(
        "Loads each backend answered at once; those of holes, and tier_loads, are of none.",
        labels=("backend",),
    )
    curr_pages: int = gauge(
        "pages", "Pages each backend has now.", like="frontswap", labels=("backend",)
    )

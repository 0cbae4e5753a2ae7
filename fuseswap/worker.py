"""The worker: attaches to the shared state and serves it until unmounted.

Started by the supervisor with descriptors it inherits.  Everything that costs memory
or may fail happens before it says ``ready``: imports, locking, rebuilding what is
derived, a reserve of frames.  Two trio tasks: the transport, and housekeeping.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
from typing import Any

import trio

from fuseswap import crashpoints
from fuseswap.cache.region import Region
from fuseswap.cache.state import REGION_NAMES, Geometry, SharedState
from fuseswap.device import Device
from fuseswap.errors import FuseswapError
from fuseswap.host.protect import Protection, protect
from fuseswap.host.psi import under_memory_pressure
from fuseswap.host.runtime import Runtime
from fuseswap.parameters import find_parameter
from fuseswap.tiers.direct import DirectFile, Engine, open_engine
from fuseswap.tiers.file import FileTier
from fuseswap.transport import open_transport
from fuseswap.tree import Tree

log = logging.getLogger("fuseswap.worker")

_THREAD_STACK_BYTES = 512 * 1024
_HOUSEKEEPING_S = 1.0
_RESERVE_FRAMES = 2
_IDLE_STORES = 100  # fewer in a second: the device is idle, however often it is looked at


class Worker:
    """Builds the layers over inherited descriptors and runs them."""

    def __init__(self, config: dict[str, Any], fds: dict[str, int], *, fresh: bool) -> None:
        for fd in fds.values():
            os.set_inheritable(fd, False)
        threading.stack_size(_THREAD_STACK_BYTES)
        self._ready_fd = fds["ready"]
        self.protection: Protection = protect(populate=True)
        regions = {name: Region(fd) for name, fd in fds.items() if name in REGION_NAMES}
        if fresh:
            geometry = Geometry(**config["geometry"])
            state = SharedState.create(regions, geometry)
        else:
            state = SharedState(regions)
        engine: Engine | None = None
        tier: FileTier | None = None
        place_file: DirectFile | None = None
        if "backing" in fds:
            engine = open_engine()
            file = DirectFile(fds["backing"], engine)
            if config["backing_layout"] == "in-place":
                place_file = file
            else:
                tier = FileTier(file)
        self.device = Device(state, tier, under_memory_pressure, engine, place_file)
        for name, value in {**config["parameters"], **state.parameters}.items():
            find_parameter(name).set(self.device, value)
        self.device.cache.log.frames.reserve(_RESERVE_FRAMES)
        tree = Tree(self.device)
        self._transport = open_transport(
            config["transport"],
            fds["fuse"],
            config["mountpoint"],
            tree,
            resend=config["resend"] != "off",
        )

    async def run(self) -> None:
        """Serve until unmounted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._housekeeping)
            nursery.start_soon(self.device.writeback.run)
            if self.device.engine is not None:
                nursery.start_soon(self.device.engine.run)
            self._say_ready()
            await self._transport.serve()
            nursery.cancel_scope.cancel()

    def _say_ready(self) -> None:
        protection = self.protection._asdict()
        gc.collect()
        gc.freeze()
        gc.disable()
        os.write(self._ready_fd, (json.dumps({"protection": protection}) + "\n").encode())
        os.close(self._ready_fd)

    async def _housekeeping(self) -> None:
        """Once a second: while idle, return free frames but a reserve, and collect garbage."""
        frames = self.device.cache.log.frames
        before = -1
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            stores = self.device.frontswap.statistics().succ_stores
            if stores - before < _IDLE_STORES:
                frames.trim(max(_RESERVE_FRAMES, frames.warm // 2))
                gc.collect(1)
            frames.reserve(_RESERVE_FRAMES)
            before = stores


def main() -> int:
    """``python -m fuseswap.worker JSON`` with ``name``, ``fds`` and ``fresh``."""
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s worker[%(process)d] %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to stop
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = Runtime(arguments["name"]).config()
    try:
        crashpoints.arm(os.environ.get(crashpoints.VARIABLE, ""))
        worker = Worker(config, arguments["fds"], fresh=arguments["fresh"])
    except (FuseswapError, OSError) as exc:
        log.error("cannot start: %s", exc)
        return 1
    trio.run(worker.run)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A worker that is told to pause lets its writes to the backing file end."""

from __future__ import annotations

import gc
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from fuseswap.daemon.host_watch import HostWatch
from fuseswap.daemon.serving import Serving
from fuseswap.daemon.worker import Worker
from fuseswap.filesystem.device import Device
from fuseswap.store.memory_reserve import FeederThread
from fuseswap.store.region import Region
from fuseswap.tiers.backing_file import open_backing
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.io_engine import AioEngine, Engine, ThreadEngine
from fuseswap.transport import Transport
from fuseswap.units import MIB, SEGMENT_BYTES

LONGEST_S = 20


@pytest.fixture
def alarm() -> Iterator[None]:
    """A write that cannot be cancelled hangs for ever where nobody reaps it."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("kind", [AioEngine, ThreadEngine])
def test_a_write_in_flight_ends_before_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[AioEngine | ThreadEngine]
) -> None:
    fd = open_backing(str(tmp_path / "backing"), 16 * MIB, "swap0").fd
    engine: Engine = kind()
    file = DirectFile(fd, engine)
    segment = memoryview(mmap.mmap(-1, SEGMENT_BYTES))
    written: list[int] = []

    async def write_back() -> None:
        await file.write(0, segment)
        written.append(0)

    async def pause(scope: trio.CancelScope) -> None:
        while not engine.in_flight:
            await trio.lowlevel.checkpoint()
        scope.cancel()

    device = SimpleNamespace(
        tasks=lambda: (write_back,),
        tiers=(),
        place=object(),  # so that the engine is run
        cache=SimpleNamespace(log=SimpleNamespace(frames=SimpleNamespace(unmapped=0))),
    )
    transport = cast(Transport, SimpleNamespace(serve=trio.sleep_forever))
    serving = Serving(cast(Device, device), transport, engine, HostWatch("/nowhere"))
    monkeypatch.setattr(serving, "housekeeping", trio.sleep_forever)
    assert trio.run(serving.run, pause), "it was told to pause"
    assert (written, engine.in_flight) == ([0], 0)
    engine.close()
    os.close(fd)


@pytest.mark.parametrize("word", ["continue", ""])
def test_nothing_that_was_ordered_before_a_pause_is_told_after_it(word: str) -> None:
    """And where nobody says that it goes on it does so all the same, as one that knows less."""
    attached: list[bool] = []

    def attach(*, untold: bool) -> None:
        gc.unfreeze()
        attached.append(untold)

    told: list[bool] = []
    header, arena = os.memfd_create("header"), os.memfd_create("arena")
    os.ftruncate(arena, MIB)
    feeder = FeederThread()
    feeder.populate(Region(arena), 0, MIB, told.append)
    worker = Worker.__new__(Worker)
    vars(worker).update(
        _tiers=SimpleNamespace(close=lambda: None),
        _feeder=feeder,
        _fds={"header": header},
        _channel=SimpleNamespace(say=lambda word: None, hear=lambda: word),
        attach=attach,
    )
    worker._pause()
    gc.unfreeze()
    feeder.start()
    feeder.close()
    feeder.collect()
    assert told == []
    assert attached == [not word]
    os.close(header)
    os.close(arena)


def test_the_lock_is_given_up_once_the_tiers_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they have begun must not meet the next worker."""
    order: list[str] = []
    worker = Worker.__new__(Worker)
    parts = {
        "_tiers": SimpleNamespace(close=lambda: order.append("tiers")),
        "_feeder": SimpleNamespace(forget=lambda: order.append("feeder")),
        "_channel": SimpleNamespace(say=order.append, hear=lambda: "continue"),
        "_fds": {"header": 0},
        "_note": lambda word: False,
        "attach": lambda *, untold: order.append("attach"),
    }
    for name, part in parts.items():
        monkeypatch.setattr(worker, name, part, raising=False)
    monkeypatch.setattr("fuseswap.daemon.worker.fcntl.lockf", lambda *_: order.append("unlock"))
    worker._pause()
    gc.unfreeze()
    assert order == ["tiers", "feeder", "unlock", "paused", "attach"]

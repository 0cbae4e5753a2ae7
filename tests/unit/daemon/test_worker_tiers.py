"""What a worker does with the attachments that its supervisor hands it."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import trio

from fuseswap.daemon import attachment, tier_files, worker_tiers
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.channel import Channel
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.host_watch import HostWatch
from fuseswap.daemon.memories import Memories
from fuseswap.daemon.serving import Serving
from fuseswap.daemon.worker import Worker
from fuseswap.daemon.worker_tiers import WorkerTiers
from fuseswap.filesystem.device import Device
from fuseswap.tiers.backing_file import open_backing
from fuseswap.tiers.direct_io import DirectFile
from fuseswap.tiers.encrypted_file import EncryptedFile
from fuseswap.tiers.tier_spec import parse_tier
from fuseswap.transport import Transport
from fuseswap.units import MIB
from tests.unit.daemon.test_device_files import OLD

pytestmark = pytest.mark.slow

SIZE = 10 * MIB
CIPHER = "fuseswap.tiers.segment_cipher"


class Scene:
    """A worker without a process, which hears what a test says and answers into a list."""

    def __init__(self, device: Device) -> None:
        self.answers: list[tuple[str, str, str | None]] = []
        self.fds: list[int] = []
        transport = cast(Transport, SimpleNamespace(serve=trio.sleep_forever))
        self.serving = Serving(device, transport, None, HostWatch("/nowhere"))
        self.ahead = 0
        self.has_died = False
        self.worker = Worker.__new__(Worker)
        header = os.memfd_create("header")
        self.tiers = WorkerTiers(settings_from(OLD, ""), {"header": header}, [], None)
        self.tiers.key = bytes(range(32))
        os.close(header)
        vars(self.worker).update(
            _channel=cast(Channel, self),
            _tiers=self.tiers,
            _memories=Memories({}),
            _serving=self.serving,
            _thread=cast(Any, self),
            _heap=SimpleNamespace(keep_ahead=self.keep_ahead),
        )

    # As a channel, a thread and a heap.

    def take_descriptors(self) -> list[int]:
        fds, self.fds = self.fds, []
        return fds

    def answer(self, request: str, name: str, error: str | None) -> None:
        self.answers.append((request, name, error))

    def is_cut(self) -> bool:
        return self.has_died

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(done, job())

    def keep_ahead(self, ahead_bytes: int) -> None:
        self.ahead = ahead_bytes

    # What a test says.

    async def take(self, one: Attachment) -> None:
        self.fds = [os.dup(fd) for fd in one.fds]
        await self.worker._react(f"take {json.dumps(one.to_json())}")

    async def drop(self, name: str) -> None:
        await self.worker._react(f"drop {name}")


@pytest.fixture(autouse=True)
def _numbers() -> None:
    """Attachments have 128: files of the tests before wait in cycles for the collector."""
    gc.collect()


@pytest.fixture
async def scene(device: Device) -> AsyncIterator[Scene]:
    scene = Scene(device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.serving.run, forever)
        await trio.testing.wait_all_tasks_blocked()
        yield scene
        nursery.cancel_scope.cancel()
    scene.tiers.close()


async def forever(scope: trio.CancelScope) -> None:
    await trio.sleep_forever()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Attachment]:
    one = tier_files.open_tier(parse_tier(f"file:{tmp_path}/a,encrypt=no"), "swap0", SIZE)
    kept = os.dup(one.fds[0])
    yield one._replace(fds=attachment.moved(one.fds))
    os.close(kept)


def names(device: Device) -> list[str]:
    return [entry.tier.name for entry in device.tiers if entry.tier is not None]


async def test_the_first_tier_of_a_device_that_serves(scene: Scene, one: Attachment) -> None:
    await scene.take(one)
    assert scene.answers == [("take", "tier:file0", None)]
    assert names(scene.serving.device) == ["file0"]
    assert scene.serving.device.engine is scene.tiers.engine is not None, "the transport polls it"
    assert scene.ahead
    with trio.fail_after(10):  # its engine runs
        tier = scene.serving.device.tiers.named("file0").tier
        assert tier is not None
        found: list[object] = []
        tier.begin_read(0, 1, 0, 4096, found.append)
        while not found:
            await trio.sleep(0.01)
    assert found == [bytes(4096)]
    await scene.take(one)
    assert scene.answers.pop() == ("take", "tier:file0", None), "once more does no harm"
    await scene.drop("tier:file0")
    assert scene.answers.pop() == ("drop", "tier:file0", None)
    assert names(scene.serving.device) == []
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(one.fds[0])


async def test_what_can_not_be_is_as_before(scene: Scene, one: Attachment) -> None:
    await scene.take(one._replace(description={"kind": "rfc1149"}))
    (answer,) = scene.answers
    assert answer[:2] == ("take", "tier:file0")
    assert "knows no tier of 0 parts" in (answer[2] or "")
    assert not scene.tiers.is_needed
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(one.fds[0])


async def test_a_supervisor_that_has_died_would_not_know(scene: Scene, one: Attachment) -> None:
    scene.has_died = True
    await scene.take(one)
    assert names(scene.serving.device) == []
    assert not scene.tiers.is_needed


async def test_one_that_holds_a_segment_stays(scene: Scene, one: Attachment) -> None:
    await scene.take(one)
    device = scene.serving.device
    entry = device.tiers.named("file0")
    assert entry.take() is not None
    await scene.drop("tier:file0")
    assert scene.answers[-1] == (
        "drop",
        "tier:file0",
        "tier 'file0' has 1 segments; drain it first",
    )
    assert names(device) == ["file0"]
    os.fstat(one.fds[0])
    os.close(one.fds[0])


@pytest.fixture
def never_encrypted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """As in a process that has not imported the cipher; what it imports for tiers is noted."""
    imported: list[str] = []

    def note(name: str) -> None:
        imported.append(name)
        monkeypatch.setitem(sys.modules, name, ModuleType(name))

    monkeypatch.delitem(sys.modules, CIPHER, raising=False)
    monkeypatch.setattr(worker_tiers, "importlib", SimpleNamespace(import_module=note))
    return imported


async def test_one_that_encrypts_is_not_for_a_worker_that_never_did(
    scene: Scene, one: Attachment, never_encrypted: list[str]
) -> None:
    """It holds it for the next worker, and lets it go again where there is none."""
    one.description["encrypt"] = True
    await scene.take(one)
    assert scene.answers.pop() == ("take", "tier:file0", None)
    assert names(scene.serving.device) == []
    assert never_encrypted == [], "it serves"
    await scene.drop("tier:file0")
    assert scene.answers.pop() == ("drop", "tier:file0", None)
    assert not scene.tiers.is_needed


def test_a_standby_imports_what_it_will_need(
    scene_of_a_standby: Scene, one: Attachment, never_encrypted: list[str]
) -> None:
    scene = scene_of_a_standby
    one.description["encrypt"] = True
    scene.fds = [os.dup(one.fds[0])]
    scene.worker._channel = cast(Channel, scene)
    assert scene.worker._note(f"take {json.dumps(one.to_json())}")
    assert never_encrypted == [CIPHER]
    os.close(one.fds[0])


def test_a_standby_keeps_what_it_gets(scene_of_a_standby: Scene, one: Attachment) -> None:
    scene = scene_of_a_standby
    scene.fds = [os.dup(one.fds[0])]
    words = iter([f"take {json.dumps(one.to_json())}", "standby 7", "drop tier:other", "attach"])
    scene.worker._channel = cast(
        Channel,
        SimpleNamespace(hear_first=lambda: next(words), take_descriptors=scene.take_descriptors),
    )
    scene.worker._watch = HostWatch("/nowhere")
    assert scene.worker.wait_for_turn() == "attach"
    assert scene.worker._watch.standby_pid == 7
    scene.tiers.open_engine()
    assert [tier.name for tier in scene.tiers.tiers()] == ["file0"]
    assert [tier.name for tier in scene.tiers.tiers({"file0"})] == ["file0"]
    assert scene.tiers.tiers({"other"}) == [], "the one before had none of that name"
    assert scene.answers == []
    scene.tiers.close()
    os.close(one.fds[0])


@pytest.fixture
def scene_of_a_standby(device: Device) -> Scene:
    return Scene(device)


@pytest.mark.parametrize("encrypt", [True, False])
def test_pages_in_place_are_encrypted_by_default(tmp_path: Path, encrypt: bool) -> None:
    text = f"{tmp_path}/backing" + ("" if encrypt else ",encrypt=no")
    config = DeviceConfig.parse(
        name="swap0",
        size=str(SIZE),
        pool_limit="8M",
        compressor="lz4",
        transport="devfuse",
        mountpoint="/nowhere",
        priority=0,
        memory_bytes=64 * MIB,
        backing=text,
        backing_layout="in-place",
    )
    settings = settings_from(json.loads(json.dumps(config.settings(64 * MIB).to_json())), "")
    assert settings.backing == f"{tmp_path}/backing"
    header = os.memfd_create("header")
    opened = open_backing(f"{tmp_path}/backing", settings.backing_bytes, "swap0")
    tiers = WorkerTiers(settings, {"header": header, "backing": opened.fd}, [], None)
    tiers.key = bytes(range(32))
    try:
        assert isinstance(tiers.place_file(), EncryptedFile if encrypt else DirectFile)
    finally:
        tiers.close()
        os.close(opened.fd)
        os.close(header)


async def test_a_tier_has_its_policy_from_the_first_segment_on(
    scene: Scene, tmp_path: Path
) -> None:
    """No command that may die has to bring it after."""
    text = f"file:{tmp_path}/a,encrypt=no,priority=7,limit=5M"
    one = tier_files.open_tier(parse_tier(text), "swap0", SIZE)
    await scene.take(one._replace(fds=attachment.moved(one.fds)))
    policy = scene.serving.device.tiers.named("file0").policy
    assert (policy.priority, policy.limit_bytes) == (7, 5 * MIB)

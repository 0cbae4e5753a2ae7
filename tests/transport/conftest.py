"""Fixtures: a device in memory, its tree, and both adapters over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import Tree
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.transport.share import Share
from tests.support.fuse_requests import FakeKernel
from tests.support.memory_devices import memory_device
from tests.support.replay import Host
from tests.transport.clients import Client, DevfuseClient, Pyfuse3Client


@pytest.fixture
def device() -> Iterator[Device]:
    with memory_device() as made:
        yield made


@pytest.fixture
def tree(device: Device) -> Tree:
    return Tree(device)


@pytest.fixture
def kernel(tree: Tree) -> Iterator[FakeKernel]:
    fake = FakeKernel(tree)
    yield fake
    fake.close()


@pytest.fixture(params=["devfuse", "pyfuse3"])
def client(request: pytest.FixtureRequest, tree: Tree) -> Iterator[Client]:
    if request.param == "pyfuse3":
        yield Pyfuse3Client(TreeOperations(tree, Share(percent=100)))
        return
    fake = FakeKernel(tree)
    yield DevfuseClient(fake)
    fake.close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()

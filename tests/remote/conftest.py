"""Fixtures: servers, and what a test asks of a tier at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.valkey_cluster import Cluster, Server, a_cluster, one_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with one_server(tmp_path / "server") as server:
        yield server


@pytest.fixture(scope="session")
def lasting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """It takes 5 s until it is well, so it serves all tests of a process."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(lasting_cluster: Cluster) -> Cluster:
    """Well and empty, whatever the test before has done to it."""
    lasting_cluster.make_well()
    return lasting_cluster

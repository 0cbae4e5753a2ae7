"""A cluster under a swap device: whatever happens to it, or between, there is no bad page.

Three primaries and three replicas have the first tier, a file the second.  The processes that are
killed and stopped are those of the cluster, of the network (a proxy before each server), and the
device's own.  One test has the sizes of a small machine: 1 GiB in 256 MiB, and a pool of 64 MiB.
The others have an eighth of that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseswap.units import MIB
from tests.support.delaying_proxy import Proxy, a_proxy
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    succeed,
    tier_processes_of,
    wait_until,
    worker_of,
)
from tests.support.valkey_cluster import Cluster, a_cluster
from tests.system.hard_times import send_worker
from tests.system.test_tiers import kill_supervisor, tiers, wait_for_segments
from tests.system.under_pressure import Pressure, pressure_on

SIZE = 128 * MIB
MEMORY = 40 * MIB
UP = ("--size", "1G", "--pool-limit", "16M", "--priority", "32767")
LARGE = 1024 * MIB
LARGE_MEMORY = 256 * MIB
LARGE_UP = ("--size", "2G", "--pool-limit", "64M", "--priority", "32767")
OUTAGE_S = 10.0


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(lasting_cluster: Cluster) -> Cluster:
    """Well and empty, whatever the test before has done to it."""
    lasting_cluster.make_well()
    return lasting_cluster


@contextmanager
def under(device: TestDevice, size: int = SIZE, memory: int = MEMORY) -> Iterator[Pressure]:
    """The pressure, once both tiers may be needed; at the end not one page is bad."""
    with pressure_on(device, size, memory) as pressure:
        yield pressure
        assert pressure.finish()["bad_pages"] == 0
        for counter in ("checksum_errors", "tier_read_errors"):
            assert device.stat(counter) == 0


def two_tiers(cluster: Cluster, directory: Path) -> tuple[str, ...]:
    remote = f"{cluster.address}&timeout=1"
    return ("--tier", f"{remote},name=far", "--tier", f"file:{directory}/near,name=near")


@contextmanager
def device_at(cluster: Cluster, directory: Path, *up: str) -> Iterator[TestDevice]:
    """A device with `two_tiers`, and nothing left of it afterwards, also at the servers."""
    with device_up(*(up or UP), *two_tiers(cluster, directory)) as device:
        try:
            yield device
        finally:
            for server in cluster.servers:
                server.go_on()
        wait_until("the cluster", lambda: is_well(cluster))
    assert list(directory.iterdir()) == []
    wait_until("its segments to be deleted", lambda: segments_at(cluster) == 0)


def is_well(cluster: Cluster) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return cluster.is_well()
    return False


def segments_at(cluster: Cluster) -> int:
    return sum(len(server.talk("KEYS", "fuseswap:segment:*")) for server in cluster.primaries)


def fail_a_primary(cluster: Cluster, device: TestDevice, pressure: Pressure) -> None:
    """Kill one that has segments; its replica takes over, and it comes again empty."""
    victim = max(cluster.primaries, key=lambda server: int(server.talk("DBSIZE")))
    victim.kill()
    pressure.wait_until_it_goes_on(8)
    victim.start()
    wait_until("the cluster", lambda: is_well(cluster))
    wait_for_more_segments(device, "far")


def stop_all(cluster: Cluster, device: TestDevice, pressure: Pressure) -> None:
    """Nothing answers for ten seconds; what leaves memory goes to the file meanwhile."""
    for server in cluster.servers:
        server.stop()
    nothing_answers(device)
    for server in cluster.servers:
        server.go_on()
    pressure.wait_until_it_goes_on()
    wait_for_more_segments(device, "far")


def nothing_answers(device: TestDevice) -> None:
    """What is to leave memory meanwhile, by request, goes to the file."""
    before = device.stat("tier_written_bytes.near")
    began = time.monotonic()
    succeed("writeback", device.name)
    assert device.stat("tier_written_bytes.near") > before
    time.sleep(max(0.0, began + OUTAGE_S - time.monotonic()))


def wait_for_more_segments(device: TestDevice, tier: str) -> None:
    """By request: the pool may be far from full."""
    name = f"tier_written_bytes.{tier}"
    before = device.stat(name)

    def has_more() -> bool:
        succeed("writeback", device.name)
        return device.stat(name) > before

    wait_until(f"segments to go to {tier}", has_more, every_s=0.5)


def test_a_primary_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    with device_at(cluster, tmp_path) as device, under(device) as pressure:
        wait_for_segments(device, "far")
        fail_a_primary(cluster, device, pressure)


def test_all_of_them_stand_still(cluster: Cluster, tmp_path: Path) -> None:
    with device_at(cluster, tmp_path) as device, under(device) as pressure:
        wait_for_segments(device, "far")
        stop_all(cluster, device, pressure)


@contextmanager
def network_of(cluster: Cluster) -> Iterator[list[Proxy]]:
    """All clients, and replicas, come to the servers through these."""
    with contextlib.ExitStack() as stack:
        proxies = []
        for server in cluster.servers:
            proxies.append(stack.enter_context(a_proxy(server.port)))
            server.talk("CONFIG", "SET", "cluster-announce-port", proxies[-1].port)
        try:
            ports = {proxy.port for proxy in proxies}
            wait_until("the ports to be known", lambda: announced(cluster) == ports)
            yield proxies
        finally:
            for server in cluster.servers:
                server.talk("CONFIG", "SET", "cluster-announce-port", 0)
            own = {server.port for server in cluster.servers}
            wait_until("the ports to be known", lambda: announced(cluster) == own)


def announced(cluster: Cluster) -> set[int]:
    found = set()
    for server in cluster.servers:
        for _, _, *nodes in server.talk("CLUSTER", "SLOTS"):
            found |= {node[1] for node in nodes}
    return found


def test_the_network_is_cut(cluster: Cluster, tmp_path: Path) -> None:
    with network_of(cluster) as proxies, contextlib.ExitStack() as stack:
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies[:3])
        far = f"valkey://{hosts}?cluster=yes&timeout=1,name=far"
        near = f"file:{tmp_path}/near,name=near"
        device = stack.enter_context(device_up(*UP, "--tier", far, "--tier", near))
        with under(device) as pressure:
            wait_for_segments(device, "far")
            try:
                for proxy in proxies:
                    proxy.cut()
                nothing_answers(device)
            finally:
                for proxy in proxies:
                    proxy.heal()
            pressure.wait_until_it_goes_on()
            wait_for_more_segments(device, "far")


def test_tiers_come_and_go(cluster: Cluster, tmp_path: Path) -> None:
    near = ("--tier", f"file:{tmp_path}/near,name=near")
    with device_up(*UP, *near) as device, under(device) as pressure:
        name = device.name
        wait_for_segments(device, "near")
        succeed("tier", "add", "-d", name, f"{cluster.address},name=far,priority=5")
        wait_for_segments(device, "far")
        assert len(tier_processes_of(name)) == 1
        succeed("tier", "drain", "-d", name, "near")
        assert tiers(name)["near"]["segments"] == 0
        succeed("tier", "remove", "-d", name, "near")
        pressure.wait_until_it_goes_on()
        succeed("tier", "add", "-d", name, f"file:{tmp_path}/other,name=other,priority=9")
        wait_for_segments(device, "other")
        send_worker(name, signal.SIGKILL)
        succeed("tier", "remove", "--drain", "-d", name, "far")
        assert list(tiers(name)) == ["other"]
        wait_until("its process to end", lambda: not tier_processes_of(name))
        assert segments_at(cluster) == 0
        pressure.wait_until_it_goes_on()
    assert list(tmp_path.iterdir()) == []


def kill_the_tier_process(name: str) -> None:
    for pid in tier_processes_of(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_processes_are_killed_every_second(cluster: Cluster, tmp_path: Path) -> None:
    """The worker each time, the tier process every second time, and once the supervisor."""
    with device_at(cluster, tmp_path) as device, under(device) as pressure:
        name = device.name
        wait_for_segments(device, "far")
        for number in range(8):
            if number % 2:
                kill_the_tier_process(name)
            if number == 5:
                kill_supervisor(name)
                wait_until("a tier process", lambda: len(tier_processes_of(name)) == 1)
            send_worker(name, signal.SIGKILL)
            time.sleep(1.0)
        pressure.wait_until_it_goes_on()
        wait_until("a tier process", lambda: len(tier_processes_of(name)) == 1)
        wait_for_more_segments(device, "far")


def test_a_gigabyte_through_all_of_it(cluster: Cluster, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(device_at(cluster, tmp_path, *LARGE_UP))
        pressure = stack.enter_context(under(device, LARGE, LARGE_MEMORY))
        wait_for_segments(device, "far")
        stop_all(cluster, device, pressure)  # the pool is full now
        fail_a_primary(cluster, device, pressure)
        ended = threading.Event()
        killer = threading.Thread(target=kill_workers, args=(device.name, ended))
        killer.start()
        try:
            kill_the_tier_process(device.name)
            pressure.wait_until_it_goes_on(16)
        finally:
            ended.set()
            killer.join()


def kill_workers(name: str, ended: threading.Event) -> None:
    while not ended.wait(1.0):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker_of(name), signal.SIGKILL)


def test_the_cluster_is_gone_for_good_behind_a_mirror(cluster: Cluster, tmp_path: Path) -> None:
    """The last one here: another would wait until all of it is well again."""
    tier = f"mirror:{cluster.address}&timeout=1+file:{tmp_path}/half,name=pair"
    with device_up(*UP, "--tier", tier) as device, under(device) as pressure:
        wait_for_segments(device, "pair")
        cluster.kill()
        pressure.wait_until_it_goes_on(16)
        send_worker(device.name, signal.SIGKILL)
        wait_for_more_segments(device, "pair")
        pressure.wait_until_it_goes_on()

"""The dashboard: each of its queries, asked of a real Prometheus that reads a real device."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.mounted_devices import TestDevice, device_up, succeed, wait_until
from tests.support.tools import tool

pytestmark = pytest.mark.no_swap

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "mount" / "grafana-fuseswap.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
TYPES = {
    "metrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "metrics.prom": "text/plain; version=0.0.4; charset=utf-8",
}


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDevice]:
    file = tmp_path_factory.mktemp("tier") / "backing"
    options = ("--size", "64M", "--pool-limit", "32M", "--backing", str(file), "--no-swapon")
    with device_up(*options) as up:
        with up.swapfile.open("r+b", buffering=0) as swapfile:
            for page in range(8 * MIB // PAGE_SIZE):
                os.pwrite(swapfile.fileno(), pages.compressible(page % 500), page * PAGE_SIZE)
        succeed("writeback", up.name, "--all")
        yield up


def use(device: TestDevice) -> None:
    """Some of everything: loads from memory and from the tier, a store."""
    with device.swapfile.open("r+b", buffering=0) as swapfile:
        os.pwrite(swapfile.fileno(), os.urandom(PAGE_SIZE), 0)
        for page in range(64):
            os.pread(swapfile.fileno(), PAGE_SIZE, page * PAGE_SIZE)


@contextmanager
def served(device: TestDevice) -> Iterator[int]:
    """Both files over HTTP on loopback; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            body = (device.mountpoint / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", TYPES[name])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def prometheus(directory: Path, port: int, name: str) -> Iterator[str]:
    """One that reads ``name`` from ``port`` once a second; yields its address."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "fuseswap",
                "metrics_path": f"/{name}",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    own = f"127.0.0.1:{free_port()}"
    command = (
        tool("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={own}",
    )
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield f"http://{own}/api/v1"
        finally:
            process.terminate()


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """What it answers; nothing while it is not there yet.  Raises `HTTPError` for a bad query."""
    words = query.replace("$__rate_interval", "20s").replace("$device", ".*")
    url = f"{address}/query?{urllib.parse.urlencode({'query': words})}"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return list(json.load(answer)["data"]["result"])
    except OSError as exc:
        if isinstance(exc, urllib.error.HTTPError) and exc.code != 503:  # 503: it is starting
            raise
        return []


@pytest.mark.parametrize("name", TYPES)
def test_each_query_has_an_answer(device: TestDevice, tmp_path: Path, name: str) -> None:
    with served(device) as port, prometheus(tmp_path, port, name) as address:

        def has_read(times: int) -> bool:
            use(device)
            found = ask(address, 'count_over_time(up{job="fuseswap"}[1m])')
            return bool(found) and int(found[0]["value"][1]) >= times

        wait_until("some rounds of reading", lambda: has_read(5), 60)
        assert [one["value"][1] for one in ask(address, "up")] == ["1"]
        for query in QUERIES:
            found = ask(address, query)
            assert found, query
            assert {one["metric"]["device"] for one in found} == {device.name}
        places = {one["metric"]["place"] for one in found_of(address, "load", 0.99)}
        assert {"memory", "tier:backing_file"} <= places


def found_of(address: str, request: str, share: float) -> list[dict[str, Any]]:
    """The answer to the dashboard's query for the time of a request, without those of no number."""
    (query,) = (one for one in QUERIES if f'request="{request}"' in one and f"({share}," in one)
    return [one for one in ask(address, query) if not math.isnan(float(one["value"][1]))]

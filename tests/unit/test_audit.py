"""``scripts/audit`` with the answers of an index on loopback: findings fail, silence does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/audit"
_PIN = f"trio==0.25.0 \\\n    --hash=sha256:{'0' * 64}\n"
_NOTHING: dict[str, Any] = {}
_WEAK = {
    "vulns": [
        {
            "id": "PYSEC-2026-1",
            "published": "2026-01-01T00:00:00Z",
            "summary": "It is weak",
            "affected": [
                {
                    "package": {"name": "trio", "ecosystem": "PyPI"},
                    "ranges": [
                        {
                            "type": "ECOSYSTEM",
                            "events": [{"introduced": "0"}, {"fixed": "0.26.0"}],
                        }
                    ],
                }
            ],
        }
    ]
}


class Index:
    """Answers as OSV does, with ``answer``; notes what was asked for."""

    def __init__(self) -> None:
        self.answer: object = _NOTHING
        self.asked: list[tuple[str, str]] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                index.asked.append((wanted["package"]["name"], wanted["version"]))
                body = json.dumps(index.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass  # it would go to the terminal

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/query"


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()
    thread = threading.Thread(target=index.server.serve_forever)
    thread.start()
    yield index
    index.server.shutdown()
    thread.join()
    index.server.server_close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One pin, the script, and this interpreter in a ``.venv`` that may be marked."""
    (tmp_path / "scripts").mkdir()
    shutil.copy2(SCRIPT, tmp_path / "scripts")
    (tmp_path / "constraints.txt").write_text(_PIN)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def audit(checkout: Path, url: str) -> subprocess.CompletedProcess[str]:
    variables = {
        **os.environ,
        "PIP_AUDIT_VULNERABILITY_SERVICE": "osv",
        "PIP_AUDIT_OSV_URL": url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run(
        [checkout / "scripts/audit"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def is_marked(checkout: Path) -> bool:
    return (checkout / ".venv/audited").exists()


@pytest.mark.slow
def test_a_known_weakness_is_a_failure(checkout: Path, index: Index) -> None:
    index.answer = _WEAK
    done = audit(checkout, index.url)
    assert done.returncode == 1, done.stderr
    assert "PYSEC-2026-1" in done.stderr
    assert "trio" in done.stderr
    assert "0.26.0" in done.stderr
    assert not is_marked(checkout), "so that it fails the next time, too"
    assert index.asked == [("trio", "0.25.0")]


def test_none_is_asked_for_once_for_each_state_of_the_pins(checkout: Path, index: Index) -> None:
    for _ in range(2):
        done = audit(checkout, index.url)
        assert (done.returncode, done.stderr) == (0, "")
    assert is_marked(checkout)
    assert len(index.asked) == 1
    (checkout / "constraints.txt").write_text(_PIN.replace("0.25.0", "0.24.0"))
    index.answer = _WEAK
    assert audit(checkout, index.url).returncode == 1


@pytest.mark.slow
def test_no_answer_is_said_and_no_failure(checkout: Path, index: Index) -> None:
    index.answer = [1, 2]  # and nonsense is none
    for url in ("http://127.0.0.1:9/v1/query", index.url):
        done = audit(checkout, url)
        assert done.returncode == 0
        assert done.stderr.startswith("audit: no answer")
        assert len(done.stderr.splitlines()) == 1
        assert not is_marked(checkout)


@pytest.mark.slow
def test_where_nothing_was_asked_it_is_a_failure(checkout: Path, index: Index) -> None:
    """It would be silent for good otherwise."""
    (checkout / "constraints.txt").write_text("trio>=0.25 and more\n")
    done = audit(checkout, index.url)
    assert done.returncode == 1
    assert "constraints.txt" in done.stderr
    (checkout / "constraints.txt").write_text(_PIN)
    python = checkout / ".venv/bin/python"
    python.write_text(python.read_text().replace(' "$@"', ' -I -S "$@"'))  # no packages
    done = audit(checkout, index.url)
    assert done.returncode == 1
    assert "pip_audit" in done.stderr
    assert not is_marked(checkout)
    assert index.asked == []

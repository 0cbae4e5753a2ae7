"""An ``up`` that fails, at each of its steps, leaves nothing behind and says why in a line."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import SOURCE, call, leftovers, new_name, taken_down, wait_until

pytestmark = pytest.mark.no_swap

TOOLS = ("losetup", "mkswap", "swapon", "swapoff", "umount")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with just the tools `up` needs, to take one away or break it."""
    for tool in TOOLS:
        found = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert found, f"{tool} is missing"
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def fail(code: int, *options: str, **environment: str) -> CompletedProcess[str]:
    """`up` with another environment; must fail with ``code`` and leave nothing."""
    name = new_name()
    mountpoint = str(Runtime(name).default_mountpoint)
    with taken_down(name):
        done = call("up", name, "--size", "256M", *options, env={**os.environ, **environment})
        # A supervisor that could not start says so first, and ends then.
        wait_until("nothing to be left", lambda: not leftovers(name, mountpoint))
        assert done.returncode == code, done
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
    return done


def test_tools_are_found_without_sbin_in_the_path(tmp_path: Path) -> None:
    name = new_name()
    with taken_down(name):
        done = call(
            "up", name, "--size", "8M", "--no-swapon", env={**os.environ, "PATH": str(tmp_path)}
        )
        assert (done.returncode, done.stdout[:9]) == (0, f"{name} is up"[:9]), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("tool", ["losetup", "mkswap", "swapon"])
def test_a_signal_at_any_step_undoes_all_of_it(
    tools: Path, tool: str, number: signal.Signals
) -> None:
    """It comes while the tool hangs."""
    (tools / "sleep").symlink_to(shutil.which("sleep") or "")
    real = os.readlink(tools / tool)
    (tools / tool).unlink()
    work = "" if tool == "swapon" else f'{real} "$@" >/dev/null'
    # Of losetup the first call alone, which attaches.
    (tools / tool).write_text(
        f'#!/bin/sh\n[ -e {tools}/done ] && exec {real} "$@"\n: >{tools}/done\n'
        f"{work}\nkill -{number:d} $PPID\nexec sleep 600\n"
    )
    (tools / tool).chmod(0o755)
    done = fail(128 + number, PATH=str(tools))
    assert "was interrupted" in done.stderr
    assert (tools / "done").exists()


@pytest.mark.parametrize("tool", ["losetup", "mkswap", "swapon"])
def test_a_tool_fails(tools: Path, tool: str) -> None:
    (tools / tool).unlink()
    (tools / tool).write_text("#!/bin/sh\necho one line >&2\necho broken on purpose >&2\nexit 1\n")
    (tools / tool).chmod(0o755)
    done = fail(2, PATH=str(tools))
    assert "broken on purpose" in done.stderr


def test_the_worker_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "pyfuse3.py").write_text("raise ImportError('broken on purpose')\n")
    done = fail(32, "--testing", "--transport", "pyfuse3", PYTHONPATH=f"{tmp_path}:{SOURCE}")
    assert "worker" in done.stderr


def test_the_reason_of_a_dead_worker_can_be_found(tmp_path: Path) -> None:
    (tmp_path / "pyfuse3.py").write_text("raise ImportError('broken on purpose')\n")
    done = fail(32, "--testing", "--transport", "pyfuse3", PYTHONPATH=f"{tmp_path}:{SOURCE}")
    named = [word for word in done.stderr.split() if word.endswith("/log")]
    assert "broken on purpose" in done.stderr or all(Path(path).exists() for path in named)


@pytest.mark.parametrize(
    "options", [("--compressor", "gzip"), ("--pool-limit", "0%"), ("--priority", "99999")]
)
def test_usage_is_refused_before_anything_is_done(options: tuple[str, ...]) -> None:
    fail(1, *options)

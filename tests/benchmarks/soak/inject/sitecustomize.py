"""Has a worker raise an error nobody foresaw, wherever it is, when it gets SIGUSR2.

Imported by every Python that has this directory in its PYTHONPATH.
"""

import signal

with open("/proc/self/cmdline", "rb") as _arguments:
    _is_worker = b"fuseswap.daemon.worker" in _arguments.read().split(b"\0")


def _raise(number: int, frame: object) -> None:
    raise RuntimeError("injected by scripts/soak")


if _is_worker:
    signal.signal(signal.SIGUSR2, _raise)

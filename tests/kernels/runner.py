"""Builds what is missing, runs scenarios side by side, says and keeps what came of them."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.kernels import cache, kernel_package, results, root_image, source_image
from tests.kernels.load import load_of
from tests.kernels.machine import Images, Machine, Settings
from tests.kernels.scenario import Scenario
from tests.kernels.source_image import Source
from tests.kernels.stacks import stacks
from tests.kernels.verdict import judge

_ONE_LINE = threading.Lock()
_LAST_LINES = 6  # of what a guest said, where its directory will be gone
_STACK_LINES = 120


def say(text: str) -> None:
    """A line, whole, whatever other threads say."""
    with _ONE_LINE:
        print(text, flush=True)


def build(kernels: Sequence[str]) -> tuple[Path, dict[str, Path]]:
    """The root image and the kernels, side by side; what is there and current stays."""
    with cache.building(), ThreadPoolExecutor() as pool:
        began = time.monotonic()
        root = pool.submit(root_image.provide)
        programs = pool.submit(source_image.programs)
        made = {kernel: pool.submit(kernel_package.provide, kernel) for kernel in kernels}
        programs.result()
        found = root.result(), {kernel: future.result() for kernel, future in made.items()}
        if time.monotonic() - began > 1:
            say(f"built in {time.monotonic() - began:.0f} s")
        return found


def run_all(
    scenarios: Sequence[Scenario],
    source: Source,
    settings: Settings,
    *,
    jobs: int,
    verbose: bool,
    evidence: bool = False,
) -> int:
    """Every scenario, ``jobs`` at a time; 0 where all of them passed.

    ``evidence``: show the end of what failed, for a machine whose files nobody will see.
    """
    root, kernels = build(sorted({scenario.kernel for scenario in scenarios}))
    described = source.describe()
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="fuseswap-kernels-") as place:
        image = Path(place) / "source.ext4"
        source_image.make(source, image)
        images = Images(root, image, kernels)

        def run_one(scenario: Scenario) -> results.Record:
            return _run_one(scenario, described, images, settings, stop, verbose)

        with ThreadPoolExecutor(jobs) as pool:
            try:
                records = list(pool.map(run_one, scenarios))
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    if len(records) > 1:
        print(results.table(results.read(results.path()), records))
    failed = sum(not record["passed"] for record in records)
    for record in records if evidence else ():
        if not record["passed"]:
            print(_evidence(Path(record["directory"])))
    if failed:
        print(f"kernels: {failed} of {len(records)} did not pass", file=sys.stderr)
    return 1 if failed else 0


def _run_one(
    scenario: Scenario,
    source: str,
    images: Images,
    settings: Settings,
    stop: threading.Event,
    verbose: bool,
) -> results.Record:
    machine = Machine(scenario, images, settings)
    said: Callable[[str], None] = (
        (lambda line: say(f"{scenario.name}: {line}")) if verbose else (lambda line: None)
    )
    outcome = machine.run(stop, said)
    verdict = judge(scenario, outcome.ended, outcome.wall_s, outcome.console, outcome.lines)
    if found := stacks(outcome.console):
        (machine.directory / "stacks").write_text(found)
    load = asdict(load_of(scenario)) | {"touches_asked": settings.touches}
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "source": source if scenario.swap == "fuseswap" else scenario.swap,
        **verdict.as_json(),
        "cpu_s": outcome.cpu_s,
        "load": load,
        "up_options": settings.up_options,
        "parameters": settings.parameters,
        "sysctl": settings.sysctl,
        "host_load": round(os.getloadavg()[0], 1),
        "directory": str(machine.directory),
    }
    if outcome.ended != "stopped":
        results.append(record)
        say(_line(record))
    return record


def _line(record: results.Record) -> str:
    """One run in one line."""
    took = f"{record['seconds']:.0f} s" if record["seconds"] is not None else "no end"
    if record["passed"]:
        return f"{record['scenario']}: passed, {took}, {record['swapped_mib']} MiB swapped"
    at = f"{record['phase']} {record['done']:.0%}" if record["phase"] else "at the beginning"
    why = "; ".join(record["why"])
    return f"{record['scenario']}: FAILED, {took}, {at}: {why}\n    see {record['directory']}"


def _evidence(directory: Path) -> str:
    """The last lines a guest said, and the stacks, as far as they were taken."""
    shown = [f"--- {directory.name}"]
    for name, first, last in (("out", -_LAST_LINES, None), ("stacks", 0, _STACK_LINES)):
        file = directory / name
        if file.exists():
            shown += file.read_text(errors="replace").splitlines()[first:last]
    return "\n".join(shown)

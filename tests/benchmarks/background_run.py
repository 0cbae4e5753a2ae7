"""Suite `background`: how long a read waits while cold pages are recompressed.

    0         4 MiB                                          pages of the corpus
    | hot       | cold: stored, a second old, nobody reads them           |

Only the hot pages are read, one at a time; so they stay what they are, and what differs is
what goes on beside them.  A turn is one with recompression off and one with it on, the
first of the two another one each time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import GIB, KIB, MIB
from tests.benchmarks import busy_run, corpus, fio, memory_run, page_sets
from tests.benchmarks.command import tell
from tests.benchmarks.corpus_programs import PROGRAMS
from tests.benchmarks.fio import Job
from tests.benchmarks.peers import DISK, Fuseswap, Peer, prepared
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult
from tests.benchmarks.sampler import Sampler
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved

HOT_BYTES = 4 * MIB
OFF, ON = "off", "on"

_READ = Job("randread", 4 * KIB, 1)
_AGE = {OFF: "0", ON: "1"}
_SETTLE_S = 2.0
_FILL_TIMEOUT_S = 60.0


class Device(Fuseswap):
    """One whose recompression is switched while it runs."""

    def switch(self, state: str) -> None:
        """Recompress what is older than a second, or nothing."""
        self._fuseswap("set", self.name, f"recompress_age_seconds={_AGE[state]}")


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Device(BASELINE, GIB),
    "fuseswap-loop": lambda: Device("fuseswap-loop", GIB, loop=True),
}


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Store the corpus in each, read beside recompression in turn.  Raises `HostError`."""
    devices = [peer for peer in peers if isinstance(peer, Device)]
    if not corpus.files(settings.corpus):
        tell(f"no corpus in {settings.corpus}: making one")
        list(corpus.make(settings.corpus, list(PROGRAMS.values())))
    files = corpus.files(settings.corpus)
    measurements = []
    with tempfile.TemporaryDirectory(prefix="fuseswap-bench-", dir=DISK) as directory:
        data = Path(directory) / "unique"
        page_sets.write("unique", files, data)
        for device in devices:  # one after the other: a second one would recompress meanwhile
            with prepared([device]):
                device.switch(OFF)
                memory_run.run_page_io("write", device.path, str(data))
                fio.run(fio.fill_command(device.path, HOT_BYTES), _FILL_TIMEOUT_S)
                fio.run(_READ.command(device.path, HOT_BYTES, 1.0), _FILL_TIMEOUT_S)
                for number, state in interleaved(settings.rounds, (OFF, ON)):
                    found = _read(device, state, settings.seconds)
                    measurements.append(Measurement(state, device.name, number, found))
                    tell(
                        f"background {state} round {number + 1} {device.name}: "
                        f"p50 {found['clat_p50_us']:.1f} us, p99 {found['clat_p99_us']:.1f} us, "
                        f"p99.9 {found['clat_p999_us']:.1f} us, "
                        f"worst {found['clat_max_us']:.1f} us, "
                        f"{found['recompressed_per_s']:.0f} pages recompressed a second"
                    )
    return SuiteResult(
        name="background",
        baseline=BASELINE,
        compared=(),
        shown=(
            "iops",
            "clat_p50_us",
            "clat_p99_us",
            "clat_p999_us",
            "clat_max_us",
            "recompressed_per_s",
        ),
        peers={device.name: device.describe() for device in devices},
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "hot_bytes": HOT_BYTES,
            "device_bytes": GIB,
        },
        notes=(
            f"reads of {HOT_BYTES // MIB} MiB of hot pages; {ON}: cold pages of the corpus are "
            f"recompressed beside them; {OFF}: they are not",
        ),
        commands=[_READ.command(devices[0].path, HOT_BYTES, settings.seconds)],
        targets=(),
        limits=(
            Limit(ON, "p50_of_off", BASELINE, Sense.AT_MOST, 1.10),
            Limit(ON, "clat_p999_us", BASELINE, Sense.AT_MOST, busy_run.MOST_P999_US),
        ),
        measurements=with_ratios(measurements),
    )


def with_ratios(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Those beside recompression get the ratio to the one without, of the same round."""
    off = {
        (one.peer, one.round): one.values["clat_p50_us"] for one in measurements if one.job == OFF
    }
    found = []
    for one in measurements:
        values = dict(one.values)
        if one.job == ON:
            values["p50_of_off"] = values["clat_p50_us"] / off[one.peer, one.round]
        found.append(Measurement(one.job, one.peer, one.round, values))
    return found


def _read(device: Device, state: str, seconds: float) -> dict[str, float]:
    """Read at depth 1.  Raises `HostError` where ``state`` is not what went on."""
    device.switch(state)
    time.sleep(_SETTLE_S)
    began = time.monotonic()
    with Sampler(device) as sampler:
        values = fio.run(_READ.command(device.path, HOT_BYTES, seconds), seconds)
        spent = time.monotonic() - began
    pages = sampler.delta("recompressed_pages")
    device.switch(OFF)
    if bool(pages) != (state == ON):
        raise HostError(f"{device.name}: {pages} pages were recompressed while that was {state}")
    return {**values, "recompressed_per_s": pages / spent}

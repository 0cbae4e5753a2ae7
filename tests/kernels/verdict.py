"""From what a guest said on its two serial ports to a verdict.  Pure: texts in, a record out."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.kernels.scenario import Scenario
from tests.kernels.stacks import blocked

_HUNG = re.compile(r"task (\S+):\d+ blocked (?:in I/O wait )?for more than")
_KILLED = re.compile(r"Killed process \d+ \(([^)]*)\)")
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")
_SWAP_ERROR = re.compile(r"(?:Read|Write)-error on swap-device|I/O error, dev \w+")
_SEGFAULT = re.compile(r"(\S+)\[\d+\]:? (?:segfault|general protection|trap)")
_SIGKILL = 9
_HOG_LOST_A_CHILD = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run.  ``why`` is empty where it passed; times in seconds of the guest's clock."""

    scenario: str
    why: list[str]
    seconds: float | None = None
    up_s: float | None = None
    down_s: float | None = None
    boot_s: float | None = None
    wall_s: float | None = None
    phase: str = ""
    done: float = 0.0
    bad_pages: int = 0
    hung_tasks: list[str] = field(default_factory=list)
    oom_kills: list[str] = field(default_factory=list)
    panic: str = ""
    init_died: bool = False
    bystanders_lost: int = 0
    swap_errors: int = 0
    segfaults: list[str] = field(default_factory=list)
    kills: int = 0
    longest_silence_s: float | None = None
    swapped_mib: int = 0
    least_free_mib: float | None = None
    statistics: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is to be complained of."""
        return not self.why

    def as_json(self) -> dict[str, Any]:
        """For one line of results."""
        return {"passed": self.passed, **asdict(self)}


def parse_events(lines: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of a guest; what else it says is left out."""
    events = []
    for line in lines.splitlines():
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut off: the guest died in the middle
            if "event" in event:
                events.append(event)
    return events


def judge(scenario: Scenario, ended: str, wall_s: float, console: str, lines: str) -> Verdict:
    """The verdict on one run; ``ended`` as in `machine.Outcome`."""
    events = parse_events(lines)
    last: dict[str, dict[str, Any]] = {event["event"]: event for event in events}
    ticks = [event for event in events if event["event"] == "tick"]
    result = last.get("result", {})
    hung, killed = _HUNG.findall(console), _KILLED.findall(console)
    panic = _PANIC.search(console)
    hog = result.get("hog", {})
    course = [*(tick for tick in ticks if tick.get("phase")), hog]
    nothing: dict[str, Any] = {}
    progress = next((event for event in reversed(course) if event.get("phase")), nothing)
    bad = max((event.get("bad_pages") or 0 for event in course), default=0)
    lost = sum(code != 0 for code in result.get("bystander_exits", ()))
    still = blocked(console) if ended == "silent" and not hung else []
    why = [
        *([f"the guest was {ended}"] if ended != "off" else []),
        *([f"panic: {panic[1].strip()}"] if panic else []),
        *([f"hung: {', '.join(sorted(set(hung)))}"] if hung else []),
        *([f"blocked: {', '.join(still)}"] if still else []),
        *([f"{bad} bad pages"] if bad else []),
        *_complaints_of_killer(scenario, killed),
        *([f"{lost} bystanders lost"] if lost else []),
        *(_complaints_of_course(scenario, result) if result else [_no_result(last)]),
    ]
    return Verdict(
        scenario=scenario.name,
        why=why,
        seconds=result.get("seconds"),
        up_s=result.get("up_s"),
        down_s=result.get("down_s"),
        boot_s=last.get("boot", {}).get("uptime"),
        wall_s=wall_s,
        phase=progress.get("phase", ""),
        done=round(progress.get("done", 0.0), 3),
        bad_pages=bad,
        hung_tasks=sorted({*hung, *still}),
        oom_kills=killed,
        panic=panic[1].strip() if panic else "",
        init_died="Attempted to kill init" in console,
        bystanders_lost=lost,
        swap_errors=len(_SWAP_ERROR.findall(console)),
        segfaults=_SEGFAULT.findall(console),
        kills=result.get("kills", sum(event["event"] == "kill" for event in events)),
        longest_silence_s=result.get("longest_silence_s"),
        swapped_mib=max((tick["swapped"] for tick in ticks), default=0) >> 10,
        least_free_mib=round(min((tick["free"] for tick in ticks), default=0) / 1024, 1),
        statistics=result.get("statistics", {}),
    )


def _complaints_of_killer(scenario: Scenario, killed: list[str]) -> list[str]:
    wrong = [name for name in killed if not name.startswith("hog") or not scenario.out_of_memory]
    return [f"OOM killer took {', '.join(wrong)}"] if wrong else []


def _complaints_of_course(scenario: Scenario, result: dict[str, Any]) -> list[str]:
    """What is wrong with a run that came to its end."""
    why = []
    code = result["hog_exit"]
    if result["stalled"]:
        why.append("the hog made no progress")
    elif scenario.out_of_memory:
        if code not in (-_SIGKILL, _HOG_LOST_A_CHILD):
            why.append(f"the hog was not killed: {code}")
    elif code or result["hog"].get("phase") != "end":
        why.append(f"the hog ended with {code}")
    if result["down_exit"]:
        why.append(f"down: {result['down_exit']}")
    if result["failed_ups"]:
        why.append(f"{result['failed_ups']} times no new supervisor")
    if not result["statistics"].get("seccomp", 1):
        why.append("the worker's system calls were not filtered")
    if scenario.kill != "none" and not result["kills"]:
        why.append("nothing was killed")
    return why


def _no_result(last: dict[str, dict[str, Any]]) -> str:
    if "failed" in last:
        return str(last["failed"]["error"])
    return "no result" if "boot" in last else "it did not boot"

"""What ``config.json`` and ``state.json`` hold, with types.

    Settings      config.json   what `up` was asked for, and the attachments there are by now
    DeviceState   state.json    process ids, protection, restarts; written by the supervisor

Both are read here and nowhere else.  A key that an older version did not write has a default,
an unknown key is ignored.  A wrong type or value is a `HostError` of one line.
Tuples, not dataclasses: `dataclasses` costs the supervisor 2 MB of locked memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from fuseswap.daemon.attachment import MAX_FDS, Attachment
from fuseswap.errors import HostError
from fuseswap.linux import visible
from fuseswap.linux.process import start_ticks
from fuseswap.linux.protect import Protection
from fuseswap.transport import RESUMING, TRANSPORTS

LAYOUTS = ("packed", "in-place")
BACKEND_PREFIX = "backend:"  # of a file of memory that is a backend's, before its name
RESEND = ("auto", "off")  # off: as if the kernel were older than 6.9
_MAX_SHOWN = 60  # characters of a wrong value
_MAX_DIGITS = 19  # of a number of bytes in text

T = TypeVar("T", int, str, bool)


class GeometryNumbers(NamedTuple):
    """The fields of `cache.state.Geometry`, which the supervisor does not import."""

    page_count: int
    segment_count: int
    frame_count: int


class Settings(NamedTuple):
    """What a device is: fixed from `up` to `down`, but for its attachments."""

    mountpoint: str
    transport: str
    size_bytes: int
    geometry: GeometryNumbers
    region_bytes: dict[str, int]  # of each file of shared memory, by name
    parameters: dict[str, str]  # what the worker sets first, as written to ``params/``
    backing: str | None = None  # with pages in place; an older version's with segments, too
    backing_bytes: int = 0
    backing_layout: str = LAYOUTS[0]
    backing_encrypt: bool = True  # of pages in place
    resend: str = RESEND[0]
    watchdog_s: int = 0  # 0: never
    standby: bool = True
    memory: str | None = None  # a kind of ``linux/shared_memory.py``; None: the best there is
    attachments: tuple[Attachment, ...] = ()
    testing: bool = False  # see ``environment.py``
    seccomp: bool = True  # a worker may make the system calls of ``allowed_calls.py`` alone
    below_zswap: int = 0  # percent of memory for zswap's pool in front; 0: zswap is as it is

    @property
    def resumes(self) -> bool:
        """Whether another worker can go on where one has ended."""
        return self.transport in RESUMING

    @property
    def pool_limit_bytes(self) -> int:
        """The limit that the worker begins with."""
        return int(self.parameters["pool_limit_bytes"])

    @property
    def swapfile(self) -> str:
        """Path of the file that becomes the swap."""
        return f"{self.mountpoint}/swapfile"

    @property
    def needed_files(self) -> list[str]:
        """Names of the descriptors without which there is no device."""
        return [*self.region_bytes, "fuse", *(["backing"] if self.backing else [])]

    @property
    def held_files(self) -> list[str]:
        """Names of the descriptors that outlive a worker."""
        return self.needed_files + [name for one in self.attachments for name in one.files]

    def to_json(self) -> dict[str, Any]:
        """What `settings_from` reads."""
        attachments = [one.to_json() for one in self.attachments]
        geometry = self.geometry._asdict()
        return {**self._asdict(), "geometry": geometry, "attachments": attachments}


class Status(StrEnum):
    """How a device is, as its supervisor sees it."""

    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"  # no worker could be started; everything is kept
    FAILED = "failed"  # the connection to the kernel was cut


class DeviceState(NamedTuple):
    """What the supervisor, or a worker without one, last wrote."""

    status: Status = Status.STARTING
    reason: str | None = None  # of a status that is not as it should be
    supervisor_pid: int = 0
    worker_pid: int | None = None
    standby_pid: int | None = None
    supervisor_started: int = 0  # `process.start_ticks`; 0: an older version did not say
    worker_started: int = 0
    standby_started: int = 0
    restarts: int = 0
    memory: str | None = None  # a kind of ``linux/shared_memory.py``
    made_backing: bool = False  # the backing file was made by `up`
    former_of_backing: str | None = None  # the device whose pages were written over
    protection: Protection | None = None  # of the worker
    supervisor_protection: Protection | None = None
    seccomp_off: str | None = None  # why the worker has no filter, though the settings want one

    def with_starts(self) -> DeviceState:
        """With the times at which its processes began; asks the kernel."""
        return self._replace(
            supervisor_started=start_ticks(self.supervisor_pid),
            worker_started=start_ticks(self.worker_pid) if self.worker_pid else 0,
            standby_started=start_ticks(self.standby_pid) if self.standby_pid else 0,
        )

    def to_json(self) -> dict[str, Any]:
        """What `state_from` reads."""
        tuples = {
            key: value._asdict()
            for key, value in self._asdict().items()
            if isinstance(value, Protection)
        }
        return {**self._asdict(), **tuples}


class _Fields:
    """One JSON object by key; ``where`` begins every complaint."""

    def __init__(self, content: object, where: str) -> None:
        if not isinstance(content, dict):
            raise HostError(f"{where} is not a JSON object")
        self._content: dict[str, Any] = content
        self._where = where

    def wrong(self, key: str, wanted: str) -> HostError:
        shown = repr(self._content.get(key))[:_MAX_SHOWN]
        name = visible.one_line(key[:_MAX_SHOWN])  # that of a table may be anything
        return HostError(f"{self._where}: {name} is {shown}, not {wanted}")

    def get(self, key: str, kind: type[T], default: T | None = None, *, signed: bool = False) -> T:
        """A value of just this type (true is no number); without ``default`` it is needed."""
        if key not in self._content and default is not None:
            return default
        value = self._content.get(key)
        if type(value) is not kind or (isinstance(value, int) and value < 0 and not signed):
            raise self.wrong(key, _KINDS[kind])
        return value

    def get_or_none(self, key: str, kind: type[T]) -> T | None:
        return None if self._content.get(key) is None else self.get(key, kind)

    def one_of(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self.get(key, str, default)
        if value not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return value

    def table(self, key: str, kind: type[T]) -> dict[str, T]:
        """An object whose values have one type."""
        fields = self.part(key)
        return {name: fields.get(name, kind) for name in fields._content}

    def parts(self, key: str) -> list[_Fields]:
        """A list of objects; none where there is no such key."""
        content = self._content.get(key, [])
        if not isinstance(content, list):
            raise self.wrong(key, "a list")
        return [_Fields(one, f"{self._where}: {key}") for one in content]

    def numbers(self, key: str) -> list[int]:
        content = self._content.get(key)
        if not isinstance(content, list) or any(type(one) is not int for one in content):
            raise self.wrong(key, "a list of numbers")
        return content

    @property
    def json(self) -> dict[str, Any]:
        """As it is."""
        return self._content

    def part(self, key: str) -> _Fields:
        return _Fields(self._content.get(key), f"{self._where}: {key}")

    def protection(self, key: str) -> Protection | None:
        """None where there is none, or an empty one."""
        if not self._content.get(key):
            return None
        fields = self.part(key)
        return Protection(
            memory_locked=fields.get("memory_locked", bool),
            io_flusher=fields.get("io_flusher", bool),
            oom_score_adj=fields.get("oom_score_adj", int, signed=True),
            seccomp=fields.get("seccomp", bool, False),
        )


_KINDS: dict[type, str] = {int: "a number", str: "a text", bool: "true or false"}


def settings_from(content: object, where: str) -> Settings:
    """``content`` of a ``config.json``, of this version or an older one.  Raises `HostError`."""
    fields = _Fields(content, where)
    geometry = fields.part("geometry")
    settings = Settings(
        mountpoint=mountpoint_from(content, where),
        transport=fields.one_of("transport", TRANSPORTS),
        size_bytes=fields.get("size_bytes", int),
        geometry=GeometryNumbers(*(geometry.get(name, int) for name in GeometryNumbers._fields)),
        region_bytes=fields.table("region_bytes", int),
        parameters=fields.table("parameters", str),
        backing=fields.get_or_none("backing", str),
        backing_bytes=fields.get("backing_bytes", int, 0),
        backing_layout=fields.one_of("backing_layout", LAYOUTS, LAYOUTS[0]),
        backing_encrypt=fields.get("backing_encrypt", bool, False),
        resend=fields.one_of("resend", RESEND, RESEND[0]),
        watchdog_s=fields.get("watchdog_s", int, 0),
        standby=fields.get("standby", bool, True),
        memory=fields.get_or_none("memory", str),
        attachments=tuple(map(_attachment, fields.parts("attachments"))),
        testing=fields.get("testing", bool, False),
        seccomp=fields.get("seccomp", bool, True),
        below_zswap=fields.get("below_zswap", int, 0),
    )
    limit = settings.parameters.get("pool_limit_bytes", "")
    if not limit.isdecimal() or len(limit) > _MAX_DIGITS:
        raise fields.wrong("parameters", "with a pool_limit_bytes")
    return settings


def attachment_from(content: object, where: str) -> Attachment:
    """One attachment, as its `to_json` gave it.  Raises `HostError`."""
    return _attachment(_Fields(content, where))


def _attachment(fields: _Fields) -> Attachment:
    fds = fields.numbers("fds")
    if not 0 < len(fds) <= MAX_FDS:
        raise fields.wrong("fds", f"1 to {MAX_FDS} numbers")
    description = fields.part("description")
    for file in description.parts("files"):
        file.get("path", str)
        file.get("made", bool)
        file.get("size_bytes", int)
    for leaf in description.parts("leaves"):
        leaf.get("kind", str)
        leaf.get("volatile", bool, False)
        leaf.get("extent_count", int)
        _check_places(leaf, leaf.numbers("fds"), fds)
    if "marks" in description.json:
        _check_places(description, [description.get("marks", int)], fds)
    return Attachment(fields.get("name", str), tuple(fds), description.json)


def _check_places(fields: _Fields, places: Sequence[int], fds: Sequence[int]) -> None:
    """Whether ``places`` are some of ``fds``."""
    if not places or not all(0 <= place < len(fds) for place in places):
        raise fields.wrong("fds", f"places of {len(fds)} descriptors")


def mountpoint_from(content: object, where: str) -> str:
    """The mountpoint alone: what `down` needs, whatever else is wrong.  Raises `HostError`."""
    return _Fields(content, where).get("mountpoint", str)


def state_from(content: object, where: str) -> DeviceState:
    """``content`` of a ``state.json``, of this version or an older one.  Raises `HostError`."""
    fields = _Fields(content, where)
    return DeviceState(
        status=Status(fields.one_of("status", [*Status], Status.STARTING)),
        reason=fields.get_or_none("reason", str),
        supervisor_pid=fields.get("supervisor_pid", int, 0),
        worker_pid=fields.get_or_none("worker_pid", int) or None,  # 0: an older one, degraded
        standby_pid=fields.get_or_none("standby_pid", int),
        supervisor_started=fields.get("supervisor_started", int, 0),
        worker_started=fields.get("worker_started", int, 0),
        standby_started=fields.get("standby_started", int, 0),
        restarts=fields.get("restarts", int, 0),
        memory=fields.get_or_none("memory", str),
        made_backing=fields.get("made_backing", bool, False),
        former_of_backing=fields.get_or_none("former_of_backing", str),
        protection=fields.protection("protection"),
        supervisor_protection=fields.protection("supervisor_protection"),
        seccomp_off=fields.get_or_none("seccomp_off", str),
    )


def protection_from(content: object, where: str) -> Protection:
    """The ``protection`` that a worker says it has.  Raises `HostError`."""
    fields = _Fields(content, where)
    return fields.protection("protection") or Protection(False, False, 0)

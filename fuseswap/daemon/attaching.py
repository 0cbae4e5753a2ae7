"""How an attachment comes and goes while the device is served.

    attach   command -> noted in ``config.json`` -> handed to worker and standby -> the worker
             has made something of it -> done; where it could not: noted as before -> refused
    detach   command -> the worker lets go of it -> the standby too -> noted -> closed -> done

The supervisor does not wait: the scribe says through `noted` that it has written, the worker
answers through its channel.  ``config.json`` is written before a worker may use an attachment.  So
another supervisor finds all that anything lies on.  A worker that starts meanwhile has it from the
start.  So an attachment that was handed out is there, even where the worker that was asked died.
It goes only where a worker says that nothing needs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from fuseswap.daemon.adopted_worker import ServingWorker
from fuseswap.daemon.attachment import (
    ANSWER_TIMEOUT_S,
    MAY_FORGET,
    Attached,
    Attachment,
    close,
    moved,
)
from fuseswap.daemon.device_files import attachment_from
from fuseswap.daemon.holdings import Holdings
from fuseswap.daemon.petitions import ATTACH, Petitions
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.service import Service
from fuseswap.daemon.standby import Standby
from fuseswap.errors import HostError, in_words

_NAME = re.compile(r"(tier|backend|trace):[a-z0-9][a-z0-9_-]{0,30}")


class _Asked(NamedTuple):
    """What the petition that waits is about; `worker`: whose answer it needs."""

    attaches: bool
    attachment: Attachment
    worker: ServingWorker | None
    deadline: float


class Attaching:
    """Of one device; used by the supervisor's main thread."""

    def __init__(
        self,
        runtime: Runtime,
        holdings: Holdings,
        petitions: Petitions,
        service: Service,
        standby: Standby,
        scribe: Scribe,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``changed`` is called when one is there, or has gone."""
        self._changed = changed
        self._runtime = runtime
        self._holdings = holdings
        self._attached: Attached = holdings.attached
        self._petitions = petitions
        self._service = service
        self._standby = standby
        self._scribe = scribe
        self.noted = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # One for each job that the scribe has: two at most, and one for each late answer.
        self._then: deque[Callable[[str], None]] = deque()
        self._errors: deque[str] = deque()
        self._asked: _Asked | None = None
        self._deaf: ServingWorker | None = None  # it has ended, and will soon be reaped

    # -- what is asked for -------------------------------------------------------------

    def hear(self, request: str) -> None:
        """A petition to attach or to detach."""
        try:
            if request == ATTACH:
                self._attach(self._petitions.argument)
            else:
                self._detach(self._petitions.argument)
        except HostError as exc:
            self._petitions.answer("refused", str(exc))

    def _attach(self, text: str) -> None:
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        wanted = attachment_from(content, "the request")
        if not _NAME.fullmatch(wanted.name):
            raise HostError(f"'{wanted.name}' is no name of an attachment")
        if self._attached.find(wanted.name):
            raise HostError(f"there is a {shown(wanted.name)} already")
        worker = self._service.worker
        if worker and not worker.hears:
            worker.bring_in_line()  # which says why not
        fds = self._petitions.take_descriptors()
        if len(fds) != len(wanted.fds):
            close(fds)
            raise HostError(f"{len(wanted.fds)} descriptors were announced, {len(fds)} came")
        attachment = wanted._replace(fds=moved(fds))
        self._note((*self._attached.now, attachment), partial(self._hand_out, attachment))

    def _hand_out(self, attachment: Attachment, error: str) -> None:
        """It is noted: each worker that serves from here on has it."""
        if error:
            close(attachment.fds)
            self._petitions.answer("refused", error)
            return
        self._attached.add(attachment)
        self._changed()
        if attachment.may_forget:
            self._service.say(f"{shown(attachment.name)} {MAY_FORGET}")
        self._scribe.do(partial(self._holdings.keep_with_systemd, attachment))
        worker = self._service.worker
        self._wait_for(True, attachment, worker)
        self._standby.bring_in_line()
        if worker:
            with contextlib.suppress(HostError):  # it has ended: the next one begins with it
                worker.bring_in_line()
        self.look()

    def _detach(self, name: str) -> None:
        attachment = self._attached.find(name)
        if attachment is None:
            raise HostError(f"there is no {shown(name)}")
        worker = self._service.worker
        if worker is None:
            raise HostError("no worker serves now (fuseswap status)")
        worker.drop(attachment)
        self._wait_for(False, attachment, worker)

    def _wait_for(
        self, attaches: bool, attachment: Attachment, worker: ServingWorker | None
    ) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        self._asked = _Asked(attaches, attachment, worker, deadline)

    def _answer(self, kind: str, text: str) -> None:
        """To the petition that waits, if it still does."""
        if self._asked:
            self._asked = None
            self._petitions.answer(kind, text)

    # -- what comes of it --------------------------------------------------------------

    def fds(self) -> list[int]:
        """Readable where there is something to `react` to."""
        worker = self._service.worker
        heard = worker is not None and worker is not self._deaf
        channel = [worker.channel_fd] if worker and heard else []
        return [self.noted, self._standby.begun, *channel]

    def react(self, ready: set[int]) -> None:
        """The scribe has written, the worker has something to say, or a standby is being made."""
        if self._standby.begun in ready:
            self._standby.bring_in_line()
        if self.noted in ready:
            for _ in range(os.eventfd_read(self.noted)):
                self._then.popleft()(self._errors.popleft())
        worker = self._service.worker
        if worker and worker.channel_fd in ready:
            self._hear_worker(worker)

    def look(self) -> None:
        """Once a second: does the standby have all, and does the worker that was asked live."""
        self._standby.bring_in_line()
        worker = self._service.worker
        if worker and worker is not self._deaf:
            self._hear_worker(worker)
        asked = self._asked
        if asked is None:
            return
        if asked.worker is None or asked.worker is not self._service.worker:
            if asked.attaches:
                self._answer("done", f"{shown(asked.attachment.name)} is attached")
            else:
                self._answer("refused", "the worker was replaced meanwhile; try again")
        elif time.monotonic() > asked.deadline:
            self._answer("refused", "the worker does not answer; it will do so once it can")

    def _hear_worker(self, worker: ServingWorker) -> None:
        said = worker.answer()
        if said is None:
            self._deaf = worker
        elif said:
            attachment = self._attached.find(said["name"])
            if attachment:
                self._take_answer(worker, attachment, said)

    def _take_answer(
        self, worker: ServingWorker, attachment: Attachment, said: dict[str, Any]
    ) -> None:
        error = said["error"]
        asked = self._asked if self._asked and self._asked.attachment == attachment else None
        took = said["answer"] == "take"
        if took and not error:
            if asked:
                self._answer("done", f"{shown(attachment.name)} is attached")
        elif not took and error:
            if asked:
                self._answer("refused", error)
        else:  # the worker does without it
            worker.has_dropped(attachment)
            self._attached.remove(attachment)
            self._changed()
            self._standby.bring_in_line()
            kind, text = (
                ("refused", error) if took else ("done", f"{shown(attachment.name)} is gone")
            )
            then = partial(self._let_go, attachment, (kind, text) if asked else None)
            self._note(self._attached.now, then)

    def _let_go(self, attachment: Attachment, outcome: tuple[str, str] | None, error: str) -> None:
        """It is noted that it is no more.

        With an ``error`` it is not, and another supervisor will leave it out.

        A standby that is just being made still has the files, so their locks end by word.
        """
        self._scribe.do(partial(self._holdings.forget_with_systemd, attachment))
        for fd, _, _ in attachment.backing_files():
            fcntl.flock(fd, fcntl.LOCK_UN)
        close(attachment.fds)
        if outcome:
            self._answer(*outcome)

    # -- the note ----------------------------------------------------------------------

    def _note(self, attachments: tuple[Attachment, ...], then: Callable[[str], None]) -> None:
        """Have ``config.json`` name these, then call ``then`` with the error, or ""."""
        self._then.append(then)
        self._scribe.do(partial(self._write, attachments))

    def _write(self, attachments: tuple[Attachment, ...]) -> None:
        """In the scribe's thread."""
        error = ""
        try:
            self._runtime.note_attachments(attachments)
        except (HostError, OSError) as exc:
            error = f"cannot be noted: {in_words(exc)}"
        self._errors.append(error)
        os.eventfd_write(self.noted, 1)


def shown(name: str) -> str:
    """``tier:file0`` in the words of a person."""
    kind, _, rest = name.partition(":")
    return f"{kind} '{rest}'"

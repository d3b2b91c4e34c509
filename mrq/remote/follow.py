"""Follows a job's news and brings its handle up to date: progress, notes, and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mrq.core import wire
from mrq.core.backoff import Retry
from mrq.core.ending import JobEnd
from mrq.core.info import JobInfo
from mrq.errors import InternalError, Interrupted, MrqError, NoAnswerError, OperatorError
from mrq.handle import Handle
from mrq.remote.ask import Asker
from mrq.remote.here import Here
from mrq.result import Result

#: How long one blocking read of the news waits.
_READ_S: Final = 10.0
#: After so long without news the leader is asked whether the job is still there.
_SILENT_S: Final = 30.0

#: Makes the result of a job that is done.
ResultOf = Callable[[JobEnd], Result]


@dataclass(eq=False)
class JobFollower:
    """One job's news, read on a thread of its own until the job is over or the engine is closed.

    Notes, and what ends the job, name paths as `here` has them.
    """

    asker: Asker
    handle: Handle
    result_of: ResultOf
    here: Here
    patience_s: float  #: without a connection
    _position: str = field(default="", init=False)
    last: JobInfo | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        name = f"mrq-follow-{self.handle.job}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, if its start wasn't interrupted: then it ends by itself."""
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._read()
        except MrqError as exc:
            self.handle.finish(None, exc, self.last)
        except BaseException as exc:
            self.handle.finish(None, InternalError(f"a bug in mrq: {exc!r}"), self.last)
            raise

    def _read(self) -> None:
        heard, retry = time.monotonic(), Retry()
        connected = heard
        while not self.asker.closed.is_set():
            try:
                self._position, entries = self.asker.link.news(self.handle.job, self._position, _READ_S)
                connected = time.monotonic()
                retry.worked()
                if connected - heard > _SILENT_S:
                    heard = connected
                    self.asker.ask("status", job=self.handle.job)  # raises by name if it is gone
            except OperatorError as exc:
                if self.asker.closed.is_set():
                    break
                if time.monotonic() - connected > self.patience_s:
                    raise NoAnswerError(f"{exc}; the job may go on: mrq wait {self.handle.job}") from exc
                self.asker.closed.wait(retry.failed())
                continue
            if entries:
                heard = connected
            # An end before the last word that the job goes on again is old news.
            at = max((i for i, entry in enumerate(entries) if entry.get("type") == "resumed"), default=-1)
            for entry in entries[at + 1 :]:
                if self._take(entry):
                    return
        self.handle.finish(
            None,
            Interrupted(f"nobody waits here for job {self.handle.job} any more; it goes on on the cluster"),
            self.last,
        )

    def _take(self, entry: Mapping[str, Any]) -> bool:
        """Take in one entry; True at the end."""
        kind = entry.get("type")
        if kind == "progress":
            self.last = self.here.job(wire.from_wire(JobInfo, entry["info"]))
        elif kind == "note":
            self.handle.note(self.here.text(str(entry["text"])))
        elif kind == "ended":
            end = JobEnd.of(self.handle.job, entry)
            error = str(end.error or "the job failed")
            self.last = self.here.job(end.info) if end.info is not None else self.last
            error = self.here.text(error) if end.error_type else self.here.error(error)
            self.handle.end(replace(end, error=error, info=self.last), self.result_of)
            return True
        return False

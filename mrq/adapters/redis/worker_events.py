"""The leader's event stream: what scripts append as they record it, followed by whoever leads.

The stream is a wake-up, never the truth: a new leader notes where it stands, then loads what is recorded,
then follows. So what was read may be trimmed; the trimming lags, since a successor may be loading. What
was trimmed unread, or lost with the server's data, is made up for by what is recorded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from mrq.adapters.redis.connect import Connection
from mrq.adapters.redis.packing import quarantine, row, unpack, unpack_beat
from mrq.adapters.redis.stream_reader import START, Follower, extent, order
from mrq.core.backoff import Retry
from mrq.core.events import AttemptClaimed, AttemptReported, BeatReceived, WorkerLeft
from mrq.core.model import WorkerHealth
from mrq.core.refs import AttemptRef
from mrq.core.store_rows import parse_task
from mrq.errors import CorruptFileError, MrqError
from mrq.ports import Sink

StoreEvent = AttemptClaimed | AttemptReported | BeatReceived | WorkerLeft

_LOG: Final = logging.getLogger(__name__)

#: Entries that scripts keep at most, about: with no leader alive, beats go on.
EVENTS_KEPT: Final = 200_000
#: Entries stay so long after they were read.
_TRIM_LAG_MS: Final = 30_000
_LOOK_S: Final = 1.0


class LeaderEvents:
    """Puts what scripts record into a sink, in order: `note` before the load, `start` after it, `close`."""

    def __init__(
        self,
        connection: Connection,
        sink: Sink,
        *,
        recorded: Callable[[], Iterable[StoreEvent]],
    ) -> None:
        """`recorded` gives what is claimed and reported of all tasks in progress."""
        self._connection = connection
        self._stream = connection.keys.events
        self._sink = sink
        self._recorded = recorded
        self._follower = Follower(connection, self._stream)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mrq-redis-events", daemon=True)
        self._looked_at = 0.0
        self._unread = ""  #: what was said last of an event that can't be read
        self._read = 0  #: entries that were read, or were there before `note`

    def note(self) -> None:
        """Follow from here. Raises OperatorError."""
        found = extent(self._connection, self._stream)
        self._follower.position, self._read = found.last, found.added

    def start(self) -> None:
        """Follow, on a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Call the sink no more."""
        self._closed.set()
        self._follower.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        retry = Retry()
        while not self._closed.is_set():
            try:
                self._step()
                if retry.failures:
                    _LOG.info("Redis at %s is back", self._connection.where)
                retry.worked()
            except MrqError as exc:
                if not retry.failures and not self._closed.is_set():
                    _LOG.warning("the leader hears nothing of workers: %s; trying again", exc)
                self._closed.wait(retry.failed())

    def _step(self) -> None:
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._look()
            self._looked_at = time.monotonic()
        entries = self._follower.read(_LOOK_S)
        self._read += len(entries)
        for _, fields in entries:
            if self._closed.is_set():
                return
            try:
                event = decode(fields)
            except (CorruptFileError, ValueError, KeyError) as exc:
                text = f"an event of a worker can't be read, and is passed over: {exc}"
                if text != self._unread:  # a worker of another version may claim and report on and on
                    self._unread = text
                    _LOG.warning(text)
                continue
            self._sink(event)

    def _look(self) -> None:
        """Trim what was read, and see whether something was lost unread: told again is what is recorded."""
        found = extent(self._connection, self._stream)
        position = self._follower.position
        if order(found.last) < order(position):  # the server lost them
            self._tell_recorded()
            self._follower.position, self._read = START, found.added - found.length
        elif found.last == position and found.added != self._read:  # all was read, and it was less
            self._tell_recorded()
            self._read = found.added
        bound = min(order(position), (found.now_ms - _TRIM_LAG_MS, 0))
        self._connection.call("XTRIM", self._stream, "MINID", "~", f"{bound[0]}-{bound[1]}")

    def _tell_recorded(self) -> None:
        for event in self._recorded():
            self._sink(event)


def decode(fields: dict[bytes, bytes]) -> StoreEvent:
    """An entry's event. Raises CorruptFileError, ValueError or KeyError for what isn't one."""
    if b"b" in fields:
        word = None
        if b"y" in fields:
            word = quarantine(fields[b"y"].decode("utf-8", "surrogatepass"), int(fields[b"s"]))
        health = WorkerHealth(fields[b"h"].decode())
        beat, refused = unpack_beat(fields[b"b"])
        return BeatReceived(beat=beat, health=health, quarantine=word, refused=refused)
    if b"r" in fields:
        return unpack(AttemptReported, fields[b"r"])
    if b"l" in fields:
        worker, boot = row(fields[b"l"])
        return WorkerLeft(worker=worker, boot=boot)
    job, task, ticket, number, token, worker, boot = row(fields[b"c"])
    return AttemptClaimed(
        attempt=AttemptRef(parse_task(job, task), ticket, number, token), worker=worker, boot=boot
    )

"""The fetch of one reduce: this partition's region of each map's output, from wherever that lies.

Locations come and go from one thread (`locate`). Up to five threads of this fetch's own, which live while
there is something to get, each make one call at a time, two at most to one peer. A peer is asked for the
sizes of all its regions, then for the regions themselves, small ones together, each call's share of the
process's budget reserved before it is made. Bytes go to disk as they come and are checked on the way.
Everything that a thread brings home is compared with what is wanted *then*: what was withdrawn meanwhile is
dropped.

It ends once: with every map's region found, with what couldn't be read, or cancelled.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final
from zlib import crc32

from mrq.core.model import ErrorReport, FetchFailure, MapLocation, Outcome, Status
from mrq.core.refs import AttemptRef
from mrq.errors import CorruptFileError, DiskFullError, MrqError, PeerUnreachableError
from mrq.io import disk
from mrq.ports import PeerClient
from mrq.shuffle.bounded import Quota
from mrq.shuffle.fetched import FetchedWriter, remove
from mrq.shuffle.mapfile import MapHeader, Region
from mrq.worker import folders
from mrq.worker.attempt_order import MapSource
from mrq.worker.fetch import messages
from mrq.worker.fetch.local_outputs import LocalOutputs
from mrq.worker.fetch.verifier import StreamVerifier

_LOG: Final = logging.getLogger(__name__)

#: Calls that one fetch has under way, to that many peers at most.
_CALLS_MAX: Final = 5
#: To one peer: while one stream's bytes are checked and written, another's come.
_CALLS_A_PEER: Final = 2
#: Bytes that the calls of all fetches may have under way.
IN_FLIGHT_BYTES: Final = 48 << 20
#: What one stream has under way at most, whatever its length: it goes to disk as it comes.
_STREAM_BYTES: Final = 8 << 20
#: Regions in one call: so many, or so many bytes, or a single larger one. Sizes likewise.
_TOGETHER: Final = 500
#: The first sizes asked of a peer: bytes come while it looks up the rest.
_TOGETHER_FIRST: Final = 50
_TOGETHER_BYTES: Final = 16 << 20
#: A region may come damaged this often, and a stream end early without a byte.
_TRIES: Final = 2
_PROGRESS_S: Final = 0.3

Peer = tuple[str, str]
_Sized = tuple[MapLocation, Region]


class Budget:
    """Bytes under way, of all fetches of this process."""

    def __init__(self, total: int = IN_FLIGHT_BYTES) -> None:
        self._left = self._total = total
        self._freed = threading.Condition()

    @contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Wait until so many may be asked for; more than there are at all counts as all."""
        count = min(count, self._total)
        with self._freed:
            self._freed.wait_for(lambda: self._left >= count)
            self._left -= count
        try:
            yield
        finally:
            with self._freed:
                self._left += count
                self._freed.notify_all()


class ReduceFetch:
    """See above: of `maps` outputs, into the file at `path`, if it needs one. `tell` takes
    messages to the agent, from any thread."""

    def __init__(
        self,
        attempt: AttemptRef,
        maps: int,
        path: str,
        *,
        peers: PeerClient,
        outputs: LocalOutputs,
        budget: Budget,
        tell: Callable[[object], None],
        quota: Quota | None = None,
    ) -> None:
        self._quota = quota
        self._attempt = attempt
        self._maps = maps
        self._path = path
        self._peers = peers
        self._outputs = outputs
        self._budget = budget
        self._tell = tell
        self._lock = threading.Lock()
        self.over = False  #: it has ended, or was cancelled
        self._threads = 0
        self._writer: FetchedWriter | None = None
        self._known: dict[int, MapLocation] = {}  #: where each map's output is, as far as is known
        self._waiting: dict[Peer, dict[int, MapLocation]] = {}  #: known, not here, no thread has it
        self._batches: dict[Peer, deque[list[_Sized]]] = {}  #: sizes known, no thread has them
        self._asked: set[Peer] = set()  #: asked for sizes right now
        self._calls: Counter[Peer] = Counter()  #: under way
        self._here: dict[int, MapSource] = {}
        #: What has landed, by map and digest: an output that is made again the same needn't come again.
        self._landed: dict[tuple[int, int], Region] = {}
        self._damaged: dict[tuple[int, int], int] = {}  #: how often, likewise
        self._bytes = 0
        self._told_at = 0.0
        self._told = 0  #: how many were here then

    def locate(self, found: Iterable[MapLocation], gone: Iterable[AttemptRef]) -> None:
        """Outputs that there are, and that were withdrawn before."""
        with self._lock:
            if self.over:
                return
            for attempt in gone:
                known = self._known.get(attempt.task.index)
                if known is not None and known.attempt == attempt:
                    self._drop(known)
            for location in found:
                known = self._known.get(location.map_index)
                if known == location:
                    continue
                if known is not None:
                    self._drop(known)
                self._known[location.map_index] = location
                if not location.bytes:  # nothing was written
                    self._here[location.map_index] = MapSource(
                        map_index=location.map_index, digest=location.digest, path=""
                    )
                elif (location.map_index, location.digest) in self._landed:
                    self._arrive(location)
                else:
                    self._waiting.setdefault(_peer(location), {})[location.map_index] = location
            self._staff()
        self._finish_if_complete()

    def cancel(self) -> None:
        """Stop, and leave nothing on disk. What threads still wait for goes nowhere."""
        with self._lock:
            self.over = True
            self._close_if_idle()
            remove(self._path)

    # Below, `_lock` is held by whoever calls, unless it says otherwise.

    def _drop(self, known: MapLocation) -> None:
        index = known.map_index
        del self._known[index]
        self._here.pop(index, None)
        self._waiting.get(_peer(known), {}).pop(index, None)

    def _arrive(self, location: MapLocation) -> None:
        self._here[location.map_index] = MapSource(
            map_index=location.map_index,
            digest=location.digest,
            path=self._path,
            partition=location.map_index,
            ticket=location.attempt.ticket,
        )

    def _is_wanted(self, location: MapLocation) -> bool:
        return (
            not self.over
            and self._known.get(location.map_index) == location
            and location.map_index not in self._here
        )

    def _staff(self) -> None:
        """Threads for what could be done now."""
        if self._threads < _CALLS_MAX and self._free_peers():
            self._threads += 1
            threading.Thread(target=self._run, name="mrq-fetch", daemon=True).start()

    def _free_peers(self) -> list[Peer]:
        """Of which something is wanted, and that can take another call."""
        return [
            peer
            for peer in self._batches.keys() | self._waiting.keys()
            if self._calls[peer] < _CALLS_A_PEER
            and (self._batches.get(peer) or (self._waiting.get(peer) and peer not in self._asked))
        ]

    def _next_call(self) -> tuple[Peer, Callable[[], None]] | None:
        """What a thread does next. Each fetch has an order of peers of its own: not all crowd at one."""
        free = self._free_peers()
        if self.over or not free:
            return None
        peer = min(free, key=lambda p: (self._calls[p], crc32(f"{self._attempt.token} {p[0]}".encode())))
        self._calls[peer] += 1
        if self._batches.get(peer):
            batch = self._batches[peer].popleft()
            call = partial(self._fetch, batch)
        else:
            self._asked.add(peer)
            locations = [some for _, some in sorted(self._waiting.pop(peer).items())]
            call = partial(self._ask, peer, locations)
        self._staff()
        return peer, call

    def _unlink(self) -> None:
        if self._writer is not None:
            self._writer.unlink()
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self.over and self._threads == 0 and self._writer is not None:
            self._writer.close()
            self._writer = None

    # The threads; no lock is held.

    def _run(self) -> None:
        while True:
            with self._lock:
                found = self._next_call()
                if found is None:
                    self._threads -= 1
                    self._close_if_idle()
                    idle = self._threads == 0
            if found is None:
                if idle:
                    self._progress(idle=True)
                return
            peer, call = found
            try:
                call()
            except PeerUnreachableError as exc:
                with self._lock:
                    its = [location for location in self._known.values() if _peer(location) == peer]
                self._fail([(location, "unreachable") for location in its], str(exc))
            except BaseException as exc:  # noqa: BLE001 whatever it is, the attempt must end
                self.break_off(exc)
            with self._lock:
                self._calls[peer] -= 1
            self._finish_if_complete()

    def _ask(self, peer: Peer, locations: list[MapLocation]) -> None:
        """Find what lies here, ask for the sizes of the rest; others fetch while it goes on asking."""
        try:
            end = 0
            while end < len(locations):
                start, end = end, end + (_TOGETHER if end else _TOGETHER_FIRST)
                batches = self._sizes(peer, locations[start:end])
                with self._lock:
                    self._batches.setdefault(peer, deque()).extend(batches)
                    self._staff()
        finally:
            with self._lock:
                self._asked.discard(peer)

    def _sizes(self, peer: Peer, locations: list[MapLocation]) -> list[list[_Sized]]:
        task = self._attempt.task
        local = self._outputs.readable(task.job, task.index, peer, locations)
        with self._lock:
            for location, path, length in local:
                if self._is_wanted(location):
                    index = location.map_index
                    self._here[index] = MapSource(map_index=index, digest=location.digest, path=path)
                    self._bytes += length
        if local:
            self._progress()
        found = {location.map_index for location, _, _ in local}
        rest = [location for location in locations if location.map_index not in found]
        if self._outputs.is_own(peer[0]):
            self._fail([(location, "not_found") for location in rest])
            return []
        if not rest:
            return []
        sizes = self._peers.sizes(task.job, task.index, rest)
        pairs = list(zip(rest, sizes, strict=True))
        self._fail([(location, "not_found") for location, info in pairs if info is None])
        return list(_together([(location, info) for location, info in pairs if info is not None]))

    def _fetch(self, batch: Sequence[_Sized]) -> None:
        """Regions of one peer, in one stream that is resumed as long as it goes on."""
        task = self._attempt.task
        with self._lock:
            batch = [pair for pair in batch if self._is_wanted(pair[0])]
        if not batch:
            return
        stream = StreamVerifier([info for _, info in batch])
        locations = [location for location, _ in batch]
        writer = self._open()
        at = writer.reserve(stream.total)
        blame = False  # the region that didn't end: it is damaged, or gone
        try:
            with self._budget.reserved(min(stream.total, _STREAM_BYTES)):
                tries = 0
                while stream.bytes < stream.total and tries < _TRIES:
                    before = stream.bytes
                    for chunk in self._peers.fetch(task.job, task.index, locations, stream.bytes):
                        if self.over:
                            return
                        start = stream.bytes
                        stream.feed(chunk)
                        writer.write(at + start, chunk)
                    tries = 0 if stream.bytes > before else tries + 1
                blame = True
        except CorruptFileError:
            blame = True  # its sizes, when they are asked for again, will tell which
        finally:
            self._land(batch, stream, at, blame)

    def _land(self, batch: Sequence[_Sized], stream: StreamVerifier, at: int, blame: bool) -> None:
        """Keep what is sound; what isn't comes again, once."""
        failed: list[tuple[MapLocation, str]] = []
        with self._lock:
            for place, (location, info) in enumerate(batch):
                offset, at = at, at + info.length
                if not self._is_wanted(location):
                    continue
                key = location.map_index, location.digest
                if place < len(stream.sound) and stream.sound[place]:
                    self._landed[key] = replace(info, path=self._path, offset=offset)
                    self._bytes += info.length
                    self._arrive(location)
                    continue
                if place < len(stream.sound) or (blame and place == len(stream.sound)):
                    self._damaged[key] = self._damaged.get(key, 0) + 1
                    if self._damaged[key] >= _TRIES:
                        failed.append((location, "corrupt"))
                        continue
                self._waiting.setdefault(_peer(location), {})[location.map_index] = location
        self._fail(failed)
        self._progress()

    def _open(self) -> FetchedWriter:
        with self._lock:
            if self._writer is None:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                self._writer = FetchedWriter(self._path, self._quota)
                if self.over:
                    self._writer.unlink()
            return self._writer

    def _progress(self, *, idle: bool = False) -> None:
        """Tell how far it is, not too often; when it is `idle`, as it may be for long, whatever wasn't
        told."""
        now = time.monotonic()
        with self._lock:
            here = len(self._here)
            if self.over or here == self._told or (now - self._told_at < _PROGRESS_S and not idle):
                return
            self._told_at, self._told = now, here
            fraction, count = here / max(1, self._maps), self._bytes
        self._tell(messages.FetchProgressed(token=self._attempt.token, fraction=fraction, bytes=count))

    # The end.

    def _finish_if_complete(self) -> None:
        with self._lock:
            if self.over or len(self._here) < self._maps:
                return
            self.over = True
            token = self._attempt.token
            sources = tuple(self._here[index] for index in range(self._maps))
            end: object = messages.Fetched(token=token, sources=sources)
            fetched = [
                None if each.partition is None else (self._landed[each.map_index, each.digest], each.digest)
                for each in sources
            ]
            try:
                if self._writer is not None:
                    self._writer.finish(MapHeader(attempt=self._attempt, code=""), fetched)
            except Exception as exc:  # noqa: BLE001
                self._unlink()
                end = messages.FetchFailed(token=token, outcome=_broken_off(exc, self._path))
            self._close_if_idle()
        self._tell(end)

    def _fail(self, failures: Iterable[tuple[MapLocation, str]], why: str = "") -> None:
        """End with what can't be read, if that is still wanted."""
        with self._lock:
            real = [(location, reason) for location, reason in failures if self._is_wanted(location)]
            if not real:
                return
            self.over = True
            self._unlink()
        location, reason = real[0]
        message = (
            f"{len(real)} map outputs couldn't be read, the first of them map {location.map_index} "
            f"of worker {location.worker}: {reason}{why and f' ({why})'}"
        )
        outcome = Outcome(
            status=Status.FETCH_FAILED,
            fetch_failures=tuple(
                FetchFailure(map_index=one.map_index, ticket=one.attempt.ticket, reason=said)
                for one, said in real
            ),
            error=ErrorReport(type="FetchFailed", message=message),
            started=False,
        )
        self._tell(messages.FetchFailed(token=self._attempt.token, outcome=outcome))

    def break_off(self, exc: BaseException) -> None:
        """End with an error that isn't one output's."""
        with self._lock:
            if self.over:
                return
            self.over = True
            self._unlink()
        outcome = _broken_off(exc, self._path)
        self._tell(messages.FetchFailed(token=self._attempt.token, outcome=outcome))


def _broken_off(exc: BaseException, path: str) -> Outcome:
    if isinstance(exc, DiskFullError):
        error = ErrorReport(type="DiskFullError", message=str(exc))
        return Outcome(status=Status.DISK_FULL, error=error, started=False)
    if isinstance(exc, OSError):  # of the file that it makes: what is wrong with peers has names of its own
        return folders.outcome(str(disk.named(exc, exc.filename or path)))
    if not isinstance(exc, MrqError):
        _LOG.error("a bug in mrq broke off a fetch", exc_info=exc)
    message = f"fetching map outputs failed: {exc}"
    error = ErrorReport(type=type(exc).__name__, message=message)
    return Outcome(status=Status.LOST, error=error, started=False)


def _peer(location: MapLocation) -> Peer:
    return location.worker, location.boot


def _together(pairs: Sequence[_Sized]) -> Iterator[list[_Sized]]:
    """Batches of one call each."""
    batch: list[_Sized] = []
    size = 0
    for pair in pairs:
        length = pair[1].length
        if batch and (size + length > _TOGETHER_BYTES or len(batch) == _TOGETHER):
            yield batch
            batch, size = [], 0
        batch.append(pair)
        size += length
    if batch:
        yield batch

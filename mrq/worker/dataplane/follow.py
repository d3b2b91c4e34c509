"""Follows a job's map outputs in the store, on a thread of its own: what there is, what was withdrawn, where
their workers listen."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from mrq.core.model import MapLocation
from mrq.errors import OperatorError
from mrq.ports import WorkerStore
from mrq.worker.dataplane.messages import Located

_WAIT_S: Final = 1.0
#: After news the next is read so much later: short maps end by the hundred.
_PACE_S: Final = 0.02
#: With nothing new for so long the whole is read again: a store that was written anew may hold less than the
#: stream that was followed, and nobody withdraws what is lost.
_READ_AGAIN_S: Final = 15.0
#: Between two questions where a peer listens that wasn't known.
_ASK_AGAIN_S: Final = 1.0


class Follower:
    """Tells `Located` from its thread while it isn't paused, as it is at first."""

    def __init__(
        self,
        job: str,
        store: WorkerStore,
        tell: Callable[[Follower, Located], None],
        log: Callable[[str], None],
    ) -> None:
        self._log = log
        self._job = job
        self._store = store
        self._tell = tell
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._position = 0
        self._known: dict[int, MapLocation] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._unknown: set[tuple[str, str]] = set()
        self._mistaken: deque[tuple[str, str]] = deque()  #: peers that aren't where they were said to be
        self._ask_at = 0.0
        threading.Thread(target=self._run, name=f"mrq-follow-{job}", daemon=True).start()

    def ask_again(self, peer: tuple[str, str]) -> None:
        """A peer isn't at its address: ask the store for it once more, and tell. From any thread."""
        self._mistaken.append(peer)

    def resume(self) -> None:
        """Somebody wants to know."""
        self._wanted.set()

    def pause(self) -> None:
        """Nobody does; what is known is kept."""
        self._wanted.clear()

    def stop(self) -> None:
        """Tell nothing more; the thread ends when the store's answer comes."""
        self._stopped.set()
        self._wanted.set()

    def _run(self) -> None:
        heard_at = time.monotonic()
        while not self._stopped.is_set():
            now = time.monotonic()
            try:
                if now - heard_at < _READ_AGAIN_S:
                    self._position, entries = self._store.locations(self._job, self._position, _WAIT_S)
                    new = self._news(entries)
                else:
                    new, heard_at = self._read_again(), now
            except OperatorError:  # whoever beats tells about a store that is away
                self._stopped.wait(_WAIT_S)
                continue
            except Exception as exc:  # noqa: BLE001 a thread that ends would leave reduces waiting for ever
                self._log(f"reading where job {self._job}'s map outputs are: {type(exc).__name__}: {exc}")
                self._stopped.wait(10 * _WAIT_S)
                continue
            new = replace(new, peers=self._peers(new.found, now))
            if new.found or new.gone:
                heard_at = now
            if (new.found or new.gone or new.peers) and not self._stopped.is_set():
                self._tell(self, new)
                self._stopped.wait(_PACE_S)
            self._wanted.wait()

    def _news(self, entries: list[tuple[MapLocation, bool]]) -> Located:
        """What entries change."""
        before: dict[int, MapLocation | None] = {}
        for location, withdrawn in entries:
            index = location.map_index
            known = self._known.get(index)
            before.setdefault(index, known)
            if not withdrawn:
                self._known[index] = location
            elif known is not None and known.attempt == location.attempt:
                del self._known[index]
        return self._changes(before)

    def _read_again(self) -> Located:
        """What has changed behind our back."""
        known, position = self._known, 0
        before: dict[int, MapLocation | None] = dict(known)
        self._known = {}
        try:
            while True:
                position, entries = self._store.locations(self._job, position)
                if not entries:
                    break
                self._news(entries)
        except OperatorError:
            self._known = known
            raise
        self._position = position
        for index in self._known:
            before.setdefault(index, None)
        return self._changes(before)

    def _changes(self, before: dict[int, MapLocation | None]) -> Located:
        found, gone = [], []
        for index, old in before.items():
            new = self._known.get(index)
            if new != old:
                if old is not None:
                    gone.append(old.attempt)
                if new is not None:
                    found.append(new)
        return Located(job=self._job, found=tuple(found), gone=tuple(gone))

    def _peers(self, found: Iterable[MapLocation], now: float) -> tuple[tuple[str, str, str], ...]:
        """Addresses that weren't known: of new peers at once, of others again after a while."""
        ask = {(location.worker, location.boot) for location in found} - self._addresses.keys()
        ask -= self._unknown
        if now >= self._ask_at:
            self._ask_at = now + _ASK_AGAIN_S
            ask |= self._unknown
        while self._mistaken:
            peer = self._mistaken.popleft()
            if self._addresses.pop(peer, None) is not None:
                ask.add(peer)
        told = []
        for peer in ask:
            try:
                address = self._store.address(*peer)
            except OperatorError:
                address = None
            if address is None:
                self._unknown.add(peer)
            else:
                self._unknown.discard(peer)
                self._addresses[peer] = address
                told.append((*peer, address))
        return tuple(told)

"""Where map outputs are, and where their workers listen: read from the store by the data plane itself."""

from __future__ import annotations

import threading
import time
from typing import Final

from mrq.core.backoff import AWAY, Retry
from mrq.core.model import MapLocation
from mrq.errors import OperatorError, StoreRefusedError
from mrq.ports import LocationStore
from mrq.worker.fetch.reduce_fetch import ReduceFetch

_WAIT_S: Final = 1.0
_AGAIN: Final = AWAY
#: After news the next is read so much later: short maps end by the hundred.
_AFTER_NEWS_S: Final = 0.02
#: With nothing new for so long the whole is read again: a store that was written anew may hold less than the
#: stream that was followed, and nobody withdraws what is lost.
_READ_AGAIN_S: Final = 15.0


class StageLocations:
    """Follows the map outputs of one stage of a job in the store, on a thread of its own, for the fetches
    that go on."""

    def __init__(self, job: str, stage: int, store: LocationStore) -> None:
        self._job = job
        self._stage = stage  #: the number of its run
        self._store = store
        self._changed = threading.Condition()
        self._fetches: list[ReduceFetch] = []
        self._known: dict[int, MapLocation] = {}
        self._stopped = False
        self._position = 0
        threading.Thread(target=self._run, name=f"mrq-locations-{job}-{stage}", daemon=True).start()

    def add(self, fetch: ReduceFetch) -> None:
        """Tell a fetch what is known, and what comes, until it is over."""
        with self._changed:
            fetch.locate(self._known.values(), [])
            self._fetches.append(fetch)
            self._changed.notify()

    def stop(self) -> None:
        """Tell nothing more; the thread ends when the store's answer comes."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _goes_on(self) -> bool:
        """Is there a fetch that isn't over? The condition is held."""
        self._fetches = [fetch for fetch in self._fetches if not fetch.over]
        return bool(self._fetches)

    def _run(self) -> None:
        news_at, retry = time.monotonic(), Retry(_AGAIN)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._goes_on())
                if self._stopped:
                    return
            now = time.monotonic()
            again = now - news_at >= _READ_AGAIN_S
            try:
                news = self._read_all() if again else self._read_on()
            except Exception as exc:  # noqa: BLE001 a thread that ends would leave reduces waiting for ever
                if isinstance(exc, OperatorError) and not isinstance(exc, StoreRefusedError):
                    time.sleep(retry.failed())  # the store is away: whoever beats tells of it
                    continue
                with self._changed:
                    for fetch in self._fetches:
                        fetch.break_off(exc)
            else:
                retry.worked()
                if again or news:
                    news_at = now
                if news:
                    time.sleep(_AFTER_NEWS_S)

    def _read_on(self) -> bool:
        """Read what is new in the stream; whether there was something."""
        self._position, found = self._store.locations(self._job, self._position, _WAIT_S)
        entries = self._own(found)
        known = {location.map_index: self._known.get(location.map_index) for location, _ in entries}
        _apply(entries, known)
        return self._tell(known)

    def _read_all(self) -> bool:
        """Read the whole stream anew; whether something had changed behind our back."""
        known: dict[int, MapLocation | None] = dict.fromkeys(self._known)
        position = 0
        while True:
            position, entries = self._store.locations(self._job, position)
            if not entries:
                break
            _apply(self._own(entries), known)
        self._position = position
        return self._tell(known)

    def _own(self, entries: list[tuple[MapLocation, bool]]) -> list[tuple[MapLocation, bool]]:
        """Those of this stage: a job's stages have one stream."""
        return [each for each in entries if each[0].attempt.task.stage == self._stage]

    def _tell(self, known: dict[int, MapLocation | None]) -> bool:
        """Take over what is known now of some maps, and tell the fetches what that changes."""
        found, gone = [], []
        with self._changed:
            for index, new in known.items():
                old = self._known.get(index)
                if new == old:
                    continue
                if old is not None:
                    gone.append(old.attempt)
                    del self._known[index]
                if new is not None:
                    found.append(new)
                    self._known[index] = new
            if found or gone:
                for fetch in self._fetches:
                    fetch.locate(found, gone)
        return bool(found or gone)


def _apply(entries: list[tuple[MapLocation, bool]], known: dict[int, MapLocation | None]) -> None:
    """What entries of the stream say of maps, in their order."""
    for location, withdrawn in entries:
        index = location.map_index
        before = known.get(index)
        if not withdrawn:
            known[index] = location
        elif before is not None and before.attempt == location.attempt:
            known[index] = None


class Addresses:
    """Where boots of workers listen, by the store; from any thread. What was found once is asked for again
    only after `forget`."""

    def __init__(self, store: LocationStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], str] = {}

    def of(self, worker: str, boot: str) -> str | None:
        """A boot's address; None where it isn't known, or is over. Waits for a store that is away. Raises
        StoreRefusedError."""
        address, retry = self._known.get((worker, boot)), Retry(_AGAIN)
        while address is None:
            try:
                address = self._store.address(worker, boot)
            except StoreRefusedError:
                raise
            except OperatorError:
                time.sleep(retry.failed())
                continue
            if address is None:
                return None
            self._known[worker, boot] = address
        return address

    def forget(self, worker: str, boot: str) -> None:
        """Another listens there: what its name means may have changed."""
        self._known.pop((worker, boot), None)

"""Work that touches disks or waits for others, done beside the leader's loop."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Final

from mrq.errors import MrqError, OperatorError

_LOG: Final = logging.getLogger(__name__)

_Work = Callable[[], None]


class Background:
    """Does work on up to `threads` threads; with none of them at once, on the thread that asks for it.

    An error that nobody waits for is logged; a bug ends the leader: `died` is called. `stopping` is set when
    this leader's view is dropped.
    """

    def __init__(
        self,
        threads: int,
        *,
        name: str,
        stopping: threading.Event,
        died: Callable[[BaseException], None],
    ) -> None:
        self._pool = None
        if threads:  # an engine without any needn't wait for the import
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.stopping = stopping
        self.died = died

    def do(self, work: _Work) -> None:
        """Do it soon. From any thread. Nothing once this is closed: the successor does it."""
        if self._pool is None:
            self._guarded(work)
            return
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._guarded, work)

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, work: _Work) -> None:
        try:
            work()
        except OperatorError as exc:
            if not self.stopping.is_set():
                _LOG.error(exc)
        except MrqError as exc:
            _LOG.error("%s: %s", type(exc).__name__, exc)
        except BaseException as exc:
            self.died(exc)
            raise

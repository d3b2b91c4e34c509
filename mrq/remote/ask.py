"""One question to whoever leads the cluster, and its answer; errors come back as the classes they were."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from mrq.core import wire
from mrq.core.answers import raise_error, unpacked
from mrq.core.backoff import Retry
from mrq.core.model import NO_LIMITS, Limits
from mrq.core.store_api import ClientRequest
from mrq.errors import NoAnswerError, OperatorError
from mrq.ports import ClientLink

_LOG: Final = logging.getLogger(__name__)

#: How long one blocking read waits; a lost connection is noticed at least this often.
_READ_S: Final = 5.0


class Asker:
    """Asks; may be used from several threads at once."""

    def __init__(self, link: ClientLink, *, timeout_s: float) -> None:
        self.link = link
        self._timeout_s = timeout_s
        self.closed = threading.Event()

    def ask(self, op: str, **args: Any) -> Mapping[str, Any]:
        """The answer; jobs, workers and logs in it are `core.info`'s. Raises what the leader raised,
        OperatorError when nobody answers in time."""
        request = ClientRequest(id=secrets.token_hex(12), op=op, args=args)
        until = time.monotonic() + self._timeout_s
        answer = self._patiently(until, lambda: self._once(request, until))
        if answer is None:
            raise NoAnswerError(
                f"no master has answered within {self._timeout_s:g} s: is one running? "
                "(python -m mrq.master; its log says what it waits for; --timeout waits longer)"
            )
        raise_error(answer)
        return unpacked(op, answer)

    def tell(self, op: str, **args: Any) -> None:
        """Ask and wait for no answer. Raises OperatorError."""
        self.link.send(ClientRequest(id=secrets.token_hex(12), op=op, args=args))

    def _once(self, request: ClientRequest, until: float) -> Mapping[str, Any] | None:
        waiting = False
        while not self.closed.is_set():
            # Again after a lost connection, and from time to time, as the store may have lost it: the id says
            # that it is the same.
            self.link.send(request)
            left = until - time.monotonic()
            answer = self.link.answer(request.id, max(0.0, min(left, _READ_S)))
            if answer is not None or left <= 0:
                return answer
            if not waiting:
                waiting = True
                _LOG.warning("no master answers yet: waiting")
        raise OperatorError("this connection to the cluster is closed")

    def _patiently(
        self, until: float, once: Callable[[], Mapping[str, Any] | None]
    ) -> Mapping[str, Any] | None:
        """Try again while the store can't be reached. Raises its OperatorError when the time is over."""
        retry = Retry()
        while True:
            try:
                return once()
            except OperatorError as exc:
                if self.closed.is_set():
                    raise
                if not retry.failures:
                    _LOG.warning("%s; trying again", exc)
                wait_s = retry.failed()
                if time.monotonic() + wait_s > until:
                    raise NoAnswerError(str(exc)) from exc
            self.closed.wait(wait_s)


def retried(limits: Limits) -> dict[str, Any]:
    """What a retry tells the leader; limits only where some are given, as an earlier mrq knows none."""
    told: dict[str, Any] = {"reason": "retried by the user"}
    return told if limits == NO_LIMITS else {**told, "limits": wire.to_wire(limits)}

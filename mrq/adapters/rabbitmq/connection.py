"""One connection to RabbitMQ and the thread that owns it; it connects again by itself.

    connect -> check the server -> declare the topology -> opened() … lost() -> wait -> connect …

Only the link's thread touches pika. Others leave what they want in a deque and `wake` the thread, at most one
wake-up at a time however much there is. Everything unsettled is lost with its connection: `lost` is called
once for each `opened`.

A process whose own loop hangs must not look alive: the loop calls `Watch.tick`, and a link that sees no
tick for 5 s closes its connection, so that RabbitMQ gives its deliveries to others, and connects again
with the next tick.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pika
import pika.exceptions
from pika.adapters.select_connection import IOLoop

from mrq.adapters.rabbitmq import topology as topo
from mrq.adapters.rabbitmq.trouble import Endpoint, explain, is_final
from mrq.core.backoff import AWAY, Backoff
from mrq.errors import InternalError, OperatorError

_LOG: Final = logging.getLogger(__name__)

_LOOK_S: Final = 1.0
#: Looks, one a second by the link's own clock: a whole process that was stopped doesn't count as a hung loop.
_STALE_LOOKS: Final = 5
_AGAIN: Final = Backoff(base_s=0.5, max_s=30.0)
#: A connection that lived so long was a good one: the next attempt begins with short waits again.
_GOOD_AFTER_S: Final = 5.0


class Watch:
    """The ticks of the process's own loop. Until the first one, nothing is expected."""

    def __init__(self) -> None:
        self.ticks = 0

    def tick(self) -> None:
        """The loop is alive."""
        self.ticks += 1

    def rest(self) -> None:
        """Nothing is expected until the next tick."""
        self.ticks = 0


class Notices:
    """What is wrong now, by source, as one line for the user; None when nothing is."""

    def __init__(self, notify: Callable[[str | None], None] | None) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._said: dict[str, str] = {}
        self._shown: str | None = None

    def say(self, source: str, text: str | None) -> None:
        """Set or clear one source's notice, from any thread."""
        if text is None and source not in self._said:
            return
        with self._lock:
            if text is None:
                self._said.pop(source, None)
            else:
                self._said[source] = text
            line = "; ".join(dict.fromkeys(self._said.values())) or None
            if line == self._shown:
                return
            self._shown = line
            if self._notify is None:
                _LOG.warning("%s", line or "RabbitMQ is well again")
            else:
                try:
                    self._notify(line)
                except Exception:  # noqa: BLE001 it is the caller's; the connection lives
                    _LOG.exception("whoever is told of RabbitMQ's troubles failed")


class LinkOwner:
    """What is done over a link; called on the link's thread."""

    def opened(self, connection: Any) -> None:
        """A new connection, with everything declared."""

    def lost(self) -> None:
        """It is gone, with every channel and unsettled delivery."""

    def woken(self) -> None:
        """Somebody called `wake`; also after `opened`."""

    def looked(self) -> None:
        """A second passed."""


class Link:
    """`start` it once its owner is complete; `wait_open` for the first connection; `close` it."""

    def __init__(
        self,
        *,
        name: str,
        parameters: Any,
        endpoint: Endpoint,
        topology: topo.Topology,
        owner: LinkOwner,
        watch: Watch,
        notices: Notices,
    ) -> None:
        self._name = name
        self._parameters = parameters
        self._endpoint = endpoint
        self._topology = topology
        self._owner = owner
        self._watch = watch
        self._notices = notices
        self._loop = IOLoop()
        self._thread = threading.Thread(target=self._run, name=f"mrq-rabbitmq-{name}", daemon=True)
        self._lock = threading.Lock()  #: of waking and closing the loop
        self._awake = False
        self._over = False  #: the loop takes no more callbacks
        self._closing = False
        self._connection: Any = None
        self._open = False  #: `opened` was called, `lost` wasn't yet
        self._opened_at = 0.0
        self._failures = 0
        self._settled = threading.Event()  #: opened, or failed for good
        self._problem: OperatorError | None = None  #: the last one
        #: By us, or the topology by the broker: of this connection.
        self._refused: OperatorError | None = None
        self._ever_open = False
        self._ticks, self._stale, self._hung = 0, 0, False
        self._drop_reason: str | None = None
        #: Set when the thread died of a bug.
        self.crash: BaseException | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wake(self) -> None:
        """Have `woken` called soon. From any thread, cheap when a wake-up is already under way."""
        if not self._awake:
            self._awake = True
            self.call(self._woken)

    def call(self, callback: Callable[[], None]) -> None:
        """Run something on the link's thread, if it still runs. From any thread."""
        with self._lock:
            if not self._over:
                self._loop.add_callback_threadsafe(callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Run something after a while. On the link's thread."""
        self._loop.call_later(seconds, callback)

    def wait_open(self, timeout_s: float) -> None:
        """Wait for the first connection. Raises OperatorError: at once where waiting wouldn't help."""
        came = self._settled.wait(timeout_s)
        self.check()
        problem = self._problem
        if came and problem is not None:
            raise problem
        if not came:
            why = f": {problem}" if problem is not None else ""
            raise OperatorError(f"no RabbitMQ at {self._endpoint} within {timeout_s:g} s{why}") from problem

    def check(self) -> None:
        """Raises InternalError once the thread died of a bug."""
        crash = self.crash
        if crash is not None:
            raise InternalError(f"the thread of the {self._name} connection died: {crash!r}") from crash

    def drop(self, why: str) -> None:
        """Close the connection and connect again at once: something on it can't be repaired. On the link's
        thread."""
        if self._connection is not None and self._connection.is_open:
            _LOG.warning("%s connection to %s is closed: %s", self._name, self._endpoint, why)
            self._drop_reason = why
            self._connection.close(200, why[:200])

    def lose(self) -> None:
        """Break the connection as a network would: a fault to test with. From any thread."""
        self.call(lambda: self._break("a fault to test with"))

    def close(self, timeout_s: float = 5.0) -> None:
        """Close the connection, answered if possible, and end the thread. Not from the link's thread."""
        if self._thread.ident is None:
            with self._lock:
                self._over = True
                self._loop.close()
            return
        self.call(self._begin_close)
        self._thread.join(timeout_s)
        if self._thread.is_alive():  # the broker doesn't answer: leave without
            self.call(self._abort)
            self._thread.join(1.0)

    # On the link's thread.

    def _run(self) -> None:
        try:
            self._loop.call_later(_LOOK_S, self._look)
            self._connect()
            self._loop.start()
        except BaseException as exc:  # noqa: BLE001 told to the loop by `check`
            if self._closing:  # pika asserts when it is left while it connects
                _LOG.debug("leaving the %s connection", self._name, exc_info=True)
            else:
                self.crash = exc
                _LOG.exception("the thread of the %s connection died", self._name)
                self._notices.say(self._name, f"the {self._name} connection died of a bug: {exc!r}")
        finally:
            with self._lock:
                self._over = True
                with contextlib.suppress(Exception):
                    self._loop.close()
            self._connection = None
            if self._open:
                self._open = False
                self._owner.lost()
            self._settled.set()

    def _connect(self) -> None:
        if self._closing or self._hung or self._connection is not None:
            return
        self._drop_reason = self._refused = None
        self._connection = pika.SelectConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_gone,
            on_close_callback=self._on_gone,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Any) -> None:
        if self._closing or self._hung:
            connection.close()
            return
        try:
            topo.check_server(connection.server_properties)
        except OperatorError as exc:
            self._refuse(exc)
            return
        connection.channel(on_open_callback=self._declare)

    def _declare(self, channel: Any) -> None:
        channel.add_on_close_callback(self._on_declare_closed)
        self._topology.declare(channel, lambda: self._declared(channel))

    def _declared(self, channel: Any) -> None:
        if not channel.is_open or self._closing:
            return
        channel.close()
        self._open, self._ever_open, self._opened_at = True, True, time.monotonic()
        self._problem = None
        self._settled.set()
        self._notices.say(self._name, None)
        self._owner.opened(self._connection)
        self._woken()

    def _on_declare_closed(self, channel: Any, reason: Exception) -> None:
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            self._refuse(topo.refused(reason.reply_code, reason.reply_text, self._endpoint.vhost))

    def _refuse(self, problem: OperatorError) -> None:
        """The broker is there, and not as mrq needs it."""
        self._refused = problem
        self._closing = self._closing or not self._ever_open
        self._connection.close(200, "mrq can't work with this")

    def _on_gone(self, _connection: Any, reason: BaseException) -> None:
        was_open, self._open = self._open, False
        self._connection = None
        self._problem = self._refused or explain(reason, self._endpoint)
        if was_open:
            if time.monotonic() - self._opened_at >= _GOOD_AFTER_S:
                self._failures = 0
            self._owner.lost()
        if not self._ever_open and is_final(reason):
            self._closing = True
        if self._closing:
            self._settled.set()
            self._loop.stop()
            return
        if self._hung:
            return
        planned = was_open and self._drop_reason is not None and self._failures == 0
        self._failures += 1
        backoff = _AGAIN if self._ever_open else AWAY  # before the first connection somebody is waiting
        wait = 0.0 if planned else backoff.wait_s(self._failures, random.random())
        if not planned:
            self._notices.say(self._name, f"{self._problem}; trying again")
        self._loop.call_later(wait, self._connect)

    def _woken(self) -> None:
        self._awake = False  # cleared first: what comes later wakes again
        if self._open:
            self._owner.woken()

    def _look(self) -> None:
        self._loop.call_later(_LOOK_S, self._look)
        moved, self._ticks = self._watch.ticks != self._ticks, self._watch.ticks
        self._stale = 0 if moved or not self._ticks else self._stale + 1
        if self._hung and moved:
            self._hung = False
            if self._connection is None:
                self._connect()
        elif self._stale >= _STALE_LOOKS and not self._hung:
            self._hung = True
            who = (self._parameters.client_properties or {}).get("connection_name", "mrq")
            self._notices.say(
                self._name,
                f"the loop of {who} (process {os.getpid()} on {os.uname().nodename}) has hung for "
                f"{_STALE_LOOKS} s, so it gave up its connection to RabbitMQ until it moves again",
            )
            if self._connection is not None and self._connection.is_open:
                self._connection.close(200, "the process's loop hangs")
        if self._open:
            self._owner.looked()

    def _begin_close(self) -> None:
        self._closing = True
        connection = self._connection
        if connection is None or connection.is_closed:
            self._loop.stop()
        elif not connection.is_closing:
            if self._open:
                self._owner.woken()  # the last of what was left for us
            connection.close(200, "goodbye")

    def _abort(self) -> None:
        """Without a goodbye; `_on_gone` follows."""
        if self._connection is None or self._connection.is_closed:
            self._loop.stop()
        else:
            self._break("left without an answer")

    def _break(self, why: str) -> None:
        """Close the socket, as pika does itself when heartbeats stay out; it has no public name for it."""
        if self._connection is not None and not self._connection.is_closed:
            self._connection._terminate_stream(pika.exceptions.StreamLostError(why))

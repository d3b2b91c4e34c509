"""A server's calls to itself: what a peer would find, through the same socket."""

from __future__ import annotations

import os
import time
from typing import Final

import grpc

from mrq.adapters.grpc import channels
from mrq.adapters.grpc.auth import Peer
from mrq.adapters.grpc.line import Line, refused_for
from mrq.adapters.grpc.vitals import Vitals
from mrq.proto import files_pb2 as pb

#: With calls in its hands, and none of them getting on for so long, a server is stuck.
STUCK_S: Final = 15.0
#: So long "busy", or without an answer, is no burst any more.
BUSY_S: Final = 30.0
SILENT_S: Final = 10.0
_CALL_S: Final = 3.0
#: Where this host reaches what listens at every address.
_HERE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


class Own:
    """Asks one server who it is, again and again. One thread owns it."""

    def __init__(self, address: str, vitals: Vitals, *, key: bytes | None, me: Peer) -> None:
        host, _, port = address.rpartition(":")
        self._vitals = vitals
        self._line = Line(f"{_HERE.get(host, host)}:{port}", key=key, to=me)
        self._busy_since: float | None = None
        self._silent_since: float | None = None

    def check(self) -> str:
        """What is wrong; "" where nothing is."""
        found = self._dial()
        stuck = self._vitals.stuck_s()
        if stuck >= STUCK_S:
            return f"its calls haven't got on for {stuck:.0f} s: does its disk answer?"
        if found:
            return found
        try:  # where no connection more can be taken, those of before, as our own, go on
            os.close(os.dup(2))
        except OSError as exc:
            return f"it can take no connection more ({exc.strerror}): who holds so many open?"
        return ""

    def close(self) -> None:
        """Ask no more."""
        self._line.close()

    def _dial(self) -> str:
        began = time.monotonic()
        body = pb.DialRequest(nonce=bytes(16)).SerializeToString()
        try:
            self._line.unary(channels.DIAL, body, pb.DialReply.FromString, timeout_s=_CALL_S)
        except grpc.RpcError as exc:
            busy, why = exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, refused_for(exc)
        except ValueError:  # grpc's, of a line that was closed: it is being stopped
            return ""
        else:
            self._busy_since = self._silent_since = None
            return ""
        if busy:
            self._busy_since, self._silent_since = self._busy_since or began, None
            held = time.monotonic() - self._busy_since
            return f"as many calls as may be have been under way for {held:.0f} s" if held >= BUSY_S else ""
        self._busy_since, self._silent_since = None, self._silent_since or began
        silent = time.monotonic() - self._silent_since
        return f"it hasn't answered its own calls for {silent:.0f} s: {why}" if silent >= SILENT_S else ""

"""Who may call: the cluster key's signature over a call's method, its addressee and the digest of its body.

All of it is in the call's metadata, so a server knows whether to wait for the body before it waits:

    mrq-protocol     PROTOCOL; another one is refused by name
    mrq-to-bin       the worker and boot that is called, or nothing: whoever listens
    mrq-auth-bin     challenge, nonce, the body's SHA-256, and the HMAC-SHA256 over all of it and the method

The challenge is the server's: who doesn't know it yet is told it with a refusal (`mrq-challenge-bin`), and
calls again. A nonce counts once under its challenge, so what was overheard can't be made again, at any
server. No clocks are compared. A stream of requests is signed as an empty body.

It keeps out whoever doesn't have the key. It hides nothing, answers aren't signed (but for Dial's), and who
can change what passes can still spoil it: on a network that isn't trusted, the connection must be protected.

Without a key everything is the same with an empty one, which proves nothing: then a server listens on its own
host only, or was told to do so by --insecure.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import threading
from collections.abc import Iterable
from typing import Final

from mrq.ports import Dialled

#: What workers say to each other, and masters to them. Grows when a call of the one before would be misread.
PROTOCOL: Final = 3

PROTOCOL_KEY: Final = "mrq-protocol"
TO_KEY: Final = "mrq-to-bin"
AUTH_KEY: Final = "mrq-auth-bin"
CHALLENGE_KEY: Final = "mrq-challenge-bin"

#: A worker and its boot.
Peer = tuple[str, str]
Metadata = tuple[tuple[str, str | bytes], ...]

_RANDOM: Final = 16
_DIGEST: Final = hashlib.sha256().digest_size
_AUTH: Final = 2 * _RANDOM + 2 * _DIGEST
#: Nonces that are remembered, about 5 MB of them; then there is another challenge.
NONCES_MAX: Final = 50_000


def digest(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 over parts, none of which but the last holds a NUL."""
    return hmac.new(key, b"\0".join(parts), hashlib.sha256).digest()


def proof(key: bytes, nonce: bytes, who: Dialled) -> bytes:
    """What only who has the key can answer to a nonce, with what it tells of itself."""
    told = (who.worker.encode(), who.boot.encode(), os.fsencode(who.root), who.sentinel.encode())
    return digest(key, b"mrq-dial-1", nonce.hex().encode(), *told)


def addressee(to: Peer | None) -> bytes:
    """How a call names whom it is for."""
    return b"" if to is None else " ".join(to).encode()


def sign(
    key: bytes | None, method: str, body: bytes, *, to: Peer | None = None, challenge: bytes = b""
) -> Metadata:
    """Metadata of one call."""
    fresh = (challenge or bytes(_RANDOM)) + os.urandom(_RANDOM) + hashlib.sha256(body).digest()
    mac = _mac(key or b"", method, addressee(to), fresh)
    return ((PROTOCOL_KEY, str(PROTOCOL)), (TO_KEY, addressee(to)), (AUTH_KEY, fresh + mac))


def _mac(key: bytes, method: str, to: bytes, fresh: bytes) -> bytes:
    return digest(key, b"mrq-call-2", method.encode(), to, fresh.hex().encode())


class Refusal(enum.Enum):
    """Why a call isn't served."""

    PROTOCOL = "protocol"  # it speaks another one, or none
    KEY = "key"
    STALE = "stale"  # it doesn't know the challenge (any more)
    ADDRESSEE = "addressee"  # it is for somebody else
    REPLAYED = "replayed"


class Verifier:
    """Looks at calls' metadata for one server. Thread-safe."""

    def __init__(self, key: bytes | None, me: Peer, *, nonces_max: int = NONCES_MAX) -> None:
        self._key = key or b""
        self._me = addressee(me)
        self._nonces_max = nonces_max
        self._lock = threading.Lock()
        self._challenge = os.urandom(_RANDOM)
        self._seen: set[bytes] = set()

    @property
    def challenge(self) -> bytes:
        """What a call has to carry."""
        return self._challenge

    def check(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> bytes | Refusal:
        """The SHA-256 of the body of a call that may be served. A nonce that was admitted isn't again."""
        found = dict(metadata)
        if found.get(PROTOCOL_KEY) != str(PROTOCOL):
            return Refusal.PROTOCOL
        auth, to = found.get(AUTH_KEY), found.get(TO_KEY, b"")
        if not isinstance(auth, bytes) or not isinstance(to, bytes) or len(auth) != _AUTH:
            return Refusal.KEY
        fresh, mac = auth[:-_DIGEST], auth[-_DIGEST:]
        if not hmac.compare_digest(mac, _mac(self._key, method, to, fresh)):
            return Refusal.KEY
        if to not in (b"", self._me):
            return Refusal.ADDRESSEE
        challenge, nonce, body = fresh[:_RANDOM], fresh[_RANDOM : 2 * _RANDOM], fresh[2 * _RANDOM :]
        with self._lock:
            if challenge != self._challenge:
                return Refusal.STALE
            if nonce in self._seen:
                return Refusal.REPLAYED
            self._seen.add(nonce)
            if len(self._seen) >= self._nonces_max:  # a new challenge, under which none was used
                self._challenge, self._seen = os.urandom(_RANDOM), set()
        return body

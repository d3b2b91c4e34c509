"""URLs of servers: read with care, and written without the password that may be in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrl:
    """Where a server is, and as whom to log in. Its text never shows the password."""

    scheme: str  #: amqp, amqps, redis or rediss
    host: str
    port: int
    path: str  #: the virtual host (unquoted), or the number of the database
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self._text("***")

    def full(self) -> str:
        """The URL with its password, for the client library alone: never print it."""
        return self._text(self.password)

    def _text(self, password: str | None) -> str:
        from urllib.parse import quote

        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += ":" + (password if password == "***" else quote(password or "", safe=""))  # noqa: S105
        host = f"[{self.host}]" if ":" in self.host else self.host
        at = "@" if login else ""
        return f"{self.scheme}://{login}{at}{host}:{self.port}/{quote(self.path, safe='')}"


def parse_url(text: Any, *, schemes: tuple[str, ...]) -> ServiceUrl:
    """A server's URL. Raises ValueError, without the password that may be in it."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"a URL in quotes, not {text!r}")
    from urllib.parse import unquote, urlsplit

    wanted = f"a URL such as {schemes[0]}://HOST:{_PORTS[schemes[0]]}/{_PATHS[schemes[0]]}"
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(f"{wanted}; its port or host can't be read") from None
    if parts.scheme not in schemes:
        said = f"{parts.scheme}://" if "://" in text else "no scheme"
        raise ValueError(f"{wanted}, not one with {said}")
    if not host:
        raise ValueError(f"{wanted}; it names no host")
    if parts.query or parts.fragment:
        raise ValueError(f"{wanted}; nothing may follow a ? or #")
    path = unquote(parts.path.removeprefix("/"))
    if parts.scheme.startswith("redis"):
        path = path or "0"
        if not path.isdecimal():
            raise ValueError(f"{wanted}; the database is a number, not {path!r}")
    else:
        path = path or "/"
    return ServiceUrl(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        path=path,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
    )


_PORTS: Final = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}
_PATHS: Final = {"amqp": "VHOST", "redis": "DB"}

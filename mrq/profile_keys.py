"""The settings of a cluster, as one table: what each is called, takes, defaults to and is for.

`mrq.profile` reads by it, the flags of `mrq.master` and `mrq.worker` are made of it, and
docs/configuration.md is printed from it (`mrq.cli.reference`).
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mrq.job.setting_checks import nearest, parse_duration, parse_size

_DAY_S: Final = 24 * 3600.0


class Kind(enum.Enum):
    """What a setting's value is."""

    AMQP = "AMQP-URL"
    REDIS = "REDIS-URL"
    PREFIX = "PREFIX"
    NAME = "NAME"
    PATH = "PATH"
    PATHS = "HOST=CLUSTER,…"
    SECONDS = "TIME"
    BYTES = "SIZE"
    COUNT = "N"
    ADDRESS = "HOST:PORT"
    SWITCH = "true"


class For(enum.Flag):
    """Who reads a setting."""

    CLIENT = enum.auto()
    MASTER = enum.auto()
    WORKER = enum.auto()
    ALL = CLIENT | MASTER | WORKER


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    name: str  #: in mrq.toml, and of the field of `mrq.profile.Profile`
    kind: Kind
    help: str
    used_by: For = For.ALL
    default: Any = None
    default_text: str = ""  #: what None stands for, or the default as people write it
    least: int = 0  #: of COUNT, SECONDS and BYTES

    @property
    def env(self) -> str:
        """`MRQ_KEEP_S` of keep_s."""
        return f"MRQ_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """`--keep` of keep_s: a flag's value carries its unit."""
        return "--" + self.name.removesuffix("_s").replace("_", "-")


_ROLES: Final = For.MASTER | For.WORKER

# fmt: off
KEYS: Final = (
    Key("amqp_url", Kind.AMQP, default_text="none; goes together with redis_url",
        help="the RabbitMQ that carries the tasks: amqp://HOST[:PORT][/VHOST]"),
    Key("redis_url", Kind.REDIS, default_text="none; goes together with amqp_url",
        help="the Redis that keeps the state: redis://HOST[:PORT][/DB]"),
    Key("secrets_file", Kind.PATH, default_text="none",
        help="TOML with user names, passwords and keys; mode 0600"),
    Key("prefix", Kind.PREFIX, default="mrq",
        help="what names of keys and queues begin with: two clusters may share servers under two prefixes"),
    Key("shared_root", Kind.PATH, used_by=For.MASTER, default="/data/.mrq",
        help="a folder that masters and workers share: results without OUT, inputs that came as blobs"),
    Key("paths", Kind.PATHS, used_by=For.CLIENT, default=(), default_text="none",
        help="folders of this machine, and where the cluster has them: a table, as `[paths]`"),
    Key("timeout_s", Kind.SECONDS, default=60.0, default_text="60s",
        help="how long to wait for a server, or a leader, that isn't there yet"),
    Key("keep_s", Kind.SECONDS, used_by=For.MASTER, default=7 * _DAY_S, default_text="7d",
        help="how long a job that is over stays known"),
    Key("blob_bytes_max", Kind.BYTES, default=64 << 20, default_text="64M", least=1 << 20,
        help="the largest input, side file or bundle that travels through Redis"),
    Key("consumer_timeout_s", Kind.SECONDS, used_by=_ROLES, default=1800.0, default_text="30m", least=1,
        help="the broker's consumer_timeout; a task's message is acknowledged at three quarters of it"),
    Key("root", Kind.PATH, used_by=_ROLES, default_text="MRQ_TMP/mrq-UID",
        help="the folder of all temporary data: map outputs, logs, unpacked code"),
    Key("worker_id", Kind.NAME, used_by=For.WORKER, default_text="the host's name",
        help="who this worker is, also after a restart"),
    Key("listen", Kind.ADDRESS, used_by=For.WORKER, default="127.0.0.1:0",
        help="where map outputs are served; port 0 takes a free one"),
    Key("advertise", Kind.ADDRESS, used_by=For.WORKER,
        default_text="the address of listen; the host's name for 0.0.0.0",
        help="where masters and other workers reach this one; port 0 is the one that listen got"),
    Key("insecure", Kind.SWITCH, used_by=For.WORKER, default=False, default_text="false",
        help="listen beyond this host though there is no secret key: whoever reaches it may read all data"),
    Key("map_slots", Kind.COUNT, used_by=For.WORKER,
        default_text="by the cores and memory that this process may use",
        help="map tasks at once"),
    Key("reduce_slots", Kind.COUNT, used_by=For.WORKER,
        default_text="by the cores and memory that this process may use",
        help="reduce tasks at once"),
    Key("memory_limit", Kind.BYTES, used_by=For.WORKER, least=16 << 20,
        default_text="the machine's, or its control group's",
        help="the memory of this worker: tasks that ask for more (--memory) go to others"),
    Key("disk_quota", Kind.BYTES, used_by=For.WORKER, default_text="the disk", least=64 << 20,
        help="what this worker's files under root may take together; a fifth is kept for reduces"),
    Key("drain_timeout_s", Kind.SECONDS, used_by=For.WORKER, default=60.0, default_text="60s",
        help="how long a worker that was asked to stop goes on; shorter than whoever stops it waits"),
)
# fmt: on

BY_NAME: Final[Mapping[str, Key]] = {key.name: key for key in KEYS}

#: Variables of ours that aren't settings of a cluster; and those of compose.yaml.
OTHER_VARIABLES: Final = frozenset(
    {"MRQ_CLUSTER", "MRQ_TMP", "MRQ_KEEP_DAYS", "MRQ_DEBUG", "MRQ_EXECUTOR", "MRQ_HEALTH_FILE"}
)
_COMPOSE: Final = re.compile(
    r"MRQ_(DATA|PROJECT|VERSION|WORKERS|STOP_GRACE|AMQP_PORT|REDIS_PORT|(RABBITMQ|REDIS|MASTER|WORKER)_(MEMORY|CPUS))"
)


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


def parse(key: Key, value: Any, *, text: bool, folder: str) -> Any:
    """A setting's value, checked. `text`: of a flag or variable; else as TOML has it.

    Relative paths start at `folder`. Raises ValueError saying what is wanted.
    """
    match key.kind:
        case Kind.AMQP:
            return parse_url(_string(value, "a URL in quotes"), ("amqp", "amqps"))
        case Kind.REDIS:
            return parse_url(_string(value, "a URL in quotes"), ("redis", "rediss"))
        case Kind.NAME | Kind.PREFIX:
            return _name(value, dots=key.kind is Kind.NAME)
        case Kind.PATH:
            return _path(value, folder)
        case Kind.PATHS:
            return _paths(value, text, folder)
        case Kind.SECONDS:
            return _seconds(value, key.least)
        case Kind.BYTES:
            size = parse_size(value)
            if size < key.least:
                raise ValueError(f"at least {key.least >> 20}M, not {value!r}")
            return size
        case Kind.COUNT:
            return _count(value, key.least, text)
        case Kind.SWITCH:
            known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
            found = known.get(str(value).lower()) if text else value
            if not isinstance(found, bool):
                raise ValueError(f"true or false, not {value!r}")
            return found
        case Kind.ADDRESS:
            host, _, port = _string(value, "HOST:PORT").rpartition(":")
            if not host or not port.isdecimal() or int(port) > 65535:
                raise ValueError(f"HOST:PORT, not {value!r}")
            return str(value)


def parse_url(text: str, schemes: tuple[str, ...]) -> ServiceUrl:
    """A server's URL. Raises ValueError, without the password that may be in it."""
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
_NAMES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def _string(value: Any, wanted: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{wanted}, not {value!r}")
    return value


def _name(value: Any, *, dots: bool) -> str:
    letters = "'.', '_' and '-'" if dots else "'_' and '-'"
    wanted = f"at most 63 letters, digits, {letters}, beginning with a letter or digit"
    name = _string(value, wanted)
    if not _NAMES.fullmatch(name) or ("." in name and not dots):
        raise ValueError(f"{wanted}, not {value!r}")
    return name


def _path(value: Any, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(_string(value, "a path in quotes"))))


def _paths(value: Any, text: bool, folder: str) -> tuple[tuple[str, str], ...]:
    wanted = '"./data=/data,…"' if text else 'a table such as [paths] with "./data" = "/data"'
    if text:
        pairs = [pair.partition("=")[::2] for pair in str(value).split(",")]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise ValueError(f"{wanted}, not {value!r}")
    made: list[tuple[str, str]] = []
    for here, there in pairs:
        if not (here and isinstance(there, str) and there.startswith("/")):
            raise ValueError(f"{wanted}, the cluster's side absolute; not {here!r} and {there!r}")
        made.append((_path(here, folder), os.path.normpath(there)))
    return tuple(made)


def _seconds(value: Any, least: int) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = parse_duration(value)
    else:
        raise ValueError(f"a time such as 90, 90s, 10m or 7d, not {value!r}")
    if not least <= seconds < float("inf"):
        raise ValueError(f"at least {least} s, not {value!r}")
    return seconds


def _count(value: Any, least: int, text: bool) -> int:
    wanted = f"a whole number from {least} to 1024"
    try:
        number = int(value) if text else value
    except ValueError:
        raise ValueError(f"{wanted}, not {value!r}") from None
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= 1024:
        raise ValueError(f"{wanted}, not {value!r}")
    return number


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """A sentence for each MRQ_ variable that is none of ours: a typo changes nothing and says nothing."""
    known = {key.env for key in KEYS} | OTHER_VARIABLES
    return [
        f"{name} is set, but mrq has no such variable{nearest(name, known)}"
        for name in sorted(env)
        if name.startswith("MRQ_") and name not in known and not _COMPOSE.fullmatch(name)
    ]

"""The settings of a cluster as one value: where from, what, and never a password in sight.

Flags win over the environment, that over `[profiles.NAME]` of mrq.toml, that over its top level, that
over the defaults; docs/configuration.md says it for people. `choose` finds out which cluster is meant,
`load` reads its settings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from mrq.errors import UsageError, UsageValueError
from mrq.settings import checks, files
from mrq.settings.checks import nearest
from mrq.settings.files import File, Secrets
from mrq.settings.job import SETTINGS
from mrq.settings.table import Setting, ValueKind, Where, rows_of, setting
from mrq.settings.urls import ServiceUrl, parse_url
from mrq.settings.variables import COMPOSE, VARIABLES, temp_root

__all__ = ["KEYS", "LOCAL", "Choice", "Profile", "choose", "load"]

#: The cluster that is none: this machine, embedded.
LOCAL: Final = "local"
#: A cluster that the environment describes by its two URLs.
ENVIRONMENT: Final = "environment"

_URLS: Final = ("amqp_url", "redis_url")
#: What a profile that was named on the command line brings with it, whatever the environment says.
_BROUGHT: Final = (*_URLS, "secrets_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which cluster is meant, and who said so."""

    name: str  #: LOCAL, ENVIRONMENT, a profile's name, or a Redis URL
    source: str  #: "--cluster", "MRQ_CLUSTER", "/x/mrq.toml:3", "default" …
    named: bool = False  #: by whoever runs this, not by the surroundings


_DAY_S: Final = 24 * 3600.0
_BY_CORES: Final = "by the cores and memory that this process may use"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The settings of a cluster, checked, and the table of them; and what follows from where they came."""

    # fmt: off
    amqp_url: ServiceUrl | None = setting(ValueKind.WORD, None, partial(parse_url, schemes=("amqp", "amqps")),
        "the RabbitMQ that carries the tasks: amqp://HOST[:PORT][/VHOST]",
        where=Where.CLUSTER, said="none; goes together with redis_url", value="AMQP-URL")
    redis_url: ServiceUrl | None = setting(
        ValueKind.WORD, None, partial(parse_url, schemes=("redis", "rediss")),
        "the Redis that keeps the state: redis://HOST[:PORT][/DB]",
        where=Where.CLUSTER, said="none; goes together with amqp_url", value="REDIS-URL")
    secrets_file: str | None = setting(ValueKind.PATH, None, checks.path,
        "TOML with user names, passwords and keys; mode 0600", where=Where.CLUSTER, said="none")
    prefix: str = setting(ValueKind.WORD, "mrq", checks.name(dots=False),
        "what names of keys and queues begin with: two clusters may share servers under two prefixes",
        where=Where.CLUSTER, value="PREFIX")
    shared_root: str = setting(ValueKind.PATH, "/data/.mrq", checks.path,
        "a folder that masters and workers share: results without OUT, inputs that came as blobs",
        where=Where.MASTER)
    #: (folder here, the same on the cluster), absolute.
    paths: tuple[tuple[str, str], ...] = setting(ValueKind.PATH_MAP, (), checks.path_map,
        "folders of this machine, and where the cluster has them: a table, as `[paths]`",
        where=Where.CLIENT, said="none", flag=None)
    timeout_s: float = setting(ValueKind.TIME, 60.0, checks.seconds_from(0),
        "how long to wait for a server, or a leader, that isn't there yet", where=Where.CLUSTER, said="60s")
    keep_s: float = setting(ValueKind.TIME, 7 * _DAY_S, checks.seconds_from(0),
        "how long a job that is over stays known", where=Where.MASTER, said="7d")
    blob_bytes_max: int = setting(ValueKind.SIZE, 64 << 20, checks.size(1 << 20),
        "the largest input, side file or bundle that travels through Redis", where=Where.CLUSTER, said="64M")
    consumer_timeout_s: float = setting(ValueKind.TIME, 1800.0, checks.seconds_from(1),
        "the broker's consumer_timeout; a task's message is acknowledged at three quarters of it",
        where=Where.ROLES, said="30m")
    root: str = setting(ValueKind.PATH, temp_root, checks.path,
        "the folder of all temporary data: map outputs, logs, unpacked code",
        where=Where.ROLES, said="MRQ_TMP/mrq-UID")
    worker_id: str | None = setting(ValueKind.WORD, None, checks.name(dots=True),
        "who this worker is, also after a restart", where=Where.WORKER, said="the host's name", value="NAME")
    listen: str = setting(ValueKind.WORD, "127.0.0.1:0", checks.address,
        "where map outputs are served; port 0 takes a free one", where=Where.WORKER, value="HOST:PORT")
    advertise: str | None = setting(ValueKind.WORD, None, checks.address,
        "where masters and other workers reach this one; port 0 is the one that listen got",
        where=Where.WORKER, said="the address of listen; the host's name for 0.0.0.0", value="HOST:PORT")
    insecure: bool = setting(ValueKind.SWITCH, False, checks.switch,
        "listen beyond this host though there is no secret key: whoever reaches it may read all data",
        where=Where.WORKER, said="false")
    map_slots: int | None = setting(ValueKind.COUNT, None, checks.whole(0, 1024),
        "map tasks at once", where=Where.WORKER, said=_BY_CORES)
    reduce_slots: int | None = setting(ValueKind.COUNT, None, checks.whole(0, 1024),
        "reduce tasks at once", where=Where.WORKER, said=_BY_CORES)
    memory_limit: int | None = setting(ValueKind.SIZE, None, checks.size(16 << 20),
        "the memory of this worker: tasks that ask for more (--memory) go to others",
        where=Where.WORKER, said="the machine's, or its control group's")
    disk_quota: int | None = setting(ValueKind.SIZE, None, checks.size(64 << 20),
        "what this worker's files under root may take together; a fifth is kept for reduces",
        where=Where.WORKER, said="the disk")
    drain_timeout_s: float = setting(ValueKind.TIME, 60.0, checks.seconds_from(0),
        "how long a worker that was asked to stop goes on; shorter than whoever stops it waits",
        where=Where.WORKER, said="60s")
    log_format: str = setting(ValueKind.WORD, "text", checks.log_format,
        "how standard error is written: text for people, or json, an object a line",
        where=Where.CLUSTER, value="FORMAT")
    # fmt: on

    name: str  #: a profile's name; else the Redis URL, without its password; else LOCAL
    job: Mapping[str, Any] = field(default_factory=dict)  #: settings of its jobs that say nothing else
    key_id: str  #: of the key that signs
    keys: Mapping[str, bytes] = field(repr=False)  #: key_id -> HMAC key; all that are accepted
    has_secret: bool  #: False: there is no key and no password, so anybody can derive `keys`
    #: The user and password of data planes, for Redis; None: they log in as everybody does.
    fetch_login: tuple[str | None, str] | None = field(repr=False)
    sources: Mapping[str, str] = field(repr=False)  #: setting -> where it came from
    notes: tuple[str, ...] = field(repr=False)  #: sentences on what was passed over

    def show(self) -> dict[str, tuple[Any, str]]:
        """Every setting by its name: (its value as JSON has it, without passwords and keys; its source)."""
        values = {name: getattr(self, name) for name in KEYS} | dict(self.job)
        rows = {name: (_plain(value), self.sources[name]) for name, value in values.items()}
        told, source = "***" if self.has_secret else "none that is secret", self.sources["key"]
        rows["key"] = f"{told} (id {self.key_id})", source
        old = sorted(set(self.keys) - {self.key_id})
        return {**rows, "old_keys": (old, source)} if old else rows

    def services(self) -> tuple[ServiceUrl, ServiceUrl]:
        """(RabbitMQ, Redis). Raises UsageError where one isn't set: masters and workers need both."""
        if self.amqp_url is None or self.redis_url is None:
            missing = [name for name in _URLS if getattr(self, name) is None]
            raise UsageError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: set "
                f"{' and '.join(KEYS[name].env for name in missing)}, or name a profile of mrq.toml "
                "with --cluster"
            )
        return self.amqp_url, self.redis_url

    def state(self) -> ServiceUrl:
        """The Redis, which is all that a client talks to. Raises UsageError where it isn't set."""
        if self.redis_url is None:
            raise UsageError(
                f"cluster {self.name} has no redis_url: set MRQ_REDIS_URL with MRQ_AMQP_URL, or put both "
                "into its profile in mrq.toml"
            )
        return self.redis_url

    def fetch_url(self) -> ServiceUrl:
        """The Redis as data planes log in: as a user that may read locations and addresses alone, if the
        secrets name one."""
        if self.fetch_login is None:
            return self.state()
        user, password = self.fetch_login
        return replace(self.state(), user=user, password=password)

    def secret_key(self) -> bytes | None:
        """The key that signs; None where anybody could know it."""
        return self.keys[self.key_id] if self.has_secret else None


#: The settings of a cluster by their names, in the order of the docs.
KEYS: Final[Mapping[str, Setting]] = rows_of(Profile)
#: All that mrq.toml may have; of a job's settings those that it may say for jobs which say nothing else.
_IN_FILES: Final = {**KEYS, **{name: row for name, row in SETTINGS.items() if Where.FILE in row.where}}


def choose(name: str | None, *, env: Mapping[str, str], cwd: str, named_by: str = "--cluster") -> Choice:
    """Which cluster is meant. `name`: what `named_by` says. Raises UsageError for half of the URLs."""
    if name is not None:
        return Choice(name=name, source=named_by, named=True)
    if env.get("MRQ_CLUSTER"):
        return Choice(name=env["MRQ_CLUSTER"], source="MRQ_CLUSTER")
    given = [KEYS[url].env for url in _URLS if env.get(KEYS[url].env)]
    if len(given) == 1:
        raise _half(given[0], "MRQ_REDIS_URL" if given[0] == "MRQ_AMQP_URL" else "MRQ_AMQP_URL")
    if given:
        return Choice(name=ENVIRONMENT, source=" and ".join(given))
    if files.may_choose(env, cwd):
        for path in files.find(env, cwd):
            file = files.read(path)
            chosen = file.top.get("cluster")
            if chosen is None:
                continue
            if not isinstance(chosen, str) or not chosen:
                raise UsageError(f"{file.where('cluster')}: cluster must be a profile's name, not {chosen!r}")
            return Choice(name=chosen, source=file.where("cluster"))
    return Choice(name=LOCAL, source="default")


def load(
    name: str | None,
    *,
    flags: Mapping[str, str],
    env: Mapping[str, str],
    cwd: str,
    named_by: str = "--cluster",
) -> Profile:
    """The settings of the cluster that is meant.

    `name` and `named_by` as of `choose`; `flags` by the settings' names, as typed. Raises UsageError for
    whatever is unknown, malformed, of a wrong type, or half said, with where it stands.
    """
    choice = choose(name, env=env, cwd=cwd, named_by=named_by)
    read = [files.read(path) for path in files.find(env, cwd)]
    for file in read:
        _check_names(file)
    values: dict[str, Any] = {}
    sources = dict.fromkeys(KEYS, "default")
    for row, value, source, folder in _layers(choice, read, flags, env):
        checked = _checked(row, value, source, cwd if folder is None else folder, text=folder is None)
        if row.name not in values:
            values[row.name], sources[row.name] = checked, source
    given = [name for name in _URLS if name in values]
    if len(given) == 1 and "://" not in choice.name and not (choice.named and choice.name == LOCAL):
        (missing,) = set(_URLS) - set(given)
        raise _half(f"{given[0]} ({sources[given[0]]})", f"{missing} ({KEYS[missing].env})")
    secrets = None
    if "secrets_file" in values:
        secrets = files.read_secrets(values["secrets_file"], sources["secrets_file"])
        _log_in(values, sources, secrets)
    url: ServiceUrl | None = values.get("redis_url")
    # A profile's name, else the URL without its password.
    by_url = url is not None and (choice.name in (LOCAL, ENVIRONMENT) or "://" in choice.name)
    has_key = secrets is not None and secrets.key is not None
    key_id, keys, sources["key"] = _keys(secrets, url)
    return Profile(
        **{name: value for name, value in values.items() if name in KEYS},
        name=str(url) if by_url else choice.name,
        job={name: value for name, value in values.items() if name not in KEYS},
        key_id=key_id,
        keys=keys,
        fetch_login=secrets.fetch_login if secrets is not None else None,
        has_secret=has_key or (url is not None and bool(url.password)),
        sources=sources,
        notes=tuple(_unknown_variables(env)),
    )


#: A setting, its value as written, where that stands, and the folder of the file; None: it is text.
Layer = Iterator[tuple[Setting, Any, str, str | None]]


def _layers(choice: Choice, read: Sequence[File], flags: Mapping[str, str], env: Mapping[str, str]) -> Layer:
    """All that is said of settings, what counts first."""
    for name, text in flags.items():
        yield KEYS[name], text, str(KEYS[name].long), None
    section: Sequence[tuple[Setting, Any, str, str | None]] = ()
    if "://" in choice.name:
        if choice.name.startswith("amqp"):
            raise UsageValueError(
                f"{choice.source} names a RabbitMQ; give the cluster's Redis (redis://HOST:6379/0), where "
                "its state is, or a profile of mrq.toml with both"
            )
        yield KEYS["redis_url"], choice.name, choice.source, None
    elif choice.name not in (LOCAL, ENVIRONMENT):
        section = list(_section(choice, read))
    if choice.named:
        yield from (each for each in section if each[0].name in _BROUGHT)
    # A Redis of its own name isn't paired with the RabbitMQ of another cluster.
    passed_over = _BROUGHT[:1] if "://" in choice.name else ()
    for row in KEYS.values():
        if env.get(row.env) and row.name not in passed_over:
            yield row, env[row.env], row.env, None
    yield from section
    for file in read:
        for name, value in file.top.items():
            if name in _IN_FILES and name not in passed_over:
                yield _IN_FILES[name], value, file.where(name), file.folder


def _section(choice: Choice, read: Sequence[File]) -> Layer:
    """What the profile of that name says. Raises UsageError, naming the nearest, where there is none."""
    for file in read:
        if choice.name in file.profiles:
            for name, value in file.profiles[choice.name].items():
                yield _IN_FILES[name], value, file.where(name, f"profiles.{choice.name}"), file.folder
            return
    known = [name for file in read for name in file.profiles]
    said = f"there is no profile {choice.name!r} (asked for by {choice.source})"
    if not read:
        raise UsageValueError(
            f"{said}: no mrq.toml was found from the current folder upwards, nor in ~/.config/mrq; "
            "a profile is a table [profiles.NAME] in it"
        )
    raise UsageValueError(f"{said} in {' or '.join(file.path for file in read)}{nearest(choice.name, known)}")


def _checked(row: Setting, value: Any, source: str, folder: str, *, text: bool) -> Any:
    """A setting's value, its paths absolute. Raises UsageError with where it stands; what may be a password
    isn't repeated."""
    try:
        found = row.check(row.typed(value) if text else value)
    except ValueError as exc:
        raise UsageValueError(f"{source if text else f'{source}: {row.name}'} must be {exc}") from None

    def absolute(path: str) -> str:
        return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))

    if row.kind is ValueKind.PATH:
        return absolute(found)
    if row.kind is ValueKind.PATH_MAP:
        return tuple((absolute(here), there) for here, there in found)
    return found


def _check_names(file: File) -> None:
    """Raise UsageError for a name that is no setting of a cluster, naming the nearest or where a job's is
    said."""
    places = [(file.top, None), *((each, f"profiles.{name}") for name, each in file.profiles.items())]
    for values, section in places:
        known = _IN_FILES if section else [*_IN_FILES, "cluster", "profiles"]
        for name in values:
            if name in known:
                continue
            row, instead = SETTINGS.get(name), nearest(name, known)
            if row is not None and row.long is not None:
                instead = (
                    " of a cluster: it is a job's, a class keyword, an argument of mrq.run, or "
                    f"{row.long} of mrq submit"
                )
            raise UsageError(f"{file.where(name, section)}: there is no setting {name!r}{instead}")


def _unknown_variables(env: Mapping[str, str]) -> list[str]:
    """A sentence for each MRQ_ variable that is none of ours: a typo changes nothing and says nothing."""
    known = {row.env for row in KEYS.values()} | VARIABLES.keys()
    return [
        f"{name} is set, but mrq has no such variable{nearest(name, known)}"
        for name in sorted(env)
        if name.startswith("MRQ_") and name not in known and not COMPOSE.fullmatch(name)
    ]


def _half(given: str, missing: str) -> UsageError:
    return UsageError(
        f"{given} is set and {missing} isn't: a cluster is a RabbitMQ and a Redis; set both, or neither "
        "to run on this machine"
    )


def _log_in(made: dict[str, Any], sources: dict[str, str], secrets: Secrets) -> None:
    """Names and passwords into the URLs that have none."""
    logins = {
        "amqp_url": (secrets.amqp_user, secrets.amqp_password),
        "redis_url": (secrets.redis_user, secrets.redis_password),
    }
    for name, (user, password) in logins.items():
        url: ServiceUrl | None = made.get(name)
        if url is not None and url.password is None and password is not None:
            made[name] = replace(url, user=url.user or user, password=password)
            sources[name] += f", password from {secrets.path}"


def _keys(secrets: Secrets | None, redis_url: ServiceUrl | None) -> tuple[str, Mapping[str, bytes], str]:
    """(id of the key that signs, all keys, where they come from)."""
    if secrets is not None and secrets.key is not None:
        keys = {**secrets.old_keys, secrets.key_id: secrets.key}
        return secrets.key_id, {name: text.encode() for name, text in keys.items()}, secrets.path
    # Whoever has this password can write the state itself: signatures stop those who only have RabbitMQ's.
    password = redis_url.password if redis_url is not None and redis_url.password is not None else ""
    derived = hashlib.sha256(b"mrq: key from the password of redis\0" + password.encode()).digest()
    return "0", {"0": derived}, "derived from the Redis password" if password else "default"


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, ServiceUrl):
        return str(value)
    return dict(value) if isinstance(value, tuple) else value

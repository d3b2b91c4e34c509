"""The settings of a cluster as one value: where from, what, and never a password in sight.

Flags win over the environment, that over `[profiles.NAME]` of mrq.toml, that over its top level, that
over the defaults; docs/configuration.md says it for people. `choose` finds out which cluster is meant,
`load` reads its settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from mrq import config, profile_files, profile_find
from mrq.errors import UsageError, UsageValueError
from mrq.job.setting_checks import nearest
from mrq.profile_files import File, Secrets
from mrq.profile_keys import BY_NAME, KEYS, ServiceUrl, parse, parse_url, unknown_variables

T = TypeVar("T")

__all__ = ["LOCAL", "Choice", "Profile", "choose", "load"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """All settings of a cluster; the table in `mrq.profile_keys` says what each is."""

    name: str  #: a profile's name; else the Redis URL, without its password; else LOCAL
    amqp_url: ServiceUrl | None
    redis_url: ServiceUrl | None
    secrets_file: str | None
    prefix: str
    shared_root: str
    paths: tuple[tuple[str, str], ...]  #: (folder here, the same on the cluster), absolute
    timeout_s: float
    keep_s: float
    blob_bytes_max: int
    consumer_timeout_s: float
    root: str
    worker_id: str | None
    listen: str
    advertise: str | None
    insecure: bool
    map_slots: int | None
    reduce_slots: int | None
    memory_limit: int | None
    disk_quota: int | None
    drain_timeout_s: float
    key_id: str  #: of the key that signs
    keys: Mapping[str, bytes] = field(repr=False)  #: key_id -> HMAC key; all that are accepted
    has_secret: bool  #: False: there is no key and no password, so anybody can derive `keys`
    sources: Mapping[str, str] = field(repr=False)  #: setting -> where it came from
    notes: tuple[str, ...] = field(repr=False)  #: sentences on what was passed over

    def show(self) -> dict[str, tuple[Any, str]]:
        """Every setting by its name: (its value as JSON has it, without passwords and keys; its source)."""
        rows = {key.name: (_plain(getattr(self, key.name)), self.sources[key.name]) for key in KEYS}
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
                f"{' and '.join(BY_NAME[name].env for name in missing)}, or name a profile of mrq.toml "
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

    def secret_key(self) -> bytes | None:
        """The key that signs; None where anybody could know it."""
        return self.keys[self.key_id] if self.has_secret else None


def choose(name: str | None, *, env: Mapping[str, str], cwd: str, named_by: str = "--cluster") -> Choice:
    """Which cluster is meant. `name`: what `named_by` says. Raises UsageError for half of the URLs."""
    if name is not None:
        return Choice(name=name, source=named_by, named=True)
    if env.get("MRQ_CLUSTER"):
        return Choice(name=env["MRQ_CLUSTER"], source="MRQ_CLUSTER")
    given = [BY_NAME[url].env for url in _URLS if env.get(BY_NAME[url].env)]
    if len(given) == 1:
        raise _half(given[0], "MRQ_REDIS_URL" if given[0] == "MRQ_AMQP_URL" else "MRQ_AMQP_URL")
    if given:
        return Choice(name=ENVIRONMENT, source=" and ".join(given))
    if profile_find.may_choose(env, cwd):
        for path in profile_find.find(env, cwd):
            file = profile_files.read(path)
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
    files = [profile_files.read(path) for path in profile_find.find(env, cwd)]
    for file in files:
        _check_names(file)
    values: dict[str, tuple[Any, str]] = {}
    for key, value, source in _layers(choice, files, flags, env, cwd):
        values.setdefault(key, (value, source))
    urls = [name for name in _URLS if name in values]
    if len(urls) == 1 and "://" not in choice.name and not (choice.named and choice.name == LOCAL):
        (missing,) = set(_URLS) - set(urls)
        raise _half(f"{urls[0]} ({values[urls[0]][1]})", f"{missing} ({BY_NAME[missing].env})")
    secrets = None
    if "secrets_file" in values:
        path, source = values["secrets_file"]
        secrets = profile_files.read_secrets(path, source)
    made: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for each in KEYS:
        default = config.temp_root() if each.name == "root" else each.default
        made[each.name], sources[each.name] = values.get(each.name, (default, "default"))
    if secrets is not None:
        _log_in(made, sources, secrets)
    url: ServiceUrl | None = made["redis_url"]
    # A profile's name, else the URL without its password.
    by_url = url is not None and (choice.name in (LOCAL, ENVIRONMENT) or "://" in choice.name)
    has_key = secrets is not None and secrets.key is not None
    key_id, keys, sources["key"] = _keys(secrets, url)
    return Profile(
        **made,
        name=str(url) if by_url else choice.name,
        key_id=key_id,
        keys=keys,
        has_secret=has_key or (url is not None and bool(url.password)),
        sources=sources,
        notes=tuple(unknown_variables(env)),
    )


def _layers(
    choice: Choice, files: Sequence[File], flags: Mapping[str, str], env: Mapping[str, str], cwd: str
) -> Iterator[tuple[str, Any, str]]:
    """(setting, value, source), what counts first."""
    for name, text in flags.items():
        yield name, _checked(name, text, BY_NAME[name].flag, cwd, text=True), BY_NAME[name].flag
    section: list[tuple[str, Any, str]] = []
    if "://" in choice.name:
        if choice.name.startswith("amqp"):
            raise UsageValueError(
                f"{choice.source} names a RabbitMQ; give the cluster's Redis (redis://HOST:6379/0), where "
                "its state is, or a profile of mrq.toml with both"
            )
        url = _refuse_as(choice.source, lambda: parse_url(choice.name, ("redis", "rediss")))
        yield "redis_url", url, choice.source
    elif choice.name not in (LOCAL, ENVIRONMENT):
        section = list(_section(choice, files))
    if choice.named:
        for name, value, source in section:
            if name in _BROUGHT:
                yield name, value, source
    # A Redis of its own name isn't paired with the RabbitMQ of another cluster.
    passed_over = _BROUGHT[:1] if "://" in choice.name else ()
    for each in KEYS:
        text = env.get(each.env, "")
        if text and each.name not in passed_over:
            yield each.name, _checked(each.name, text, each.env, cwd, text=True), each.env
    yield from section
    for file in files:
        for name, value in file.top.items():
            if name in BY_NAME and name not in passed_over:
                where = file.where(name)
                yield name, _checked(name, value, where, file.folder, text=False), where


def _section(choice: Choice, files: Sequence[File]) -> Iterator[tuple[str, Any, str]]:
    """What the profile of that name says. Raises UsageError, naming the nearest, where there is none."""
    for file in files:
        if choice.name in file.profiles:
            for name, value in file.profiles[choice.name].items():
                where = file.where(name, f"profiles.{choice.name}")
                yield name, _checked(name, value, where, file.folder, text=False), where
            return
    known = [name for file in files for name in file.profiles]
    said = f"there is no profile {choice.name!r} (asked for by {choice.source})"
    if not files:
        raise UsageValueError(
            f"{said}: no mrq.toml was found from the current folder upwards, nor in ~/.config/mrq; "
            "a profile is a table [profiles.NAME] in it"
        )
    raise UsageValueError(
        f"{said} in {' or '.join(file.path for file in files)}{nearest(choice.name, known)}"
    )


def _checked(name: str, value: Any, where: str, folder: str, *, text: bool) -> Any:
    """A setting's value. Raises UsageError with where it stands; what may be a password isn't repeated."""
    said = where if text else f"{where}: {name}"
    return _refuse_as(said, lambda: parse(BY_NAME[name], value, text=text, folder=folder))


def _refuse_as(said: str, check: Callable[[], T]) -> T:
    try:
        return check()
    except ValueError as exc:
        raise UsageValueError(f"{said} must be {exc}") from None


def _check_names(file: File) -> None:
    """Raise UsageError for a name that is no setting."""
    known = [*BY_NAME, "cluster", "profiles"]
    for name in file.top:
        if name not in known:
            raise UsageError(f"{file.where(name)}: there is no setting {name!r}{_instead(name, known)}")
    for profile, values in file.profiles.items():
        for name in values:
            if name not in BY_NAME:
                where = file.where(name, f"profiles.{profile}")
                raise UsageError(f"{where}: there is no setting {name!r}{_instead(name, BY_NAME)}")


def _instead(name: str, known: Iterable[str]) -> str:
    """The nearest setting of a cluster, or where a job's is said."""
    from mrq.job.settings import SETTINGS

    row = SETTINGS.get(name)
    if row is None or row.long is None:
        return nearest(name, known)
    return (
        f" of a cluster: it is a job's, a class keyword, an argument of mrq.run, or {row.long} of mrq submit"
    )


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
        url: ServiceUrl | None = made[name]
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

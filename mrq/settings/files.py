"""The files that settings come from: where mrq.toml lies and what it says, line by line; the file of secrets.

At every start it is asked whether some mrq.toml may choose a cluster, so this is light to import.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from mrq.errors import UsageError
from mrq.settings.checks import nearest

FILE: Final = "mrq.toml"
KEY_CHARS_MIN: Final = 32


def find(env: Mapping[str, str], cwd: str) -> list[str]:
    """The mrq.toml files that count, the first before the second: the nearest upwards, the user's own."""
    found = []
    folder = os.path.abspath(cwd)
    while True:
        path = os.path.join(folder, FILE)
        if os.path.isfile(path) and _is_trusted(path):
            found.append(path)
            break
        parent = os.path.dirname(folder)
        if parent == folder:
            break
        folder = parent
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    own = os.path.join(home, "mrq", FILE)
    if own not in found and os.path.isfile(own):
        found.append(own)
    return found


def _is_trusted(path: str) -> bool:
    """Not a file that somebody else put into a folder for everybody, such as /tmp."""
    try:
        owner, folder = os.stat(path).st_uid, os.stat(os.path.dirname(path))
    except OSError:
        return False
    return owner in (0, os.getuid()) or not folder.st_mode & stat.S_IWOTH


def may_choose(env: Mapping[str, str], cwd: str) -> bool:
    """Whether some mrq.toml could name a default cluster: cheaper than reading it as TOML (8 ms)."""
    for path in find(env, cwd):
        try:
            with open(path, "rb") as file:
                if re.search(rb"(?m)^[ \t]*[\"']?cluster[\"']?[ \t]*=", file.read()):
                    return True
        except OSError:
            return True  # reading it properly says why not
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A mrq.toml as read."""

    path: str
    text: str
    top: Mapping[str, Any]  #: without `profiles`
    profiles: Mapping[str, Mapping[str, Any]]

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)

    def where(self, key: str, section: str | None = None) -> str:
        """`/x/mrq.toml:12` of a key, or of a section's header."""
        line = _line(self.text, key, section)
        return f"{self.path}:{line}" if line else self.path


def read(path: str) -> File:
    """Read a mrq.toml. Raises UsageError for what can't be read or isn't TOML, with its line."""
    try:
        with open(path, encoding="utf-8") as opened:
            text = opened.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} can't be read: {getattr(exc, 'strerror', None) or exc}") from exc
    data = _parsed(path, text)
    profiles = data.pop("profiles", {})
    file = File(path=path, text=text, top=data, profiles=profiles)
    if not isinstance(profiles, dict) or not all(isinstance(each, dict) for each in profiles.values()):
        raise UsageError(f"{file.where('profiles')}: profiles are tables; write [profiles.NAME]")
    return file


def _parsed(path: str, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        said = str(exc)
        at = re.search(r"\(at line (\d+), column (\d+)\)", said)
        line = f":{at[1]}" if at else ""
        raise UsageError(f"{path}{line} isn't TOML: {said}") from exc


def _line(text: str, key: str, section: str | None) -> int | None:
    """The line that sets a key at the top (section None) or in a section; else of the table it names."""
    inside: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)
        if header:
            inside = re.sub(r"[\s\"']", "", header[1])
            wanted = key if section is None else f"{section}.{key}"
            if inside == wanted or inside.startswith(wanted + "."):
                return number
        elif inside == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What the file of secrets holds. Never printed: its repr is its path."""

    path: str
    amqp_user: str | None = field(default=None, repr=False)
    amqp_password: str | None = field(default=None, repr=False)
    redis_user: str | None = field(default=None, repr=False)
    redis_password: str | None = field(default=None, repr=False)
    redis_fetch_user: str | None = field(default=None, repr=False)
    redis_fetch_password: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    key_id: str = field(default="1", repr=False)
    old_keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def fetch_login(self) -> tuple[str | None, str] | None:
        """The user and password of data planes, for Redis, if they have their own."""
        if self.redis_fetch_password is None:
            return None
        return self.redis_fetch_user, self.redis_fetch_password


_SECRETS: Final = tuple(each.name for each in fields(Secrets) if each.name != "path")


def read_secrets(path: str, named_by: str) -> Secrets:
    """Read the file of secrets, which only its owner may: us, or root. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise UsageError(
                    f"{path} holds passwords and others may read or write it "
                    f"(mode {stat.S_IMODE(status.st_mode):04o}); run: chmod 600 {path}"
                )
            if status.st_uid not in (0, os.getuid()):
                raise UsageError(
                    f"{path} holds passwords and belongs to another user (uid {status.st_uid}); "
                    "only yours or root's is trusted: copy it, and chmod 600 the copy"
                )
            text = file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it isn't UTF-8"
        if isinstance(exc, FileNotFoundError):
            why += "; `docker compose up` writes the one of compose.yaml"
        raise UsageError(f"the secrets file {path}, named by {named_by}, can't be read: {why}") from exc
    data = _parsed(path, text)
    for name, value in data.items():
        if name not in _SECRETS:
            line = _line(text, name, None)
            raise UsageError(f"{path}:{line or 1}: there is no secret {name!r}{nearest(name, _SECRETS)}")
        if name != "old_keys" and not (isinstance(value, str) and value):
            raise UsageError(f"{path}:{_line(text, name, None) or 1}: {name} must be a string in quotes")
    old = data.get("old_keys", {})
    keys = [*old.items()] if isinstance(old, dict) else [("old_keys", None)]
    if "key" in data:
        keys.insert(0, ("key", data["key"]))
    for name, value in keys:
        if not isinstance(value, str) or len(value) < KEY_CHARS_MIN:
            raise UsageError(
                f"{path}: {name} must be a string of at least {KEY_CHARS_MIN} characters; "
                "make one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
            )
    return Secrets(path=path, **data)

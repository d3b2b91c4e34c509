"""The first container of `docker compose up`: secrets for the others and for the host.

/secrets   a private volume: secrets.toml, 0600, of the owner of /data: masters, workers and submit read it
/rabbitmq  a private volume: definitions.json, the virtual host and its one user, its password hashed
/redis     a private volume: users.acl, passwords hashed; health, the password of a user that may only ping
/project   beside compose.yaml: .mrq/secrets.toml, 0600, of that folder's owner: for `mrq submit` on the host

Secrets that are there stay; the rest is made of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import tomllib
from pathlib import Path

DATA, SECRETS, RABBITMQ, REDIS, PROJECT = (
    Path(f"/{name}") for name in ("data", "secrets", "rabbitmq", "redis", "project")
)
#: What mrq does with its keys: data of every kind, scripts, and looking at the settings it insists on.
REDIS_RIGHTS = (
    "~mrq:* &mrq:* -@all +@connection +@keyspace +@string +@hash +@list +@set +@sortedset +@stream "
    "+@transaction +eval +evalsha +script|load +script|exists +time -@dangerous +config|get +info"
)

#: What a data plane does with them: reading where map outputs lie and where workers listen, and no more.
REDIS_FETCH_RIGHTS = "%R~mrq:{*}:locations %R~mrq:addresses resetchannels -@all +ping +select +xread +hget"


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def adopt_data() -> None:
    """A data folder that Docker has just made is root's and empty: it is meant for the project's owner."""
    if owner(DATA)[0] == 0 and not any(DATA.iterdir()):
        os.chown(DATA, *owner(PROJECT))


def put(path: Path, text: str, *, mode: int, of: tuple[int, int]) -> None:
    """Whole or not at all, and not at all where it is there already."""
    if (
        path.exists()
        and path.read_text() == text
        and path.stat().st_mode & 0o777 == mode
        and owner(path) == of
    ):
        return
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    os.chmod(aside, mode)
    os.chown(aside, *of)
    os.replace(aside, path)


def known_secrets() -> str:
    """The text of secrets.toml: what the volume has, with what an older version left out; else new ones."""
    path = SECRETS / "secrets.toml"
    fetch = f'redis_fetch_user = "mrq-fetch"\nredis_fetch_password = "{secrets.token_urlsafe(32)}"\n'
    if path.exists():
        text = path.read_text()
        return (
            text if "redis_fetch_password" in tomllib.loads(text) else fetch + text
        )  # it may end in a table
    fresh = {name: secrets.token_urlsafe(32) for name in ("amqp_password", "redis_password")}
    return (
        "# Made by `docker compose up` (infra/compose/init.py); the volume of the same name has it too.\n"
        'amqp_user = "mrq"\n'
        f'amqp_password = "{fresh["amqp_password"]}"\n'
        'redis_user = "mrq"\n'
        f'redis_password = "{fresh["redis_password"]}"\n'
        f"{fetch}"
        f'key = "{secrets.token_hex(32)}"\n'
        'key_id = "1"\n'
    )


def rabbit_hash(password: str, salt: bytes) -> str:
    """As RabbitMQ keeps passwords: base64 of salt and SHA-256 of salt and password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(user: str, password: str) -> str:
    # The salt follows from the password, so that the file stays the same from one `up` to the next.
    salt = hashlib.sha256(b"salt " + password.encode()).digest()[:4]
    own = "^mrq\\..*"
    return json.dumps(
        {
            "vhosts": [{"name": "mrq"}],
            "users": [
                {
                    "name": user,
                    "password_hash": rabbit_hash(password, salt),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": [],
                }
            ],
            "permissions": [{"vhost": "mrq", "user": user, "configure": own, "write": own, "read": own}],
        },
        indent=1,
    )


def users_acl(user: str, password: str, fetch_user: str, fetch_password: str, health: str) -> str:
    def hashed(text: str) -> str:
        return "#" + hashlib.sha256(text.encode()).hexdigest()

    # Nobody can be the default user, but Redis replays its append-only file with that user's rights: without
    # them it drops, at every start, what scripts wrote (https://github.com/redis/redis/issues/14541).
    return (
        "user default off resetpass ~* &* +@all\n"
        f"user health on {hashed(health)} -@all +ping\n"
        f"user {user} on {hashed(password)} {REDIS_RIGHTS}\n"
        f"user {fetch_user} on {hashed(fetch_password)} {REDIS_FETCH_RIGHTS}\n"
    )


def main() -> None:
    adopt_data()
    text = known_secrets()
    known = tomllib.loads(text)
    put(SECRETS / "secrets.toml", text, mode=0o600, of=owner(DATA))
    health = hashlib.sha256(b"health " + known["redis_password"].encode()).hexdigest()
    us = (os.getuid(), os.getgid())
    rabbit = definitions(known["amqp_user"], known["amqp_password"])
    put(RABBITMQ / "definitions.json", rabbit, mode=0o644, of=us)
    logins = [known[f"redis_{each}"] for each in ("user", "password", "fetch_user", "fetch_password")]
    users = users_acl(*logins, health)
    put(REDIS / "users.acl", users, mode=0o644, of=us)
    put(REDIS / "health", health, mode=0o644, of=us)
    beside = PROJECT / ".mrq"
    if not beside.is_dir():
        beside.mkdir(mode=0o700)
        os.chown(beside, *owner(PROJECT))
    put(beside / "secrets.toml", text, mode=0o600, of=owner(PROJECT))
    print("secrets are in place; the host's are in .mrq/secrets.toml beside compose.yaml")


if __name__ == "__main__":
    main()

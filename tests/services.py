"""RabbitMQ and Redis for tests, in containers: one of a version for a whole run, or one of a test's own.

Fixtures are in conftest.py; a test gets a `Broker` or a `Redis` of these:

    def test_x(rabbitmq, redis_server): …                a virtual host, and a prefix of keys, of its own
    @pytest.mark.parametrize("rabbitmq", ["3.10", "4.0", "4.3"], indirect=True)
    @pytest.mark.parametrize("redis_server", ["7.0", "8.0"], indirect=True)
    def test_y(private_rabbitmq, private_redis):
        broker = private_rabbitmq("4.0", consumer_timeout_s=60, channel_tick_s=1)
        broker.container.restart()                       kill, start, stop, pause, unpause
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from docker_run import DockerError, Run, docker, locked

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

RABBITMQ = "4.0"
REDIS = "8.0"
AMQP_PORT, ADMIN_PORT, REDIS_PORT = 5672, 15672, 6379
#: A container that isn't ready by then fails the test with its log.
START_S = 60
HOST = "127.0.0.1"
BUILDER = Path(__file__).parent.parent / "infra" / "airgap" / "images"

#: Redis as `mrq` wants it: an append-only file, and nothing evicted.
REDIS_OPTIONS = ("--appendonly", "yes", "--maxmemory-policy", "noeviction", "--save", "")


def ensure_image(image: str) -> None:
    """Has the image made where it is missing; its progress goes to standard error. Raises DockerError."""
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0:
        return
    print(f"\nthe image {image} is missing: {BUILDER} gets it", file=sys.stderr, flush=True)
    if subprocess.run([str(BUILDER), image], stdin=subprocess.DEVNULL).returncode != 0:
        raise DockerError(
            f"the image {image} is missing and {BUILDER} {image} failed: 'make images' shows why"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container by its id, and how to know that it answers. Its ports stay the same over restarts."""

    id: str
    kind: str  #: "rabbitmq" or "redis"
    ports: Mapping[int, int]  #: inside -> on 127.0.0.1

    def kill(self) -> None:
        """As a power cut would: SIGKILL."""
        docker("kill", self.id)
        docker("wait", self.id)

    def stop(self) -> None:
        docker("stop", self.id)

    def start(self) -> None:
        """Starts it again and waits until it answers."""
        docker("start", self.id)
        self.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        docker("pause", self.id)

    def unpause(self) -> None:
        docker("unpause", self.id)

    def exec(self, *command: str) -> str:
        return docker("exec", self.id, *command)

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def wait(self, timeout_s: float = START_S) -> None:
        """Until it answers. Raises DockerError with the end of its log."""
        deadline = time.monotonic() + timeout_s
        while not ANSWERS[self.kind](self.ports):
            if time.monotonic() > deadline:
                raise DockerError(
                    f"{self.kind} in container {self.id[:12]} did not answer within {timeout_s:.0f} s; "
                    f"its log ends:\n{self.logs()[-2000:]}"
                )
            time.sleep(0.1)

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """RabbitMQ's HTTP interface: a virtual host in milliseconds where rabbitmqctl takes a second."""

    port: int
    user: str = "guest"
    password: str = "guest"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Raises DockerError for any answer but 2xx (404 of a DELETE is as good)."""
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        connection = HTTPConnection(HOST, self.port, timeout=20)
        try:
            connection.request(
                method,
                f"/api{path}",
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status // 100 != 2 and (method, answer.status) != ("DELETE", 404):
            raise DockerError(f"RabbitMQ's {method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        return self.call("GET", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """RabbitMQ as one test sees it: a virtual host of its own."""

    version: str
    container: Container
    admin: Admin
    vhost: str

    @property
    def port(self) -> int:
        return self.container.ports[AMQP_PORT]

    @property
    def url(self) -> str:
        return self.url_as(self.admin.user, self.admin.password)

    def url_as(self, user: str, password: str) -> str:
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{HOST}:{self.port}/{self.vhost}"

    def connections(self) -> list[dict[str, Any]]:
        """Open connections to this virtual host, as the broker tells of them."""
        found: list[dict[str, Any]] = self.admin.get(f"/vhosts/{self.vhost}/connections")
        return found

    def close_connections(self) -> int:
        """The broker closes every connection to this virtual host; how many there were."""
        found = self.connections()
        for each in found:
            self.admin.call("DELETE", f"/connections/{quote(each['name'], safe='')}")
        return len(found)

    def queue(self, name: str) -> dict[str, Any]:
        """One queue's counters; they trail by some seconds."""
        found: dict[str, Any] = self.admin.get(f"/queues/{self.vhost}/{quote(name, safe='')}")
        return found

    def add_user(self, name: str, password: str, *, configure: str, write: str, read: str) -> None:
        """A user with these rights on this virtual host alone; gone with `drop`."""
        self.admin.call("PUT", f"/users/{name}", {"password": password, "tags": ""})
        rights = {"configure": configure, "write": write, "read": read}
        self.admin.call("PUT", f"/permissions/{self.vhost}/{name}", rights)

    def drop(self) -> None:
        for row in self.admin.get(f"/vhosts/{self.vhost}/permissions"):
            if row["user"] != self.admin.user:
                self.admin.call("DELETE", f"/users/{row['user']}")
        self.admin.call("DELETE", f"/vhosts/{self.vhost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """Redis as one test sees it: a prefix of keys of its own."""

    version: str
    container: Container
    prefix: str

    @property
    def port(self) -> int:
        return self.container.ports[REDIS_PORT]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def client(self) -> Any:
        """A redis.Redis of bytes; close it."""
        import redis

        return redis.Redis.from_url(self.url, socket_timeout=20)

    def drop(self) -> None:
        with self.client() as client:
            for keys in _chunks(client.scan_iter(match=f"{self.prefix}:*", count=1000), 500):
                client.unlink(*keys)


def _chunks(items: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def start_rabbitmq(
    run: Run,
    version: str,
    *,
    consumer_timeout_s: float | None = None,
    channel_tick_s: float | None = None,
    conf: str = "",
    **create: Any,
) -> Container:
    """A RabbitMQ of this version that answers. `conf`: lines of rabbitmq.conf; `create`: of docker create."""
    settings = [conf, "management_agent.disable_metrics_collector = false"]
    if consumer_timeout_s is not None:
        settings.append(f"consumer_timeout = {round(consumer_timeout_s * 1000)}")
    made = _container(f"rabbitmq:{version}")
    if channel_tick_s is not None:  # no line of rabbitmq.conf sets this one
        tick = f"-rabbit channel_tick_interval {round(channel_tick_s * 1000)}"
        made.with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", tick)
    made.with_copy_into_container(b"[rabbitmq_management].\n", "/etc/rabbitmq/enabled_plugins")
    made.with_copy_into_container("\n".join(settings).encode() + b"\n", "/etc/rabbitmq/conf.d/90-tests.conf")
    return _start(run, made, "rabbitmq", (AMQP_PORT, ADMIN_PORT), create)


def start_redis(run: Run, version: str, *options: str, **create: Any) -> Container:
    """A durable Redis of this version that answers; further `options` of redis-server win."""
    made = _container(f"redis:{version}")
    made.with_command(["redis-server", *REDIS_OPTIONS, *options])
    return _start(run, made, "redis", (REDIS_PORT,), create)


def _container(image: str) -> DockerContainer:
    # Read at the import: its reaper's image can't be pulled everywhere, and a run removes its own.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    from testcontainers.core.container import DockerContainer

    ensure_image(image)
    return DockerContainer(image)


def _start(
    run: Run, made: DockerContainer, kind: str, inside: tuple[int, ...], create: dict[str, Any]
) -> Container:
    made.with_kwargs(**{**create, "labels": {**run.labels, **create.get("labels", {})}})
    ports = _started(made, inside)
    container = Container(id=made.get_container_id(), kind=kind, ports=ports)
    try:
        run.remember_volumes(container.id)
        container.wait()
    except BaseException:
        container.remove()
        raise
    return container


def _started(made: DockerContainer, inside: tuple[int, ...]) -> dict[int, int]:
    """Ports are chosen here, not by Docker: it would choose others at each restart."""
    for _ in range(3):
        ports = dict(zip(inside, free_ports(len(inside)), strict=True))
        made.ports = {f"{port}/tcp": (HOST, taken) for port, taken in ports.items()}  # type: ignore[misc]
        try:
            made.start()
        except Exception as error:
            if made._container is not None:
                made._container.remove(force=True, v=True)
            if "port is already allocated" in str(error):
                continue  # somebody was faster
            raise
        finally:
            made.get_docker_client().client.close()
        return ports
    raise DockerError(f"no free port for {made.image} in three attempts")


def _rabbitmq_answers(ports: Mapping[int, int]) -> bool:
    try:
        Admin(port=ports[ADMIN_PORT]).get("/whoami")
    except (OSError, HTTPException, DockerError):
        return False
    return _says(ports[AMQP_PORT], b"AMQP\x00\x00\x09\x01", b"\x01")


def _redis_answers(ports: Mapping[int, int]) -> bool:
    return _says(ports[REDIS_PORT], b"PING\r\n", b"+PONG")


def _says(port: int, sent: bytes, wanted: bytes) -> bool:
    """Docker's proxy takes connections before there is a server: only an answer counts."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(sent)
            return connection.recv(64).startswith(wanted)
    except OSError:
        return False


ANSWERS: Mapping[str, Callable[[Mapping[int, int]], bool]] = {
    "rabbitmq": _rabbitmq_answers,
    "redis": _redis_answers,
}


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def shared(run: Run, kind: str, version: str) -> Container:
    """The run's one server of a kind and version: started by whichever worker asks first."""
    name = f"{kind}-{version}"
    known = run.folder / f"{name}.json"
    with locked(run.folder / f"{name}.lock"):
        if known.exists():
            stored = json.loads(known.read_text())
            return Container(
                id=stored["id"],
                kind=kind,
                ports={int(inside): outside for inside, outside in stored["ports"].items()},
            )
        container = start_rabbitmq(run, version) if kind == "rabbitmq" else start_redis(run, version)
        known.write_text(json.dumps(asdict(container)))
        return container


def broker_on(container: Container, version: str) -> Broker:
    """A new virtual host on a running RabbitMQ; `drop` it."""
    admin = Admin(port=container.ports[ADMIN_PORT])
    broker = Broker(version=version, container=container, admin=admin, vhost=f"t-{uuid.uuid4().hex[:12]}")
    admin.call("PUT", f"/vhosts/{broker.vhost}", {})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    admin.call("PUT", f"/permissions/{broker.vhost}/{admin.user}", everything)
    return broker


def redis_on(container: Container, version: str) -> Redis:
    """A new prefix on a running Redis; `drop` it."""
    return Redis(version=version, container=container, prefix=f"t{uuid.uuid4().hex[:12]}")


@contextmanager
def dropped(service: Broker | Redis) -> Iterator[Broker | Redis]:
    """Cleans up after a test on a shared server."""
    try:
        yield service
    finally:
        service.drop()

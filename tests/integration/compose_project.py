"""The cluster of compose.yaml as a test's own: its folder, name, ports and labels; all of it is removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from docker_run import DockerError, Run, docker
from services import ensure_image, free_ports

REPOSITORY = Path(__file__).parents[2]
BASE = ("python:3.13-slim", "rabbitmq:4.0", "redis:8.0")
SERVICES = ("init", "rabbitmq", "redis", "store", "master", "worker", "submit", "mrq")
#: Of the services that `up --wait` waits for: how often they are asked. In use it is 5 and 10 seconds.
ASKED = {"rabbitmq": "1s", "redis": "1s", "master": "4s", "worker": "4s"}
VOLUMES = ("work", "secrets", "rabbitmq", "rabbitmq-private", "redis", "redis-private")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`docker compose` in a folder with compose.yaml; `folder` is also where submit is run."""

    folder: Path
    data: Path
    env: Mapping[str, str]

    def compose(self, *args: str, timeout_s: float = 120, check: bool = True) -> str:
        """What `docker compose ARGS` prints. Raises DockerError with all that it said."""
        done = subprocess.run(
            ["docker", "compose", *args],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise DockerError(
                f"docker compose {' '.join(args)}: exit {done.returncode}\n{done.stderr[-4000:]}{self.said()}"
            )
        return done.stdout

    def start(self, *args: str) -> subprocess.Popen[str]:
        """`docker compose ARGS`, in the background."""
        return subprocess.Popen(
            ["docker", "compose", *args],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def said(self) -> str:
        """The ends of all logs, and who is how: for a failure's message."""
        shown = self.compose("ps", "-a", check=False)
        return f"\n{shown}\n{self.compose('logs', '--no-color', '--tail', '15', check=False)[-12000:]}"

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Those of a service: ID, Name, State, Health …"""
        shown = self.compose("ps", "-a", "--no-trunc", "--format", "json", service)
        return [json.loads(line) for line in shown.splitlines()]


@cache
def build_image() -> None:
    """mrq's image, of the code as it is now; once a process. Raises DockerError."""
    for image in BASE:
        ensure_image(image)
    for script in ("wheels", "cluster-images"):
        done = subprocess.run([REPOSITORY / "infra" / "airgap" / script], capture_output=True, text=True)
        if done.returncode != 0:
            raise DockerError(f"infra/airgap/{script} failed:\n{done.stderr[-4000:]}")


@contextmanager
def project(run: Run, folder: Path, *, owner: int, **env: str) -> Iterator[Project]:
    """A project that is not up yet. Its data folder belongs to `owner` (of us, unless we are root)."""
    folder.chmod(0o755)  # whoever owns the data also reads job files here
    shutil.copy(REPOSITORY / "compose.yaml", folder)
    shutil.copytree(REPOSITORY / "infra", folder / "infra")
    data = folder / "data"
    data.mkdir()
    os.chown(data, owner, owner)
    labels = json.dumps(dict(run.labels))
    health = {name: f", healthcheck: {{interval: {every}}}" for name, every in ASKED.items()}
    lines = ["services:", *(f"  {name}: {{labels: {labels}{health.get(name, '')}}}" for name in SERVICES)]
    lines += ["networks:", f"  default: {{labels: {labels}}}"]
    lines += ["volumes:", *(f"  {name}: {{labels: {labels}}}" for name in VOLUMES)]
    (folder / "compose.override.yaml").write_text("\n".join(lines) + "\n")
    amqp, redis = free_ports(2)
    (folder / "mrq.toml").write_text(
        "[profiles.local-compose]\n"
        f'amqp_url = "amqp://127.0.0.1:{amqp}/mrq"\n'
        f'redis_url = "redis://127.0.0.1:{redis}/0"\n'
        'secrets_file = ".mrq/secrets.toml"\n'
        '[profiles.local-compose.paths]\n"./data" = "/data"\n'
    )
    made = Project(
        folder=folder,
        data=data,
        env={
            "MRQ_PROJECT": run.name + "-" + folder.name[-8:].lower().strip("-_"),
            "MRQ_AMQP_PORT": str(amqp),
            "MRQ_REDIS_PORT": str(redis),
            "PWD": str(folder),
            **env,
        },
    )
    (run.folder / "volumes").touch()  # of this run's use of Docker
    try:
        yield made
    finally:
        made.compose("--profile", "client", "down", "-v", "--remove-orphans", "-t", "3", timeout_s=180)


def top(container: str, apart_s: float = 0.5) -> list[tuple[str, str]]:
    """(uid, command line) of the processes in a container that two looks, so many seconds apart, both find.

    A health check begins as Docker's own process, which is root's until it becomes the check: one look in
    some thousands meets it.
    """
    first = _listed(container)
    time.sleep(apart_s)
    return sorted(process[1:] for process in first & _listed(container))


def _listed(container: str) -> set[tuple[str, str, str]]:
    """(pid, uid, command line) of the processes in a container."""
    lines = docker("top", container, "-o", "pid,uid,args").splitlines()[1:]
    return {tuple(line.split(None, 2)) for line in lines}  # type: ignore[misc]

"""One run of the suite: its folder, its label on what it starts in Docker, and that nothing stays behind.

The controller of the run makes a `Run`, its xdist workers join it by the folder's path. Every container,
network and volume of a run carries LABEL=<the folder>. A run that crashed is known by its folder's lock,
which nobody holds any more: the next run removes what that one left.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LABEL = "mrq-tests.run"
#: Runs of other machines on the same Docker are theirs to judge.
HOST_LABEL = "mrq-tests.host"
#: Set for everything that a run starts: how its processes are known at the end.
MARKER = "MRQ_TESTS_RUN"
PREFIX = "mrq-tests-"


class DockerError(Exception):
    """A docker command failed; its text says which and why."""


def docker(*args: str, timeout_s: float = 60, check: bool = True) -> str:
    """What `docker ARGS` prints. Raises DockerError."""
    try:
        done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DockerError(f"docker {' '.join(args)}: {error}") from error
    if check and done.returncode != 0:
        raise DockerError(f"docker {' '.join(args)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def docker_missing() -> str | None:
    """Why there is no Docker to use here, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_s=20)
    except DockerError as error:
        return f"Docker's daemon does not answer: {error}"
    return None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among the run's processes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Shared by the controller and the workers of one `pytest`."""

    folder: Path

    @classmethod
    def begin(cls) -> Run:
        """A run of this process, which is its controller: holds the lock of its folder until it ends."""
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        (folder / "tmp").mkdir()
        lock = os.open(folder / "alive", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(folder=folder)

    @property
    def name(self) -> str:
        """Of use in names: lower-case letters, digits, dashes."""
        return self.folder.name.lower().replace("_", "-")

    @property
    def labels(self) -> Mapping[str, str]:
        return {LABEL: str(self.folder), HOST_LABEL: socket.gethostname()}

    def environment(self) -> dict[str, str]:
        """What this run's processes get: where temporary files go, and by what they are known at the end.

        Pytest's own folders stay where they are kept between runs.
        """
        return {
            MARKER: str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTEST_DEBUG_TEMPROOT": os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir(),
        }

    def containers(self) -> list[str]:
        listed = docker("ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}={self.folder}")
        return listed.split()

    def remember_volumes(self, container: str) -> None:
        """An anonymous volume carries no label: it is known by the container that it was made for."""
        mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", container))
        with (self.folder / "volumes").open("a") as file:
            file.writelines(mount["Name"] + "\n" for mount in mounts if mount["Type"] == "volume")

    def used_docker(self) -> bool:
        """Has anything of this run ever been started in Docker?"""
        return (self.folder / "volumes").exists()

    def remove_containers(self) -> None:
        if found := self.containers():
            docker("rm", "-f", "-v", *found)

    def end(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep() -> list[str]:
    """Removes what crashed runs of this machine left in Docker and on disk; one line for each of them."""
    said = []
    host = f"label={HOST_LABEL}={socket.gethostname()}"
    runs: dict[str, list[str]] = {}
    shown = f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    for line in docker("ps", "-a", "--no-trunc", "--filter", host, "--format", shown).splitlines():
        container, _, folder = line.partition(" ")
        runs.setdefault(folder, []).append(container)
    for folder, found in runs.items():
        if folder and not _alive(Path(folder)):
            docker("rm", "-f", "-v", *found)
            said.append(f"removed {len(found)} containers of a run that crashed ({folder})")
    for kind in ("network", "volume"):
        for name in docker(kind, "ls", "-q", "--filter", host).split():
            folder = json.loads(docker(kind, "inspect", name))[0]["Labels"].get(LABEL, "")
            if folder and not _alive(Path(folder)):
                docker(kind, "rm", name)
                said.append(f"removed the {kind} {name} of a run that crashed ({folder})")
    for folder in runs:
        if folder and Path(folder).name.startswith(PREFIX) and not _alive(Path(folder)):
            shutil.rmtree(folder, ignore_errors=True)
    return said


def _alive(folder: Path) -> bool:
    try:
        lock = os.open(folder / "alive", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def leftovers(run: Run, *, patience_s: float = 5.0) -> list[str]:
    """What the run left behind, each named; empty when all is clean. Waits for processes that are ending."""
    deadline = time.monotonic() + patience_s
    while (found := _processes(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    found += [f"temporary file {path}" for path in sorted((run.folder / "tmp").iterdir())]
    if not run.used_docker():
        return found
    found += [f"container {each[:12]}" for each in run.containers()]
    known = set(docker("volume", "ls", "-q").split())
    made = set((run.folder / "volumes").read_text().split())
    found += [f"volume {each}" for each in sorted(made & known)]
    for kind in ("network", "volume"):
        named = docker(kind, "ls", "-q", "--filter", f"label={LABEL}={run.folder}").split()
        found += [f"{kind} {each}" for each in named]
    return found


def _processes(run: Run) -> list[str]:
    """Living processes that were started inside the run, by the marker in their environment."""
    wanted = f"{MARKER}={run.folder}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted not in (entry / "environ").read_bytes() + b"\0":
                continue
            shown = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it has just ended, or is another user's
        if shown:
            found.append(f"process {entry.name}: {shown[:160]}")
    return found

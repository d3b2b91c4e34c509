"""`docker compose up --scale worker=10`: the cluster as a user starts it, and jobs on it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from compose_project import REPOSITORY, Project, build_image, project, top
from docker_run import DockerError, Run, docker
from services import ensure_image

from mrq.settings.files import read_secrets

#: The host's user of /data, which is neither root nor anybody whom an image knows.
OWNER = 23456 if os.getuid() == 0 else os.getuid()
JOB = """
import os, time
import mrq

class Words(mrq.Job):
    marks: str = ""
    pause_s: float = 0.0
    reduce = mrq.sum

    def setup(self):
        if self.marks:
            mark = f"{os.uname().nodename}.{self.task.id}.{self.task.attempt}"
            open(os.path.join(self.marks, mark), "w").close()

    def map(self, key, line):
        time.sleep(self.pause_s)
        for word in line.split():
            yield word, 1
"""


@pytest.fixture
def up(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Ten workers that are healthy, input in data/in, and a job file beside compose.yaml."""
    build_image()
    folder = tmp_path_factory.mktemp("compose")
    with project(run, folder, owner=OWNER) as made:
        (folder / "words.py").write_text(JOB)
        rng = random.Random(5)
        (made.data / "in").mkdir()
        for number in range(20):
            lines = (" ".join(f"w{rng.randrange(500)}" for _ in range(8)) for _ in range(60))
            (made.data / "in" / f"{number:02}.txt").write_text("\n".join(lines) + "\n")
        marks = made.data / "marks"
        marks.mkdir()
        os.chown(marks, OWNER, OWNER)
        begun = time.monotonic()
        made.compose("up", "-d", "--wait", "--scale", "worker=10", timeout_s=240)
        print(f"up with ten workers in {time.monotonic() - begun:.1f} s")
        yield made


@pytest.fixture
def embedded(up: Project) -> dict[str, bytes]:
    """What the same job gives on one machine, by file name."""
    out = up.folder / "embedded"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mrq.submit",
            "--cluster",
            "local",
            "words.py",
            "data/in",
            "-o",
            str(out),
            "-R",
            "4",
        ],
        cwd=up.folder,
        env={**os.environ, "MRQ_TMP": str(up.folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return parts(out)


def parts(out: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in sorted(out.glob("part-*"))}
    assert found
    return found


def check_everybody_is_healthy_with_the_rights_he_needs(up: Project) -> None:
    for service, count in (("rabbitmq", 1), ("redis", 1), ("master", 2), ("worker", 10)):
        found = up.containers(service)
        assert [each["Health"] for each in found] == ["healthy"] * count
        for each in found[:1]:
            users = {uid for uid, command in top(each["ID"]) if "docker-init" not in command}
            if service in ("master", "worker"):
                assert users == {str(OWNER)}
            else:
                assert "0" not in users
    for service in ("init", "store"):
        assert [each["ExitCode"] for each in up.containers(service)] == [0]
    published = {
        line
        for each in (*up.containers("rabbitmq"), *up.containers("redis"))
        for line in docker("port", each["ID"]).splitlines()
    }
    assert all(" 127.0.0.1:" in line for line in published), published
    secrets = up.folder / ".mrq" / "secrets.toml"
    assert secrets.stat().st_mode & 0o777 == 0o600


def check_a_job_of_which_three_workers_are_killed(up: Project, embedded: dict[str, bytes]) -> None:
    job = up.start(
        "run", "--rm", "-T", "submit", "words.py", "/data/in", "-o", "/data/out", "-R", "4",
        "--split-size", "2K", "--set", "marks=/data/marks", "--set", "pause_s=0.05",
    )  # fmt: skip
    try:
        killed = []
        for worker in working(up, job, 3):
            docker("kill", "--signal", "KILL", worker)
            killed.append(worker)
        _, err = job.communicate(timeout=240)
    finally:
        job.kill()
        job.wait()
    assert job.returncode == 0, err + up.said()
    begun_by: dict[str, set[str]] = {}
    for name in os.listdir(up.data / "marks"):
        host, task, _ = name.split(".")
        begun_by.setdefault(task, set()).add(host)
    lost = [hosts for hosts in begun_by.values() if hosts & set(killed)]
    assert len(lost) >= 3
    assert all(hosts - set(killed) for hosts in lost), "what a killed worker ran, another ran again"
    assert parts(up.data / "out") == embedded
    written = [up.data / "out", *(up.data / "out").iterdir()]
    assert {path.stat().st_uid for path in written} == {OWNER}
    assert not [name for name in os.listdir(up.data) if name.startswith(".out")]


def working(up: Project, job: subprocess.Popen[str], count: int) -> list[str]:
    """Hosts that run tasks of the job, by the marks that it leaves; a host's name is its container's id."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        hosts = sorted({name.split(".")[0] for name in os.listdir(up.data / "marks")})
        if len(hosts) >= count:
            return hosts[:count]
        if job.poll() is not None:
            pytest.fail(f"the job ended before {count} workers had begun: {job.communicate()}{up.said()}")
        time.sleep(0.1)
    job.kill()
    pytest.fail(f"{count} workers did not begin in 90 s: {job.communicate()}{up.said()}")


def submit_from_the_host(up: Project, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mrq.submit", "--cluster", "local-compose", "words.py", *argv],
        cwd=up.folder,
        env={**os.environ, "MRQ_TMP": str(up.folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def check_a_job_from_the_host_by_the_profile(up: Project, embedded: dict[str, bytes]) -> None:
    done = submit_from_the_host(up, "data/in", "-o", "data/from-host", "-R", "4")
    assert done.returncode == 0, done.stderr + up.said()
    assert "local-compose" in done.stderr.splitlines()[0]
    assert parts(up.data / "from-host") == embedded


def check_that_what_containers_do_not_share_is_refused(up: Project) -> None:
    """/tmp is each container's own."""
    with tempfile.TemporaryDirectory(prefix="mrq-compose-", dir="/tmp") as here:
        done = submit_from_the_host(up, "data/in", "-o", f"{here}/new/out")
        assert done.returncode == 2, done.stderr + up.said()
        told = (
            rf"error: {here}/new/out: \d+ of \d+ workers \(.*\) don't share /tmp with master .*, which leads"
        )
        assert re.search(told, done.stderr), done.stderr
        assert f"that of the shared root ({up.data}/.mrq)" in done.stderr
        masters = [each["ID"] for each in up.containers("master")]
        assert not [at for at in masters if "mrq-compose-" in docker("exec", at, "ls", "-A", "/tmp")]
        Path(here, "one.txt").write_text("mine\n")
        for master in masters:
            docker("exec", master, "sh", "-c", f"mkdir {here} && echo wrong wrong > {here}/one.txt")
        for argument in (here, f"{here}/*"):
            done = submit_from_the_host(up, argument, "-o", "-")
            assert (done.returncode, done.stdout) == (0, "mine\t1\n"), done.stderr + up.said()
        done = submit_from_the_host(up, "data/in", "-o", "data/in/out", "--json")
        assert done.returncode == 2
        assert "the output data/in/out lies inside the input directory data/in" in done.stderr


def check_a_second_up(up: Project) -> None:
    before = [each["ID"] for service in ("rabbitmq", "redis", "master") for each in up.containers(service)]
    secrets = (up.folder / ".mrq" / "secrets.toml").read_text()
    up.compose("up", "-d", "--wait", "--scale", "worker=10", timeout_s=240)
    after = [each["ID"] for service in ("rabbitmq", "redis", "master") for each in up.containers(service)]
    assert after == before
    assert (up.folder / ".mrq" / "secrets.toml").read_text() == secrets
    assert len([each for each in up.containers("worker") if each["Health"] == "healthy"]) == 10


def check_a_client_without_mrq_on_its_host(up: Project) -> None:
    done = up.compose("run", "--rm", "-T", "mrq", "jobs")
    assert "/data/out" in done
    assert "data/from-host" in done


def check_a_stop_is_a_drain(up: Project) -> None:
    """SIGTERM reaches whom the entrypoint has made another user of."""
    up.compose("stop", "worker", "master", timeout_s=120)
    for service in ("worker", "master"):
        assert [each["ExitCode"] for each in up.containers(service)] == [0] * len(up.containers(service))
    logs = up.compose("logs", "--no-color", "worker")
    assert logs.count("SIGTERM: draining") == logs.count("mrq worker: ended") == 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_workers_of_which_three_are_killed(up: Project, embedded: dict[str, bytes]) -> None:
    """One test, since the cluster costs half a minute: the suite's workers would each start their own."""
    check_everybody_is_healthy_with_the_rights_he_needs(up)
    check_a_job_of_which_three_workers_are_killed(up, embedded)
    check_a_job_from_the_host_by_the_profile(up, embedded)
    check_that_what_containers_do_not_share_is_refused(up)
    check_a_second_up(up)
    check_a_client_without_mrq_on_its_host(up)
    check_a_stop_is_a_drain(up)


def test_a_fresh_clone_gets_a_data_folder_of_its_owner(run: Run, tmp_path: Path) -> None:
    build_image()
    with project(run, tmp_path, owner=OWNER) as made:
        made.data.rmdir()
        os.chown(tmp_path, OWNER, OWNER)
        made.compose("up", "--no-deps", "--exit-code-from", "init", "init")
        assert made.data.stat().st_uid == OWNER
        assert (tmp_path / ".mrq/secrets.toml").stat().st_uid == OWNER


def test_redis_keeps_what_scripts_wrote(run: Run, tmp_path: Path) -> None:
    """It replays its append-only file with the rights of a user that nobody can be."""
    build_image()
    with project(run, tmp_path, owner=OWNER) as made:
        made.compose("up", "-d", "--wait", "redis")
        secrets = read_secrets(str(tmp_path / ".mrq/secrets.toml"), "this test")
        client = redis.Redis(
            port=int(made.env["MRQ_REDIS_PORT"]), username=secrets.redis_user, password=secrets.redis_password
        )
        script = "redis.call('SET', KEYS[1], 'x') redis.call('SET', KEYS[2], 'y')"
        client.eval(script, 2, "mrq:{a}:1", "mrq:{a}:2")
        made.compose("restart", "redis")
        made.compose("up", "-d", "--wait", "redis")
        assert client.mget("mrq:{a}:1", "mrq:{a}:2") == [b"x", b"y"]
        client.close()


@pytest.mark.parametrize("image", ["rabbitmq:4.0", "redis:8.0", "python:3.13-slim"])
def test_where_an_image_cant_be_pulled_the_failure_names_make_images(
    run: Run, tmp_path: Path, image: str
) -> None:
    version = {"MRQ_VERSION": "not-built"} if image == "python:3.13-slim" else {}
    with project(run, tmp_path, owner=OWNER, **version) as made:
        (tmp_path / "workers").mkdir()
        shutil.copy(REPOSITORY / "workers/Dockerfile", tmp_path / "workers")
        for file in ("compose.yaml", "workers/Dockerfile"):
            text = (tmp_path / file).read_text()
            # Nobody listens there.
            (tmp_path / file).write_text(text.replace(image, f"localhost:9/{image}"))
        with pytest.raises(DockerError, match="-fails-run-make-images"):
            made.compose("up", "-d")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["3.10", "4.0", "4.3"])
def test_rabbitmq_opens_to_others_nothing_but_its_port(run: Run, tmp_path: Path, version: str) -> None:
    """What nodes speak to each other by (epmd, distribution) would take the cookie for a key."""
    build_image()
    ensure_image(f"rabbitmq:{version}")
    with project(run, tmp_path, owner=OWNER) as made:
        override = tmp_path / "compose.override.yaml"
        image = f"  rabbitmq: {{image: 'rabbitmq:{version}', "
        override.write_text(override.read_text().replace("  rabbitmq: {", image, 1))
        made.compose("up", "-d", "--wait", "rabbitmq", timeout_s=180)
        (container,) = [each["ID"] for each in made.containers("rabbitmq")]
        opened: dict[int, set[str]] = {}
        for table in ("tcp", "tcp6"):
            for line in docker("exec", container, "cat", f"/proc/net/{table}").splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A":  # listens
                    address, port = local.rsplit(":", 1)
                    opened.setdefault(int(port, 16), set()).add(address)
        assert 5672 in opened
        assert 25672 in opened
        assert {port for port, on in opened.items() if not all(map(is_loopback, on))} == {5672}, opened
        told = docker("exec", container, "rabbitmqctl", "list_vhosts", "--quiet", "--no-table-headers")
        assert told.split() == ["mrq"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_that_come_back_with_each_others_addresses_lose_no_fetch(run: Run, tmp_path: Path) -> None:
    """Stopped, and started again in another order, as after a machine's restart: names mean other
    addresses."""
    build_image()
    with project(run, tmp_path, owner=OWNER) as made:
        (tmp_path / "words.py").write_text(JOB)
        (made.data / "in").mkdir()
        for number in range(6):
            (made.data / "in" / f"{number}.txt").write_text(f"word{number} and more\n" * 50)
        made.compose("up", "-d", "--wait", "--scale", "worker=3", timeout_s=240)
        flags = ("-R", "3", "--split-size", "1K", "--json")
        first = submit_from_the_host(made, "data/in", "-o", "data/out-0", *flags)
        assert first.returncode == 0, first.stderr + made.said()
        _, *others = sorted((address_of(each["ID"]), each["ID"]) for each in made.containers("worker"))
        before = dict(others)
        for _, worker in others:
            docker("stop", worker)
        for _, worker in reversed(others):
            docker("start", worker)
        after = {address_of(worker): worker for _, worker in others}
        assert after.keys() == before.keys()
        assert after != before, "they were to change places"
        made.compose("up", "-d", "--wait", "--no-recreate", "--scale", "worker=3", timeout_s=240)
        for number in (1, 2, 3):
            done = submit_from_the_host(made, "data/in", "-o", f"data/out-{number}", *flags)
            assert done.returncode == 0, done.stderr + made.said()
            told = json.loads(made.compose("run", "--rm", "-T", "mrq", "status", job_of(done), "--json"))
            row = told["info"]
            assert (row["errors"], row["reruns"], row["losses"]) == ([], 0, 0), row
            assert parts(made.data / f"out-{number}") == parts(made.data / "out-0")
        check_workers_made_anew(made)


def check_workers_made_anew(made: Project) -> None:
    """They have other names, and take the rows of the old ones, which said goodbye."""
    old = {each["ID"][:12] for each in made.containers("worker")}
    again = ("up", "-d", "--wait", "--no-deps", "--force-recreate", "--scale", "worker=3", "worker")
    made.compose(*again, timeout_s=240)
    new = {each["ID"][:12] for each in made.containers("worker")}
    assert not old & new
    rows = json.loads(made.compose("run", "--rm", "-T", "mrq", "workers", "--json"))["workers"]
    assert {row["worker"] for row in rows} == new
    for gone in old:
        (row,) = json.loads(made.compose("run", "--rm", "-T", "mrq", "workers", gone, "--json"))["workers"]
        assert row["health"] == "dead", row


def is_loopback(address: str) -> bool:
    """Of /proc/net/tcp: in the byte order of the machine. 127.0.0.11 is Docker's name server."""
    return address.endswith("7F") if len(address) == 8 else address == "0" * 24 + "01000000"


def address_of(container: str) -> str:
    shown = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
    return shown.strip()


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    return str(json.loads(done.stdout)["job"])
